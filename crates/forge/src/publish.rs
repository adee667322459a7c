//! The files around base and modules: tasks, `family.json`, the model card and the sums.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lorahub_weights::sha256_hex;
use serde_json::json;

use crate::ForgeError;
use crate::family::{Family, LICENSE, Recipe};
use crate::rewrite::Kind;
use crate::rules::shipped;
use crate::target::{Target, TaskFile};

const CARD: &str = include_str!("card.md");
const SUMS: &str = "SHA256SUMS";

/// Bytes that a published family may have in all.
const MOST_BYTES: u64 = 12_000_000;

impl Family {
    /// Writes the task files of these targets and returns their paths, in the same order.
    ///
    /// # Errors
    /// [`ForgeError::Io`].
    pub fn write_tasks(&self, targets: &[Target]) -> Result<Vec<String>, ForgeError> {
        let mut paths = Vec::new();
        for target in targets {
            let path = format!("tasks/{}.json", target.id);
            self.write(&path, &pretty(&target.file())?)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// A task file, read back.
    ///
    /// # Errors
    /// [`ForgeError::Io`], or [`ForgeError::File`] if it is not one.
    pub fn task(&self, id: &str) -> Result<TaskFile, ForgeError> {
        let path = format!("tasks/{id}.json");
        serde_json::from_slice(&self.read(&path)?).map_err(|error| ForgeError::File {
            path: self.path(&path),
            problem: error.to_string(),
        })
    }

    /// Writes `family.json`, the model card and, last, the sums of every file.
    ///
    /// # Errors
    /// [`ForgeError::Io`], and the base's if it cannot be read back.
    pub fn write_index(&self, recipe: &Recipe, tasks: &[String]) -> Result<(), ForgeError> {
        let modules: Vec<_> = shipped()
            .map(|rule| {
                json!({"name": rule.name, "path": format!("modules/{}", rule.name), "title": rule.title,
                       "description": rule.description, "kind": rule.kind.name()})
            })
            .collect();
        let index = json!({"schema": 1, "name": "lorahub-demo", "rule": "exact", "license": LICENSE, "base": "base",
                           "modules": modules, "tasks": tasks});
        self.write("family.json", &pretty(&index)?)?;
        self.write("README.md", self.card(recipe)?.as_bytes())?;
        let mut sums = String::new();
        for (path, sum) in self.sums()? {
            sums.push_str(&format!("{sum}  {path}\n"));
        }
        self.write(SUMS, sums.as_bytes())
    }

    fn card(&self, recipe: &Recipe) -> Result<String, ForgeError> {
        let config = self.model()?.config().clone();
        let parameters: usize = lorahub_t5::expected_tensors(&config)
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        let table = |kind: Kind| -> String {
            let row = |rule: &crate::rules::Rewrite| {
                let seen = if rule.known { "by instruction" } else { "never" };
                format!("| `{}` | {} | {seen} |\n", rule.name, rule.description)
            };
            shipped().filter(|rule| rule.kind == kind).map(row).collect()
        };
        let values = [
            ("seed", recipe.seed.to_string()),
            ("parameters", parameters.to_string()),
            ("vocabulary", config.vocab_size.to_string()),
            ("base_steps", recipe.base.steps.to_string()),
            ("base_batch", recipe.base.batch.to_string()),
            ("module_steps", recipe.module.steps.to_string()),
            ("module_batch", recipe.module.batch.to_string()),
            ("modules", shipped().count().to_string()),
            ("dialect_table", table(Kind::Dialect)),
            ("list_table", table(Kind::List)),
        ];
        Ok(values.iter().fold(CARD.to_owned(), |card, (name, value)| {
            card.replace(&format!("{{{name}}}"), value.trim_end())
        }))
    }

    /// SHA-256 of every file but the sums, by path.
    ///
    /// # Errors
    /// [`ForgeError::Io`].
    pub fn sums(&self) -> Result<BTreeMap<String, String>, ForgeError> {
        let mut sums = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let path = self.path(&folder);
            for entry in fs::read_dir(&path).map_err(ForgeError::io(&path))? {
                let entry = entry.map_err(ForgeError::io(&path))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let relative = if folder.is_empty() {
                    name
                } else {
                    format!("{folder}/{name}")
                };
                if entry.path().is_dir() {
                    folders.push(relative);
                } else if relative != SUMS {
                    sums.insert(relative.clone(), sha256_hex(&self.read(&relative)?));
                }
            }
        }
        Ok(sums)
    }

    /// Checks that the family's files are those its sums name, no more and no fewer, and that they are small enough.
    ///
    /// # Errors
    /// [`ForgeError::Check`] naming the first difference.
    pub fn check(&self) -> Result<(), ForgeError> {
        let list = String::from_utf8(self.read(SUMS)?).map_err(|_| ForgeError::File {
            path: self.path(SUMS),
            problem: "it is not text".into(),
        })?;
        let mut expected = BTreeMap::new();
        for line in list.lines() {
            let Some((sum, path)) = line.split_once("  ") else {
                return Err(ForgeError::File {
                    path: self.path(SUMS),
                    problem: format!("`{line}` is not a sum and a path"),
                });
            };
            expected.insert(path.to_owned(), sum.to_owned());
        }
        let found = self.sums()?;
        for path in expected.keys().chain(found.keys()) {
            let (expected, found) = (expected.get(path), found.get(path));
            if expected != found {
                let shown = |sum: Option<&String>| sum.map_or_else(|| "absent".to_owned(), Clone::clone);
                return Err(ForgeError::Check(format!(
                    "{}: {SUMS} says {}, found {}; run the forge again, or restore the file",
                    self.path(path).display(),
                    shown(expected),
                    shown(found)
                )));
            }
        }
        let bytes = self.bytes(&found)?;
        if bytes > MOST_BYTES {
            return Err(ForgeError::Check(format!(
                "the family has {bytes} bytes, expected at most {MOST_BYTES}; ship less"
            )));
        }
        Ok(())
    }

    fn bytes(&self, files: &BTreeMap<String, String>) -> Result<u64, ForgeError> {
        let size = |path: &Path| Ok(fs::metadata(path).map_err(ForgeError::io(path))?.len());
        files.keys().map(|path| size(&self.path(path))).sum()
    }
}

fn pretty(value: &impl serde::Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
