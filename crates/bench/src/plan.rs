//! What is measured: models' shapes, lengths of shots, and the lists of both.

use lorahub_adapters::Rule;
use lorahub_t5::Config;
use serde::{Deserialize, Serialize};

use crate::BenchError;

/// Where to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// `lorahub_tensor::Cpu`.
    Cpu,
    /// `lorahub_webgpu::Gpu`.
    Webgpu,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Bare products.
    Gemm,
    /// One candidate, and generations of them.
    Evaluation,
    /// Greedy generation.
    Greedy,
}

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum List {
    /// What a CPU does in about ten minutes; the CPU's default.
    Short,
    /// What a software adapter does in less; its default.
    Reduced,
    /// Everything; the default of a real GPU.
    Full,
}

/// What the caller asks for; `None` leaves it to the device.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Choice {
    /// How much.
    pub list: Option<List>,
    /// These models alone.
    pub shapes: Vec<Shape>,
    /// These measures alone.
    pub measures: Vec<Measure>,
    /// Repetitions.
    pub repetitions: Option<usize>,
}

/// How a matrix of the base is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// f32.
    F32,
    /// f16.
    F16,
    /// Blocks of 8-bit integers.
    Q8_0,
    /// Blocks of 4-bit integers.
    Q4_0,
}

impl Stored {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8_0, Self::Q4_0];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }
}

/// Lengths of five shots in tokens, `</s>` included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Their name in reports.
    pub name: &'static str,
    /// Encoder tokens.
    pub inputs: [usize; 5],
    /// Decoder tokens.
    pub targets: [usize; 5],
}

impl Lengths {
    /// Five equal shots of 64 tokens.
    pub const EQUAL_64: Self = Self {
        name: "64",
        inputs: [64; 5],
        targets: [16; 5],
    };
    /// Five equal shots of 256 tokens.
    pub const EQUAL_256: Self = Self {
        name: "256",
        inputs: [256; 5],
        targets: [16; 5],
    };
    /// Five shots of BBH's date_understanding.
    pub const DATE: Self = Self {
        name: "date_understanding",
        inputs: [99, 101, 103, 95, 100],
        targets: [4; 5],
    };
    /// Five shots of BBH's tracking_shuffled_objects_seven_objects.
    pub const TRACKING: Self = Self {
        name: "tracking_shuffled_objects_seven_objects",
        inputs: [262, 272, 270, 247, 265],
        targets: [4; 5],
    };
}

/// Which model's shape to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(clap::ValueEnum))]
pub enum Shape {
    /// The bundled demo base.
    #[serde(rename = "demo")]
    #[cfg_attr(not(target_arch = "wasm32"), value(name = "demo"))]
    Demo,
    /// google/flan-t5-small.
    #[serde(rename = "flan-t5-small")]
    #[cfg_attr(not(target_arch = "wasm32"), value(name = "flan-t5-small"))]
    Small,
    /// google/flan-t5-base.
    #[serde(rename = "flan-t5-base")]
    #[cfg_attr(not(target_arch = "wasm32"), value(name = "flan-t5-base"))]
    Base,
    /// google/flan-t5-large.
    #[serde(rename = "flan-t5-large")]
    #[cfg_attr(not(target_arch = "wasm32"), value(name = "flan-t5-large"))]
    Large,
}

impl Shape {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Small => "flan-t5-small",
            Self::Base => "flan-t5-base",
            Self::Large => "flan-t5-large",
        }
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`BenchError::Model`], which would be a defect of this table.
    pub fn config(self) -> Result<Config, BenchError> {
        let (vocab, d_model, d_kv, d_ff, layers, heads) = match self {
            // The bundled base's own file would bind the benchmark to its retraining; these are its sizes.
            Self::Demo => (370, 128, 32, 256, 2, 4),
            Self::Small => (32128, 512, 64, 1024, 8, 6),
            Self::Base => (32128, 768, 64, 2048, 12, 12),
            Self::Large => (32128, 1024, 64, 2816, 24, 16),
        };
        let json = serde_json::json!({
            "model_type": "t5", "vocab_size": vocab, "d_model": d_model, "d_kv": d_kv, "d_ff": d_ff,
            "num_layers": layers, "num_heads": heads, "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": false, "decoder_start_token_id": 0,
        });
        Ok(Config::from_json(json.to_string().as_bytes())?)
    }
}

/// A plan of measurements, in full.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The list it came from.
    pub list: List,
    /// In this order.
    pub measures: Vec<Measure>,
    /// Repetitions that count.
    pub repetitions: usize,
    /// Models whose products are measured.
    pub gemm_shapes: Vec<Shape>,
    /// Rows of those products.
    pub gemm_rows: Vec<usize>,
    /// Whether the head is among them: the largest product by far.
    pub gemm_head: bool,
    /// How their matrices are stored.
    pub stored: Vec<Stored>,
    /// Models that are evaluated and that generate.
    pub shapes: Vec<Shape>,
    /// Lengths of the shots.
    pub lengths: Vec<Lengths>,
    /// Composition rules.
    pub rules: Vec<Rule>,
    /// Sizes of generations.
    pub generations: Vec<usize>,
    /// Single evaluations in a repetition, each of another candidate.
    pub singles: usize,
}

impl Plan {
    /// The plan of `choice` for a device.
    pub fn new(device: Device, software: bool, choice: &Choice) -> Self {
        let list = choice.list.unwrap_or(match (device, software) {
            (Device::Cpu, _) => List::Short,
            (Device::Webgpu, true) => List::Reduced,
            (Device::Webgpu, false) => List::Full,
        });
        let mut plan = match list {
            List::Short => Self {
                list,
                measures: vec![Measure::Evaluation, Measure::Gemm, Measure::Greedy],
                repetitions: 10,
                gemm_shapes: vec![Shape::Small, Shape::Base],
                gemm_rows: vec![16, 128, 1024],
                gemm_head: true,
                stored: Stored::ALL.to_vec(),
                shapes: vec![Shape::Demo, Shape::Small],
                lengths: vec![Lengths::EQUAL_64],
                rules: vec![Rule::Reference],
                generations: vec![16],
                singles: 16,
            },
            List::Reduced => Self {
                list,
                measures: vec![Measure::Evaluation, Measure::Gemm, Measure::Greedy],
                repetitions: 3,
                gemm_shapes: vec![Shape::Small],
                gemm_rows: vec![16, 128],
                gemm_head: false,
                stored: Stored::ALL.to_vec(),
                shapes: vec![Shape::Demo],
                lengths: vec![Lengths::EQUAL_64, Lengths::DATE],
                rules: vec![Rule::Reference, Rule::Exact],
                generations: vec![8, 16],
                singles: 4,
            },
            List::Full => Self {
                list,
                measures: vec![Measure::Evaluation, Measure::Gemm, Measure::Greedy],
                repetitions: 10,
                gemm_shapes: vec![Shape::Small, Shape::Base, Shape::Large],
                gemm_rows: vec![16, 128, 1024, 8192],
                gemm_head: true,
                stored: Stored::ALL.to_vec(),
                shapes: vec![Shape::Small, Shape::Base],
                lengths: vec![Lengths::EQUAL_64, Lengths::EQUAL_256, Lengths::DATE, Lengths::TRACKING],
                rules: vec![Rule::Reference, Rule::Exact],
                generations: vec![8, 16, 32],
                singles: 16,
            },
        };
        if !choice.shapes.is_empty() {
            plan.shapes.clone_from(&choice.shapes);
            plan.gemm_shapes.clone_from(&choice.shapes);
        }
        if !choice.measures.is_empty() {
            plan.measures.clone_from(&choice.measures);
        }
        if let Some(repetitions) = choice.repetitions {
            plan.repetitions = repetitions.max(1);
        }
        plan
    }

    /// Most candidates that are evaluated together.
    pub fn most_candidates(&self) -> usize {
        self.generations.iter().copied().fold(self.singles, usize::max)
    }
}
