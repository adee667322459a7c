//! The two composition rules.

use std::collections::BTreeMap;

use crate::scales::Common;
use crate::{AdapterError, Bank, BankTarget, LoraPair, Module, ModuleInfo};

/// How N modules and N weights become one update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The paper's: `A^ = sum w_i A_i` and `B^ = sum w_i B_i` separately, `delta W = s B^ A^`. It has cross terms
    /// `w_i w_j B_i A_j`; `w` and `-w` give the same update.
    Reference,
    /// `delta W = sum w_i s_i B_i A_i`: linear in `w`, without cross terms.
    Exact,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reference => "reference",
            Self::Exact => "exact",
        })
    }
}

impl std::str::FromStr for Rule {
    type Err = AdapterError;

    fn from_str(text: &str) -> Result<Self, AdapterError> {
        match text {
            "reference" => Ok(Self::Reference),
            "exact" => Ok(Self::Exact),
            other => Err(AdapterError::UnknownRule {
                found: lorahub_weights::shown(other),
            }),
        }
    }
}

/// Composes the bank's modules with one weight each into one ordinary LoRA module named `composed`, under the bank's
/// rule. Sums are taken in f64 and rounded to f32 once.
///
/// - [`Rule::Reference`]: ranks and alphas of the first module, whose scalings the others were folded to.
/// - [`Rule::Exact`]: the modules whose weight is not zero, side by side: at each target rank `sum r_i`, scaling 1 and
///   `w_i s_i` in the columns of `B`. If every weight is zero, rank 1 and all values zero, because an adapter of rank 0
///   cannot be stored.
///
/// # Errors
/// [`AdapterError::WeightCount`], [`AdapterError::WeightNotFinite`], or [`AdapterError::Overflow`] if a value leaves
/// the range of f32.
pub fn compose(bank: &Bank, weights: &[f64]) -> Result<Module, AdapterError> {
    check_weights(bank, weights)?;
    let rule = bank.rule();
    let mut pairs = BTreeMap::new();
    for target in bank.targets() {
        let rank = composed_rank(target, rule, weights);
        let pair = match rule {
            Rule::Reference => sum_target(target, rank, weights),
            Rule::Exact => concatenate_target(target, rank, &factors(bank, target, weights)),
        };
        if !pair.a.iter().chain(&pair.b).all(|value| value.is_finite()) {
            return Err(AdapterError::Overflow {
                what: "the composed update",
                path: target.path.clone(),
            });
        }
        pairs.insert(target.path.clone(), pair);
    }
    let first = bank.first();
    let Common { rank, alpha, alphas } = Common::of(&pairs, |path, pair| match rule {
        Rule::Reference => first.scales().alpha_at(path),
        Rule::Exact => pair.rank as f64,
    });
    Ok(Module {
        name: "composed".to_owned(),
        rank,
        alpha,
        rslora: rule == Rule::Reference && first.rslora,
        alphas,
        base_model: first.base_model.clone(),
        base_revision: first.base_revision.clone(),
        pairs,
        sha256: None,
        leaves: bank.leaves().to_vec(),
    })
}

/// Checks that there is one finite weight per module.
pub(crate) fn check_weights(bank: &Bank, weights: &[f64]) -> Result<(), AdapterError> {
    if weights.len() != bank.len() {
        return Err(AdapterError::WeightCount {
            expected: bank.len(),
            found: weights.len(),
        });
    }
    match bank.names().zip(weights).find(|(_, weight)| !weight.is_finite()) {
        Some((name, &found)) => Err(AdapterError::WeightNotFinite {
            module: name.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

/// The rank that [`compose`] gives a target.
pub(crate) fn composed_rank(target: &BankTarget, rule: Rule, weights: &[f64]) -> usize {
    match rule {
        // All modules have this one.
        Rule::Reference => target.ranks[0],
        Rule::Exact => {
            let active = target.ranks.iter().zip(weights).filter(|(_, weight)| **weight != 0.0);
            active.map(|(rank, _)| rank).sum::<usize>().max(1)
        }
    }
}

/// What each module's `B` is multiplied by under [`Rule::Exact`]: `w_i s_i`.
fn factors(bank: &Bank, target: &BankTarget, weights: &[f64]) -> Vec<f64> {
    let scaling = |(module, rank): (&ModuleInfo, &usize)| module.scales().scaling_at(&target.path, *rank);
    let scalings = bank.modules().iter().zip(&target.ranks).map(scaling);
    scalings
        .zip(weights)
        .map(|(scaling, weight)| weight * scaling)
        .collect()
}

/// `A^ = sum w_i A_i`, `B^ = sum w_i B_i`.
fn sum_target(target: &BankTarget, rank: usize, weights: &[f64]) -> LoraPair {
    let (d_in, d_out) = (target.d_in, target.d_out);
    let mut a = vec![0.0; rank * d_in];
    let mut b = vec![0.0; d_out * rank];
    for ((_, a_i, b_i), &weight) in target.pairs().zip(weights) {
        a.iter_mut()
            .zip(a_i)
            .for_each(|(sum, &value)| *sum += weight * f64::from(value));
        b.iter_mut()
            .zip(b_i)
            .for_each(|(sum, &value)| *sum += weight * f64::from(value));
    }
    let round = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
    LoraPair {
        rank,
        d_in,
        d_out,
        a: round(a),
        b: round(b),
    }
}

/// The `A_i` one below the other, the `f_i B_i` side by side, for factors `f_i` other than zero.
fn concatenate_target(target: &BankTarget, rank: usize, factors: &[f64]) -> LoraPair {
    let (d_in, d_out) = (target.d_in, target.d_out);
    let mut a = vec![0.0; rank * d_in];
    let mut b = vec![0.0; d_out * rank];
    let mut row = 0;
    for ((r_i, a_i, b_i), &factor) in target.pairs().zip(factors).filter(|(_, factor)| **factor != 0.0) {
        a[row * d_in..][..r_i * d_in].copy_from_slice(a_i);
        for (b_row, b_i_row) in b.chunks_exact_mut(rank).zip(b_i.chunks_exact(r_i)) {
            let columns = b_row[row..][..r_i].iter_mut();
            columns
                .zip(b_i_row)
                .for_each(|(sum, &value)| *sum = (factor * f64::from(value)) as f32);
        }
        row += r_i;
    }
    LoraPair {
        rank,
        d_in,
        d_out,
        a,
        b,
    }
}
