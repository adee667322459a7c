//! Held-out tasks: sets of rules that no module was trained on together, and their rows.

use std::collections::BTreeSet;

use lorahub_composer::Shot;
use lorahub_optim::Rng;
use serde::{Deserialize, Serialize};

use crate::data::{natural, prompt};
use crate::family::purpose_seed;
use crate::rewrite::{Effect, Kind, apply};
use crate::rules::{Rewrite, by_name, shipped};
use crate::words::{MODULE_NAMES, NAMES};

/// The seed of the published targets. It was committed with the recipe, before any of them had been drawn; development
/// looked at `DEVELOPMENT` alone.
pub const PUBLISHED_SEED: u64 = 20_261_124;

/// The seed of a second set of targets, drawn once the family and its published table stood: does the table hold for
/// targets that nobody has chosen or seen?
pub const SECOND_SEED: u64 = 20_261_125;

/// Targets of each kind in a drawn set.
const DRAWN: [(Kind, usize); 2] = [(Kind::List, 6), (Kind::Dialect, 6)];

/// The targets that the recipe was fixed on.
const DEVELOPMENT: [(Kind, &[&str]); 8] = [
    (Kind::Dialect, &["animals", "reverse"]),
    (Kind::Dialect, &["animals", "colours"]),
    (Kind::Dialect, &["colours", "exclaim", "verbmark"]),
    (Kind::Dialect, &["foods", "places", "nounmark"]),
    (Kind::List, &["fruit", "and"]),
    (Kind::List, &["drinks", "commas", "numbered"]),
    (Kind::List, &["bakery", "dashes", "backwards"]),
    (Kind::List, &["fruit", "drinks", "skip"]),
];

/// Examples that the search sees.
pub const SHOTS: usize = 5;
/// Different sets of shots that a target is searched with.
pub const DRAWS: usize = 5;
/// Held-out rows.
pub const TEST_ROWS: usize = 200;
/// Inputs offered to try.
const EXAMPLES: usize = 4;

/// A held-out task.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name in files: kind and style.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// The dialect's or style's name in its inputs; no module was trained with it.
    pub style: &'static str,
    /// Its rules, in the family's order.
    pub rules: Vec<&'static Rewrite>,
    /// `SHOTS * DRAWS` examples, a draw after the other.
    pub shots: Vec<Shot>,
    /// Held-out rows, none of them a shot.
    pub test: Vec<Shot>,
    /// Inputs to try, none of them a shot or a row.
    pub examples: Vec<String>,
}

/// A task file, as the page reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskFile {
    /// The target's id.
    pub id: String,
    /// A title for people.
    pub title: String,
    /// The kind's name.
    pub kind: String,
    /// What the task asks for.
    pub summary: String,
    /// Names of the rules behind it.
    pub rules: Vec<String>,
    /// The first draw of shots.
    pub shots: Vec<Shot>,
    /// Held-out rows.
    pub test: Vec<Shot>,
    /// Inputs to try.
    pub examples: Vec<String>,
}

impl Target {
    /// A target with rows drawn from `seed`, by natural sampling: an input is drawn as for training, and a rule of the
    /// target need not show in it.
    fn new(kind: Kind, style: &'static str, rules: Vec<&'static Rewrite>, seed: u64) -> Self {
        let id = format!("{}-{style}", kind.name());
        let mut rng = Rng::new(purpose_seed(seed, &format!("rows of {id}")));
        let mut seen = BTreeSet::new();
        let mut rows = Vec::new();
        while rows.len() < SHOTS * DRAWS + TEST_ROWS + EXAMPLES {
            let words = natural(&mut rng, kind);
            let row = Shot {
                input: prompt(kind, style, &words),
                output: apply(kind, &words, &rules),
            };
            if seen.insert(row.input.clone()) {
                rows.push(row);
            }
        }
        let examples = rows
            .split_off(SHOTS * DRAWS + TEST_ROWS)
            .into_iter()
            .map(|row| row.input)
            .collect();
        let test = rows.split_off(SHOTS * DRAWS);
        Self {
            id,
            kind,
            style,
            rules,
            shots: rows,
            test,
            examples,
        }
    }

    /// The shots of one draw.
    pub fn draw(&self, draw: usize) -> &[Shot] {
        &self.shots[draw * SHOTS..(draw + 1) * SHOTS]
    }

    /// The rules' names.
    pub fn rule_names(&self) -> Vec<&'static str> {
        self.rules.iter().map(|rule| rule.name).collect()
    }

    /// The file of this target, with its first draw of shots.
    pub fn file(&self) -> TaskFile {
        let titles: Vec<&str> = self.rules.iter().map(|rule| rule.title).collect();
        let descriptions: Vec<&str> = self.rules.iter().map(|rule| rule.description).collect();
        TaskFile {
            id: self.id.clone(),
            title: titles.join(" + "),
            kind: self.kind.name().to_owned(),
            summary: descriptions.join(" "),
            rules: self.rule_names().into_iter().map(str::to_owned).collect(),
            shots: self.draw(0).to_vec(),
            test: self.test.clone(),
            examples: self.examples.clone(),
        }
    }
}

/// The development targets.
pub fn development() -> Vec<Target> {
    DEVELOPMENT
        .iter()
        .zip(NAMES[MODULE_NAMES..].iter().rev())
        .map(|(&(kind, names), &style)| {
            let rules = names.iter().filter_map(|name| by_name(name)).collect();
            Target::new(kind, style, rules, 1)
        })
        .collect()
}

/// The published targets, which the page offers.
pub fn published() -> Vec<Target> {
    drawn(PUBLISHED_SEED, development())
}

/// The second set: none of its rules go together in a development or published target.
pub fn second() -> Vec<Target> {
    drawn(SECOND_SEED, development().into_iter().chain(published()))
}

/// A set of targets: lists first, then dialects, each drawn as [`rules_of`] says, none with the rules of a target of
/// `before`.
fn drawn(seed: u64, before: impl IntoIterator<Item = Target>) -> Vec<Target> {
    let mut rng = Rng::new(seed);
    let mut styles = NAMES[MODULE_NAMES..NAMES.len() - DEVELOPMENT.len()].to_vec();
    rng.shuffle(&mut styles);
    let mut taken: Vec<BTreeSet<&str>> = before
        .into_iter()
        .map(|target| target.rule_names().into_iter().collect())
        .collect();
    let mut targets = Vec::new();
    for (kind, count) in DRAWN {
        for _ in 0..count {
            let rules = loop {
                let rules = rules_of(&mut rng, kind);
                let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name).collect();
                if !taken.contains(&names) {
                    taken.push(names);
                    break rules;
                }
            };
            let style = styles.pop().unwrap_or(NAMES[MODULE_NAMES]);
            targets.push(Target::new(kind, style, rules, seed));
        }
    }
    targets
}

/// Two or three rules that have modules: of two, one is a words rule and one a rule of form; of three, one or two are
/// words rules. Numbers and dashes both begin an item and are not put together.
fn rules_of(rng: &mut Rng, kind: Kind) -> Vec<&'static Rewrite> {
    let is_words = |rule: &&&'static Rewrite| matches!(rule.effect, Effect::Words(_));
    let pool: Vec<&'static Rewrite> = shipped().filter(|rule| rule.kind == kind).collect();
    let count = 2 + rng.below(2);
    let words = if count == 2 { 1 } else { 1 + rng.below(2) };
    loop {
        let mut lexicons: Vec<&'static Rewrite> = pool.iter().filter(is_words).copied().collect();
        let mut forms: Vec<&'static Rewrite> = pool.iter().filter(|rule| !is_words(rule)).copied().collect();
        rng.shuffle(&mut lexicons);
        rng.shuffle(&mut forms);
        lexicons.truncate(words);
        forms.truncate(count - words);
        let both_begin = [Effect::Numbered, Effect::Dashes]
            .iter()
            .all(|effect| forms.iter().any(|rule| rule.effect == *effect));
        if both_begin {
            continue;
        }
        return pool
            .iter()
            .filter(|rule| lexicons.iter().chain(&forms).any(|chosen| chosen.name == rule.name))
            .copied()
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_targets_are_what_the_tables_promise() {
        for targets in [published(), second()] {
            assert!(targets.len() >= 8);
            assert!(targets.iter().filter(|target| target.kind == Kind::List).count() >= 3);
            let mut styles = BTreeSet::new();
            for target in &targets {
                assert!(styles.insert(target.style), "{} twice", target.style);
                assert!((2..=3).contains(&target.rules.len()));
                assert!(target.rules.iter().all(|rule| rule.shipped && rule.kind == target.kind));
                assert_eq!((target.shots.len(), target.test.len()), (SHOTS * DRAWS, TEST_ROWS));
                let mut inputs: Vec<&String> = target
                    .shots
                    .iter()
                    .chain(&target.test)
                    .map(|row| &row.input)
                    .chain(&target.examples)
                    .collect();
                let count = inputs.len();
                inputs.sort();
                inputs.dedup();
                assert_eq!(inputs.len(), count, "{}: an input twice", target.id);
            }
        }
    }

    #[test]
    fn no_two_targets_have_the_same_rules() {
        let mut rules = BTreeSet::new();
        for target in development().into_iter().chain(published()).chain(second()) {
            let mut names = target.rule_names();
            names.sort_unstable();
            assert!(rules.insert(names), "{}", target.id);
        }
    }
}
