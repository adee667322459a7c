//! The bank of modules and both composition rules on the CPU.
//!
//! Where the base's matrices are packed for `lorahub_kernels`, so are the modules': a composition under rule `reference`
//! is a sum of packed matrices, and so packed itself.

use std::cell::RefCell;
use std::rc::Rc;

use candle_core::Tensor;
use lorahub_adapters::{BankTarget, Rule};
use lorahub_kernels::{LowRank, PANEL, PackedF32, Rows};
use lorahub_weights::Held;

use super::buffer::{Buffer, Pool};
use super::products::Arithmetic;
use super::weight::{CpuWeight, Kernels, Scratch};
use crate::TensorError;

/// All modules of one target linear.
#[derive(Debug)]
pub struct CpuBank {
    modules: usize,
    d_in: usize,
    d_out: usize,
    packed: bool,
    matrices: Matrices,
}

#[derive(Debug)]
enum Matrices {
    /// `a: [|A|, N]` and `b: [|B|, N]`, a module's matrix in a column, so that a composition is a product with the
    /// weights; the scaling is inside `b`.
    Reference { rank: usize, a: CpuWeight, b: CpuWeight },
    /// `a: [R, d_in]`, `b: [R, d_out]` (transposed) with `R = sum r_i`; row `j` belongs to module `module[j]` and is
    /// scaled by `scaling[j]`.
    Exact {
        a: Vec<f32>,
        b: Vec<f32>,
        module: Vec<usize>,
        scaling: Vec<f32>,
        picked: RefCell<Option<Picked>>,
    },
}

/// The rows of a bank that the candidates use: seldom others than a moment ago.
#[derive(Clone, Debug)]
struct Picked {
    rows: Rc<[usize]>,
    a: Rc<Vec<f32>>,
    b: Rc<Vec<f32>>,
}

/// One target linear's adapter for `C` candidates. A pass has a list of hundreds, so it is but a handle.
#[derive(Clone, Debug)]
pub struct CpuLora(Rc<Lora>);

#[derive(Debug)]
struct Lora {
    candidates: usize,
    d_in: usize,
    d_out: usize,
    form: Form,
}

#[derive(Debug)]
pub(super) enum Form {
    /// One candidate's in training: `a: [r, d_in]`, `b: [d_out, r]`, scaling inside `b`.
    Trained { a: Tensor, b: Tensor },
    /// Rule `reference`: matrices of each candidate's own, `a: [C, r, d_in]`, `b: [C, d_out, r]`, scaling inside `b`; or
    /// each of them packed.
    Own {
        packed: bool,
        rank: usize,
        a: Buffer,
        b: Buffer,
    },
    /// Rule `exact`: shared matrices `a: [R, d_in]`, `b: [R, d_out]`, or both packed as those of a linear layer, and a
    /// factor `w_i s_i` for each row and candidate, `factors: [C, R]`.
    Shared {
        packed: bool,
        rank: usize,
        a: Rc<Vec<f32>>,
        b: Rc<Vec<f32>>,
        factors: Buffer,
    },
}

impl CpuLora {
    /// A LoRA in training: one candidate, `a: [r, d_in]` and `b: [d_out, r]`, applied as `scaling * b a`.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the ranks differ.
    pub fn trainable(a: &Tensor, b: &Tensor, scaling: f64) -> Result<Self, TensorError> {
        let dims = |tensor: &Tensor, operand| {
            let found = || format!("{:?}", tensor.dims());
            tensor
                .dims2()
                .map_err(|_| TensorError::shape("lora", operand, "[rows, columns]", found()))
        };
        let (rank, d_in) = dims(a, "a")?;
        let (d_out, rank_b) = dims(b, "b")?;
        if rank != rank_b {
            return Err(TensorError::shape(
                "lora",
                "b",
                format!("rank {rank}"),
                format!("rank {rank_b}"),
            ));
        }
        Ok(Self(Rc::new(Lora {
            candidates: 1,
            d_in,
            d_out,
            form: Form::Trained {
                a: a.clone(),
                b: b.affine(scaling, 0.0)?,
            },
        })))
    }

    /// Number of candidates.
    pub fn candidates(&self) -> usize {
        self.0.candidates
    }

    pub(super) fn form(&self) -> &Form {
        &self.0.form
    }

    pub(super) fn tracks(&self) -> bool {
        matches!(self.0.form, Form::Trained { .. })
    }

    /// As the kernels take it, for `rows` activation rows a candidate; `None` if it is not packed.
    pub(super) fn low_rank(&self, rows: usize) -> Option<LowRank<'_>> {
        let (rank, a, b, factors): (_, &[f32], &[f32], Option<&[f32]>) = match self.form() {
            Form::Own {
                packed: true,
                rank,
                a,
                b,
            } => (*rank, a, b, None),
            Form::Shared {
                packed: true,
                rank,
                a,
                b,
                factors,
            } => (*rank, a, b, Some(factors)),
            _ => return None,
        };
        Some(LowRank {
            rank,
            inputs: self.0.d_in,
            outputs: self.0.d_out,
            rows,
            a: a.as_chunks::<PANEL>().0,
            b: b.as_chunks::<PANEL>().0,
            factors,
        })
    }

    pub(super) fn check(&self, op: &'static str, d_in: usize, d_out: usize) -> Result<(), TensorError> {
        if (self.0.d_in, self.0.d_out) == (d_in, d_out) {
            return Ok(());
        }
        Err(TensorError::shape(
            op,
            "lora",
            format!("{d_in} to {d_out}"),
            format!("{} to {}", self.0.d_in, self.0.d_out),
        ))
    }
}

impl CpuBank {
    pub(super) fn new(target: &BankTarget, rule: Rule, kernels: &Kernels) -> Result<Self, TensorError> {
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
        let packed = kernels.pack();
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
                let scaling = target.scalings.first().copied().unwrap_or(1.0);
                let scaled: Vec<f32> = target.b.iter().map(|value| value * scaling).collect();
                Matrices::Reference {
                    rank,
                    a: in_columns(&target.a, modules, (rank, d_in), kernels)?,
                    b: in_columns(&scaled, modules, (d_out, rank), kernels)?,
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
                    picked: RefCell::default(),
                }
            }
        };
        Ok(Self {
            modules,
            d_in,
            d_out,
            packed,
            matrices,
        })
    }

    pub(super) fn compose(
        &self,
        weights: &[Vec<f32>],
        pool: &Pool,
        scratch: &mut Scratch,
    ) -> Result<CpuLora, TensorError> {
        let candidates = weights.len();
        if let Some(row) = weights.iter().find(|row| row.len() != self.modules) {
            return Err(TensorError::shape(
                "compose",
                "weights",
                format!("{} modules", self.modules),
                row.len(),
            ));
        }
        let (d_in, d_out, packed) = (self.d_in, self.d_out, self.packed);
        let form = match &self.matrices {
            Matrices::Reference { rank, a, b } => {
                let weights = weights.concat();
                let mut sum = |matrices: &CpuWeight| -> Result<_, TensorError> {
                    let (length, _) = matrices.matrix("compose", "modules")?;
                    let mut out = pool.take(candidates * length);
                    matrices.product(candidates, &weights, &mut out, None, scratch)?;
                    Ok(out)
                };
                Form::Own {
                    packed,
                    rank: *rank,
                    a: sum(a)?,
                    b: sum(b)?,
                }
            }
            Matrices::Exact {
                a,
                b,
                module,
                scaling,
                picked,
            } => {
                // Modules that no candidate uses cost nothing.
                let used = |row: &usize| weights.iter().any(|w| w[module[*row]] != 0.0);
                let rows = || (0..module.len()).filter(used);
                let mut picked = picked.borrow_mut();
                let picked = match &*picked {
                    Some(same) if same.rows.iter().copied().eq(rows()) => same.clone(),
                    _ => {
                        let rows: Rc<[usize]> = rows().collect();
                        let (a, b) = (pick(a, d_in, &rows), pick(b, d_out, &rows));
                        let (a, b) = match packed {
                            false => (a, b),
                            true => {
                                let mut transposed = PackedF32::default();
                                transposed.pack_transposed(Rows::new(&b, rows.len(), d_out), d_out);
                                let a = PackedF32::new(Rows::new(&a, rows.len(), d_in), d_in);
                                (flat(&a), flat(&transposed))
                            }
                        };
                        let (a, b) = (Rc::new(a), Rc::new(b));
                        picked.insert(Picked { rows, a, b }).clone()
                    }
                };
                let rank = picked.rows.len();
                let mut factors = pool.take(candidates * rank);
                for (factors, w) in factors.chunks_exact_mut(rank.max(1)).zip(weights) {
                    for (factor, &row) in factors.iter_mut().zip(&*picked.rows) {
                        *factor = w[module[row]] * scaling[row];
                    }
                }
                Form::Shared {
                    packed,
                    rank,
                    a: picked.a,
                    b: picked.b,
                    factors,
                }
            }
        };
        Ok(CpuLora(Rc::new(Lora {
            candidates,
            d_in,
            d_out,
            form,
        })))
    }
}

/// Matrices `[modules][n, k]`, each packed where the kernels want it, as the columns of one.
fn in_columns(
    matrices: &[f32],
    modules: usize,
    (n, k): (usize, usize),
    kernels: &Kernels,
) -> Result<CpuWeight, TensorError> {
    let own: Vec<Vec<f32>> = (0..modules)
        .map(|module| {
            let own = &matrices[module * n * k..][..n * k];
            match kernels {
                Kernels::Candle => own.to_vec(),
                Kernels::Own | Kernels::Elsewhere(_) => flat(&PackedF32::new(Rows::new(own, n, k), k)),
            }
        })
        .collect();
    let length = own.first().map_or(0, Vec::len);
    let columns = (0..length).flat_map(|at| own.iter().map(move |own| own[at])).collect();
    CpuWeight::new(&[length, modules], Held::F32(columns), kernels, Arithmetic::F32)
}

/// These rows of a matrix.
fn pick(matrix: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    let picked = rows.iter().flat_map(|&row| &matrix[row * width..(row + 1) * width]);
    picked.copied().collect()
}

/// The packed rows, one after another.
fn flat(packed: &PackedF32) -> Vec<f32> {
    packed.view().rows().as_flattened().to_vec()
}
