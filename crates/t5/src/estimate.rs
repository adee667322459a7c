//! What a pass costs, counted from shapes: for the time estimate, and as the floor that benchmarks measure against.

use crate::{Activation, Config};

/// One bare matrix product of a pass: `[rows, d_in] x [d_in, d_out]`, done `count` times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of the activation.
    pub rows: usize,
    /// Inner dimension.
    pub d_in: usize,
    /// Columns of the result.
    pub d_out: usize,
    /// How often a pass does it.
    pub count: usize,
}

impl Product {
    /// Floating point operations, two for each multiply-add.
    pub fn flops(&self) -> u64 {
        2 * self.count as u64 * self.rows as u64 * self.d_in as u64 * self.d_out as u64
    }
}

/// The cost of one candidate's evaluation, the LoRA apart (about one per cent under rule `reference`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The base's linears and the head.
    pub linears: Vec<Product>,
    /// Scores and mixtures of the attentions, each of one head of one shot.
    pub attention: Vec<Product>,
    /// Bytes of the largest activations that live at once.
    pub bytes: u64,
}

impl Cost {
    /// Of one candidate on shots of these lengths in tokens.
    pub fn of_evaluation(config: &Config, inputs: &[usize], targets: &[usize]) -> Self {
        let (rows_in, rows_out): (usize, usize) = (inputs.iter().sum(), targets.iter().sum());
        let (d, inner, ff) = (config.d_model, config.inner(), config.d_ff);
        let gates = match config.activation {
            Activation::GatedGelu => 2,
            Activation::Relu => 1,
        };
        let product = |rows, d_in, d_out, count| Product {
            rows,
            d_in,
            d_out,
            count,
        };
        let (enc, dec) = (config.encoder_layers, config.decoder_layers);
        let linears = vec![
            product(rows_in, d, inner, 3 * enc),
            product(rows_in, inner, d, enc),
            product(rows_in, d, ff, gates * enc),
            product(rows_in, ff, d, enc),
            // Decoder: own q, k, v and the cross-attention's q; the cross-attention's k and v come from the encoder.
            product(rows_out, d, inner, 4 * dec),
            product(rows_in, d, inner, 2 * dec),
            product(rows_out, inner, d, 2 * dec),
            product(rows_out, d, ff, gates * dec),
            product(rows_out, ff, d, dec),
            product(rows_out, d, config.vocab_size, 1),
        ];
        let mut attention = Vec::new();
        for (&input, &target) in inputs.iter().zip(targets) {
            for (queries, keys, layers) in [(input, input, enc), (target, target, dec), (target, input, dec)] {
                let count = layers * config.num_heads;
                attention.push(product(queries, config.d_kv, keys, count));
                attention.push(product(queries, keys, config.d_kv, count));
            }
        }
        Self {
            linears,
            attention,
            bytes: inputs
                .iter()
                .zip(targets)
                .map(|(&i, &t)| Self::activation_bytes(config, i + t))
                .sum(),
        }
    }

    /// Floating point operations.
    pub fn flops(&self) -> u64 {
        self.linears.iter().chain(&self.attention).map(Product::flops).sum()
    }

    /// Bytes of activations for one sequence of this many tokens: the residual, q, k, v and their mixture, the two
    /// feed-forward halves, and one head's scores.
    pub fn activation_bytes(config: &Config, tokens: usize) -> u64 {
        let tokens = tokens as u64;
        let columns = (2 * config.d_model + 4 * config.inner() + 3 * config.d_ff) as u64;
        4 * tokens * (columns + tokens)
    }
}
