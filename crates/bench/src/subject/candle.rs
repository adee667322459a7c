//! `candle-transformers`' T5 as a subject.
//!
//! Its `decode` applies the head to the last position only, so an evaluation adds the product of the other positions'
//! rows, and the loss, in candle's own operations. It knows no padding: shots of one length run as one batch, others one
//! after another. It has no modules.

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::{D, DType, Device, Shape as Dims, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Activation, Init, VarBuilder};
use candle_transformers::models::t5::{ActivationWithOptionalGating, Config, T5ForConditionalGeneration};
use lorahub_optim::Rng;

use crate::bare::values;
use crate::workload::{many, random_ids};
use crate::{BenchError, Job, Shape};

/// candle's T5 or its product, ready for a job.
pub struct Candle(Ready);

enum Ready {
    Evaluation {
        model: Box<Model>,
        batches: Vec<Batch>,
        tokens: usize,
    },
    Greedy {
        model: Box<Model>,
        input: Tensor,
        new_tokens: usize,
    },
    Gemm {
        x: Tensor,
        weight: Tensor,
    },
}

struct Model {
    t5: T5ForConditionalGeneration,
    /// The model's own head, to apply it to the positions that `decode` leaves out.
    head: Tensor,
}

/// Shots of one length.
struct Batch {
    input: Tensor,
    /// What the decoder is fed, and what it should say.
    shifted: Tensor,
    labels: Tensor,
    /// As many rows as `decode` leaves without logits.
    others: Tensor,
}

/// Random matrices for every name, scaled as those of ours.
struct RandomWeights {
    random: Mutex<Rng>,
    head: Tensor,
}

impl SimpleBackend for RandomWeights {
    fn get(&self, dims: Dims, name: &str, _: Init, _: DType, device: &Device) -> candle_core::Result<Tensor> {
        if name == "lm_head.weight" {
            return Ok(self.head.clone());
        }
        let mut random = self.random.lock().map_err(candle_core::Error::msg)?;
        tensor(&mut random, &dims, device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("`{name}` was asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

fn tensor(random: &mut Rng, dims: &Dims, device: &Device) -> candle_core::Result<Tensor> {
    let scale = 1.7 / (dims.dims().last().copied().unwrap_or(1) as f64).sqrt();
    Tensor::from_vec(many(random, dims.elem_count(), scale), dims, device)
}

impl Model {
    fn new(shape: Shape) -> Result<Self, BenchError> {
        let ours = shape.config()?;
        let config = Config {
            vocab_size: ours.vocab_size,
            d_model: ours.d_model,
            d_kv: ours.d_kv,
            d_ff: ours.d_ff,
            num_layers: ours.encoder_layers,
            num_decoder_layers: Some(ours.decoder_layers),
            num_heads: ours.num_heads,
            feed_forward_proj: ActivationWithOptionalGating {
                gated: true,
                activation: Activation::NewGelu,
            },
            tie_word_embeddings: false,
            ..Config::default()
        };
        let mut random = Rng::new(7);
        let head = tensor(&mut random, &Dims::from((ours.vocab_size, ours.d_model)), &Device::Cpu)?;
        let weights = RandomWeights {
            random: Mutex::new(random),
            head: head.clone(),
        };
        let builder = VarBuilder::from_backend(Box::new(weights), DType::F32, Device::Cpu);
        let t5 = T5ForConditionalGeneration::load(builder, &config)?;
        Ok(Self { t5, head })
    }

    /// The summed loss of a batch.
    fn evaluate(&mut self, batch: &Batch) -> candle_core::Result<f64> {
        self.t5.clear_kv_cache();
        let last = self.t5.forward(&batch.input, &batch.shifted)?;
        let others = batch.others.matmul(&self.head.t()?)?;
        let logits = Tensor::cat(&[others, last], 0)?;
        let chosen = candle_nn::ops::log_softmax(&logits, D::Minus1)?.gather(&batch.labels, 1)?;
        Ok(-f64::from(chosen.sum_all()?.to_scalar::<f32>()?))
    }

    fn generate(&mut self, input: &Tensor, new_tokens: usize) -> candle_core::Result<usize> {
        self.t5.clear_kv_cache();
        let encoded = self.t5.encode(input)?;
        let mut next = Tensor::zeros((1, 1), DType::U32, &Device::Cpu)?;
        for _ in 0..new_tokens {
            next = self.t5.decode(&next, &encoded)?.argmax_keepdim(D::Minus1)?;
        }
        Ok(new_tokens)
    }
}

impl Batch {
    fn new(shape: Shape, shots: usize, input: usize, target: usize) -> Result<Self, BenchError> {
        let config = shape.config()?;
        let ids = |length| {
            let ids = random_ids(config.vocab_size, &vec![length; shots]).concat();
            Tensor::from_vec(ids, (shots, length), &Device::Cpu)
        };
        let rows = shots * (target - 1);
        Ok(Self {
            input: ids(input)?,
            shifted: ids(target)?,
            labels: ids(target)?.reshape((shots * target, 1))?,
            others: Tensor::from_vec(values(rows * config.d_model), (rows, config.d_model), &Device::Cpu)?,
        })
    }
}

impl Candle {
    pub(super) fn new(job: &Job) -> Result<Self, BenchError> {
        Ok(Self(match *job {
            Job::Evaluation {
                shape,
                ref inputs,
                ref targets,
            } => {
                let mut lengths: BTreeMap<(usize, usize), usize> = BTreeMap::new();
                for (&input, &target) in inputs.iter().zip(targets) {
                    *lengths.entry((input, target)).or_default() += 1;
                }
                let batches = lengths
                    .into_iter()
                    .map(|((input, target), shots)| Batch::new(shape, shots, input, target))
                    .collect::<Result<_, BenchError>>()?;
                Ready::Evaluation {
                    model: Box::new(Model::new(shape)?),
                    batches,
                    tokens: targets.iter().sum(),
                }
            }
            Job::Greedy {
                shape,
                input_tokens,
                new_tokens,
            } => {
                let ids = random_ids(shape.config()?.vocab_size, &[input_tokens]).concat();
                Ready::Greedy {
                    model: Box::new(Model::new(shape)?),
                    input: Tensor::from_vec(ids, (1, input_tokens), &Device::Cpu)?,
                    new_tokens,
                }
            }
            Job::Gemm { rows, d_in, d_out } => Ready::Gemm {
                x: Tensor::from_vec(values(rows * d_in), (rows, d_in), &Device::Cpu)?,
                weight: Tensor::from_vec(values(d_out * d_in), (d_out, d_in), &Device::Cpu)?,
            },
        }))
    }

    pub(super) fn run(&mut self, count: usize) -> Result<f64, BenchError> {
        match &mut self.0 {
            Ready::Evaluation { model, batches, tokens } => {
                let mut sum = 0.0;
                for batch in (0..count).flat_map(|_| batches.iter()) {
                    sum += model.evaluate(batch)?;
                }
                Ok(sum / (count * *tokens) as f64)
            }
            Ready::Greedy {
                model,
                input,
                new_tokens,
            } => Ok(model.generate(input, *new_tokens)? as f64),
            Ready::Gemm { x, weight } => {
                for _ in 0..count {
                    // As its linear layers do: the weight is a transposed view.
                    std::hint::black_box(x.matmul(&weight.t()?)?);
                }
                Ok(count as f64)
            }
        }
    }
}
