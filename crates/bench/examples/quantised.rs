//! What narrow weights cost in accuracy: `cargo run -p lorahub-bench --example quantised` writes `docs/quantised.md`.
//!
//! Logits of teacher-forced rows with the base held as f16, q8_0 and q4_0, against the same base held as f32, on the
//! CPU. The widened values are the same on every device, and so is the error but for the order of sums. One row more is
//! q8_0 multiplied in integers, by the kernels that wasm runs.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use lorahub_adapters::{Bank, Module, Rule};
use lorahub_bench::Shape;
use lorahub_optim::Rng;
use lorahub_t5::{Adapter, Config, Modules, T5, T5Error, Tokenizer};
use lorahub_tensor::{Arithmetic, Backend as _, Cpu, WeightStorage};
use lorahub_weights::{Limits, SafeTensors};
use serde_json::Value;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How matrices are held, and multiplied.
#[derive(Clone, Copy)]
struct Form {
    name: &'static str,
    storage: WeightStorage,
    arithmetic: Arithmetic,
}

impl Form {
    const fn new(name: &'static str, storage: WeightStorage, arithmetic: Arithmetic) -> Self {
        Self {
            name,
            storage,
            arithmetic,
        }
    }
}

const F32: Form = Form::new("f32", WeightStorage::F32, Arithmetic::F32);
/// The forms that are compared with it.
const FORMS: [Form; 4] = [
    Form::new("f16", WeightStorage::F16, Arithmetic::F32),
    Form::new("q8_0", WeightStorage::Q8, Arithmetic::F32),
    Form::new("q8_0 in integers", WeightStorage::Q8, Arithmetic::Integer),
    Form::new("q4_0", WeightStorage::Q4, Arithmetic::F32),
];
/// Random rows of a model of true shape, their tokens, and the seeds of its weights and rows.
const RANDOM_ROWS: usize = 8;
const RANDOM_TOKENS: (usize, usize) = (64, 32);
const SEEDS: (u64, u64) = (1, 2);

/// Logits of some sequences, and how many positions each has.
struct Scores {
    logits: Vec<f32>,
    positions: Vec<usize>,
}

/// How far some logits are from those of f32, over all sequences so far.
#[derive(Default)]
struct Distance {
    /// The largest error, relative to the largest logit of its sequence.
    most: f64,
    /// Relative errors' sum and number.
    sum: f64,
    logits: usize,
    /// Positions, and at how many the best token is the same.
    positions: usize,
    agree: usize,
}

impl Distance {
    fn add(&mut self, found: &Scores, reference: &Scores, vocab: usize) {
        let mut at = 0;
        for &positions in &reference.positions {
            let range = at..at + positions * vocab;
            at = range.end;
            let (found, reference) = (&found.logits[range.clone()], &reference.logits[range]);
            let largest = reference
                .iter()
                .fold(0f64, |most, value| most.max(f64::from(value.abs())));
            for (found, reference) in found.iter().zip(reference) {
                let error = (f64::from(*found) - f64::from(*reference)).abs() / largest;
                self.most = self.most.max(error);
                self.sum += error;
            }
            self.logits += reference.len();
            self.positions += positions;
            let same = found.chunks(vocab).zip(reference.chunks(vocab));
            self.agree += same.filter(|(found, reference)| best(found) == best(reference)).count();
        }
    }

    fn row(&self, what: &str, form: Form) -> String {
        format!(
            "| {what} | {} | {:.1e} | {:.1e} | {:.2} % of {} |\n",
            form.name,
            self.most,
            self.sum / self.logits as f64,
            100.0 * self.agree as f64 / self.positions as f64,
            self.positions,
        )
    }
}

fn best(scores: &[f32]) -> usize {
    let better = |best: usize, (at, score): (usize, &f32)| if *score > scores[best] { at } else { best };
    scores.iter().enumerate().fold(0, better)
}

fn scores(t5: &T5<Cpu>, adapter: &Adapter<Cpu>, inputs: &[Vec<u32>], targets: &[Vec<u32>]) -> Outcome<Scores> {
    let batch = t5.prepare(inputs, targets)?;
    let logits = pollster::block_on(t5.logits(&batch, adapter))?;
    Ok(Scores {
        logits: pollster::block_on(t5.backend().read(&logits))?,
        positions: batch.target_tokens().to_vec(),
    })
}

fn cpu(form: Form) -> Rc<Cpu> {
    let cpu = Cpu::new().with_weights(form.storage).with_arithmetic(form.arithmetic);
    Rc::new(match form.arithmetic {
        Arithmetic::F32 => cpu,
        Arithmetic::Integer => cpu.with_packed_weights(),
    })
}

fn json(path: &Path) -> Outcome<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn text<'a>(value: &'a Value, key: &str) -> Outcome<&'a str> {
    value[key].as_str().ok_or_else(|| format!("no text `{key}`").into())
}

/// Token ids of several texts.
type Sequences = Vec<Vec<u32>>;

/// The bundled base, and what of its family the rows need.
struct Family {
    folder: PathBuf,
    config: Config,
    modules: Vec<Module>,
    /// Inputs and targets by task.
    tasks: Vec<(Sequences, Sequences)>,
}

impl Family {
    fn load(folder: PathBuf) -> Outcome<Self> {
        let config = Config::from_json(&std::fs::read(folder.join("base/config.json"))?)?;
        let tokenizer = Tokenizer::from_bytes(&std::fs::read(folder.join("base/tokenizer.json"))?, config.eos)?;
        let family = json(&folder.join("family.json"))?;
        let listed = |key: &str| family[key].as_array().cloned().unwrap_or_default();
        let spec = config.base_spec();
        let mut modules = Vec::new();
        for module in listed("modules") {
            let path = folder.join(text(&module, "path")?);
            let config = std::fs::read(path.join("adapter_config.json"))?;
            let weights = std::fs::read(path.join("adapter_model.safetensors"))?;
            modules.push(Module::from_peft(
                text(&module, "name")?,
                &config,
                &weights,
                Some(&spec),
            )?);
        }
        let mut tasks = Vec::new();
        for task in listed("tasks") {
            let task = json(&folder.join(task.as_str().unwrap_or_default()))?;
            let (mut inputs, mut targets) = (Vec::new(), Vec::new());
            for row in task["test"].as_array().into_iter().flatten() {
                inputs.push(tokenizer.encode(text(row, "input")?)?);
                targets.push(tokenizer.encode(text(row, "output")?)?);
            }
            tasks.push((inputs, targets));
        }
        Ok(Self {
            folder,
            config,
            modules,
            tasks,
        })
    }

    fn base(&self, form: Form) -> Outcome<T5<Cpu>> {
        let bytes = std::fs::read(self.folder.join("base/model.safetensors"))?;
        let file = SafeTensors::parse(&bytes, &Limits::BASE)?;
        let backend = cpu(form);
        let device = backend.clone();
        let mut source =
            |name: &str, shape: &[usize]| -> Result<_, T5Error> { Ok(device.weight(shape, file.f32(name)?)?) };
        Ok(T5::load(backend, self.config.clone(), &mut source)?)
    }

    /// Scores of every task, under the base alone or with all modules at equal weight.
    fn scores(&self, form: Form, with_modules: bool) -> Outcome<Vec<Scores>> {
        let t5 = self.base(form)?;
        let adapter = if with_modules {
            let weights = vec![1.0 / self.modules.len() as f64; self.modules.len()];
            let bank = Bank::new(self.modules.clone(), Rule::Exact)?;
            Modules::upload(&t5, &bank)?.compose(&t5, &[&weights])?
        } else {
            Adapter::none(1)
        };
        let of_task = |(inputs, targets): &(Sequences, Sequences)| scores(&t5, &adapter, inputs, targets);
        self.tasks.iter().map(of_task).collect()
    }
}

/// Scores of a model of true shape with weights drawn as T5 draws them.
fn random_scores(shape: Shape, form: Form) -> Outcome<(Scores, usize)> {
    let config = shape.config()?;
    let (vocab, inner) = (config.vocab_size, config.inner());
    let backend = cpu(form);
    let device = backend.clone();
    let mut random = Rng::new(SEEDS.0);
    let mut source = |name: &str, dims: &[usize]| -> Result<_, T5Error> {
        let columns = *dims.last().unwrap_or(&1) as f64;
        let deviation = if name == "shared.weight" {
            1.0
        } else if name.ends_with("Attention.q.weight") {
            // T5 does not divide scores by the root of a head's width; its initial queries are that much smaller.
            (columns * (inner / config.num_heads) as f64).powf(-0.5)
        } else {
            columns.powf(-0.5)
        };
        let count = dims.iter().product();
        let values = if dims.len() == 1 {
            vec![1.0; count]
        } else {
            (0..count).map(|_| (random.normal() * deviation) as f32).collect()
        };
        Ok(device.weight(dims, values)?)
    };
    let t5 = T5::load(backend, shape.config()?, &mut source)?;
    let mut random = Rng::new(SEEDS.1);
    let mut rows = |length: usize| -> Vec<Vec<u32>> {
        let mut row = |_| (0..length).map(|_| 2 + random.below(vocab - 2) as u32).collect();
        (0..RANDOM_ROWS).map(&mut row).collect()
    };
    let (inputs, targets) = (rows(RANDOM_TOKENS.0), rows(RANDOM_TOKENS.1));
    Ok((scores(&t5, &Adapter::none(1), &inputs, &targets)?, vocab))
}

fn main() -> Outcome<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let family = Family::load(root.join("www/models/demo"))?;
    let rows: usize = family.tasks.iter().map(|(inputs, _)| inputs.len()).sum();
    let mut table = String::new();
    for (what, with_modules) in [("bundled base", false), ("bundled base with its modules", true)] {
        let reference = family.scores(F32, with_modules)?;
        for form in FORMS {
            let mut distance = Distance::default();
            for (found, reference) in family.scores(form, with_modules)?.iter().zip(&reference) {
                distance.add(found, reference, family.config.vocab_size);
            }
            table.push_str(&distance.row(what, form));
        }
    }
    let shape = Shape::Small;
    let (reference, vocab) = random_scores(shape, F32)?;
    for form in FORMS {
        let mut distance = Distance::default();
        distance.add(&random_scores(shape, form)?.0, &reference, vocab);
        table.push_str(&distance.row(&format!("{}, random weights", shape.name()), form));
    }
    print!("{table}");
    let mut page = String::from(PAGE_START);
    page.push_str(&table);
    let (inputs, targets) = RANDOM_TOKENS;
    write!(
        page,
        "\nBundled base, whose file is f16: all {rows} held-out rows of its {} tasks; with its modules: all {} of them at \
         equal weight\nunder `exact`. Random weights: {RANDOM_ROWS} rows of {inputs} random input and {targets} random \
         target tokens, weights drawn from a\nseed with the deviations that T5 starts its training with.\n",
        family.tasks.len(),
        family.modules.len(),
    )?;
    std::fs::write(root.join("docs/quantised.md"), page)?;
    Ok(())
}

const PAGE_START: &str = "# What narrow weights cost in accuracy

    cargo run -p lorahub-bench --example quantised    # writes this page

The base's matrices are held as f16, q8_0 or q4_0 and widened where they are multiplied; activations and sums are f32.
*In integers* (the option `arithmetic`, in a browser on the CPU) the activations of each row are rounded to 16 bits and
multiplied with the bytes of q8_0 as they are; what the modules add stays f32. Here the base's logits are compared with
those of the same base held as f32, teacher-forced, on the CPU. Errors are relative to the largest logit of a row in size;
*same best token* counts target positions.

| model | weights as | largest error | mean error | same best token |
|---|---|---|---|---|
";
