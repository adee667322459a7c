//! Tasks that cargo alone cannot do: `cargo xtask <task>`.
//!
//! Every task does its own set-up, says what it runs, and skips what has not changed. A child's output is printed
//! through; nothing reads standard input.

mod bench;
mod bench_tables;
mod browser;
mod build;
mod check_real;
mod error;
mod golden;
mod gpu;
mod peers;
mod process;
mod project;
mod serve;
mod setup;
mod sizes;
mod stamp;
mod test;
mod tidy;
mod wasm_pack;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;

/// Set-up, build, serve, test and golden data of this project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything, then serve the page on this machine.
    Serve {
        /// Port to listen on; without it the first free one from 8080.
        #[arg(long)]
        port: Option<u16>,
        /// Drive the main job in a headless browser instead, and print its result.
        #[arg(long)]
        check: bool,
    },
    /// Everything that CI checks.
    Test {
        /// Run this step only, with the steps it needs; may be given more than once.
        #[arg(long, value_name = "STEP")]
        only: Vec<String>,
        /// Also run the journey in Firefox.
        #[arg(long)]
        firefox: bool,
    },
    /// Build the npm package in pkg/.
    Build {
        /// cargo profile; without it the one wasm-pack.toml names.
        #[arg(long, value_parser = ["wasm", "dist"])]
        profile: Option<String>,
        /// Also build with wasm-pack, and compare the two packages.
        #[arg(long)]
        wasm_pack: bool,
    },
    /// Measure products, evaluations and generation, natively and in a browser; a whole list's results are kept.
    Bench(Box<bench::Arguments>),
    /// Make the golden data in tests/golden with Python, in its own virtual environment.
    Golden {
        /// Check instead: load fresh exports in PEFT and run the reference package.
        #[arg(long)]
        verify: bool,
    },
    /// Download a real Flan-T5, compare it with transformers and PEFT, and adapt it; needs Python.
    CheckReal(check_real::Arguments),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Serve { port, check } => serve::run(port, check),
        Task::Test { only, firefox } => test::run(&only, firefox),
        Task::Build { profile, wasm_pack } => build::run(profile.as_deref(), wasm_pack),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Golden { verify } => golden::run(verify),
        Task::CheckReal(arguments) => check_real::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
