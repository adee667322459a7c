//! The whole recipe in small: a tiny base, two modules, one composed task. For tests; its figures mean nothing else.

use std::fs;
use std::path::Path;

use lorahub_adapters::{Bank, Rule};
use lorahub_composer::{Settings, Shot};
use lorahub_optim::Rng;

use crate::ForgeError;
use crate::data::{natural, prompt};
use crate::evaluate::{loss, search};
use crate::family::{Family, Recipe};
use crate::net::Shape;
use crate::rewrite::{Kind, apply};
use crate::rules::by_name;
use crate::train::Schedule;

/// The two modules; both show in nearly every list, so that few steps suffice.
const MODULES: [&str; 2] = ["commas", "dashes"];

/// Losses on the shots of a task that needs both modules.
#[derive(Clone, Copy, Debug)]
pub struct Losses {
    /// The base.
    pub base: f64,
    /// The best module alone.
    pub single: f64,
    /// What the search found.
    pub composed: f64,
}

/// The miniature's recipe.
pub fn recipe(seed: u64) -> Recipe {
    Recipe {
        seed,
        shape: Shape::MINIATURE,
        base: Schedule {
            steps: 240,
            batch: 24,
            rate: 4e-3,
            warmup: 20,
            decay_from: 0.5,
        },
        module: Schedule {
            steps: 60,
            batch: 16,
            rate: 1e-2,
            warmup: 6,
            decay_from: 0.3,
        },
    }
}

/// Makes base and modules in `folder`, which is emptied first, and searches the weights of a task.
///
/// # Errors
/// Those of every stage.
pub fn make(folder: &Path, seed: u64) -> Result<Losses, ForgeError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(ForgeError::io(folder))?;
    }
    let family = Family::at(folder);
    let recipe = recipe(seed);
    family.make_base(&recipe)?;
    let model = family.model()?;
    let spec = family.base_spec()?;
    let mut rules = Vec::new();
    let mut modules = Vec::new();
    for name in MODULES {
        let rule = by_name(name).ok_or_else(|| ForgeError::Unknown {
            what: "rule",
            name: name.into(),
        })?;
        family.make_module(&recipe, &model, rule)?;
        modules.push(family.module(name, &spec)?);
        rules.push(rule);
    }
    let bank = Bank::new(modules, Rule::Exact)?;
    let mut rng = Rng::new(seed);
    let shots: Vec<Shot> = (0..5)
        .map(|_| {
            let words = natural(&mut rng, Kind::List);
            Shot {
                input: prompt(Kind::List, "nelogu", &words),
                output: apply(Kind::List, &words, &rules),
            }
        })
        .collect();
    let engine = model.engine(Some(&bank), &shots)?;
    let settings = Settings {
        budget: 60,
        ..Settings::new(Rule::Exact)
    };
    let outcome = search(&engine, &settings, MODULES.len())?;
    // The outcome's losses are the search's own; these are asked for again.
    let single = outcome.best_single.as_ref().map_or(0, |single| single.index);
    Ok(Losses {
        base: loss(&engine, &[0.0; MODULES.len()])?,
        single: loss(&engine, &lorahub_composer::unit(MODULES.len(), single))?,
        composed: loss(&engine, &outcome.weights)?,
    })
}

/// [`make`], with its result printed.
///
/// # Errors
/// As [`make`].
pub fn run(folder: &Path, seed: u64) -> Result<(), ForgeError> {
    let Losses { base, single, composed } = make(folder, seed)?;
    println!("loss on five shots: base {base:.4}, best single {single:.4}, composed {composed:.4}");
    Ok(())
}
