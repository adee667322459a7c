//! The two objectives, from the losses of one candidate on the shots.

use serde::{Deserialize, Serialize};

use crate::ComposerError;

/// The penalty's factor in the reference, and the default of the other objective.
pub const REFERENCE_L1: f64 = 0.05;

/// The losses of one candidate, by shot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShotLosses {
    /// Negative log-likelihood of each shot's target, summed over its tokens, `</s>` included; in nats. Not finite where
    /// the model overflowed.
    pub nll: Vec<f64>,
    /// Tokens of each shot's target.
    pub tokens: Vec<u32>,
}

impl ShotLosses {
    /// Mean cross-entropy over the tokens of each shot.
    pub fn shot_loss(&self) -> Vec<f64> {
        let mean = |(nll, &tokens): (&f64, &u32)| nll / f64::from(tokens);
        self.nll.iter().zip(&self.tokens).map(mean).collect()
    }

    /// CE: mean cross-entropy over all target tokens of the shots.
    pub fn batch_loss(&self) -> f64 {
        let tokens: f64 = self.tokens.iter().map(|&tokens| f64::from(tokens)).sum();
        self.nll.iter().sum::<f64>() / tokens
    }
}

/// Which of the two objectives is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveName {
    /// `CE / k + 0.05 * mean |w|`, `k` the number of shots: what the reference's code computes, which divides the mean
    /// cross-entropy by the number of shots once more.
    Reference,
    /// `CE + lambda * mean |w|`.
    Normalised,
}

impl std::fmt::Display for ObjectiveName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reference => "reference",
            Self::Normalised => "normalised",
        })
    }
}

impl std::str::FromStr for ObjectiveName {
    type Err = ComposerError;

    fn from_str(text: &str) -> Result<Self, ComposerError> {
        match text {
            "reference" => Ok(Self::Reference),
            "normalised" => Ok(Self::Normalised),
            other => Err(ComposerError::UnknownObjective {
                found: other.to_owned(),
            }),
        }
    }
}

/// What the search minimises: the cross-entropy on the shots with a penalty on the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Which of the two.
    pub name: ObjectiveName,
    /// The penalty's factor, lambda. Always [`REFERENCE_L1`] under [`ObjectiveName::Reference`].
    pub l1: f64,
}

impl Objective {
    /// What the reference's code computes.
    pub const REFERENCE: Self = Self {
        name: ObjectiveName::Reference,
        l1: REFERENCE_L1,
    };
    /// The default: cross-entropy and penalty on scales that do not change with the number of shots.
    pub const NORMALISED: Self = Self {
        name: ObjectiveName::Normalised,
        l1: REFERENCE_L1,
    };

    /// The objective of this name, with another lambda than the default where one is given.
    ///
    /// # Errors
    /// [`ComposerError::L1`] if `l1` is negative or not finite, [`ComposerError::ReferenceL1`] if the reference is asked
    /// for with another factor than its own.
    pub fn new(name: ObjectiveName, l1: Option<f64>) -> Result<Self, ComposerError> {
        let l1 = l1.unwrap_or(REFERENCE_L1);
        if !(l1.is_finite() && l1 >= 0.0) {
            return Err(ComposerError::L1 { found: l1 });
        }
        if name == ObjectiveName::Reference && l1 != REFERENCE_L1 {
            return Err(ComposerError::ReferenceL1 { found: l1 });
        }
        Ok(Self { name, l1 })
    }

    /// The objective at `weights`, whose losses these are. Infinite, the worst there is, where the losses are not finite.
    pub fn value(&self, losses: &ShotLosses, weights: &[f64]) -> f64 {
        let ce = losses.batch_loss();
        let ce = match self.name {
            ObjectiveName::Reference => ce / losses.nll.len() as f64,
            ObjectiveName::Normalised => ce,
        };
        // Without modules there is nothing to penalise.
        let mean = weights.iter().map(|weight| weight.abs()).sum::<f64>() / weights.len().max(1) as f64;
        let value = ce + self.l1 * mean;
        if value.is_finite() { value } else { f64::INFINITY }
    }
}
