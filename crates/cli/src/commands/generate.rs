//! `lorahub generate`: greedy answers.

use std::path::Path;

use lorahub_composer::{Candidate, ComposerError, Generation};
use serde_json::Value;

use crate::args::GenerateArgs;
use crate::base::Base;
use crate::error::CliError;
use crate::files::{JSON_BYTES, read};
use crate::modules;
use crate::output::{Reporter, print, print_json};

/// Inputs answered in one call, between two lines of progress.
const TOGETHER: usize = 32;

/// Runs the command.
///
/// # Errors
/// Those of the files it reads, and of the model.
pub(crate) fn run(arguments: &GenerateArgs) -> Result<(), CliError> {
    let modules = arguments.modules.find(&arguments.base.store)?;
    let weights = modules.weights(&arguments.weights)?;
    let inputs = match (&arguments.input, &arguments.file) {
        (Some(input), _) => vec![input.clone()],
        (None, Some(file)) => read_inputs(file)?,
        (None, None) => {
            return Err(CliError::Usage(
                "no input; give one with --input, or a file with --file".to_owned(),
            ));
        }
    };
    let base = Base::load(&arguments.base)?;
    let bank = modules::bank(&modules, &base.model.base_spec())?;
    let engine = base.engine(bank.as_ref(), &[], Path::new(""))?;
    let candidate = Candidate { weights };
    let mut reporter = Reporter::new();
    let mut answered = 0;
    for batch in inputs.chunks(TOGETHER) {
        let answers = engine.generate(&candidate, batch, arguments.max_new_tokens);
        let answers = pollster::block_on(answers).map_err(ComposerError::from)?;
        for answer in &answers {
            print_answer(answer, arguments.json)?;
        }
        answered += answers.len();
        if inputs.len() > TOGETHER {
            reporter.show(&format!("{answered} of {} inputs", inputs.len()));
        }
    }
    reporter.finish();
    Ok(())
}

fn print_answer(answer: &Generation, json: bool) -> Result<(), CliError> {
    if json { print_json(answer) } else { print(&answer.text) }
}

/// The inputs of a file: JSON Lines if its first line begins like an object, else one a line.
fn read_inputs(path: &Path) -> Result<Vec<String>, CliError> {
    let wrong = |line: usize, problem: String| CliError::Inputs {
        path: path.to_owned(),
        line,
        problem,
    };
    let bytes = read(path, JSON_BYTES)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        wrong(line, "not UTF-8; save the file as UTF-8".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.is_empty() {
        return Err(wrong(1, "the file is empty; write one input a line".to_owned()));
    }
    if !text.trim_start().starts_with('{') {
        return Ok(text.lines().map(str::to_owned).collect());
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| input_of(line).map_err(|problem| wrong(index + 1, problem)))
        .collect()
}

fn input_of(line: &str) -> Result<String, String> {
    let object: Value = serde_json::from_str(line).map_err(|error| {
        format!("expected one JSON object, found a syntax error ({error}); write one object a line")
    })?;
    let field = ["input", "context"].into_iter().find_map(|name| object.get(name));
    match field {
        Some(Value::String(input)) => Ok(input.clone()),
        Some(other) => Err(format!(
            "`input` should be a string, found {other}; put it in double quotes"
        )),
        None => Err("expected an object with `input` or `context`; rename the field".to_owned()),
    }
}
