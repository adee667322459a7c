//! From the two files of an adapter to a [`Module`]: configuration, tensors and base must agree.

use std::collections::{BTreeMap, BTreeSet};

use lorahub_weights::{Limits, WeightFile, WeightsError, sha256_hex, shown};

use super::keys::{self, Matrix};
use super::{ConfigError, TensorsError, config};
use crate::scales::{self, Common};
use crate::{AdapterError, BaseSpec, LoraPair, Module};

/// A fault, before the module's name is put to it.
enum Problem {
    Config(ConfigError),
    Tensors(TensorsError),
    Weights(WeightsError),
}

impl From<ConfigError> for Problem {
    fn from(problem: ConfigError) -> Self {
        Self::Config(problem)
    }
}

impl From<TensorsError> for Problem {
    fn from(problem: TensorsError) -> Self {
        Self::Tensors(problem)
    }
}

impl From<WeightsError> for Problem {
    fn from(problem: WeightsError) -> Self {
        Self::Weights(problem)
    }
}

/// See [`Module::from_peft`].
pub(crate) fn from_peft(
    name: &str,
    config_json: &[u8],
    weights: &[u8],
    base: Option<&BaseSpec>,
) -> Result<Module, AdapterError> {
    import(name, config_json, weights, base).map_err(|problem| {
        let module = name.to_owned();
        match problem {
            Problem::Config(problem) => AdapterError::Config { module, problem },
            Problem::Tensors(problem) => AdapterError::Tensors { module, problem },
            Problem::Weights(problem) => AdapterError::Weights { module, problem },
        }
    })
}

fn import(name: &str, config_json: &[u8], weights: &[u8], base: Option<&BaseSpec>) -> Result<Module, Problem> {
    let config = config::parse(config_json)?;
    let file = WeightFile::parse(weights, &Limits::ADAPTER)?;
    let keys = pair_keys(&file)?;
    if let Some(base) = base {
        check_base_name(&config, base)?;
    }
    let mut sizes = BTreeMap::new();
    for path in keys.keys() {
        sizes.insert(*path, Size::of(path, base, &config)?);
    }
    check_selection(&config, &keys, base)?;
    let ranks = config.ranks.values(keys.keys().copied())?;
    let alphas = config.alphas.values(keys.keys().copied())?;
    let alpha_of = |path: &str| alphas.get(path).copied().unwrap_or(config.alpha);
    let mut pairs = BTreeMap::new();
    for (path, size) in sizes {
        let rank = ranks.get(path).copied().unwrap_or(config.rank);
        scales::check(rank, alpha_of(path), config.rslora)?;
        pairs.insert(path.to_owned(), read_pair(&file, rank, path, keys[path], size)?);
    }
    let Common { rank, alpha, alphas } = Common::of(&pairs, |path, _| alpha_of(path));
    Ok(Module {
        name: name.to_owned(),
        rank,
        alpha,
        rslora: config.rslora,
        alphas,
        leaves: base.map_or_else(Vec::new, |base| base.leaves_of(&pairs)),
        base_model: config.base_model,
        base_revision: config.base_revision,
        pairs,
        sha256: Some(sha256_hex(weights)),
    })
}

/// The keys of `A` and `B` by target path.
fn pair_keys<'f>(file: &'f WeightFile<'_>) -> Result<BTreeMap<&'f str, (&'f str, &'f str)>, TensorsError> {
    let mut found: BTreeMap<&str, BTreeMap<Matrix, &str>> = BTreeMap::new();
    let (mut with, mut without) = (None, None);
    for key in file.names() {
        let parts = keys::parse(key)?;
        let side = if parts.prefixed { &mut with } else { &mut without };
        side.get_or_insert(key);
        if found.entry(parts.path).or_default().insert(parts.matrix, key).is_some() {
            let (matrix, path) = (parts.matrix.name(), shown(parts.path));
            return Err(TensorsError::DuplicateMatrix {
                key: shown(key),
                matrix,
                path,
            });
        }
    }
    if let (Some(with), Some(without)) = (with, without) {
        return Err(TensorsError::MixedPrefix {
            with: shown(with),
            without: shown(without),
        });
    }
    if found.is_empty() {
        return Err(TensorsError::NoTensors);
    }
    let both = |(path, matrices): (&'f str, BTreeMap<Matrix, &'f str>)| {
        let partner = |present: Matrix, missing: Matrix| TensorsError::Partner {
            path: shown(path),
            present: present.name(),
            missing: missing.name(),
        };
        match (matrices.get(&Matrix::A), matrices.get(&Matrix::B)) {
            (Some(a), Some(b)) => Ok((path, (*a, *b))),
            (Some(_), None) => Err(partner(Matrix::A, Matrix::B)),
            _ => Err(partner(Matrix::B, Matrix::A)),
        }
    };
    found.into_iter().map(both).collect()
}

/// PEFT compares neither name nor revision. Only where both sides name one can they be compared.
fn check_base_name(config: &config::Config, base: &BaseSpec) -> Result<(), TensorsError> {
    if let (Some(expected), Some(found)) = (&base.id, &config.base_model)
        && expected != found
    {
        return Err(TensorsError::BaseId {
            expected: shown(expected),
            found: shown(found),
        });
    }
    if let (Some(expected), Some(found)) = (&base.revision, &config.base_revision)
        && expected != found
    {
        return Err(TensorsError::BaseRevision {
            expected: shown(expected),
            found: shown(found),
        });
    }
    Ok(())
}

/// What is known beforehand of a target's size.
struct Size {
    /// `(d_out, d_in)` of the base's linear, if there is a base.
    of_base: Option<(usize, usize)>,
    base_name: Option<String>,
}

impl Size {
    fn of(path: &str, base: Option<&BaseSpec>, config: &config::Config) -> Result<Self, TensorsError> {
        let base_name = config.base_model.as_deref().map(shown);
        if path == keys::HEAD {
            return Err(TensorsError::Head);
        }
        if !keys::is_t5_linear(path) {
            return Err(TensorsError::NotT5 { path: shown(path) });
        }
        let Some(base) = base else {
            return Ok(Self {
                of_base: None,
                base_name,
            });
        };
        match base.targets.iter().find(|target| target.path == path) {
            Some(target) => Ok(Self {
                of_base: Some((target.d_out, target.d_in)),
                base_name,
            }),
            None => Err(TensorsError::NotInBase {
                path: shown(path),
                targets: base.targets.len(),
                base: base_name,
            }),
        }
    }
}

fn read_pair(
    file: &WeightFile<'_>,
    rank: usize,
    path: &str,
    (key_a, key_b): (&str, &str),
    size: Size,
) -> Result<LoraPair, Problem> {
    let [rank_a, d_in] = matrix_shape(file, key_a)?;
    let [d_out, rank_b] = matrix_shape(file, key_b)?;
    let wrong_rank = |matrix: Matrix, expected, found| TensorsError::Rank {
        matrix: matrix.name(),
        path: shown(path),
        rank,
        expected,
        found,
    };
    if rank_a != rank {
        return Err(wrong_rank(Matrix::A, [rank, d_in], [rank_a, d_in]).into());
    }
    if rank_b != rank {
        return Err(wrong_rank(Matrix::B, [d_out, rank], [d_out, rank_b]).into());
    }
    if let Some((base_out, base_in)) = size.of_base {
        let wrong_shape = |matrix: Matrix, expected, found| TensorsError::BaseShape {
            matrix: matrix.name(),
            path: shown(path),
            expected,
            found,
            base: size.base_name.clone(),
        };
        if d_in != base_in {
            return Err(wrong_shape(Matrix::A, [rank, base_in], [rank, d_in]).into());
        }
        if d_out != base_out {
            return Err(wrong_shape(Matrix::B, [base_out, rank], [d_out, rank]).into());
        }
    }
    Ok(LoraPair {
        rank,
        d_in,
        d_out,
        a: file.f32(key_a)?,
        b: file.f32(key_b)?,
    })
}

fn matrix_shape(file: &WeightFile<'_>, key: &str) -> Result<[usize; 2], Problem> {
    let shape = file.shape(key)?;
    match shape {
        [rows, columns] if *rows > 0 && *columns > 0 => Ok([*rows, *columns]),
        _ => Err(TensorsError::NotMatrix {
            key: shown(key),
            found: shape.to_vec(),
        }
        .into()),
    }
}

/// The configuration must select exactly the linears that have tensors. Without a base only those with tensors are
/// known; then every name among the targets must at least belong to one.
fn check_selection(
    config: &config::Config,
    keys: &BTreeMap<&str, (&str, &str)>,
    base: Option<&BaseSpec>,
) -> Result<(), TensorsError> {
    let selection = &config.selection;
    let extra: Vec<_> = keys
        .keys()
        .filter(|path| !selection.selects(path))
        .map(|path| shown(path))
        .collect();
    if !extra.is_empty() {
        return Err(TensorsError::ExtraTargets { extra });
    }
    let Some(base) = base else {
        return match selection.unmatched(keys.keys().copied()) {
            Some(name) => Err(TensorsError::UnmatchedTarget { name: shown(name) }),
            None => Ok(()),
        };
    };
    let selected: BTreeSet<_> = base
        .targets
        .iter()
        .map(|target| target.path.as_str())
        .filter(|path| selection.selects(path))
        .collect();
    let missing: Vec<_> = selected
        .iter()
        .filter(|path| !keys.contains_key(**path))
        .map(|path| shown(path))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(TensorsError::MissingTargets {
            expected: selected.len(),
            missing,
        })
    }
}
