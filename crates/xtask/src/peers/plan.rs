//! The work, and those who do it.

use serde_json::{Value, json};

use crate::bench::Place;

/// A kind of work.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Work {
    /// The loss of candidates on five shots.
    Evaluation,
    /// Greedy generation of one sequence.
    Greedy,
    /// Bare products.
    Gemm,
}

/// One piece of work that several do.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) shape: &'static str,
    /// The name of the shots' lengths, of an evaluation.
    pub(crate) lengths: &'static str,
    /// `[rows, d_in, d_out]` of a product.
    pub(crate) product: [usize; 3],
    /// The order that describes it.
    pub(crate) order: Value,
}

/// Tokens of five shots, as `Lengths` of crates/bench has them: those of one size, and BBH's own.
const LENGTHS: [(&str, [usize; 5], [usize; 5]); 4] = [
    ("64", [64; 5], [16; 5]),
    ("256", [256; 5], [16; 5]),
    ("date_understanding", [99, 101, 103, 95, 100], [4; 5]),
    (
        "tracking_shuffled_objects_seven_objects",
        [262, 272, 270, 247, 265],
        [4; 5],
    ),
];
const SMALL: &str = "flan-t5-small";
const BASE: &str = "flan-t5-base";
const INPUT_TOKENS: usize = 64;
const NEW_TOKENS: usize = 32;
/// Rows of the bare products, and their inner dimensions and columns; the head, last, has no more rows than targets have
/// tokens.
const ROWS: [usize; 6] = [5, 16, 80, 320, 1280, 5120];
const HEAD_ROWS: usize = 80;
const PRODUCTS: [(&str, [[usize; 2]; 5]); 2] = [
    (SMALL, [[512, 384], [384, 512], [512, 1024], [1024, 512], [512, 32128]]),
    (BASE, [[768, 768], [768, 768], [768, 2048], [2048, 768], [768, 32128]]),
];

impl Job {
    fn new(work: Work, shape: &'static str, order: Value) -> Self {
        Self {
            work,
            shape,
            lengths: "",
            product: [0; 3],
            order,
        }
    }

    /// For people.
    pub(crate) fn title(&self) -> String {
        let [rows, d_in, d_out] = self.product;
        match self.work {
            Work::Evaluation => format!("{}: evaluation, shots {}", self.shape, self.lengths),
            Work::Greedy => format!("{}: generation", self.shape),
            Work::Gemm => format!("{}: product {rows} x {d_in} x {d_out}", self.shape),
        }
    }
}

/// All work in this place, in this order.
pub(crate) fn jobs(place: Place) -> Vec<Job> {
    let evaluation = |shape, (name, inputs, targets): (&'static str, [usize; 5], [usize; 5])| Job {
        lengths: name,
        ..Job::new(
            Work::Evaluation,
            shape,
            json!({"work": "evaluation", "shape": shape, "inputs": inputs, "targets": targets}),
        )
    };
    let mut jobs: Vec<Job> = LENGTHS.map(|lengths| evaluation(SMALL, lengths)).into();
    jobs.push(evaluation(BASE, LENGTHS[0]));
    for shape in [SMALL, BASE] {
        let order = json!({
            "work": "greedy", "shape": shape, "input_tokens": INPUT_TOKENS, "new_tokens": NEW_TOKENS,
        });
        jobs.push(Job::new(Work::Greedy, shape, order));
    }
    if place == Place::Browser {
        jobs.extend(products());
    }
    jobs
}

/// Natively our product is candle's, so there is nothing to compare.
fn products() -> Vec<Job> {
    let mut jobs = Vec::new();
    for (shape, products) in PRODUCTS {
        for (index, &[d_in, d_out]) in products.iter().enumerate() {
            let head = index + 1 == products.len();
            if products[..index].contains(&[d_in, d_out]) {
                continue;
            }
            for rows in ROWS.into_iter().filter(|&rows| !head || rows <= HEAD_ROWS) {
                let order = json!({"work": "gemm", "rows": rows, "d_in": d_in, "d_out": d_out});
                jobs.push(Job {
                    product: [rows, d_in, d_out],
                    ..Job::new(Work::Gemm, shape, order)
                });
            }
        }
    }
    jobs
}

/// What a subject runs in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// A worker of the browser.
    Worker,
    /// `crates/bench`'s `subject`.
    Ours,
    /// `benches/peers/reference.py`.
    Python,
}

/// One of those that are compared.
pub(crate) struct Subject {
    name: &'static str,
    pub(crate) threads: usize,
    pub(crate) program: Program,
    /// How it is set up. For a worker, `module` is the file of `benches/peers/subjects` that does it.
    pub(crate) setup: Value,
    /// Whether it composes modules: then an evaluation may be of several candidates together.
    pub(crate) composes: bool,
    works: &'static [Work],
    /// Candidates together in the runs of an evaluation.
    pub(crate) candidates: &'static [usize],
}

impl Subject {
    /// Its name with its threads.
    pub(crate) fn label(&self) -> String {
        let threads = self.threads;
        format!("{}, {threads} thread{}", self.name, if threads == 1 { "" } else { "s" })
    }

    /// Whether it can do that work.
    pub(crate) fn does(&self, work: Work) -> bool {
        self.works.contains(&work)
    }

    /// Whether the others are measured against it: ours, in f32.
    pub(crate) fn is_measure(&self) -> bool {
        self.name == OURS
    }

    /// Its name without its threads.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

const OURS: &str = "ours f32";
const MODEL: &[Work] = &[Work::Evaluation, Work::Greedy];
const ALL: &[Work] = &[Work::Evaluation, Work::Greedy, Work::Gemm];

/// All who work in this place. A further variant of ours is a line here, with another `setup`.
pub(crate) fn subjects(place: Place) -> Vec<Subject> {
    match place {
        Place::Browser => in_browser(),
        Place::Native => natively(),
    }
}

fn in_browser() -> Vec<Subject> {
    let ours = |name, weights: &str, relaxed: bool, threads: usize, works, candidates| Subject {
        name,
        threads,
        program: Program::Worker,
        setup: json!({"module": "wasm", "engine": "ours", "weights": weights, "relaxed": relaxed, "threads": threads}),
        composes: true,
        works,
        candidates,
    };
    let peer = |name, threads: usize, works, mut setup: Value| {
        setup["threads"] = threads.into();
        Subject {
            name,
            threads,
            program: Program::Worker,
            setup,
            composes: false,
            works,
            candidates: &[1],
        }
    };
    let integer = |threads| Subject {
        name: "ours q8_0 in integers",
        setup: json!({
            "module": "wasm", "engine": "ours", "weights": "q8_0", "arithmetic": "integer",
            "relaxed": true, "threads": threads
        }),
        ..ours("", "", true, threads, MODEL, &[16])
    };
    let exact = Subject {
        name: "ours f32, rule exact",
        setup: json!({
            "module": "wasm", "engine": "ours", "rule": "exact", "weights": "f32", "relaxed": true, "threads": 1
        }),
        ..ours("", "", true, 1, &[Work::Evaluation], &[16])
    };
    let mut subjects = vec![
        ours(OURS, "f32", true, 1, ALL, &[1, 8, 16]),
        exact,
        ours(OURS, "f32", true, 2, MODEL, &[1, 16]),
        ours("ours f32 without relaxed-simd", "f32", false, 1, ALL, &[16]),
        ours("ours q8_0", "q8_0", true, 1, MODEL, &[16]),
        ours("ours q8_0", "q8_0", true, 2, MODEL, &[16]),
        integer(1),
        integer(2),
        peer("candle", 1, ALL, json!({"module": "wasm", "engine": "candle"})),
    ];
    for threads in [1, 2] {
        for (name, precision) in [("onnxruntime-web fp32", "fp32"), ("onnxruntime-web int8", "int8")] {
            let setup = json!({"module": "onnxruntime", "precision": precision});
            subjects.push(peer(name, threads, &[Work::Evaluation], setup));
        }
        for (name, dtype) in [("transformers.js fp32", "fp32"), ("transformers.js q8", "q8")] {
            let setup = json!({"module": "transformers", "dtype": dtype});
            subjects.push(peer(name, threads, &[Work::Greedy], setup));
        }
    }
    subjects
}

fn natively() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for threads in [1, 2] {
        let one = |name, program, setup, composes, candidates| Subject {
            name,
            threads,
            program,
            setup,
            composes,
            works: MODEL,
            candidates,
        };
        let setup = json!({"engine": "ours", "weights": "f32"});
        subjects.push(one(OURS, Program::Ours, setup, true, &[1, 8, 16]));
        let setup = json!({"threads": threads});
        subjects.push(one("PyTorch and PEFT", Program::Python, setup, true, &[1]));
        let setup = json!({"engine": "candle"});
        subjects.push(one("candle", Program::Ours, setup, false, &[1]));
    }
    subjects
}
