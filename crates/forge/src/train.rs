//! Training: a loop of batches with AdamW, for the base and for a module alike.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use lorahub_adapters::LoraPair;
use lorahub_composer::Shot;
use lorahub_optim::Rng;
use lorahub_t5::{Adapter, Config, T5, Tokenizer};
use lorahub_tensor::{Cpu, CpuLora};

use crate::ForgeError;
use crate::data::{for_base, for_module};
use crate::net::{Vars, is_bias, network};
use crate::rules::Rewrite;

/// How long and how fast to train.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Number of updates.
    pub steps: usize,
    /// Examples an update sees.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Updates over which the rate rises from zero.
    pub warmup: usize,
    /// Fraction of the updates after which the rate falls linearly to zero.
    pub decay_from: f64,
}

impl Schedule {
    /// The family's base.
    pub const BASE: Self = Self {
        steps: 3000,
        batch: 32,
        rate: 1.5e-3,
        warmup: 100,
        decay_from: 0.37,
    };
    /// A module of the family.
    pub const MODULE: Self = Self {
        steps: 240,
        batch: 24,
        rate: 5e-3,
        warmup: 20,
        decay_from: 0.1,
    };

    fn rate_at(&self, step: usize) -> f64 {
        let (step, steps) = (step as f64, self.steps as f64);
        let warm = ((step + 1.0) / self.warmup as f64).min(1.0);
        let decay = ((steps - step) / (steps * (1.0 - self.decay_from))).min(1.0);
        self.rate * warm * decay
    }
}

/// LoRA's rank in every module.
pub const RANK: usize = 4;
/// LoRA's alpha; the scaling `alpha / r` is 2.
pub const ALPHA: f64 = 8.0;
/// How much faster than the rest the position biases learn.
const BIAS_RATE: f64 = 5.0;
/// Weight of the squared size of a module's update in its loss: modules that change less disturb each other less.
const DELTA_PENALTY: f64 = 2e-4;
/// The gradient's norm is cut to this.
const CLIP: f64 = 1.0;
/// How often progress is shown, in updates.
const REPORT: usize = 50;

/// AdamW over groups of variables, each with its own multiple of the rate.
struct Trainer {
    groups: Vec<(AdamW, f64)>,
    named: Vec<(String, Var)>,
}

impl Trainer {
    fn new(vars: &Vars, weight_decay: f64) -> Result<Self, ForgeError> {
        let params = ParamsAdamW {
            beta1: 0.9,
            beta2: 0.98,
            weight_decay,
            ..ParamsAdamW::default()
        };
        let mut groups = Vec::new();
        for (bias, factor) in [(false, 1.0), (true, BIAS_RATE)] {
            let group = vars
                .iter()
                .filter(|(name, _)| is_bias(name) == bias)
                .map(|(_, var)| var.clone());
            groups.push((AdamW::new(group.collect(), params.clone())?, factor));
        }
        let named = vars.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
        Ok(Self { groups, named })
    }

    /// One update from a loss. With `check`, every variable must have a gradient that is not zero everywhere.
    fn update(&mut self, loss: &Tensor, rate: f64, check: bool) -> Result<(), ForgeError> {
        let mut gradients = loss.backward()?;
        let mut squares = 0f64;
        for (name, var) in &self.named {
            let Some(gradient) = gradients.get(var) else {
                return Err(ForgeError::NoGradient { name: name.clone() });
            };
            let square = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            if check && square == 0.0 {
                return Err(ForgeError::NoGradient { name: name.clone() });
            }
            squares += square;
        }
        let norm = squares.sqrt();
        if norm > CLIP {
            self.scale(&mut gradients, CLIP / norm)?;
        }
        for (group, factor) in &mut self.groups {
            group.set_learning_rate(rate * *factor);
            group.step(&gradients)?;
        }
        Ok(())
    }

    fn scale(&self, gradients: &mut GradStore, factor: f64) -> Result<(), ForgeError> {
        for (_, var) in &self.named {
            if let Some(gradient) = gradients.remove(var) {
                gradients.insert(var, gradient.affine(factor, 0.0)?);
            }
        }
        Ok(())
    }
}

/// Mean cross-entropy of the target tokens of a batch of examples.
fn cross_entropy(
    t5: &T5<Cpu>,
    tokenizer: &Tokenizer,
    adapter: &Adapter<Cpu>,
    examples: &[Shot],
) -> Result<Tensor, ForgeError> {
    let mut inputs = Vec::with_capacity(examples.len());
    let mut targets = Vec::with_capacity(examples.len());
    for example in examples {
        inputs.push(tokenizer.encode(&example.input)?);
        targets.push(tokenizer.encode(&example.output)?);
    }
    let tokens: usize = targets.iter().map(Vec::len).sum();
    let batch = t5.prepare(&inputs, &targets)?;
    let nll = pollster::block_on(t5.nll(&batch, adapter))?;
    Ok(nll.to_candle()?.sum_all()?.affine(1.0 / tokens as f64, 0.0)?)
}

/// Shows how far a training is.
struct Progress {
    what: String,
    steps: usize,
    started: Instant,
    sum: f32,
    count: usize,
}

impl Progress {
    fn new(what: &str, steps: usize) -> Self {
        Self {
            what: what.to_owned(),
            steps,
            started: Instant::now(),
            sum: 0.0,
            count: 0,
        }
    }

    fn step(&mut self, step: usize, loss: f32) -> Result<(), ForgeError> {
        if !loss.is_finite() {
            return Err(ForgeError::Diverged {
                what: self.what.clone(),
                step,
                loss,
            });
        }
        self.sum += loss;
        self.count += 1;
        let done = step + 1;
        if done.is_multiple_of(REPORT) || done == self.steps {
            let seconds = self.started.elapsed().as_secs_f64();
            let left = seconds / done as f64 * (self.steps - done) as f64;
            let mean = self.sum / self.count as f32;
            eprintln!(
                "{}: {done}/{} loss {mean:.4}, {seconds:.0} s, {left:.0} s left",
                self.what, self.steps
            );
            (self.sum, self.count) = (0.0, 0);
        }
        Ok(())
    }
}

/// Trains all variables of the base on [`for_base`]'s examples.
///
/// # Errors
/// [`ForgeError::NoGradient`], [`ForgeError::Diverged`], or the model's.
pub fn train_base(
    config: &Config,
    tokenizer: &Tokenizer,
    vars: &Vars,
    schedule: &Schedule,
    rng: &mut Rng,
) -> Result<(), ForgeError> {
    let t5 = network(config, vars)?;
    let mut trainer = Trainer::new(vars, 0.01)?;
    let mut progress = Progress::new("base", schedule.steps);
    for step in 0..schedule.steps {
        let examples: Vec<Shot> = (0..schedule.batch).map(|_| for_base(rng)).collect();
        let loss = cross_entropy(&t5, tokenizer, &Adapter::none(1), &examples)?;
        trainer.update(&loss, schedule.rate_at(step), step == 1)?;
        progress.step(step, loss.to_scalar::<f32>()?)?;
    }
    Ok(())
}

/// Paths of the linears that a module adapts: q and v of every attention.
pub fn targets(config: &Config) -> Vec<(String, usize, usize)> {
    let spec = config.base_spec();
    let adapted = spec
        .targets
        .into_iter()
        .filter(|target| target.path.ends_with(".q") || target.path.ends_with(".v"));
    adapted.map(|target| (target.path, target.d_in, target.d_out)).collect()
}

/// Trains one module, the base frozen: `A` uniform as PEFT draws it, `B` zero.
///
/// # Errors
/// As [`train_base`].
pub fn train_module(
    t5: &T5<Cpu>,
    tokenizer: &Tokenizer,
    rule: &Rewrite,
    schedule: &Schedule,
    rng: &mut Rng,
) -> Result<BTreeMap<String, LoraPair>, ForgeError> {
    let targets = targets(t5.config());
    let mut vars = Vars::new();
    for (path, d_in, d_out) in &targets {
        // Kaiming's uniform bound with a = sqrt(5), which is what PEFT uses: sqrt(6 / (6 d_in)).
        let bound = (*d_in as f64).powf(-0.5);
        let a: Vec<f32> = (0..RANK * d_in)
            .map(|_| ((2.0 * rng.uniform() - 1.0) * bound) as f32)
            .collect();
        let device = &candle_core::Device::Cpu;
        vars.insert(
            format!("{path}.a"),
            Var::from_tensor(&Tensor::from_vec(a, (RANK, *d_in), device)?)?,
        );
        vars.insert(
            format!("{path}.b"),
            Var::from_tensor(&Tensor::zeros((*d_out, RANK), candle_core::DType::F32, device)?)?,
        );
    }
    let scaling = ALPHA / RANK as f64;
    let order: Vec<String> = t5
        .config()
        .base_spec()
        .targets
        .into_iter()
        .map(|target| target.path)
        .collect();
    let mut trainer = Trainer::new(&vars, 0.0)?;
    let mut progress = Progress::new(rule.name, schedule.steps);
    for step in 0..schedule.steps {
        let examples: Vec<Shot> = (0..schedule.batch).map(|_| for_module(rng, rule)).collect();
        let mut loras = Vec::with_capacity(order.len());
        let mut size: Option<Tensor> = None;
        for path in &order {
            let (Some(a), Some(b)) = (vars.get(&format!("{path}.a")), vars.get(&format!("{path}.b"))) else {
                loras.push(None);
                continue;
            };
            loras.push(Some(CpuLora::trainable(a, b, scaling)?));
            let square = b
                .as_tensor()
                .matmul(a.as_tensor())?
                .affine(scaling, 0.0)?
                .sqr()?
                .sum_all()?;
            size = Some(match size {
                Some(sum) => sum.add(&square)?,
                None => square,
            });
        }
        let loss = cross_entropy(t5, tokenizer, &Adapter::new(1, loras), &examples)?;
        let objective = match size {
            Some(size) => loss.add(&size.affine(DELTA_PENALTY, 0.0)?)?,
            None => loss.clone(),
        };
        // At step 0 every B is zero, and so is every A's gradient.
        trainer.update(&objective, schedule.rate_at(step), step == 1)?;
        progress.step(step, loss.to_scalar::<f32>()?)?;
    }
    targets
        .into_iter()
        .map(|(path, d_in, d_out)| {
            let read = |leaf: &str| match vars.get(&format!("{path}.{leaf}")) {
                Some(var) => Ok(var.as_tensor().flatten_all()?.to_vec1::<f32>()?),
                None => Err(ForgeError::Unknown {
                    what: "variable",
                    name: format!("{path}.{leaf}"),
                }),
            };
            let pair = LoraPair {
                rank: RANK,
                d_in,
                d_out,
                a: read("a")?,
                b: read("b")?,
            };
            Ok((path, pair))
        })
        .collect()
}
