//! `--backend`: the GPU gives the CPU's numbers, and `auto` says what it chose. These tests need a GPU adapter, such as
//! Mesa's lavapipe, and fail without one.

use crate::hostile::Adapter;
use crate::support::{Folder, numbers, run, run_json, run_refused, write_adapter, write_base, write_rows};

/// The tiny base, two modules and three shots.
struct Job {
    folder: Folder,
    base: String,
    modules: [String; 2],
    shots: String,
}

impl Job {
    fn new() -> Self {
        let folder = Folder::new();
        let rows = [("red one", "yes"), ("blue two", "no no"), ("one", "yes")];
        Self {
            base: write_base(&folder, "base"),
            modules: ["a", "b"].map(|name| write_adapter(&folder, name, &Adapter::valid())),
            shots: write_rows(&folder, "shots.jsonl", &rows),
            folder,
        }
    }

    fn arguments<'a>(&'a self, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let own = [
            command,
            "--base",
            &self.base,
            "--module",
            &self.modules[0],
            &self.modules[1],
        ];
        own.iter().chain(more).copied().collect()
    }
}

#[test]
fn the_gpu_scores_and_answers_as_the_cpu_does() {
    let job = Job::new();
    for rule in ["reference", "exact"] {
        let score = |backend: &str| {
            let more = [
                "--weights=0.7,-0.4",
                "--rule",
                rule,
                "--shots",
                &job.shots,
                "--json",
                "--backend",
                backend,
            ];
            run_json(&job.arguments("score", &more))
        };
        let (cpu, gpu) = (score("cpu"), score("webgpu"));
        for (cpu, gpu) in numbers(&cpu["shot_loss"]).iter().zip(numbers(&gpu["shot_loss"])) {
            // f32 sums in another order.
            assert!((cpu - gpu).abs() <= 2e-4 * cpu.max(1.0), "{rule}: {cpu} {gpu}");
        }
        let answer = |backend: &str| {
            let more = [
                "--weights=0.7,-0.4",
                "--rule",
                rule,
                "--input",
                "red two one",
                "--max-new-tokens",
                "40",
            ];
            let device = ["--json", "--backend", backend];
            run_json(&job.arguments("generate", &[&more[..], &device].concat()))
        };
        assert_eq!(answer("cpu"), answer("webgpu"), "{rule}");
    }
}

#[test]
fn a_search_on_the_gpu_says_so_in_its_record() {
    let job = Job::new();
    let out = job.folder.join("out");
    let more = [
        "--shots",
        &job.shots,
        "--budget",
        "24",
        "--json",
        "--backend",
        "webgpu",
        "--out",
        &out,
    ];
    let adapted = run_json(&job.arguments("adapt", &more));
    assert!(
        adapted["backend"].as_str().unwrap().starts_with("webgpu ("),
        "{adapted}"
    );
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(job.folder.path().join("out/run.json")).unwrap()).unwrap();
    assert_eq!(record["backend"], adapted["backend"]);
}

#[test]
fn auto_says_which_device_it_took_and_why() {
    let job = Job::new();
    let more = ["--weights=0,0", "--shots", &job.shots, "--json", "--backend", "auto"];
    let ran = run(&job.arguments("score", &more));
    assert_eq!(ran.code, 0, "{ran:?}");
    let software = ran.stderr.contains("cpu (") && ran.stderr.contains("a software one");
    let measured = ran.stderr.contains("times as fast");
    assert!(software || measured, "{}", ran.stderr);
}

/// The bundled base is stored as f16, so `f16` and `lossless` change nothing; blocks of integers do, a little.
#[test]
fn the_base_is_held_as_asked() {
    let demo = format!("{}/../../www/models/demo", env!("CARGO_MANIFEST_DIR"));
    let base = format!("{demo}/base");
    let folder = Folder::new();
    let shots = write_rows(
        &folder,
        "shots.jsonl",
        &[("the cat sees the dog", "the dog sees the cat")],
    );
    let loss = |more: &[&str]| {
        let arguments = ["score", "--base", &base, "--shots", &shots, "--json"];
        run_json(&[&arguments[..], more].concat())["batch_loss"]
            .as_f64()
            .unwrap()
    };
    let exact = loss(&[]);
    assert_eq!(loss(&["--dtype", "f32"]), exact);
    for lossless in ["f16", "lossless"] {
        let difference = (loss(&["--dtype", lossless]) - exact).abs();
        // f32 sums in another order.
        assert!(difference <= 1e-5 * exact.max(1.0), "{lossless}: {difference}");
    }
    let [q8, q4] = ["q8_0", "q4_0"].map(|dtype| (loss(&["--dtype", dtype]) - exact).abs());
    assert!(q8 > 0.0 && q8 < 0.1 * exact, "q8_0: {q8} of {exact}");
    assert!(q4 > q8 && q4 < exact, "q4_0: {q4} of {exact}");
    run_refused(
        &["score", "--base", &base, "--shots", &shots, "--dtype", "int4", "--json"],
        2,
        &["int4", "q4_0"],
    );
}
