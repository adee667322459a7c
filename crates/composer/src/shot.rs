//! Examples of a task, and reading them from JSON Lines.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ComposerError;

/// One example of a task: of the k the search sees, or of those it is tested on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shot {
    /// What the model is given.
    pub input: String,
    /// What it should answer.
    pub output: String,
}

/// The two pairs of names a row may use: this project's, and those of the reference's data.
const FIELDS: [(&str, &str); 2] = [("input", "output"), ("context", "completion")];

/// Reads JSON Lines: one object a line with `input` and `output`, or `context` and `completion`. Other fields are
/// ignored, as are blank lines and a byte order mark. `file` is what errors call the file.
///
/// # Errors
/// [`ComposerError::NotUtf8`], [`Json`](ComposerError::Json), [`NotAnObject`](ComposerError::NotAnObject),
/// [`Fields`](ComposerError::Fields) or [`NotText`](ComposerError::NotText), each with the line;
/// [`ComposerError::NoRows`] if nothing is left.
pub fn parse_rows(file: &str, bytes: &[u8]) -> Result<Vec<Shot>, ComposerError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut rows = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let place = Place { file, line: index + 1 };
        let text = std::str::from_utf8(line).map_err(|_| place.not_utf8())?.trim();
        if !text.is_empty() {
            rows.push(place.row(text)?);
        }
    }
    if rows.is_empty() {
        return Err(ComposerError::NoRows { file: file.to_owned() });
    }
    Ok(rows)
}

/// Where a row stands, for its errors.
struct Place<'a> {
    file: &'a str,
    line: usize,
}

impl Place<'_> {
    fn row(&self, text: &str) -> Result<Shot, ComposerError> {
        let (file, line) = (self.file.to_owned(), self.line);
        let object = match serde_json::from_str(text) {
            Ok(Value::Object(object)) => object,
            Ok(other) => {
                let found = kind(&other);
                return Err(ComposerError::NotAnObject { file, line, found });
            }
            Err(error) => {
                let reason = error.to_string();
                return Err(ComposerError::Json { file, line, reason });
            }
        };
        let pair = FIELDS
            .iter()
            .find(|(input, output)| object.contains_key(*input) && object.contains_key(*output));
        let Some((input, output)) = pair else {
            let names: Vec<String> = object.keys().take(8).map(|name| format!("`{name}`")).collect();
            let found = if names.is_empty() {
                "no fields".to_owned()
            } else {
                names.join(", ")
            };
            return Err(ComposerError::Fields { file, line, found });
        };
        Ok(Shot {
            input: self.text(&object, input)?,
            output: self.text(&object, output)?,
        })
    }

    fn text(&self, object: &Map<String, Value>, field: &'static str) -> Result<String, ComposerError> {
        match object.get(field) {
            Some(Value::String(text)) => Ok(text.clone()),
            other => Err(ComposerError::NotText {
                file: self.file.to_owned(),
                line: self.line,
                field,
                found: other.map_or("nothing", kind),
            }),
        }
    }

    fn not_utf8(&self) -> ComposerError {
        ComposerError::NotUtf8 {
            file: self.file.to_owned(),
            line: self.line,
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Checks that no test row has the input of a shot; white space around an input does not make another of it.
///
/// # Errors
/// [`ComposerError::Overlap`] naming the first such row.
pub fn check_disjoint(shots: &[Shot], test: &[Shot]) -> Result<(), ComposerError> {
    let mut inputs = HashMap::new();
    for (row, shot) in shots.iter().enumerate() {
        inputs.entry(shot.input.trim()).or_insert(row + 1);
    }
    for (row, held_out) in test.iter().enumerate() {
        if let Some(&shot) = inputs.get(held_out.input.trim()) {
            return Err(ComposerError::Overlap { test: row + 1, shot });
        }
    }
    Ok(())
}

/// The shots in a form that two programs agree on byte for byte, to be hashed: one JSON array of input and output a
/// line.
pub fn shots_bytes(shots: &[Shot]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for shot in shots {
        let row = Value::from(vec![shot.input.as_str(), shot.output.as_str()]);
        bytes.extend_from_slice(row.to_string().as_bytes());
        bytes.push(b'\n');
    }
    bytes
}
