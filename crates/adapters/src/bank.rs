//! N modules stacked by target.

use std::collections::BTreeMap;

use crate::scales::Scales;
use crate::{AdapterError, LoraPair, Module, Rule};

/// What a bank keeps of a module besides its matrices, which are in the stacks.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleInfo {
    /// What the user calls it.
    pub name: String,
    /// Its rank; of most of its targets, if they differ.
    pub rank: usize,
    /// The alpha of those targets, as imported (before any folding).
    pub alpha: f64,
    /// Whether its scaling is `alpha / sqrt(r)`.
    pub rslora: bool,
    /// The base it says it was trained on.
    pub base_model: Option<String>,
    /// The revision of that base.
    pub base_revision: Option<String>,
    /// SHA-256 of the weight file it came from, in hexadecimal.
    pub sha256: Option<String>,
    /// The alphas of the targets that do not have `alpha`, by path.
    pub(crate) alphas: BTreeMap<String, f64>,
}

impl ModuleInfo {
    /// The factor `s` of its updates, as imported; of most of its targets, if they differ.
    pub fn scaling(&self) -> f64 {
        self.scales().scaling()
    }

    pub(crate) fn scales(&self) -> Scales<'_> {
        Scales {
            rank: self.rank,
            alpha: self.alpha,
            rslora: self.rslora,
            alphas: &self.alphas,
        }
    }
}

/// All modules' matrices for one target.
#[derive(Clone, Debug, PartialEq)]
pub struct BankTarget {
    /// The target's name in the base.
    pub path: String,
    /// Columns of the target's weight.
    pub d_in: usize,
    /// Rows of the target's weight.
    pub d_out: usize,
    /// Each module's rank at this target, in the bank's order.
    pub ranks: Vec<usize>,
    /// Each module's scaling at this target; under [`Rule::Reference`] all equal, because the rest is folded into `b`.
    pub scalings: Vec<f32>,
    /// The modules' `A`, one below the other: `[sum of ranks, d_in]`, row-major.
    pub a: Vec<f32>,
    /// The modules' `B`, one after the other, each `[d_out, r_i]` row-major.
    pub b: Vec<f32>,
}

impl BankTarget {
    /// Each module's `(r_i, A_i, B_i)` out of the stacks, in the bank's order.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, &[f32], &[f32])> {
        let (mut a, mut b) = (self.a.as_slice(), self.b.as_slice());
        self.ranks.iter().map(move |&rank| {
            let (a_i, b_i);
            (a_i, a) = a.split_at(rank * self.d_in);
            (b_i, b) = b.split_at(self.d_out * rank);
            (rank, a_i, b_i)
        })
    }
}

/// N modules of one target set, stacked by target. It holds the matrices once: building it empties the modules.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    rule: Rule,
    modules: Vec<ModuleInfo>,
    targets: Vec<BankTarget>,
    notes: Vec<String>,
    leaves: Vec<String>,
}

impl Bank {
    /// Stacks `modules`, in their order, for `rule`.
    ///
    /// Under [`Rule::Reference`] all modules need one rank at each target, and a scaling that differs there from the
    /// first module's is folded into the module's `B` (`B_i *= s_i / s_1`) and noted, because the rule sums the matrices
    /// before it scales them. Under [`Rule::Exact`] every module keeps its ranks and scalings.
    ///
    /// # Errors
    /// [`AdapterError::NoModules`]; [`AdapterError::TargetsDiffer`] and [`AdapterError::SizesDiffer`] for modules of
    /// different targets; under [`Rule::Reference`] [`AdapterError::RanksDiffer`], and [`AdapterError::Overflow`] if
    /// folding leaves the range of f32.
    pub fn new(modules: Vec<Module>, rule: Rule) -> Result<Self, AdapterError> {
        let first = modules.first().ok_or(AdapterError::NoModules)?;
        for other in &modules {
            check_together(first, other, rule)?;
        }
        let leaves = modules
            .iter()
            .map(|module| &module.leaves)
            .find(|leaves| !leaves.is_empty());
        let leaves = leaves.cloned().unwrap_or_default();
        let notes = notes(&modules, rule);
        let mut infos = Vec::with_capacity(modules.len());
        let mut pairs = Vec::with_capacity(modules.len());
        for module in modules {
            let Module {
                name,
                rank,
                alpha,
                rslora,
                base_model,
                base_revision,
                sha256,
                alphas,
                pairs: of_module,
                leaves: _,
            } = module;
            infos.push(ModuleInfo {
                name,
                rank,
                alpha,
                rslora,
                base_model,
                base_revision,
                sha256,
                alphas,
            });
            pairs.push(of_module);
        }
        let targets = stack(&infos, pairs, rule)?;
        Ok(Self {
            rule,
            modules: infos,
            targets,
            notes,
            leaves,
        })
    }

    /// The number of modules, N.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Always false: a bank has at least one module.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// The modules' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(|module| module.name.as_str())
    }

    /// The rule the bank was made for.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// What is known of each module, in order.
    pub fn modules(&self) -> &[ModuleInfo] {
        &self.modules
    }

    /// The targets, sorted by path.
    pub fn targets(&self) -> &[BankTarget] {
        &self.targets
    }

    /// What the user should know about how the modules were made to fit, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Leaf names that select exactly the targets in the base; empty when that is not known.
    pub(crate) fn leaves(&self) -> &[String] {
        &self.leaves
    }

    /// The first module, whose scaling and base a composed module carries.
    pub(crate) fn first(&self) -> &ModuleInfo {
        &self.modules[0]
    }
}

/// The reference checks shapes only, against the first module; here the target sets must also be equal.
/// Checks that a module can be stacked beside the first one under a rule, as [`Bank::new`] does.
///
/// # Errors
/// [`AdapterError::TargetsDiffer`], [`AdapterError::SizesDiffer`], and under [`Rule::Reference`]
/// [`AdapterError::RanksDiffer`].
pub fn check_together(first: &Module, other: &Module, rule: Rule) -> Result<(), AdapterError> {
    let only_in = |a: &Module, b: &Module| a.pairs.keys().find(|path| !b.pairs.contains_key(*path)).cloned();
    if let Some(path) = only_in(first, other).or_else(|| only_in(other, first)) {
        return Err(AdapterError::TargetsDiffer {
            module: other.name.clone(),
            first: first.name.clone(),
            path,
            expected: first.pairs.len(),
            found: other.pairs.len(),
        });
    }
    for ((path, expected), found) in first.pairs.iter().zip(other.pairs.values()) {
        let size = |pair: &LoraPair| (pair.d_out, pair.d_in);
        if size(expected) != size(found) {
            return Err(AdapterError::SizesDiffer {
                module: other.name.clone(),
                first: first.name.clone(),
                path: path.clone(),
                expected: size(expected),
                found: size(found),
            });
        }
        if rule == Rule::Reference && expected.rank != found.rank {
            return Err(AdapterError::RanksDiffer {
                module: other.name.clone(),
                first: first.name.clone(),
                path: path.clone(),
                expected: expected.rank,
                found: found.rank,
            });
        }
    }
    Ok(())
}

fn notes(modules: &[Module], rule: Rule) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(first) = modules.first() else {
        return notes;
    };
    for other in modules {
        if rule == Rule::Reference {
            notes.extend(note_of_fold(first, other));
        }
        if let (Some(expected), Some(found)) = (&first.base_model, &other.base_model)
            && expected != found
        {
            notes.push(format!(
                "adapter `{}` names the base `{found}`, `{}` names `{expected}`: only their shapes were compared",
                other.name, first.name
            ));
        }
    }
    notes
}

/// What folding the scalings of `other` into its `B` changes, if it changes anything.
fn note_of_fold(first: &Module, other: &Module) -> Option<String> {
    let fold = |path: &String| Some(other.scaling_of(path)? / first.scaling_of(path)?);
    let folds: Vec<f64> = first.pairs.keys().filter_map(fold).collect();
    if folds.iter().all(|&fold| fold == 1.0) {
        return None;
    }
    if first.exceptions() == 0 && other.exceptions() == 0 {
        let (expected, found) = (first.scaling(), other.scaling());
        return Some(format!(
            "adapter `{}` has scaling {found}, `{}` has {expected}: its B is multiplied by {} to make up for that",
            other.name,
            first.name,
            found / expected
        ));
    }
    let least = folds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = folds.iter().copied().fold(0.0, f64::max);
    Some(format!(
        "the scalings of adapter `{}` are {least} to {most} times those of `{}`, target by target: its B is multiplied \
         by that to make up for it",
        other.name, first.name
    ))
}

/// Moves the pairs into stacks, target by target, so that the matrices are never held twice.
fn stack(
    infos: &[ModuleInfo],
    mut pairs: Vec<BTreeMap<String, LoraPair>>,
    rule: Rule,
) -> Result<Vec<BankTarget>, AdapterError> {
    let mut targets = Vec::new();
    while let Some((path, head)) = pairs[0].pop_first() {
        // All modules have the same targets, so each one's first is this one.
        let others = pairs[1..].iter_mut().filter_map(|pairs| pairs.pop_first());
        let of_target: Vec<LoraPair> = std::iter::once(head).chain(others.map(|(_, pair)| pair)).collect();
        targets.push(stack_target(infos, path, of_target, rule)?);
    }
    Ok(targets)
}

/// Stacks one target's pairs, one of each module.
fn stack_target(
    infos: &[ModuleInfo],
    path: String,
    pairs: Vec<LoraPair>,
    rule: Rule,
) -> Result<BankTarget, AdapterError> {
    let (d_in, d_out) = (pairs[0].d_in, pairs[0].d_out);
    let ranks: Vec<usize> = pairs.iter().map(|pair| pair.rank).collect();
    let own: Vec<f64> = infos
        .iter()
        .zip(&ranks)
        .map(|(info, &rank)| info.scales().scaling_at(&path, rank))
        .collect();
    let rows: usize = ranks.iter().sum();
    let (mut a, mut b) = (Vec::with_capacity(rows * d_in), Vec::with_capacity(rows * d_out));
    for (pair, scaling) in pairs.into_iter().zip(&own) {
        a.extend(pair.a);
        if rule == Rule::Exact || *scaling == own[0] {
            b.extend(pair.b);
        } else {
            let fold = scaling / own[0];
            b.extend(pair.b.iter().map(|&b| (f64::from(b) * fold) as f32));
        }
    }
    if !b.iter().all(|b| b.is_finite()) {
        return Err(AdapterError::Overflow {
            what: "the folded B",
            path,
        });
    }
    let scaling = |own_scaling: &f64| match rule {
        Rule::Reference => own[0] as f32,
        Rule::Exact => *own_scaling as f32,
    };
    Ok(BankTarget {
        scalings: own.iter().map(scaling).collect(),
        path,
        d_in,
        d_out,
        ranks,
        a,
        b,
    })
}
