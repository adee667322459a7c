//! Results of many searches: kept in a file, and shown as a table.

use std::fs;
use std::path::Path;

use lorahub_adapters::Rule;
use lorahub_optim::Rng;
use serde::{Deserialize, Serialize};

use crate::ForgeError;
use crate::evaluate::Run;

/// The runs of an evaluation, as a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// In the order in which they were done.
    pub runs: Vec<Run>,
}

impl Results {
    /// What the file holds; nothing if there is none.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn open(path: &Path) -> Result<Self, ForgeError> {
        if path.is_file() {
            Self::read(path)
        } else {
            Ok(Self::default())
        }
    }

    /// What the file holds.
    ///
    /// # Errors
    /// [`ForgeError::Io`], or [`ForgeError::File`] if it holds something else.
    pub fn read(path: &Path) -> Result<Self, ForgeError> {
        let bytes = fs::read(path).map_err(ForgeError::io(path))?;
        serde_json::from_slice(&bytes).map_err(|error| ForgeError::File {
            path: path.to_owned(),
            problem: error.to_string(),
        })
    }

    /// Writes the file: a run a line, so that a change of one shows as one.
    ///
    /// # Errors
    /// [`ForgeError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), ForgeError> {
        let mut lines = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            lines.push(serde_json::to_string(run)?);
        }
        let text = format!("{{\"runs\": [\n{}\n]}}\n", lines.join(",\n"));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(ForgeError::io(folder))?;
        }
        fs::write(path, text).map_err(ForgeError::io(path))
    }

    /// Whether a run is there already.
    pub fn has(&self, target: &str, draw: usize, rule: Rule) -> bool {
        self.runs
            .iter()
            .any(|run| run.target == target && run.draw == draw && run.rule == rule)
    }
}

/// A column of the table: its title, and the match it shows.
type Column = (&'static str, fn(&Run) -> f64);

const COLUMNS: [Column; 6] = [
    ("base", |run| run.base_match),
    ("best single", |run| run.single_match),
    ("uniform", |run| run.uniform_match),
    ("pass", |run| run.pass_match),
    ("composed", |run| run.composed_match),
    ("own modules at 1", |run| run.oracle_match),
];

const DIFFERENCES: [Column; 4] = [
    ("composed - base", |run| run.composed_match - run.base_match),
    ("composed - best single", |run| run.composed_match - run.single_match),
    ("composed - uniform", |run| run.composed_match - run.uniform_match),
    ("composed - pass", |run| run.composed_match - run.pass_match),
];

/// Both rules' tables, as `docs/demo-family.md` has them.
pub fn tables(results: &Results) -> String {
    let mut text = String::new();
    for rule in [Rule::Exact, Rule::Reference] {
        let runs: Vec<Run> = results.runs.iter().filter(|run| run.rule == rule).cloned().collect();
        text.push_str(&format!("### Rule `{rule}`\n\n{}\n", report(&runs)));
    }
    text
}

/// A Markdown table of mean exact match by target, standard deviation over the draws of shots in brackets; then the means
/// over targets with 95 % intervals from resampling targets.
pub fn report(runs: &[Run]) -> String {
    let mut targets: Vec<&str> = Vec::new();
    for run in runs {
        if !targets.contains(&run.target.as_str()) {
            targets.push(&run.target);
        }
    }
    let of = |target: &str| -> Vec<&Run> { runs.iter().filter(|run| run.target == target).collect() };
    let mut text = String::from("| target | rules |");
    for (title, _) in COLUMNS {
        text.push_str(&format!(" {title} |"));
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(COLUMNS.len()));
    text.push('\n');
    for target in &targets {
        let runs = of(target);
        let rules = runs.first().map_or_else(String::new, |run| run.rules.join(" + "));
        text.push_str(&format!("| `{target}` | {rules} |"));
        for (_, value) in COLUMNS {
            let values: Vec<f64> = runs.iter().map(|run| value(run)).collect();
            text.push_str(&format!(" {:.1} ({:.1}) |", mean(&values), deviation(&values)));
        }
        text.push('\n');
    }
    text.push_str("\n| | mean over targets | 95 % interval |\n|---|---|---|\n");
    for (title, value) in COLUMNS.iter().chain(&DIFFERENCES) {
        let means: Vec<f64> = targets
            .iter()
            .map(|target| mean(&of(target).into_iter().map(value).collect::<Vec<_>>()))
            .collect();
        let (low, high) = interval(&means);
        text.push_str(&format!("| {title} | {:.1} | {low:.1} to {high:.1} |\n", mean(&means)));
    }
    text
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        0.0
    } else {
        values.iter().sum::<f64>() / values.len() as f64
    }
}

fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let centre = mean(values);
    (values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// Percentile bootstrap of the mean over targets: the draws of one target share its rows, so targets are what is drawn.
fn interval(means: &[f64]) -> (f64, f64) {
    const RESAMPLES: usize = 10_000;
    if means.is_empty() {
        return (0.0, 0.0);
    }
    let mut rng = Rng::new(0);
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .map(|_| (0..means.len()).map(|_| means[rng.below(means.len())]).sum::<f64>() / means.len() as f64)
        .collect();
    resampled.sort_by(f64::total_cmp);
    (resampled[RESAMPLES / 40], resampled[RESAMPLES - 1 - RESAMPLES / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_mean_and_shrink_to_a_point_without_spread() {
        assert_eq!(interval(&[7.0; 5]), (7.0, 7.0));
        let (low, high) = interval(&[0.0, 10.0, 20.0, 30.0, 40.0]);
        assert!(low < 20.0 && 20.0 < high && low >= 0.0 && high <= 40.0, "{low} {high}");
        assert!((deviation(&[1.0, 2.0, 3.0]) - 1.0).abs() < 1e-12);
    }
}
