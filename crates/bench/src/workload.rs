//! Random models and modules of true shapes.

use std::collections::BTreeMap;
use std::rc::Rc;

use lorahub_adapters::{Bank, BaseSpec, LoraPair, Module, Rule};
use lorahub_optim::Rng;
use lorahub_t5::{Modules, T5};

use crate::{Bare, BenchError, Shape};

const MODULES: usize = 20;
const RANK: usize = 16;

/// A model, twenty modules of rank 16 on q and v under each rule, and candidates.
pub(crate) struct Workload<B: Bare> {
    pub(crate) t5: T5<B>,
    /// By the rules asked for.
    pub(crate) modules: Vec<Modules<B>>,
    pub(crate) candidates: Vec<Vec<f64>>,
}

impl<B: Bare> Workload<B> {
    /// Random weights from a fixed seed, scaled so that activations stay of order one.
    pub(crate) fn new(backend: &Rc<B>, shape: Shape, rules: &[Rule], candidates: usize) -> Result<Self, BenchError> {
        let mut random = Rng::new(7);
        let device = backend.clone();
        let mut source = |_: &str, dims: &[usize]| {
            let scale = 1.7 / (*dims.last().unwrap_or(&1) as f64).sqrt();
            Ok(device.weight(dims, many(&mut random, dims.iter().product(), scale))?)
        };
        let t5 = T5::load(backend.clone(), shape.config()?, &mut source)?;
        let modules = modules(&t5.config().base_spec())?;
        let modules = rules
            .iter()
            .map(|&rule| Ok(Modules::upload(&t5, &Bank::new(modules.clone(), rule)?)?))
            .collect::<Result<_, BenchError>>()?;
        let mut random = Rng::new(8);
        Ok(Self {
            t5,
            modules,
            candidates: (0..candidates)
                .map(|_| (0..MODULES).map(|_| random.uniform() - 0.5).collect())
                .collect(),
        })
    }
}

pub(crate) fn many(random: &mut Rng, count: usize, scale: f64) -> Vec<f32> {
    (0..count)
        .map(|_| ((random.uniform() * 2.0 - 1.0) * scale) as f32)
        .collect()
}

fn modules(spec: &BaseSpec) -> Result<Vec<Module>, BenchError> {
    let mut random = Rng::new(9);
    let adapted = || {
        spec.targets
            .iter()
            .filter(|target| target.path.ends_with(".q") || target.path.ends_with(".v"))
    };
    let mut modules = Vec::with_capacity(MODULES);
    for index in 0..MODULES {
        let mut pairs = BTreeMap::new();
        for target in adapted() {
            let (d_in, d_out) = (target.d_in, target.d_out);
            let pair = LoraPair {
                rank: RANK,
                d_in,
                d_out,
                a: many(&mut random, RANK * d_in, 0.05),
                b: many(&mut random, d_out * RANK, 0.05),
            };
            pairs.insert(target.path.clone(), pair);
        }
        let alpha = 2.0 * RANK as f64;
        modules.push(Module::new(&format!("module-{index}"), RANK, alpha, pairs, Some(spec))?);
    }
    Ok(modules)
}

/// Random sequences of these lengths.
pub(crate) fn tokens<B: Bare>(t5: &T5<B>, lengths: &[usize]) -> Vec<Vec<u32>> {
    random_ids(t5.config().vocab_size, lengths)
}

/// Random sequences of these lengths for a vocabulary of this size.
pub(crate) fn random_ids(vocab: usize, lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut random = Rng::new(10);
    let mut token = || (2 + random.next_u64() % (vocab as u64 - 2)) as u32;
    lengths
        .iter()
        .map(|&length| (0..length).map(|_| token()).collect())
        .collect()
}
