//! Command line of the forge.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lorahub_adapters::Rule;
use lorahub_composer::Settings;
use lorahub_forge::ForgeError;
use lorahub_forge::evaluate::Bench;
use lorahub_forge::family::{Family, Recipe};
use lorahub_forge::report::{Results, report, tables};
use lorahub_forge::target::{DRAWS, Target, development, published, second};

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
    /// Searches every target of a set under both rules, and prints the tables.
    Eval {
        /// Evaluations of a search.
        #[arg(long, default_value_t = 200)]
        budget: usize,
        /// Which targets.
        #[arg(long, value_enum, default_value_t = Set::Published)]
        set: Set,
        /// Where the results go; runs that are there already are kept. Without it docs/demo-family.json, or
        /// docs/demo-family-second.json for the second set.
        #[arg(long)]
        results: Option<PathBuf>,
    },
    /// Prints the tables of results that are there, as docs/demo-family.md has them.
    Report {
        /// The results.
        #[arg(default_value = PUBLISHED_RESULTS)]
        results: PathBuf,
    },
    /// A small family in a temporary folder: every stage in about a minute.
    Miniature,
    /// Checks the family's files against its sums.
    Check,
}

const PUBLISHED_RESULTS: &str = "docs/demo-family.json";
const SECOND_RESULTS: &str = "docs/demo-family-second.json";

/// A set of targets.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Set {
    /// Those that the page offers.
    Published,
    /// Those drawn after the published table stood.
    Second,
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
        Command::Eval { budget, set, results } => {
            let (targets, usual) = match set {
                Set::Published => (published(), PUBLISHED_RESULTS),
                Set::Second => (second(), SECOND_RESULTS),
            };
            evaluate(&family, &targets, *budget, results.as_deref().unwrap_or(usual.as_ref()))
        }
        Command::Report { results } => {
            print!("{}", tables(&Results::read(results)?));
            Ok(())
        }
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

fn evaluate(family: &Family, targets: &[Target], budget: usize, path: &Path) -> Result<(), ForgeError> {
    let bench = Bench::load(family)?;
    let mut results = Results::open(path)?;
    for target in targets {
        for draw in 0..DRAWS {
            for rule in [Rule::Exact, Rule::Reference] {
                if results.has(&target.id, draw, rule) {
                    continue;
                }
                let settings = Settings {
                    budget,
                    ..Settings::new(rule)
                };
                results.runs.push(bench.run_shown(target, draw, &settings)?);
                results.save(path)?;
            }
        }
    }
    print!("{}", tables(&results));
    Ok(())
}
