//! What is said: results on standard output, everything else on standard error.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use lorahub_composer::{Clock, Phase, Progress};
use serde::Serialize;

use crate::error::CliError;

/// Prints a line of results.
///
/// # Errors
/// [`CliError::Output`].
pub(crate) fn print(line: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(CliError::Output)
}

/// Prints one JSON object as one line.
///
/// # Errors
/// [`CliError::Output`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let json = serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?;
    print(&json)
}

/// Says something in passing.
pub(crate) fn say(message: &str) {
    eprintln!("{message}");
}

/// Says something that the user should look at.
pub(crate) fn warn(message: &str) {
    eprintln!("warning: {message}");
}

/// A number of bytes for people.
pub(crate) fn bytes_text(bytes: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let number = bytes as f64;
    match units.into_iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", number / unit),
        None => format!("{bytes} bytes"),
    }
}

/// The system's clock.
pub(crate) struct Watch(Instant);

impl Watch {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Watch {
    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Progress on standard error: one line that changes where that is a terminal, else a line now and then.
pub(crate) struct Reporter {
    terminal: bool,
    last: Option<Instant>,
}

/// Between two lines where standard error is no terminal.
const QUIET: Duration = Duration::from_secs(5);

impl Reporter {
    /// A reporter before its first line.
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            last: None,
        }
    }

    /// Shows a line of progress, if it is time for one.
    pub(crate) fn show(&mut self, line: &str) {
        if self.terminal {
            // A closed standard error is no reason to stop working.
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
            self.last = Some(Instant::now());
        } else if self.last.is_none_or(|last| last.elapsed() >= QUIET) {
            say(line);
            self.last = Some(Instant::now());
        }
    }

    /// Ends the line that changes.
    pub(crate) fn finish(&mut self) {
        if self.terminal && self.last.take().is_some() {
            say("");
        }
    }

    /// Shows how far a search is.
    pub(crate) fn search(&mut self, progress: &Progress) {
        let phase = match progress.phase {
            Phase::Singles => "modules alone",
            Phase::Pass => "adding modules",
            Phase::Search => "searching",
        };
        self.show(&format!(
            "{phase}: {} of {} evaluations, {:.1}/s, {:.0} s left; objective {:.4} (base {:.4})",
            progress.evaluations,
            progress.budget,
            progress.evaluations_per_second,
            progress.seconds_left.ceil(),
            progress.best.objective,
            progress.base
        ));
    }
}
