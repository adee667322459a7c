//! The bank of modules and both composition rules on the GPU.

use std::rc::Rc;

use lorahub_adapters::{BankTarget, Rule};
use lorahub_tensor::TensorError;

use crate::kernels::{lora_mix, lora_pick};
use crate::memory::Allocation;
use crate::pack::{bits, panels, push_rank_rows};
use crate::{Gpu, GpuError};

/// All modules of one target linear.
///
/// Ranks are padded with zeros to a multiple of 4. `A` lies in panels, `B` as rows over `d_out`: the layouts that the
/// kernels read, so that composing is an elementwise sum and picking is a copy.
pub struct GpuBank {
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
    modules: usize,
    a: Rc<Allocation>,
    b: Rc<Allocation>,
    matrices: Matrices,
}

enum Matrices {
    /// Each module's matrices, one after another.
    Reference { rank4: usize, scaling: f32 },
    /// All modules' ranks one below the other: rank `j` belongs to `module[j]` and is scaled by `scaling[j]`.
    Exact { module: Vec<usize>, scaling: Vec<f32> },
}

/// One target linear's adapter for `C` candidates.
pub struct GpuLora {
    pub(crate) candidates: usize,
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
    /// Vec4s of ranks; 0 if no candidate uses any module.
    pub(crate) rank4: usize,
    /// Panels, for each candidate or shared by all.
    pub(crate) a: Rc<Allocation>,
    /// Vec4s from one candidate's `a` to the next; 0 if shared.
    pub(crate) a_stride: usize,
    /// Rows over `d_out`, for each candidate or shared by all.
    pub(crate) b: Rc<Allocation>,
    /// Vec4s from one candidate's `b` to the next; 0 if shared.
    pub(crate) b_stride: usize,
    /// Under rule `exact`, `w_i s_i` of each candidate and rank.
    pub(crate) factors: Option<Rc<Allocation>>,
}

impl GpuBank {
    pub(crate) fn new(gpu: &Gpu, target: &BankTarget, rule: Rule) -> Result<Self, TensorError> {
        let modules = target.ranks.len();
        let (d_in, d_out) = (target.d_in, target.d_out);
        let total: usize = target.ranks.iter().sum();
        if target.a.len() != total * d_in || target.b.len() != total * d_out || target.scalings.len() != modules {
            return Err(TensorError::shape(
                "bank",
                "target",
                format!("{} and {} values", total * d_in, total * d_out),
                format!("{} and {} values", target.a.len(), target.b.len()),
            ));
        }
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let matrices = match rule {
            Rule::Reference => {
                let rank = target.ranks.first().copied().unwrap_or(0);
                if target.ranks.iter().any(|&other| other != rank) {
                    return Err(TensorError::shape(
                        "bank",
                        "ranks",
                        format!("all {rank}"),
                        format!("{:?}", target.ranks),
                    ));
                }
                let padded = rank.next_multiple_of(4);
                for (_, a_i, b_i) in target.pairs() {
                    a.extend(panels(a_i, d_in, padded));
                    push_rank_rows(&mut b, b_i, rank, padded, d_out);
                }
                Matrices::Reference {
                    rank4: padded / 4,
                    scaling: target.scalings.first().copied().unwrap_or(1.0),
                }
            }
            Rule::Exact => {
                let mut module = Vec::with_capacity(total);
                let mut scaling = Vec::with_capacity(total);
                for (index, (rank, _, b_i)) in target.pairs().enumerate() {
                    push_rank_rows(&mut b, b_i, rank, rank, d_out);
                    module.extend(std::iter::repeat_n(index, rank));
                    scaling.extend(std::iter::repeat_n(target.scalings[index], rank));
                }
                let padded = total.next_multiple_of(4);
                a = panels(&target.a, d_in, padded);
                b.resize(padded * d_out.next_multiple_of(4), 0);
                Matrices::Exact { module, scaling }
            }
        };
        Ok(Self {
            d_in,
            d_out,
            modules,
            a: gpu.upload_weights("modules", &a)?,
            b: gpu.upload_weights("modules", &b)?,
            matrices,
        })
    }

    pub(crate) fn compose(&self, gpu: &Gpu, weights: &[Vec<f32>]) -> Result<GpuLora, TensorError> {
        if let Some(row) = weights.iter().find(|row| row.len() != self.modules) {
            return Err(TensorError::shape(
                "compose",
                "weights",
                format!("{} modules", self.modules),
                row.len(),
            ));
        }
        Ok(match &self.matrices {
            Matrices::Reference { rank4, scaling } => self.mix(gpu, weights, *rank4, *scaling)?,
            Matrices::Exact { module, scaling } => self.pick(gpu, weights, module, scaling)?,
        })
    }

    fn mix(&self, gpu: &Gpu, weights: &[Vec<f32>], rank4: usize, scaling: f32) -> Result<GpuLora, GpuError> {
        let size = (weights.len(), self.modules);
        let w = gpu.upload_remembered("module weights", bits(weights.iter().flatten().copied()))?;
        let a_stride = self.d_in.div_ceil(4) * 4 * rank4;
        let b_stride = 4 * rank4 * self.d_out.div_ceil(4);
        Ok(GpuLora {
            candidates: weights.len(),
            d_in: self.d_in,
            d_out: self.d_out,
            rank4,
            a: lora_mix::lora_mix(gpu, &self.a, &w, size, a_stride, 1.0)?,
            a_stride,
            b: lora_mix::lora_mix(gpu, &self.b, &w, size, b_stride, scaling)?,
            b_stride,
            factors: None,
        })
    }

    fn pick(&self, gpu: &Gpu, weights: &[Vec<f32>], module: &[usize], scaling: &[f32]) -> Result<GpuLora, GpuError> {
        // Modules that no candidate uses cost nothing.
        let used: Vec<usize> = (0..module.len())
            .filter(|&rank| weights.iter().any(|w| w[module[rank]] != 0.0))
            .collect();
        let padded = used.len().next_multiple_of(4);
        let padding = padded - used.len();
        let factors = weights.iter().flat_map(|w| {
            let own = used.iter().map(|&rank| w[module[rank]] * scaling[rank]);
            own.chain(std::iter::repeat_n(0.0, padding))
        });
        let factors = gpu.upload_remembered("module weights", bits(factors))?;
        let (a, b) = if used.len() == module.len() {
            (self.a.clone(), self.b.clone())
        } else {
            let ranks = used
                .iter()
                .map(|&rank| rank as u32)
                .chain(std::iter::repeat_n(lora_pick::PADDING, padding));
            let ranks = gpu.upload_remembered("ranks", ranks.collect())?;
            let bank_ranks = module.len().next_multiple_of(4);
            let a = (self.d_in.div_ceil(4), bank_ranks, 1);
            let b = (1, bank_ranks, self.d_out.div_ceil(4));
            (
                lora_pick::lora_pick(gpu, &self.a, a, &ranks, padded)?,
                lora_pick::lora_pick(gpu, &self.b, b, &ranks, padded)?,
            )
        };
        Ok(GpuLora {
            candidates: weights.len(),
            d_in: self.d_in,
            d_out: self.d_out,
            rank4: padded / 4,
            a,
            a_stride: 0,
            b,
            b_stride: 0,
            factors: Some(factors),
        })
    }
}

impl GpuLora {
    pub(crate) fn check(&self, op: &'static str, d_in: usize, d_out: usize) -> Result<(), TensorError> {
        if (self.d_in, self.d_out) == (d_in, d_out) {
            return Ok(());
        }
        Err(TensorError::shape(
            op,
            "lora",
            format!("{d_in} to {d_out}"),
            format!("{} to {}", self.d_in, self.d_out),
        ))
    }
}
