//! `lorahub`: adapt, score, generate, evaluate, export, inspect and download, in a terminal.
//!
//! With `--json` standard output holds JSON and nothing else; progress and messages go to standard error. The exit code
//! is 0, 1 where the work could not be done, 2 where the command line makes no sense.

mod args;
mod base;
mod commands;
mod error;
mod family;
mod files;
mod hub;
mod modules;
mod output;
mod weights;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command};

fn main() -> ExitCode {
    // clap prints usage errors itself and ends with 2.
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Adapt(arguments) => commands::adapt::run(&arguments),
        Command::Score(arguments) => commands::score::run(&arguments),
        Command::Generate(arguments) => commands::generate::run(&arguments),
        Command::Eval(arguments) => commands::eval::run(&arguments),
        Command::Export(arguments) => commands::export::run(&arguments),
        Command::Inspect(arguments) => commands::inspect::run(&arguments),
        Command::Download(arguments) => commands::download::run(&arguments),
        Command::Manifest(arguments) => commands::manifest::run(&arguments),
        Command::Store(arguments) => commands::store::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            ExitCode::from(error.exit_code())
        }
    }
}
