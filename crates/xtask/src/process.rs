//! Child processes: shown before they start, their output printed through.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::error::Error;
use crate::project::root;

/// A command that says what it is before it runs. It never reads our standard input.
pub(crate) struct Cmd {
    inner: Command,
    shown: String,
}

impl Cmd {
    /// A program by name or path, run in the project's root unless [`Cmd::dir`] says otherwise.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let mut inner = Command::new(program);
        inner.current_dir(root()).stdin(Stdio::null());
        let name = Path::new(program).file_name().unwrap_or(program);
        Self {
            inner,
            shown: name.to_string_lossy().into_owned(),
        }
    }

    /// The cargo that runs us, so that the toolchain stays the same.
    pub(crate) fn cargo() -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// npm under the name that this system gives it.
    pub(crate) fn npm() -> Self {
        Self::new(if cfg!(windows) { "npm.cmd" } else { "npm" })
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let arg = arg.as_ref();
        let text = arg.to_string_lossy();
        let within = Path::new(arg).strip_prefix(root()).map(|p| p.to_string_lossy());
        self.shown.push(' ');
        self.shown.push_str(&within.unwrap_or(text));
        self.inner.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.inner.current_dir(dir);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Takes a variable out of the child's environment.
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.inner.env_remove(name);
        self
    }

    /// Runs it with its output printed through.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such program, [`Error::Child`] if it fails.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        println!("  $ {}", self.shown);
        let status = self.inner.status().map_err(|e| self.not_started(&e))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Child {
            command: self.shown,
            outcome: format!("failed ({status})"),
        })
    }

    /// Runs it silently and returns what it wrote to standard output, trimmed.
    ///
    /// # Errors
    /// As [`Cmd::run`]; the child's standard error goes into the message.
    pub(crate) fn read(mut self) -> Result<String, Error> {
        let output = self.inner.output().map_err(|e| self.not_started(&e))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        eprintln!("{}", stderr.trim());
        Err(Error::Child {
            command: self.shown,
            outcome: format!("failed ({})", output.status),
        })
    }

    /// As [`Cmd::read`], with the child's standard error, its progress, printed through.
    ///
    /// # Errors
    /// As [`Cmd::run`].
    pub(crate) fn read_with_progress(mut self) -> Result<String, Error> {
        println!("  $ {}", self.shown);
        self.inner.stderr(Stdio::inherit());
        let output = self.inner.output().map_err(|e| self.not_started(&e))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(Error::Child {
            command: self.shown,
            outcome: format!("failed ({})", output.status),
        })
    }

    /// Starts it with pipes to its standard input and from its standard output, for whoever talks to it.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such program.
    pub(crate) fn talk(mut self) -> Result<Child, Error> {
        println!("  $ {}", self.shown);
        self.inner.stdin(Stdio::piped()).stdout(Stdio::piped());
        self.inner.spawn().map_err(|e| self.not_started(&e))
    }

    fn not_started(&self, error: &std::io::Error) -> Error {
        let program = self.inner.get_program().to_string_lossy();
        Error::Missing {
            what: format!("`{program}` could not be started ({error})"),
            remedy: format!("install it and put it on PATH: {program}"),
        }
    }
}
