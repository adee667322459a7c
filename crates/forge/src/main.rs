//! Command line of the forge.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lorahub_adapters::Rule;
use lorahub_composer::Settings;
use lorahub_forge::ForgeError;
use lorahub_forge::evaluate::Bench;
use lorahub_forge::family::{Family, Recipe};
use lorahub_forge::report::{Results, report};
use lorahub_forge::target::{DRAWS, development, published};

/// Trains the bundled demo family from a seed.
#[derive(Parser)]
#[command(name = "lorahub-forge", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Folder of the family.
    #[arg(long, global = true, default_value = "www/models/demo")]
    out: PathBuf,
    /// Seed of everything that is trained.
    #[arg(long, global = true, default_value_t = 0)]
    seed: u64,
}

#[derive(Subcommand)]
enum Command {
    /// Tokenizer, base, modules, tasks and index; what is there already is kept.
    All {
        /// Modules trained at the same time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// The tokenizer and the base.
    Base,
    /// The modules.
    Modules {
        /// Modules trained at the same time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// The task files of the published targets, and the index.
    Tasks,
    /// How each module does alone, and the development targets.
    Develop {
        /// Evaluations of a search.
        #[arg(long, default_value_t = 200)]
        budget: usize,
        /// Sets of shots.
        #[arg(long, default_value_t = 2)]
        draws: usize,
    },
    /// Searches every published target under both rules and writes the table.
    Eval {
        /// Evaluations of a search.
        #[arg(long, default_value_t = 200)]
        budget: usize,
        /// Where the results go; runs that are there already are kept.
        #[arg(long, default_value = "docs/demo-family.json")]
        results: PathBuf,
    },
    /// A small family in a temporary folder: every stage in about a minute.
    Miniature,
    /// Checks the family's files against its sums.
    Check,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), ForgeError> {
    let family = Family::at(&cli.out);
    let recipe = Recipe::family(cli.seed);
    match &cli.command {
        Command::All { jobs } => {
            family.make_base(&recipe)?;
            family.make_modules(&recipe, *jobs)?;
            index(&family, &recipe)
        }
        Command::Base => family.make_base(&recipe),
        Command::Modules { jobs } => family.make_modules(&recipe, *jobs),
        Command::Tasks => index(&family, &recipe),
        Command::Develop { budget, draws } => {
            println!("base: {:.1}", family.base_match(&recipe)?);
            for (name, own, instructed) in family.module_matches(&recipe)? {
                println!("{name}: alone {own:.1}, beside instructions {instructed:.1}");
            }
            let bench = Bench::load(&family)?;
            let settings = Settings {
                budget: *budget,
                ..Settings::new(Rule::Exact)
            };
            let mut runs = Vec::new();
            for target in development() {
                for draw in 0..DRAWS.min(*draws) {
                    runs.push(bench.run_shown(&target, draw, &settings)?);
                }
            }
            println!("{}", report(&runs));
            Ok(())
        }
        Command::Eval { budget, results } => evaluate(&family, *budget, results),
        Command::Miniature => lorahub_forge::miniature::run(&std::env::temp_dir().join("lorahub-miniature"), cli.seed),
        Command::Check => {
            family.check()?;
            println!("{}: as SHA256SUMS says", cli.out.display());
            Ok(())
        }
    }
}

fn index(family: &Family, recipe: &Recipe) -> Result<(), ForgeError> {
    let tasks = family.write_tasks(&published())?;
    family.write_index(recipe, &tasks)
}

fn evaluate(family: &Family, budget: usize, path: &Path) -> Result<(), ForgeError> {
    let bench = Bench::load(family)?;
    let mut results = Results::open(path)?;
    for target in published() {
        for draw in 0..DRAWS {
            for rule in [Rule::Exact, Rule::Reference] {
                if results.has(&target.id, draw, rule) {
                    continue;
                }
                let settings = Settings {
                    budget,
                    ..Settings::new(rule)
                };
                results.runs.push(bench.run_shown(&target, draw, &settings)?);
                results.save(path)?;
            }
        }
    }
    for rule in [Rule::Exact, Rule::Reference] {
        let runs: Vec<_> = results.runs.iter().filter(|run| run.rule == rule).cloned().collect();
        println!("Rule `{rule}`\n\n{}", report(&runs));
    }
    Ok(())
}
