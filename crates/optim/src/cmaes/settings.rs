//! What a search is made from, and its validation.

use super::{BoundTransform, Parameters};
use crate::{OptimError, bits};
use serde::{Deserialize, Serialize};

/// Most coordinates a search accepts: three full matrices of this size are 96 MB.
pub const MAX_DIMENSION: usize = 2000;

/// Most candidates of a generation.
pub const MAX_LAMBDA: usize = 65_536;

/// Largest ratio of two initial scales; its square is the largest condition number that f64 carries.
const MAX_SCALE_RATIO: f64 = 1e7;

/// Everything that determines a run, but for the losses. Fill in from [`Settings::new`]:
///
/// ```
/// use lorahub_optim::Settings;
/// let settings = Settings { bounds: Some((vec![-1.5; 20], vec![1.5; 20])), ..Settings::new(vec![0.0; 20], 0.15) };
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the search starts, `[n]`; inside the bounds. A coordinate on a wall starts just inside it.
    #[serde(with = "bits")]
    pub mean: Vec<f64>,
    /// Initial step size: the standard deviation of every coordinate, in the units of `mean`.
    #[serde(with = "bits")]
    pub sigma: f64,
    /// Multiplies `sigma` for each coordinate, `[n]`; `None` is one for all.
    #[serde(with = "bits")]
    pub scales: Option<Vec<f64>>,
    /// Lower and upper bounds, `[n]` each, infinities for none; see [`BoundTransform`].
    #[serde(with = "bits")]
    pub bounds: Option<(Vec<f64>, Vec<f64>)>,
    /// Candidates of a generation; `None` is the tutorial's `4 + floor(3 ln n)`.
    pub lambda: Option<usize>,
    /// Seed of the samples.
    #[serde(with = "bits")]
    pub seed: u64,
    /// Whether bad candidates shrink the variance along their directions (negative weights). On by default.
    pub active: bool,
    /// When [`crate::CmaEs::stop`] speaks up.
    pub tolerances: Tolerances,
}

impl Settings {
    /// A search from `mean` with step size `sigma`; no bounds, seed 0, the defaults of the tutorial.
    #[must_use]
    pub fn new(mean: Vec<f64>, sigma: f64) -> Self {
        Self {
            mean,
            sigma,
            scales: None,
            bounds: None,
            lambda: None,
            seed: 0,
            active: true,
            tolerances: Tolerances::default(),
        }
    }

    /// Checks everything and derives the strategy parameters and the box.
    pub(super) fn check(&self) -> Result<(Parameters, Option<BoundTransform>), OptimError> {
        let n = self.mean.len();
        if !(1..=MAX_DIMENSION).contains(&n) {
            return Err(OptimError::Dimension {
                found: n,
                limit: MAX_DIMENSION,
            });
        }
        check_finite("mean", &self.mean)?;
        check_step("sigma", self.sigma)?;
        if let Some(scales) = &self.scales {
            check_length("scales", n, scales)?;
            for (i, &scale) in scales.iter().enumerate() {
                check_step(&format!("scales[{i}]"), scale)?;
            }
            let (smallest, largest) = scales
                .iter()
                .fold((f64::INFINITY, 0.0_f64), |(a, b), &s| (a.min(s), b.max(s)));
            if largest / smallest > MAX_SCALE_RATIO {
                return Err(OptimError::Scales {
                    smallest,
                    largest,
                    limit: MAX_SCALE_RATIO,
                });
            }
        }
        let lambda = self.lambda.unwrap_or_else(|| Parameters::default_lambda(n));
        if !(2..=MAX_LAMBDA).contains(&lambda) {
            return Err(OptimError::Lambda {
                found: lambda,
                limit: MAX_LAMBDA,
            });
        }
        let bounds = match &self.bounds {
            None => None,
            Some((lower, upper)) => {
                check_length("lower bounds", n, lower)?;
                check_length("upper bounds", n, upper)?;
                let bounds = BoundTransform::new(lower, upper)?;
                if let Some((index, lower, upper)) = bounds.outside(&self.mean) {
                    return Err(OptimError::MeanOutside {
                        index,
                        found: self.mean[index],
                        lower,
                        upper,
                    });
                }
                Some(bounds)
            }
        };
        Ok((Parameters::new(n, lambda, self.active), bounds))
    }
}

/// When a search may end. None of these ends it; [`crate::CmaEs::stop`] names the first that holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerances {
    /// Losses told; `None` is no limit.
    pub max_evaluations: Option<u64>,
    /// A loss that is good enough; `None` is none.
    #[serde(with = "bits")]
    pub target: Option<f64>,
    /// Converged when all losses of the last generation, and the best losses of the last `10 + ceil(30 n / lambda)`
    /// generations (ten at least), lie within this range. 1e-12 by default; 1e-4 suits losses people read.
    #[serde(with = "bits")]
    pub tol_fun: f64,
    /// Converged when every standard deviation and every step of `path_c` is below this share of the first `sigma`.
    /// 1e-12 by default.
    #[serde(with = "bits")]
    pub tol_x: f64,
    /// Diverged when a standard deviation exceeds its first value this many times. 1e4 by default.
    #[serde(with = "bits")]
    pub tol_up: f64,
    /// Numerical limit of the covariance's condition number. 1e14 by default.
    #[serde(with = "bits")]
    pub condition: f64,
    /// Whether to notice that neither the best nor the median loss has improved for long (tutorial, B.3).
    pub stagnation: bool,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self {
            max_evaluations: None,
            target: None,
            tol_fun: 1e-12,
            tol_x: 1e-12,
            tol_up: 1e4,
            condition: 1e14,
            stagnation: true,
        }
    }
}

pub(super) fn check_length(what: &'static str, expected: usize, found: &[f64]) -> Result<(), OptimError> {
    if found.len() == expected {
        Ok(())
    } else {
        Err(OptimError::Length {
            what,
            expected,
            found: found.len(),
        })
    }
}

pub(super) fn check_finite(what: &'static str, x: &[f64]) -> Result<(), OptimError> {
    match x.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(OptimError::NotFinite {
            what,
            index,
            found: x[index],
        }),
    }
}

fn check_step(what: &str, found: f64) -> Result<(), OptimError> {
    if (1e-100..=1e100).contains(&found) {
        Ok(())
    } else {
        Err(OptimError::StepSize {
            what: what.to_owned(),
            found,
        })
    }
}
