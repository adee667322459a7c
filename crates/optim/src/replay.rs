//! Recorded losses and the points they lead to: the proof that two machines compute the same bits.
//!
//! A search is a function of its settings and its losses. A [`Recording`] holds both, with the points that came of
//! them, as hexadecimal bits; [`Recording::first_difference`] replays it on the machine at hand. The same recording is
//! replayed natively and in the browser's WebAssembly.

use crate::{CmaEs, OptimError, Settings, bits};
use serde::{Deserialize, Serialize};

/// Runs a search over recorded losses, one row of `[lambda]` a generation.
///
/// Returns what was asked before the first losses and after each row: `losses.len() + 1` generations of `[lambda, n]`.
///
/// # Errors
/// Those of [`CmaEs::new`]; [`OptimError::LossCount`] for a row that is not one loss per candidate.
pub fn replay(settings: Settings, losses: &[Vec<f64>]) -> Result<Vec<Vec<Vec<f64>>>, OptimError> {
    let mut search = CmaEs::new(settings)?;
    let mut asked = vec![search.ask()];
    for row in losses {
        search.tell(row)?;
        asked.push(search.ask());
    }
    Ok(asked)
}

/// A search's settings, its losses, and what it asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// What the search was made from.
    pub settings: Settings,
    /// Losses told, `[generations, lambda]`; NaN and infinities allowed.
    #[serde(with = "bits")]
    pub losses: Vec<Vec<f64>>,
    /// Candidates asked in each generation, `[generations + 1]` rows of `lambda * n` numbers.
    #[serde(with = "bits")]
    pub asked: Vec<Vec<f64>>,
}

/// The first number at which a replay and its recording differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Generation, from 0.
    pub generation: usize,
    /// Index among the generation's `lambda * n` numbers.
    pub index: usize,
    /// As recorded; `None` where the recording is shorter than the replay.
    pub recorded: Option<f64>,
    /// As computed here; `None` where the replay is shorter.
    pub replayed: Option<f64>,
}

impl Recording {
    /// Runs a search for `generations` with losses from `loss`, which is given the generation and the candidate, and
    /// records it.
    ///
    /// # Errors
    /// Those of [`CmaEs::new`].
    pub fn record(
        settings: Settings,
        generations: usize,
        mut loss: impl FnMut(usize, &[f64]) -> f64,
    ) -> Result<Self, OptimError> {
        let mut search = CmaEs::new(settings.clone())?;
        let mut recording = Self {
            settings,
            losses: Vec::new(),
            asked: vec![search.ask().concat()],
        };
        for generation in 0..generations {
            let losses: Vec<f64> = search.ask().iter().map(|x| loss(generation, x)).collect();
            search.tell(&losses)?;
            recording.losses.push(losses);
            recording.asked.push(search.ask().concat());
        }
        Ok(recording)
    }

    /// Replays the recording and compares every bit; `None` means that they agree.
    ///
    /// # Errors
    /// Those of [`replay`].
    pub fn first_difference(&self) -> Result<Option<Difference>, OptimError> {
        let replayed: Vec<Vec<f64>> = replay(self.settings.clone(), &self.losses)?
            .into_iter()
            .map(|generation| generation.concat())
            .collect();
        for generation in 0..self.asked.len().max(replayed.len()) {
            let recorded = self.asked.get(generation).map_or(&[][..], Vec::as_slice);
            let here = replayed.get(generation).map_or(&[][..], Vec::as_slice);
            for index in 0..recorded.len().max(here.len()) {
                let (recorded, replayed) = (recorded.get(index).copied(), here.get(index).copied());
                if recorded.map(f64::to_bits) != replayed.map(f64::to_bits) {
                    return Ok(Some(Difference {
                        generation,
                        index,
                        recorded,
                        replayed,
                    }));
                }
            }
        }
        Ok(None)
    }
}
