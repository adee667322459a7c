//! Random models and modules of true shapes, and the work that is timed on them.

use std::collections::BTreeMap;
use std::rc::Rc;

use lorahub_adapters::{Bank, LoraPair, Module, Rule};
use lorahub_optim::Rng;
use lorahub_t5::{Config, Cost, Modules, Prepared, T5};
use lorahub_tensor::{Backend, Cpu};

use crate::BenchError;

const SHOTS: usize = 5;
const INPUT_TOKENS: usize = 64;
const TARGET_TOKENS: usize = 16;
const MODULES: usize = 20;
const RANK: usize = 16;
const CANDIDATES: usize = 16;

/// Which model's shape to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The bundled demo base.
    Demo,
    /// google/flan-t5-small.
    Small,
    /// google/flan-t5-base.
    Base,
}

impl Shape {
    /// Every shape, smallest first.
    pub const ALL: [Self; 3] = [Self::Demo, Self::Small, Self::Base];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Small => "flan-t5-small",
            Self::Base => "flan-t5-base",
        }
    }

    /// The shape called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.name() == name)
    }

    fn config(self) -> Result<Config, BenchError> {
        let (vocab, d_model, d_kv, d_ff, layers, heads) = match self {
            // The bundled base's own file would bind the benchmark to its retraining; these are its sizes.
            Self::Demo => (512, 128, 32, 256, 2, 4),
            Self::Small => (32128, 512, 64, 1024, 8, 6),
            Self::Base => (32128, 768, 64, 2048, 12, 12),
        };
        let json = serde_json::json!({
            "model_type": "t5", "vocab_size": vocab, "d_model": d_model, "d_kv": d_kv, "d_ff": d_ff,
            "num_layers": layers, "num_heads": heads, "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": false, "decoder_start_token_id": 0,
        });
        Ok(Config::from_json(json.to_string().as_bytes())?)
    }
}

/// A model, twenty modules of rank 16 on q and v, five shots of 64 and 16 tokens, and sixteen candidates.
pub struct Workload {
    t5: T5<Cpu>,
    modules: Modules<Cpu>,
    batch: Prepared<Cpu>,
    candidates: Vec<Vec<f64>>,
    cost: Cost,
}

impl Workload {
    /// Random weights from a fixed seed, scaled so that activations stay of order one.
    ///
    /// # Errors
    /// [`BenchError`] from the engine.
    pub fn new(shape: Shape) -> Result<Self, BenchError> {
        let mut random = Rng::new(7);
        let mut many = |count: usize, scale: f64| -> Vec<f32> {
            (0..count)
                .map(|_| ((random.uniform() * 2.0 - 1.0) * scale) as f32)
                .collect()
        };
        let config = shape.config()?;
        let backend = Rc::new(Cpu::new());
        let device = backend.clone();
        let mut source = |_: &str, dims: &[usize]| {
            let scale = 1.7 / (*dims.last().unwrap_or(&1) as f64).sqrt();
            Ok(device.weight(dims, many(dims.iter().product(), scale))?)
        };
        let t5 = T5::load(backend, config, &mut source)?;

        let spec = t5.config().base_spec();
        let mut modules = Vec::with_capacity(MODULES);
        for index in 0..MODULES {
            let mut pairs = BTreeMap::new();
            for target in &spec.targets {
                if target.path.ends_with(".q") || target.path.ends_with(".v") {
                    let (d_in, d_out) = (target.d_in, target.d_out);
                    let (a, b) = (many(RANK * d_in, 0.05), many(d_out * RANK, 0.05));
                    pairs.insert(
                        target.path.clone(),
                        LoraPair {
                            rank: RANK,
                            d_in,
                            d_out,
                            a,
                            b,
                        },
                    );
                }
            }
            modules.push(Module::new(
                &format!("module-{index}"),
                RANK,
                2.0 * RANK as f64,
                pairs,
                Some(&spec),
            )?);
        }
        let modules = Modules::upload(&t5, &Bank::new(modules, Rule::Reference)?)?;

        let vocab = t5.config().vocab_size as u64;
        let mut random = Rng::new(8);
        let mut tokens = |count: usize| -> Vec<Vec<u32>> {
            (0..SHOTS)
                .map(|_| {
                    (0..count)
                        .map(|_| (2 + random.next_u64() % (vocab - 2)) as u32)
                        .collect()
                })
                .collect()
        };
        let batch = t5.prepare(&tokens(INPUT_TOKENS), &tokens(TARGET_TOKENS))?;
        let candidates = (0..CANDIDATES)
            .map(|_| (0..MODULES).map(|_| random.uniform() - 0.5).collect())
            .collect();
        let cost = Cost::of_evaluation(t5.config(), &[INPUT_TOKENS; SHOTS], &[TARGET_TOKENS; SHOTS]);
        Ok(Self {
            t5,
            modules,
            batch,
            candidates,
            cost,
        })
    }

    /// Evaluates these of the sixteen candidates together.
    ///
    /// # Errors
    /// [`BenchError`] from the engine.
    pub async fn evaluate(&self, candidates: &[usize]) -> Result<(), BenchError> {
        let weights: Vec<&[f64]> = candidates
            .iter()
            .map(|&index| self.candidates[index].as_slice())
            .collect();
        let losses = self.modules.nll(&self.t5, &self.batch, &weights).await?;
        assert!(
            losses.iter().flatten().all(|loss| loss.is_finite()),
            "a random model must have finite losses"
        );
        Ok(())
    }

    /// What one evaluation costs.
    pub fn cost(&self) -> Cost {
        self.cost.clone()
    }

    /// The device's name.
    pub fn backend(&self) -> String {
        self.t5.backend().name()
    }
}
