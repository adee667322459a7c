//! How fast a device runs a model of some size, before any of its weights are there.

use std::rc::Rc;

use lorahub_tensor::Backend;

use crate::{Adapter, Config, Cost, T5, T5Error};

/// Tokens of the one shot that is measured, in and out: a usual example.
const INPUT: usize = 64;
const TARGET: usize = 16;
/// The head and the embedding are no part of a block, so their tables are cut to this.
const VOCABULARY: usize = 64;
/// Passes that count, after one that does not (pipelines compile, a browser's first tier runs).
const PASSES: usize = 3;

/// One encoder and one decoder block with this model's widths.
fn one_block(config: &Config) -> Config {
    let mut config = config.clone();
    config.vocab_size = VOCABULARY;
    (config.encoder_layers, config.decoder_layers) = (1, 1);
    config
}

/// Seconds per candidate of an evaluation of a model of this size on shots of these lengths in tokens: what one block takes,
/// times so many more products as the model has. Arguments as [`block_seconds`].
///
/// # Errors
/// The device's.
pub async fn evaluation_seconds<B: Backend>(
    backend: Rc<B>,
    config: &Config,
    (inputs, targets): (&[usize], &[usize]),
    candidates: usize,
    seconds: &dyn Fn() -> f64,
) -> Result<f64, T5Error> {
    let block = block_seconds(backend, config, candidates, seconds).await?;
    let flops = |config, inputs, targets| Cost::of_evaluation(config, inputs, targets).flops() as f64;
    Ok(block * flops(config, inputs, targets) / flops(&one_block(config), &[INPUT], &[TARGET]))
}

/// Seconds per candidate of one encoder and one decoder block with this model's widths, `candidates` evaluated together:
/// the quickest of a few passes over made-up weights. `seconds` is a clock.
///
/// # Errors
/// The device's.
pub async fn block_seconds<B: Backend>(
    backend: Rc<B>,
    config: &Config,
    candidates: usize,
    seconds: &dyn Fn() -> f64,
) -> Result<f64, T5Error> {
    let config = one_block(config);
    let device = backend.clone();
    // Any values will do, as long as they are neither zero nor large: time does not depend on them.
    let mut source = |_: &str, shape: &[usize]| {
        let scale = 1.0 / (*shape.last().unwrap_or(&1) as f32).sqrt();
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| (i % 7) as f32 * 0.3 * scale - 0.9 * scale);
        Ok(device.weight(shape, values.collect())?)
    };
    let t5 = T5::load(backend, config, &mut source)?;
    let ids = |count: usize| vec![(2..2 + count as u32).map(|id| id % VOCABULARY as u32).collect()];
    let batch = t5.prepare(&ids(INPUT), &ids(TARGET))?;
    let adapter = Adapter::none(candidates);
    let mut quickest = f64::INFINITY;
    for pass in 0..=PASSES {
        let began = seconds();
        let nll = t5.nll(&batch, &adapter).await?;
        t5.backend().read(&nll).await?;
        let took = seconds() - began;
        if pass > 0 {
            quickest = quickest.min(took);
        }
    }
    Ok(quickest / candidates.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use lorahub_tensor::Cpu;

    use super::*;

    #[test]
    fn the_quickest_pass_counts_per_candidate() {
        let config = br#"{"vocab_size": 40, "d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 9, "num_heads": 3,
            "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0}"#;
        let config = Config::from_json(config).unwrap();
        // Readings in pairs, before and after a pass: the first pass is the quickest and does not count.
        let readings = [0.0, 0.1, 1.0, 9.0, 10.0, 12.0, 20.0, 25.0];
        let read = Cell::new(0);
        let clock = || {
            read.set(read.get() + 1);
            readings[read.get() - 1]
        };
        let seconds = pollster::block_on(block_seconds(Rc::new(Cpu::new()), &config, 4, &clock)).unwrap();
        assert_eq!(seconds, 0.5);
        assert_eq!(read.get(), readings.len());
    }

    #[test]
    fn a_model_takes_as_many_blocks_as_it_has_and_its_head() {
        let config = br#"{"vocab_size": 64, "d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 9, "num_heads": 3,
            "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0}"#;
        let config = Config::from_json(config).unwrap();
        let time = |config: &Config, shots: usize| {
            let now = Cell::new(0.0);
            let clock = || now.replace(now.get() + 1.0);
            let (inputs, targets) = (vec![INPUT; shots], vec![TARGET; shots]);
            let lengths = (&inputs[..], &targets[..]);
            pollster::block_on(evaluation_seconds(Rc::new(Cpu::new()), config, lengths, 1, &clock)).unwrap()
        };
        assert_eq!(time(&one_block(&config), 1), 1.0);
        assert_eq!(time(&one_block(&config), 5), 5.0);
        let nine = time(&config, 1);
        assert!((8.0..9.0).contains(&nine), "{nine}: nine blocks, but one head");
        let mut words = config;
        words.vocab_size = 32128;
        assert!(time(&words, 1) > 2.0 * nine, "a head of many words");
    }
}
