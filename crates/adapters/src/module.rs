//! One LoRA module and the base it belongs to.

use std::collections::{BTreeMap, BTreeSet};

use crate::peft::{self, Matrix, TensorsError};
use crate::scales::{self, Scales};
use crate::{AdapterError, delta};

/// One linear of the base that a LoRA can attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSpec {
    /// Its name in the base, such as `encoder.block.0.layer.0.SelfAttention.q`.
    pub path: String,
    /// Columns of its weight.
    pub d_in: usize,
    /// Rows of its weight.
    pub d_out: usize,
}

/// What of a base model an adapter must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseSpec {
    /// The base's name, if adapters that name another one are to be refused; `None` checks shapes only.
    pub id: Option<String>,
    /// The base's revision, if adapters that name another one are to be refused.
    pub revision: Option<String>,
    /// Every linear of the base that a LoRA can attach to (no head, no embedding).
    pub targets: Vec<TargetSpec>,
}

impl BaseSpec {
    /// The leaf names (`q`, `v`) that select exactly the targets of `pairs` in this base; empty if no such list does.
    pub(crate) fn leaves_of(&self, pairs: &BTreeMap<String, LoraPair>) -> Vec<String> {
        let leaves: BTreeSet<_> = pairs.keys().map(|path| leaf(path)).collect();
        let selected = self
            .targets
            .iter()
            .map(|target| &target.path)
            .filter(|path| leaves.contains(leaf(path)));
        if selected.collect::<BTreeSet<_>>() == pairs.keys().collect() {
            leaves.into_iter().map(str::to_owned).collect()
        } else {
            Vec::new()
        }
    }
}

/// The last segment of a path.
pub(crate) fn leaf(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, leaf)| leaf)
}

/// A module's matrices for one target. The update is `delta W = s B A`; `s` is the module's to say.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraPair {
    /// Rows of `a` and columns of `b`.
    pub rank: usize,
    /// Columns of `a`.
    pub d_in: usize,
    /// Rows of `b`.
    pub d_out: usize,
    /// `[rank, d_in]`, row-major.
    pub a: Vec<f32>,
    /// `[d_out, rank]`, row-major.
    pub b: Vec<f32>,
}

/// One LoRA module: a pair per target. Most modules have one rank and one alpha; where targets differ, `rank` and
/// `alpha` are those of most of them, and [`scaling_of`](Self::scaling_of) knows each one's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// What the user calls it.
    pub name: String,
    /// The rank `r` of the pairs, of most pairs if they differ.
    pub rank: usize,
    /// LoRA's alpha, the one of those pairs.
    pub alpha: f64,
    /// Whether the scaling is `alpha / sqrt(r)` (PEFT's `use_rslora`) instead of `alpha / r`.
    pub rslora: bool,
    /// The base it says it was trained on.
    pub base_model: Option<String>,
    /// The revision of that base.
    pub base_revision: Option<String>,
    /// The pairs by target path.
    pub pairs: BTreeMap<String, LoraPair>,
    /// SHA-256 of the weight file it came from, in hexadecimal.
    pub sha256: Option<String>,
    /// The alphas of the targets that do not have `alpha`, by path.
    pub(crate) alphas: BTreeMap<String, f64>,
    /// Leaf names that select exactly `pairs` in the base; empty when that is not known.
    pub(crate) leaves: Vec<String>,
}

impl Module {
    /// A module from its matrices, for one that was trained rather than imported.
    ///
    /// `base` fills in the base's name, checks that every pair fits, and lets the export name its targets by their
    /// leaves (`q`, `v`) instead of their whole paths.
    ///
    /// # Errors
    /// [`AdapterError::Tensors`] if there are no pairs, a pair's rank or sizes contradict `rank`, its values or
    /// `base`, a value is not finite, or rank and alpha give no scaling.
    pub fn new(
        name: &str,
        rank: usize,
        alpha: f64,
        pairs: BTreeMap<String, LoraPair>,
        base: Option<&BaseSpec>,
    ) -> Result<Self, AdapterError> {
        let checked = scales::check(rank, alpha, false).and_then(|()| {
            if pairs.is_empty() {
                return Err(TensorsError::NoTensors);
            }
            pairs.iter().try_for_each(|(path, pair)| pair.check(path, rank, base))
        });
        checked.map_err(|problem| AdapterError::Tensors {
            module: name.to_owned(),
            problem,
        })?;
        Ok(Self {
            name: name.to_owned(),
            rank,
            alpha,
            rslora: false,
            alphas: BTreeMap::new(),
            base_model: base.and_then(|base| base.id.clone()),
            base_revision: base.and_then(|base| base.revision.clone()),
            leaves: base.map_or_else(Vec::new, |base| base.leaves_of(&pairs)),
            pairs,
            sha256: None,
        })
    }

    /// Imports what PEFT's `save_pretrained` wrote: `adapter_config.json` and `adapter_model.safetensors`
    /// or, from PEFT before 0.6 (the public LoRAHub modules), `adapter_model.bin`. `weights` is told by its first bytes.
    ///
    /// `name` is what messages call it. With `base`, the linears that the configuration selects in it must be exactly
    /// those with tensors, and every matrix must fit; without, the two files are only checked against each other.
    ///
    /// # Errors
    /// [`AdapterError::Config`], [`AdapterError::Weights`] or [`AdapterError::Tensors`], each naming the module and
    /// the fault. Whatever PEFT would load with another meaning, or with a mere warning, is an error here.
    pub fn from_peft(
        name: &str,
        config_json: &[u8],
        weights: &[u8],
        base: Option<&BaseSpec>,
    ) -> Result<Self, AdapterError> {
        peft::from_peft(name, config_json, weights, base)
    }

    /// The factor `s` of the update `delta W = s B A`: `alpha / r`, or `alpha / sqrt(r)` under `rslora`. Where targets
    /// differ it is that of most of them.
    pub fn scaling(&self) -> f64 {
        self.scales().scaling()
    }

    /// The factor `s` of the target `path`; `None` if the module does not have that target.
    pub fn scaling_of(&self, path: &str) -> Option<f64> {
        self.pairs
            .get(path)
            .map(|pair| self.scales().scaling_at(path, pair.rank))
    }

    /// Targets whose rank or alpha is not [`rank`](Self::rank) or [`alpha`](Self::alpha).
    pub fn exceptions(&self) -> usize {
        let differs = |(path, pair): &(&String, &LoraPair)| pair.rank != self.rank || self.alphas.contains_key(*path);
        self.pairs.iter().filter(differs).count()
    }

    pub(crate) fn scales(&self) -> Scales<'_> {
        Scales {
            rank: self.rank,
            alpha: self.alpha,
            rslora: self.rslora,
            alphas: &self.alphas,
        }
    }

    /// The update of the target `path`, `[d_out, d_in]` row-major; `None` if the module does not have that target.
    pub fn delta(&self, path: &str) -> Option<Vec<f32>> {
        Some(delta(self.pairs.get(path)?, self.scaling_of(path)?))
    }
}

impl LoraPair {
    /// Checks a pair that was made in code.
    fn check(&self, path: &str, rank: usize, base: Option<&BaseSpec>) -> Result<(), TensorsError> {
        let path = || path.to_owned();
        let sides = [
            (Matrix::A, &self.a, [self.rank, self.d_in], [rank, self.d_in]),
            (Matrix::B, &self.b, [self.d_out, self.rank], [self.d_out, rank]),
        ];
        for (matrix, values, found, expected) in sides {
            let matrix = matrix.name();
            if found != expected {
                return Err(TensorsError::Rank {
                    matrix,
                    path: path(),
                    rank,
                    expected,
                    found,
                });
            }
            if found[0].checked_mul(found[1]) != Some(values.len()) {
                let expected = found[0].saturating_mul(found[1]);
                return Err(TensorsError::Length {
                    matrix,
                    path: path(),
                    expected,
                    found: values.len(),
                });
            }
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(TensorsError::NonFinite {
                    matrix,
                    path: path(),
                    index,
                });
            }
        }
        let Some(base) = base else { return Ok(()) };
        let Some(target) = base.targets.iter().find(|target| target.path == path()) else {
            return Err(TensorsError::NotInBase {
                path: path(),
                targets: base.targets.len(),
                base: None,
            });
        };
        let (d_in, d_out) = (target.d_in, target.d_out);
        if self.d_in != d_in {
            let (matrix, expected, found) = (Matrix::A.name(), [rank, d_in], [rank, self.d_in]);
            return Err(TensorsError::BaseShape {
                matrix,
                path: path(),
                expected,
                found,
                base: None,
            });
        }
        if self.d_out != d_out {
            let (matrix, expected, found) = (Matrix::B.name(), [d_out, rank], [self.d_out, rank]);
            return Err(TensorsError::BaseShape {
                matrix,
                path: path(),
                expected,
                found,
                base: None,
            });
        }
        Ok(())
    }
}
