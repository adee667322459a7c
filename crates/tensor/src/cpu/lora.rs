//! The bank of modules and both composition rules on the CPU.

use candle_core::{Device, Tensor};
use lorahub_adapters::{BankTarget, Rule};

use super::fused::View;
use crate::TensorError;

/// All modules of one target linear.
#[derive(Debug)]
pub struct CpuBank {
    modules: usize,
    d_in: usize,
    d_out: usize,
    matrices: Matrices,
}

#[derive(Debug)]
enum Matrices {
    /// `a: [N, r * d_in]`, `b: [N, d_out * r]`, so that a composition is one small product.
    Reference {
        rank: usize,
        scaling: f64,
        a: Tensor,
        b: Tensor,
    },
    /// `a: [R, d_in]`, `b: [R, d_out]` (transposed) with `R = sum r_i`; row `j` belongs to module `module[j]` and is
    /// scaled by `scaling[j]`.
    Exact {
        a: Vec<f32>,
        b: Vec<f32>,
        module: Vec<usize>,
        scaling: Vec<f32>,
    },
}

/// One target linear's adapter for `C` candidates.
#[derive(Clone, Debug)]
pub struct CpuLora {
    candidates: usize,
    d_in: usize,
    d_out: usize,
    pub(super) form: Form,
}

#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Rule `reference`: own matrices for each candidate, `a: [C, r, d_in]`, `b: [C, d_out, r]`, scaling inside `b`.
    Own { rank: usize, a: Tensor, b: Tensor },
    /// Rule `exact`: shared matrices `a: [R, d_in]`, `b: [R, d_out]`, and a factor `w_i s_i` for each row and
    /// candidate, `factors: [C, R]`.
    Shared {
        rank: usize,
        a: Tensor,
        b: Tensor,
        factors: Tensor,
    },
}

impl CpuLora {
    /// A LoRA in training: one candidate, `a: [r, d_in]` and `b: [d_out, r]`, applied as `scaling * b a`.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the ranks differ.
    pub fn trainable(a: &Tensor, b: &Tensor, scaling: f64) -> Result<Self, TensorError> {
        let (rank, d_in) = super::dims(a, "lora", "a")?;
        let (d_out, rank_b) = super::dims(b, "lora", "b")?;
        if rank != rank_b {
            return Err(TensorError::shape(
                "lora",
                "b",
                format!("rank {rank}"),
                format!("rank {rank_b}"),
            ));
        }
        Ok(Self {
            candidates: 1,
            d_in,
            d_out,
            form: Form::Own {
                rank,
                a: a.unsqueeze(0)?,
                b: b.affine(scaling, 0.0)?.unsqueeze(0)?,
            },
        })
    }

    /// Number of candidates.
    pub fn candidates(&self) -> usize {
        self.candidates
    }

    pub(super) fn tracks(&self) -> bool {
        match &self.form {
            Form::Own { a, b, .. } => super::tracks(&[a, b]),
            Form::Shared { a, b, factors, .. } => super::tracks(&[a, b, factors]),
        }
    }

    pub(super) fn check(&self, op: &'static str, d_in: usize, d_out: usize) -> Result<(), TensorError> {
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

impl CpuBank {
    pub(super) fn new(target: &BankTarget, rule: Rule) -> Result<Self, TensorError> {
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
                Matrices::Reference {
                    rank,
                    scaling: target.scalings.first().copied().map_or(1.0, f64::from),
                    a: Tensor::from_slice(&target.a, (modules, rank * d_in), &Device::Cpu)?,
                    b: Tensor::from_slice(&target.b, (modules, d_out * rank), &Device::Cpu)?,
                }
            }
            Rule::Exact => {
                let mut b = Vec::with_capacity(total * d_out);
                let mut module = Vec::with_capacity(total);
                let mut scaling = Vec::with_capacity(total);
                let mut start = 0;
                for (index, (&rank, &factor)) in target.ranks.iter().zip(&target.scalings).enumerate() {
                    let own = &target.b[start..start + d_out * rank];
                    for j in 0..rank {
                        b.extend((0..d_out).map(|o| own[o * rank + j]));
                        module.push(index);
                        scaling.push(factor);
                    }
                    start += d_out * rank;
                }
                Matrices::Exact {
                    a: target.a.clone(),
                    b,
                    module,
                    scaling,
                }
            }
        };
        Ok(Self {
            modules,
            d_in,
            d_out,
            matrices,
        })
    }

    pub(super) fn compose(&self, weights: &[Vec<f32>]) -> Result<CpuLora, TensorError> {
        let candidates = weights.len();
        if let Some(row) = weights.iter().find(|row| row.len() != self.modules) {
            return Err(TensorError::shape(
                "compose",
                "weights",
                format!("{} modules", self.modules),
                row.len(),
            ));
        }
        let (d_in, d_out) = (self.d_in, self.d_out);
        let form = match &self.matrices {
            Matrices::Reference { rank, scaling, a, b } => {
                let rank = *rank;
                let flat: Vec<f32> = weights.iter().flatten().copied().collect();
                let w = Tensor::from_vec(flat, (candidates, self.modules), &Device::Cpu)?;
                Form::Own {
                    rank,
                    a: w.matmul(a)?.reshape((candidates, rank, d_in))?,
                    b: w.affine(*scaling, 0.0)?.matmul(b)?.reshape((candidates, d_out, rank))?,
                }
            }
            Matrices::Exact { a, b, module, scaling } => {
                // Modules that no candidate uses cost nothing.
                let used: Vec<usize> = (0..module.len())
                    .filter(|&row| weights.iter().any(|w| w[module[row]] != 0.0))
                    .collect();
                let pick = |matrix: &[f32], width: usize| -> Vec<f32> {
                    used.iter()
                        .flat_map(|&row| &matrix[row * width..(row + 1) * width])
                        .copied()
                        .collect()
                };
                let factors: Vec<f32> = weights
                    .iter()
                    .flat_map(|w| used.iter().map(|&row| w[module[row]] * scaling[row]))
                    .collect();
                let rank = used.len();
                Form::Shared {
                    rank,
                    a: Tensor::from_vec(pick(a, d_in), (rank, d_in), &Device::Cpu)?,
                    b: Tensor::from_vec(pick(b, d_out), (rank, d_out), &Device::Cpu)?,
                    factors: Tensor::from_vec(factors, (candidates, rank), &Device::Cpu)?,
                }
            }
        };
        Ok(CpuLora {
            candidates,
            d_in,
            d_out,
            form,
        })
    }
}

/// Borrowed slices of a composed adapter, for the fused form.
pub(super) enum LoraView<'a> {
    /// See [`Form::Own`].
    Own { rank: usize, a: View<'a>, b: View<'a> },
    /// See [`Form::Shared`].
    Shared {
        rank: usize,
        a: View<'a>,
        b: View<'a>,
        factors: View<'a>,
    },
}

impl<'a> LoraView<'a> {
    pub(super) fn new(lora: &'a CpuLora) -> Result<Self, TensorError> {
        Ok(match &lora.form {
            Form::Own { rank, a, b } => Self::Own {
                rank: *rank,
                a: View::new(a)?,
                b: View::new(b)?,
            },
            Form::Shared { rank, a, b, factors } => Self::Shared {
                rank: *rank,
                a: View::new(a)?,
                b: View::new(b)?,
                factors: View::new(factors)?,
            },
        })
    }
}
