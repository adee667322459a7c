//! The saved search: everything that cannot be computed again, every bit of it.
//!
//! Strategy parameters and the box follow from the settings, the roots of the covariance from the matrix that was
//! last decomposed; none of them is saved. What is read back may come from anywhere, so every length and every number
//! is checked before a search is made of it.

use super::stop::{History, MAX_HISTORY};
use super::strategy::{Best, Candidate};
use super::{CmaEs, Covariance, Settings};
use crate::{OptimError, Rng, bits};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::collections::VecDeque;

/// Version of the layout below; raise it when a field changes its meaning.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    settings: Settings,
    #[serde(with = "bits")]
    m: Vec<f64>,
    #[serde(with = "bits")]
    sigma: f64,
    /// Lower triangle of C by rows.
    #[serde(with = "bits")]
    covariance: Vec<f64>,
    /// The same of the matrix whose roots are in use; `None` if it is C.
    #[serde(with = "bits")]
    decomposed: Option<Vec<f64>>,
    #[serde(with = "bits")]
    path_c: Vec<f64>,
    #[serde(with = "bits")]
    path_sigma: Vec<f64>,
    #[serde(with = "bits")]
    generation: u64,
    #[serde(with = "bits")]
    decomposed_at: u64,
    roots_stale: bool,
    #[serde(with = "bits")]
    evaluations: u64,
    rng: Rng,
    /// One row a candidate; none between tell and ask.
    #[serde(with = "bits")]
    asked_x: Vec<Vec<f64>>,
    #[serde(with = "bits")]
    asked_z: Vec<Vec<f64>>,
    /// How many of the asked, from the first, were injected.
    asked_injected: usize,
    #[serde(with = "bits")]
    injections: Vec<Vec<f64>>,
    #[serde(with = "bits")]
    best_x: Option<Vec<f64>>,
    #[serde(with = "bits")]
    best_loss: Option<f64>,
    #[serde(with = "bits")]
    last_losses: Vec<f64>,
    #[serde(with = "bits")]
    best_losses: Vec<f64>,
    #[serde(with = "bits")]
    median_losses: Vec<f64>,
}

impl Serialize for CmaEs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let n = self.dimension();
        let c = lower_triangle(&self.covariance.c, n);
        let decomposed = lower_triangle(&self.covariance.decomposed, n);
        let state = State {
            version: VERSION,
            settings: self.settings.clone(),
            m: self.m.clone(),
            sigma: self.sigma,
            decomposed: if same_bits(&c, &decomposed) {
                None
            } else {
                Some(decomposed)
            },
            covariance: c,
            path_c: self.path_c.clone(),
            path_sigma: self.path_sigma.clone(),
            generation: self.generation,
            decomposed_at: self.decomposed_at,
            roots_stale: self.roots_stale,
            evaluations: self.evaluations,
            rng: self.rng.clone(),
            asked_x: self.asked.iter().map(|candidate| candidate.x.clone()).collect(),
            asked_z: self.asked.iter().map(|candidate| candidate.z.clone()).collect(),
            asked_injected: self.asked.iter().filter(|candidate| candidate.injected).count(),
            injections: self.injections.clone(),
            best_x: self.best.as_ref().map(|best| best.x.clone()),
            best_loss: self.best.as_ref().map(|best| best.loss),
            last_losses: self.history.last.clone(),
            best_losses: self.history.best.iter().copied().collect(),
            median_losses: self.history.median.iter().copied().collect(),
        };
        state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CmaEs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        State::deserialize(deserializer)?.restore().map_err(D::Error::custom)
    }
}

impl State {
    fn restore(self) -> Result<CmaEs, OptimError> {
        if self.version != VERSION {
            return Err(unusable(format!(
                "it has version {}, this program writes version {VERSION}",
                self.version
            )));
        }
        let (parameters, bounds) = self.settings.check()?;
        let (n, lambda) = (self.settings.mean.len(), parameters.lambda);
        vector("m", &self.m, n)?;
        vector("path_c", &self.path_c, n)?;
        vector("path_sigma", &self.path_sigma, n)?;
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            return Err(unusable(format!("sigma is {}", self.sigma)));
        }
        if self.decomposed_at > self.generation {
            return Err(unusable("it was decomposed in a generation still to come".into()));
        }
        if self.evaluations != self.generation.saturating_mul(lambda as u64) {
            return Err(unusable("its evaluations are not its generations times lambda".into()));
        }

        let c = full_matrix("covariance", &self.covariance, n)?;
        let decomposed = match &self.decomposed {
            Some(triangle) => full_matrix("decomposed", triangle, n)?,
            None => c.clone(),
        };
        let covariance = Covariance::restore(n, c, decomposed)
            .ok_or_else(|| unusable("its covariance has no positive eigenvalue".into()))?;

        let asked = self.candidates(n, lambda)?;
        for x in &self.injections {
            vector("injections", x, n)?;
        }
        let best = match (self.best_x, self.best_loss) {
            (None, None) => None,
            (Some(x), Some(loss)) if loss.is_finite() => {
                vector("best_x", &x, n)?;
                Some(Best { x, loss })
            }
            _ => {
                return Err(unusable("its best point and loss do not belong together".into()));
            }
        };

        let told = usize::try_from(self.generation).unwrap_or(usize::MAX).min(MAX_HISTORY);
        let length = self.best_losses.len();
        let expected_last = if self.generation == 0 { 0 } else { lambda };
        if self.median_losses.len() != length
            || length > told
            || (length == 0) != (self.generation == 0)
            || self.last_losses.len() != expected_last
        {
            return Err(unusable("its loss histories do not have the lengths of one run".into()));
        }
        let mut losses = self
            .best_losses
            .iter()
            .chain(&self.median_losses)
            .chain(&self.last_losses);
        if losses.any(|loss| loss.is_nan()) {
            return Err(unusable("a recorded loss is NaN".into()));
        }

        Ok(CmaEs {
            settings: self.settings,
            parameters,
            bounds,
            m: self.m,
            sigma: self.sigma,
            covariance,
            path_c: self.path_c,
            path_sigma: self.path_sigma,
            generation: self.generation,
            decomposed_at: self.decomposed_at,
            roots_stale: self.roots_stale,
            evaluations: self.evaluations,
            rng: self.rng,
            asked,
            injections: self.injections,
            best,
            history: History {
                last: self.last_losses,
                best: VecDeque::from(self.best_losses),
                median: VecDeque::from(self.median_losses),
            },
        })
    }

    fn candidates(&self, n: usize, lambda: usize) -> Result<Vec<Candidate>, OptimError> {
        let count = self.asked_x.len();
        if !(count == 0 || count == lambda) || self.asked_z.len() != count || self.asked_injected > count {
            return Err(unusable(format!(
                "its generation has {count} candidates, expected none or {lambda}"
            )));
        }
        let pairs = self.asked_x.iter().zip(&self.asked_z).enumerate();
        pairs
            .map(|(k, (x, z))| {
                vector("asked_x", x, n)?;
                vector("asked_z", z, n)?;
                Ok(Candidate {
                    x: x.clone(),
                    z: z.clone(),
                    injected: k < self.asked_injected,
                })
            })
            .collect()
    }
}

fn unusable(what: String) -> OptimError {
    OptimError::State { what }
}

/// Checks a saved vector's length and that it is finite.
fn vector(name: &str, x: &[f64], n: usize) -> Result<(), OptimError> {
    if x.len() != n {
        return Err(unusable(format!("{name} has {} entries, expected {n}", x.len())));
    }
    if x.iter().any(|entry| !entry.is_finite()) {
        return Err(unusable(format!("{name} holds a number that is not finite")));
    }
    Ok(())
}

fn lower_triangle(matrix: &[f64], n: usize) -> Vec<f64> {
    (0..n).flat_map(|i| matrix[i * n..][..=i].iter().copied()).collect()
}

fn full_matrix(name: &str, triangle: &[f64], n: usize) -> Result<Vec<f64>, OptimError> {
    vector(name, triangle, n * (n + 1) / 2)?;
    let mut matrix = vec![0.0; n * n];
    let mut entries = triangle.iter();
    for i in 0..n {
        for (j, &entry) in (0..=i).zip(&mut entries) {
            matrix[i * n + j] = entry;
            matrix[j * n + i] = entry;
        }
    }
    Ok(matrix)
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
}
