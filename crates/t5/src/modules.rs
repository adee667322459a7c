//! A bank of modules on the device, and the losses of its compositions.

use std::collections::BTreeMap;

use lorahub_adapters::{Bank, BankTarget, Rule};
use lorahub_tensor::Backend;

use crate::{Adapter, Cost, Prepared, T5, T5Error};

/// N modules uploaded for one base: for each of its linears, in [`Config::base_spec`](crate::Config::base_spec)'s order,
/// the modules' matrices, or nothing where they adapt nothing.
pub struct Modules<B: Backend> {
    count: usize,
    banks: Vec<Option<B::Bank>>,
    /// Bytes of the matrices that one candidate's adapters have of their own.
    own_bytes: u64,
    /// Bytes of the widest hidden row of an adapter.
    hidden_bytes: u64,
}

impl<B: Backend> Modules<B> {
    /// No modules: the base alone.
    pub fn none() -> Self {
        Self {
            count: 0,
            banks: Vec::new(),
            own_bytes: 0,
            hidden_bytes: 0,
        }
    }

    /// Uploads `bank` for the base `t5`.
    ///
    /// # Errors
    /// [`T5Error::UnknownTarget`] or [`T5Error::TargetShape`] if the modules belong to another base.
    pub fn upload(t5: &T5<B>, bank: &Bank) -> Result<Self, T5Error> {
        let mut by_path: BTreeMap<&str, &BankTarget> = bank
            .targets()
            .iter()
            .map(|target| (target.path.as_str(), target))
            .collect();
        let mut banks = Vec::new();
        let (mut own_bytes, mut hidden_bytes) = (0, 0);
        for linear in t5.config().base_spec().targets {
            let Some(target) = by_path.remove(linear.path.as_str()) else {
                banks.push(None);
                continue;
            };
            let (expected, found) = ((linear.d_in, linear.d_out), (target.d_in, target.d_out));
            if expected != found {
                let path = linear.path;
                return Err(T5Error::TargetShape { path, expected, found });
            }
            let rank = match bank.rule() {
                Rule::Reference => target.ranks.first().copied().unwrap_or(0),
                // All modules side by side, shared by the candidates.
                Rule::Exact => target.ranks.iter().sum(),
            };
            if bank.rule() == Rule::Reference {
                own_bytes += 4 * (rank * (target.d_in + target.d_out)) as u64;
            }
            hidden_bytes = hidden_bytes.max(4 * rank as u64);
            banks.push(Some(t5.backend().bank(target, bank.rule())?));
        }
        match by_path.keys().next() {
            Some(path) => Err(T5Error::UnknownTarget {
                path: (*path).to_owned(),
            }),
            None => Ok(Self {
                count: bank.len(),
                banks,
                own_bytes,
                hidden_bytes,
            }),
        }
    }

    /// Number of modules (`N`).
    pub fn count(&self) -> usize {
        self.count
    }

    /// The adapters of these candidates, one weight for each module.
    ///
    /// # Errors
    /// [`T5Error::Weight`] if a candidate has another number of weights.
    pub fn compose(&self, t5: &T5<B>, candidates: &[&[f64]]) -> Result<Adapter<B>, T5Error> {
        if let Some(wrong) = candidates.iter().find(|weights| weights.len() != self.count) {
            return Err(T5Error::Weight {
                modules: self.count,
                found: wrong.len(),
            });
        }
        let weights: Vec<Vec<f32>> = candidates
            .iter()
            .map(|weights| weights.iter().map(|&weight| weight as f32).collect())
            .collect();
        // The base needs no adapter, and without one it costs what the base costs.
        if weights.iter().flatten().all(|&weight| weight == 0.0) {
            return Ok(Adapter::none(candidates.len()));
        }
        let mut loras = Vec::with_capacity(self.banks.len());
        for bank in &self.banks {
            loras.push(match bank {
                Some(bank) => Some(t5.backend().compose(bank, &weights)?),
                None => None,
            });
        }
        Ok(Adapter::new(candidates.len(), loras))
    }

    /// Negative log-likelihood of every shot under every candidate, summed over its tokens: `[C][k]`, nats. Candidates
    /// run in micro-batches that the device's budgets allow, in rows and in bytes.
    ///
    /// # Errors
    /// As [`compose`](Self::compose), and the device's.
    pub async fn nll(&self, t5: &T5<B>, batch: &Prepared<B>, candidates: &[&[f64]]) -> Result<Vec<Vec<f32>>, T5Error> {
        let shots = batch.target_tokens().len();
        let together = self.together(t5, batch);
        let mut losses = Vec::with_capacity(candidates.len());
        for chunk in candidates.chunks(together) {
            let adapter = self.compose(t5, chunk)?;
            let nll = t5.nll(batch, &adapter).await?;
            let nll = t5.backend().read(&nll).await?;
            losses.extend(nll.chunks(shots).map(<[f32]>::to_vec));
        }
        Ok(losses)
    }

    /// Candidates of one micro-batch. One is always tried: the device says itself if even that is too much.
    fn together(&self, t5: &T5<B>, batch: &Prepared<B>) -> usize {
        let (inputs, targets) = (&batch.encoder.segments, &batch.decoder.segments);
        let activations = Cost::of_evaluation(t5.config(), inputs.lengths(), targets.lengths()).bytes;
        let adapters = self.own_bytes + self.hidden_bytes * batch.rows() as u64;
        // An eighth more, because buffers come in sizes.
        let bytes = (activations + adapters) / 8 * 9;
        let by_bytes = t5.backend().memory_budget() / bytes.max(1);
        let by_rows = t5.backend().row_budget() / batch.rows().max(1);
        by_rows.min(usize::try_from(by_bytes).unwrap_or(usize::MAX)).max(1)
    }
}
