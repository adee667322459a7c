//! The committed family is whole, is what the forge would draw, and still gives the losses and answers on record.

#![allow(clippy::unwrap_used, reason = "a failing test is how these files are found wanting")]

use std::path::PathBuf;

use lorahub_adapters::Rule;
use lorahub_composer::Settings;
use lorahub_forge::evaluate::{Bench, Run, loss};
use lorahub_forge::family::Family;
use lorahub_forge::report::{Results, tables};
use lorahub_forge::rules::shipped;
use lorahub_forge::target::{DRAWS, Target, published, second};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn family() -> Family {
    Family::at(repository().join("www/models/demo"))
}

/// Each set of targets with its results.
fn sets() -> [(Vec<Target>, Results); 2] {
    [
        (published(), results("docs/demo-family.json")),
        (second(), results("docs/demo-family-second.json")),
    ]
}

fn results(path: &str) -> Results {
    Results::read(&repository().join(path)).unwrap()
}

#[test]
fn files_are_those_of_the_sums() {
    family().check().unwrap();
}

#[test]
fn tasks_are_the_ones_the_seed_draws() {
    for target in published() {
        assert_eq!(family().task(&target.id).unwrap(), target.file());
    }
}

#[test]
fn every_module_loads_on_the_base() {
    let base = family().base_spec().unwrap();
    for rule in shipped() {
        let module = family().module(rule.name, &base).unwrap();
        assert_eq!(module.rank, 4, "{}", rule.name);
    }
}

#[test]
fn every_run_is_on_record_once() {
    for (targets, results) in sets() {
        for target in &targets {
            for draw in 0..DRAWS {
                for rule in [Rule::Exact, Rule::Reference] {
                    let found = results
                        .runs
                        .iter()
                        .filter(|run| (&run.target, run.draw, run.rule) == (&target.id, draw, rule));
                    assert_eq!(found.count(), 1, "{} draw {draw} {rule}", target.id);
                }
            }
        }
        assert_eq!(results.runs.len(), targets.len() * DRAWS * 2);
        assert!(results.runs.iter().all(|run| run.rows >= 200 && run.evaluations <= 400));
    }
}

#[test]
fn the_document_shows_the_recorded_tables() {
    let document = std::fs::read_to_string(repository().join("docs/demo-family.md")).unwrap();
    for (_, results) in sets() {
        let tables = tables(&results);
        let missing = tables
            .lines()
            .find(|line| !document.lines().any(|shown| shown == *line));
        assert_eq!(
            missing, None,
            "docs/demo-family.md lacks this line of `lorahub-forge report`"
        );
        assert!(
            document.contains(&tables),
            "docs/demo-family.md has the lines in another order"
        );
    }
}

/// What the document says above its tables.
#[test]
fn composing_beats_the_base_and_the_best_single_module() {
    for (_, results) in sets() {
        let gain = |baseline: fn(&Run) -> f64| -> f64 {
            let runs = results.runs.iter().filter(|run| run.rule == Rule::Exact);
            let gains: Vec<f64> = runs.map(|run| run.composed_match - baseline(run)).collect();
            gains.iter().sum::<f64>() / gains.len() as f64
        };
        assert!(gain(|run| run.base_match) >= 25.0);
        assert!(gain(|run| run.single_match) >= 10.0);
    }
}

/// The losses of a record, computed again at its weights.
#[test]
fn recorded_losses_come_back() {
    let bench = Bench::load(&family()).unwrap();
    for (targets, results) in sets() {
        for run in results.runs.iter().filter(|run| run.draw == 0) {
            let target = targets.iter().find(|target| target.id == run.target).unwrap();
            let engine = bench.engine(target, run.draw, run.rule).unwrap();
            // Sums of a few hundred f32 in another order on another processor.
            let close = |found: f64, recorded: f64| (found - recorded).abs() <= 1e-4 * recorded.abs().max(1.0);
            for (what, weights, recorded) in [
                ("base", vec![0.0; run.weights.len()], run.base_loss),
                ("composed", run.weights.clone(), run.loss),
                ("own modules", bench.oracle(target), run.oracle_loss),
            ] {
                let found = loss(&engine, &weights).unwrap();
                assert!(
                    close(found, recorded),
                    "{} {} {what}: {found}, recorded {recorded}",
                    run.target,
                    run.rule
                );
            }
        }
    }
}

/// One whole search again: it finds the same weights, and the same rows are right but for a near tie or two.
#[test]
fn a_recorded_run_comes_back() {
    let bench = Bench::load(&family()).unwrap();
    let target = published().swap_remove(0);
    let results = results("docs/demo-family.json");
    let recorded = results
        .runs
        .iter()
        .find(|run| run.target == target.id && run.draw == 0 && run.rule == Rule::Exact)
        .unwrap();
    let run = bench.run(&target, 0, &Settings::new(Rule::Exact)).unwrap();
    assert_eq!((&run.single, run.evaluations), (&recorded.single, recorded.evaluations));
    for (what, found, recorded) in [
        ("base", run.base_match, recorded.base_match),
        ("best single", run.single_match, recorded.single_match),
        ("pass", run.pass_match, recorded.pass_match),
        ("composed", run.composed_match, recorded.composed_match),
    ] {
        assert!((found - recorded).abs() <= 1.0, "{what}: {found}, recorded {recorded}");
    }
}
