//! The processes that do the work, and the orders they get: a line of JSON each way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout};

use serde_json::{Value, json};

use crate::error::Error;
use crate::process::Cmd;
use crate::project::root;

use super::install::Installed;
use super::plan::{Job, Program, Subject};

/// A process that obeys, until it is dropped.
pub(super) struct Host {
    child: Child,
    /// Empty only while it is being dropped.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What it calls itself.
    program: String,
}

impl Host {
    fn start(command: Cmd) -> Result<Self, Error> {
        let mut child = command.talk()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Check("a process was started without its pipes".into()));
        };
        let mut host = Self {
            child,
            orders: Some(orders),
            answers: BufReader::new(answers),
            program: String::new(),
        };
        let greeting = host.answer()?;
        host.program = greeting["program"].as_str().unwrap_or("?").to_owned();
        Ok(host)
    }

    /// Gives an order and waits for what comes of it.
    pub(super) fn ask(&mut self, order: &Value) -> Result<Value, Error> {
        if let Some(orders) = &mut self.orders {
            // One that has ended is seen by its missing answer.
            let _ = writeln!(orders, "{order}");
        }
        let answer = self.answer()?;
        match answer["error"].as_str() {
            Some(error) => Err(Error::Check(format!("{order}: {error}"))),
            None => Ok(answer),
        }
    }

    fn answer(&mut self) -> Result<Value, Error> {
        let mut line = String::new();
        let ended = |what: String| Error::Check(format!("a subject's process {what}; its own output stands above"));
        match self.answers.read_line(&mut line) {
            Ok(0) => Err(ended("has ended".into())),
            Ok(_) => serde_json::from_str(&line).map_err(|error| ended(format!("said `{line}` ({error})"))),
            Err(error) => Err(ended(format!("cannot be read ({error})"))),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The end of its orders ends it, and a browser's process closes the browser first.
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// Where subjects run: one browser for all of its workers, a process of its own for each other subject.
pub(super) struct Stage {
    installed: Installed,
    browser: Option<Host>,
    programs: Vec<String>,
}

impl Stage {
    pub(super) fn new(installed: Installed) -> Self {
        Self {
            installed,
            browser: None,
            programs: Vec::new(),
        }
    }

    /// What took part, by the names that the programs have for themselves.
    pub(super) fn programs(&self) -> &[String] {
        &self.programs
    }

    /// Makes a subject ready for a job.
    pub(super) fn set_up(&mut self, subject: &Subject, job: &Job) -> Result<Ready, Error> {
        let own = match subject.program {
            Program::Worker => {
                if self.browser.is_none() {
                    let started = Host::start(self.installed.browser())?;
                    self.note(&started.program);
                    self.browser = Some(started);
                }
                None
            }
            Program::Ours => Some(Host::start(
                Cmd::new(&self.installed.ours).env("RAYON_NUM_THREADS", subject.threads.to_string()),
            )?),
            Program::Python => Some(Host::start(
                Cmd::new(&self.installed.python)
                    .arg(root().join("benches/peers/reference.py"))
                    .env("OMP_NUM_THREADS", subject.threads.to_string())
                    .env("PYTHONDONTWRITEBYTECODE", "1"),
            )?),
        };
        let mut ready = Ready {
            label: subject.label(),
            own,
        };
        if let Some(host) = &ready.own {
            self.note(&host.program);
        }
        let order = json!({"subject": ready.label, "setup": subject.setup, "job": job.order});
        ready.ask(self, &order)?;
        Ok(ready)
    }

    fn note(&mut self, program: &str) {
        if !self.programs.iter().any(|known| known == program) {
            self.programs.push(program.to_owned());
        }
    }
}

/// A subject that is ready for its job.
pub(super) struct Ready {
    label: String,
    /// Its process; empty for a worker of the browser.
    own: Option<Host>,
}

impl Ready {
    fn ask(&mut self, stage: &mut Stage, order: &Value) -> Result<Value, Error> {
        let host = self.own.as_mut().or(stage.browser.as_mut());
        host.ok_or_else(|| Error::Check("there is no browser".into()))?
            .ask(order)
            .map_err(|error| Error::Check(format!("{}: {error}", self.label)))
    }

    /// Does the work once for `count` candidates, or `count` products: `wall`, `cpu` (seconds) and `value`.
    pub(super) fn run(&mut self, stage: &mut Stage, count: usize) -> Result<Value, Error> {
        let order = json!({"subject": self.label, "run": count});
        self.ask(stage, &order)
    }

    /// Gives its memory back.
    pub(super) fn end(mut self, stage: &mut Stage) -> Result<(), Error> {
        if self.own.is_none() {
            let order = json!({"subject": self.label, "end": true});
            self.ask(stage, &order)?;
        }
        Ok(())
    }
}
