//! `--backend`: the GPU gives the CPU's numbers, and `auto` says what it chose. These tests need a GPU adapter, such as
//! Mesa's lavapipe, and fail without one.

use crate::hostile::Adapter;
use crate::support::{Folder, numbers, run, run_json, write_adapter, write_base, write_rows};

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
