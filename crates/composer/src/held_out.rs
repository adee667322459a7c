//! Evaluation on rows that the search has not seen, and the baselines to compare with.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::{Candidate, ComposerError, Evaluator, Objective, ObjectiveName, Shot, unit};

/// A string as the reference compares it: `s.strip().lower().replace(".", "")` of Python.
pub fn normalise_answer(text: &str) -> String {
    // Python strips four separators that are not white space in Unicode.
    let blank = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
    text.trim_matches(blank).to_lowercase().replace('.', "")
}

/// Whether an answer counts as the expected one.
pub fn is_exact_match(answer: &str, expected: &str) -> bool {
    normalise_answer(answer) == normalise_answer(expected)
}

/// Per cent of answers that match, of as many pairs as there are; 0 of none.
pub fn exact_match<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> f64 {
    let (mut n, mut correct) = (0, 0);
    for (answer, expected) in pairs {
        n += 1;
        correct += usize::from(is_exact_match(answer, expected));
    }
    percent(correct, n)
}

fn percent(correct: usize, n: usize) -> f64 {
    if n == 0 { 0.0 } else { 100.0 * correct as f64 / n as f64 }
}

/// Wilson's interval of a proportion: where the true share of correct answers lies with the confidence of `z` standard
/// deviations (1.96 for 95 %), given `correct` of `n`. Both ends are shares from 0 to 1; of no rows it is all of them.
///
/// E. B. Wilson, *Probable inference, the law of succession, and statistical inference* (1927).
pub fn wilson_interval(correct: usize, n: usize, z: f64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n, correct) = (n as f64, correct as f64);
    let (share, z2) = (correct / n, z * z);
    let centre = share + z2 / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    (((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0))
}

/// One answer to a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// What the model said.
    pub text: String,
    /// Whether it matches what was expected.
    pub ok: bool,
}

/// A row with the answer of every candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOutRow {
    /// The row's input.
    pub input: String,
    /// The answer expected.
    pub output: String,
    /// By the candidates' names.
    pub predictions: BTreeMap<String, Prediction>,
}

/// How often a candidate was right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Rows answered as expected.
    pub correct: usize,
    /// Exact match in per cent.
    pub percent: f64,
    /// Lower end of the 95 % Wilson interval, in per cent.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
}

impl Accuracy {
    fn new(correct: usize, n: usize) -> Self {
        let (low, high) = wilson_interval(correct, n, 1.959_963_984_540_054);
        Self {
            correct,
            percent: percent(correct, n),
            low: 100.0 * low,
            high: 100.0 * high,
        }
    }
}

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Rows that every candidate has answered; fewer than asked for if it was ended early.
    pub n: usize,
    /// Those rows.
    pub rows: Vec<HeldOutRow>,
    /// By the candidates' names.
    pub accuracy: BTreeMap<String, Accuracy>,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOutProgress {
    /// Answers given, over all candidates.
    pub done: usize,
    /// Answers asked for.
    pub total: usize,
}

/// How an evaluation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldOutSettings {
    /// Rows that one call of the evaluator answers, at least 1.
    pub batch: usize,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
}

impl Default for HeldOutSettings {
    /// 32 rows together, 256 tokens.
    fn default() -> Self {
        Self {
            batch: 32,
            max_new_tokens: 256,
        }
    }
}

/// Answers `rows` under every candidate, greedily, and counts the exact matches.
///
/// Candidates are pairs of a name (such as `base` or `composed`) and weights; those with the same weights are answered
/// once. Rows go batch by batch, all candidates on one batch before the next, so that an evaluation that `on_progress`
/// breaks off has compared all candidates on the same rows.
///
/// # Errors
/// [`ComposerError::Weights`] for a candidate of another length than the evaluator's modules, [`ComposerError::Setting`]
/// for a batch of 0, [`ComposerError::Evaluator`] if the device fails.
pub async fn evaluate_held_out(
    evaluator: &dyn Evaluator,
    rows: &[Shot],
    candidates: &[(String, Vec<f64>)],
    settings: HeldOutSettings,
    on_progress: &mut dyn FnMut(HeldOutProgress) -> ControlFlow<()>,
) -> Result<HeldOut, ComposerError> {
    if settings.batch == 0 {
        return Err(ComposerError::Setting {
            setting: "batch",
            expected: "at least 1",
            found: "0".to_owned(),
        });
    }
    for (name, weights) in candidates {
        if weights.len() != evaluator.modules() {
            return Err(ComposerError::Weights {
                name: name.clone(),
                expected: evaluator.modules(),
                found: weights.len(),
            });
        }
    }
    let mut done = Vec::with_capacity(rows.len());
    let total = rows.len() * candidates.len();
    'batches: for batch in rows.chunks(settings.batch) {
        let inputs: Vec<String> = batch.iter().map(|row| row.input.clone()).collect();
        let mut answers: Vec<Vec<String>> = Vec::with_capacity(candidates.len());
        for (index, (_, weights)) in candidates.iter().enumerate() {
            let same = candidates[..index].iter().position(|(_, earlier)| earlier == weights);
            let texts = match same {
                Some(earlier) => answers[earlier].clone(),
                None => generate(evaluator, weights, &inputs, settings.max_new_tokens).await?,
            };
            answers.push(texts);
            let progress = HeldOutProgress {
                done: done.len() * candidates.len() + answers.len() * batch.len(),
                total,
            };
            if on_progress(progress).is_break() && answers.len() < candidates.len() {
                break 'batches;
            }
        }
        for (position, row) in batch.iter().enumerate() {
            let predictions = candidates.iter().zip(&answers).map(|((name, _), texts)| {
                let text = texts[position].clone();
                let ok = is_exact_match(&text, &row.output);
                (name.clone(), Prediction { text, ok })
            });
            done.push(HeldOutRow {
                input: row.input.clone(),
                output: row.output.clone(),
                predictions: predictions.collect(),
            });
        }
    }
    let accuracy = candidates.iter().map(|(name, _)| {
        let right = |row: &&HeldOutRow| row.predictions.get(name).is_some_and(|prediction| prediction.ok);
        (
            name.clone(),
            Accuracy::new(done.iter().filter(right).count(), done.len()),
        )
    });
    Ok(HeldOut {
        n: done.len(),
        accuracy: accuracy.collect(),
        rows: done,
    })
}

async fn generate(
    evaluator: &dyn Evaluator,
    weights: &[f64],
    inputs: &[String],
    max_new_tokens: usize,
) -> Result<Vec<String>, ComposerError> {
    let candidate = Candidate {
        weights: weights.to_vec(),
    };
    let generations = evaluator.generate(&candidate, inputs, max_new_tokens).await?;
    if generations.len() != inputs.len() {
        return Err(ComposerError::Contract {
            expected: format!("{} generations", inputs.len()),
            found: generations.len().to_string(),
        });
    }
    Ok(generations.into_iter().map(|generation| generation.text).collect())
}

/// The module that alone, at weight 1, has the lowest loss on the evaluator's shots; the first of equals. `None` if all
/// overflow.
///
/// # Errors
/// [`ComposerError::NoModules`], or [`ComposerError::Evaluator`] if the device fails.
pub async fn best_single(evaluator: &dyn Evaluator, max_generation: usize) -> Result<Option<usize>, ComposerError> {
    let modules = evaluator.modules();
    if modules == 0 {
        return Err(ComposerError::NoModules);
    }
    let units: Vec<Candidate> = (0..modules)
        .map(|module| Candidate {
            weights: unit(modules, module),
        })
        .collect();
    let ce = Objective {
        name: ObjectiveName::Normalised,
        l1: 0.0,
    };
    let mut best: Option<(usize, f64)> = None;
    let mut module = 0;
    for candidates in units.chunks(max_generation.max(1)) {
        let losses = evaluator.evaluate(candidates).await?;
        crate::session::check_losses(candidates, &losses)?;
        for (candidate, losses) in candidates.iter().zip(&losses) {
            let loss = ce.value(losses, &candidate.weights);
            if loss.is_finite() && best.is_none_or(|(_, lowest)| loss < lowest) {
                best = Some((module, loss));
            }
            module += 1;
        }
    }
    Ok(best.map(|(module, _)| module))
}
