//! How each target's update is scaled: what its rank, its alpha and PEFT's `use_rslora` make of it.

use std::collections::BTreeMap;

use crate::LoraPair;
use crate::peft::TensorsError;

/// The rank and alpha of most targets, and the alphas of the others.
#[derive(Clone, Copy)]
pub(crate) struct Scales<'m> {
    pub(crate) rank: usize,
    pub(crate) alpha: f64,
    pub(crate) rslora: bool,
    pub(crate) alphas: &'m BTreeMap<String, f64>,
}

impl Scales<'_> {
    /// The scaling of most targets.
    pub(crate) fn scaling(self) -> f64 {
        scaling(self.rank, self.alpha, self.rslora)
    }

    /// The alpha of the target `path`.
    pub(crate) fn alpha_at(self, path: &str) -> f64 {
        self.alphas.get(path).copied().unwrap_or(self.alpha)
    }

    /// The scaling of the target `path`, whose pair has that rank.
    pub(crate) fn scaling_at(self, path: &str, rank: usize) -> f64 {
        scaling(rank, self.alpha_at(path), self.rslora)
    }
}

fn scaling(rank: usize, alpha: f64, rslora: bool) -> f64 {
    let rank = rank as f64;
    alpha / if rslora { rank.sqrt() } else { rank }
}

/// Checks that rank and alpha give a scaling that f32 can hold, which the devices compute in.
pub(crate) fn check(rank: usize, alpha: f64, rslora: bool) -> Result<(), TensorsError> {
    let scaling = if rank == 0 {
        0.0
    } else {
        scaling(rank, alpha, rslora) as f32
    };
    if scaling.is_normal() && scaling > 0.0 {
        return Ok(());
    }
    Err(TensorsError::Scaling {
        rank,
        alpha: alpha.to_string(),
    })
}

/// The rank and alpha that most pairs have, and the alphas that differ from it, by path.
pub(crate) struct Common {
    pub(crate) rank: usize,
    pub(crate) alpha: f64,
    pub(crate) alphas: BTreeMap<String, f64>,
}

impl Common {
    /// Finds what most pairs have (of equals what comes first by path); there must be a pair.
    pub(crate) fn of(pairs: &BTreeMap<String, LoraPair>, alpha_of: impl Fn(&str, &LoraPair) -> f64) -> Self {
        let own: Vec<_> = pairs
            .iter()
            .map(|(path, pair)| (path, pair.rank, alpha_of(path, pair)))
            .collect();
        let mut counts: BTreeMap<(usize, u64), usize> = BTreeMap::new();
        for (_, rank, alpha) in &own {
            *counts.entry((*rank, alpha.to_bits())).or_default() += 1;
        }
        let (mut rank, mut alpha, mut most) = (1, 1.0, 0);
        for (_, r, a) in &own {
            let count = counts[&(*r, a.to_bits())];
            if count > most {
                (rank, alpha, most) = (*r, *a, count);
            }
        }
        let other = |(path, _, own): (&String, usize, f64)| (own != alpha).then(|| (path.clone(), own));
        Self {
            rank,
            alpha,
            alphas: own.into_iter().filter_map(other).collect(),
        }
    }
}
