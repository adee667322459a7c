//! Drawing sentences, lists and training examples. All randomness comes from the caller's generator.

use lorahub_composer::Shot;
use lorahub_optim::Rng;

use crate::rewrite::{Kind, Word, apply, plain};
use crate::rules::{REWRITES, Rewrite};
use crate::words::{DETERMINERS, Domain, LIST_DOMAINS, MODULE_NAMES, NAMES, Role};

/// How often the base and the modules meet words that are not English, so that they learn to copy them.
const NOISE: f64 = 0.08;

/// Most rules that an instruction to the base names.
const MOST_INSTRUCTIONS: usize = 4;

fn pick<'a, T>(rng: &mut Rng, items: &'a [T]) -> &'a T {
    &items[rng.below(items.len())]
}

fn pick_text(rng: &mut Rng, texts: &[&'static str]) -> &'static str {
    texts[rng.below(texts.len())]
}

fn domain(kind: Kind, name: &str) -> &'static Domain {
    let domains = kind.domains();
    domains.iter().find(|domain| domain.name == name).unwrap_or(&domains[0])
}

/// A word of a domain; with `noise`, now and then the translation of one.
fn word(rng: &mut Rng, domain: &'static Domain, noise: bool) -> Word {
    let &(english, other) = pick(rng, domain.words);
    let text = if noise && rng.uniform() < NOISE { other } else { english };
    Word {
        text,
        role: domain.role,
    }
}

/// Which of `choices` is drawn, by weight.
fn weighted(rng: &mut Rng, choices: &[(&'static str, f64)]) -> &'static str {
    let mut rest = rng.uniform();
    for &(name, weight) in choices {
        if rest < weight {
            return name;
        }
        rest -= weight;
    }
    choices.last().map_or("", |&(name, _)| name)
}

fn function(text: &'static str) -> Word {
    Word {
        text,
        role: Role::Function,
    }
}

fn noun_phrase(rng: &mut Rng, nouns: &[(&'static str, f64)], noise: bool, out: &mut Vec<Word>) {
    let determiner = rng.uniform();
    out.push(function(match determiner {
        x if x < 0.55 => DETERMINERS[0],
        x if x < 0.75 => DETERMINERS[1],
        x if x < 0.9 => DETERMINERS[2],
        _ => DETERMINERS[3],
    }));
    if rng.uniform() < 0.55 {
        let adjective = weighted(rng, &[("colours", 0.5), ("sizes", 0.25), ("moods", 0.25)]);
        out.push(word(rng, domain(Kind::Dialect, adjective), noise));
    }
    let noun = weighted(rng, nouns);
    out.push(word(rng, domain(Kind::Dialect, noun), noise));
}

/// A sentence: noun phrase, verb, noun phrase, often a place and a time.
fn sentence(rng: &mut Rng, noise: bool) -> Vec<Word> {
    let mut out = Vec::new();
    noun_phrase(rng, &[("animals", 0.6), ("people", 0.4)], noise, &mut out);
    out.push(word(rng, domain(Kind::Dialect, "verbs"), noise));
    noun_phrase(
        rng,
        &[("foods", 0.42), ("tools", 0.42), ("animals", 0.16)],
        noise,
        &mut out,
    );
    if rng.uniform() < 0.45 {
        out.push(function("in"));
        let determiner = if rng.uniform() < 0.7 { 0 } else { 2 };
        out.push(function(DETERMINERS[determiner]));
        out.push(word(rng, domain(Kind::Dialect, "places"), noise));
    }
    if rng.uniform() < 0.45 {
        out.push(word(rng, domain(Kind::Dialect, "times"), noise));
    }
    if noise {
        stray_mark(rng, &mut out, &["ze", "na", "lo", "ka"]);
    }
    out
}

/// Now and then a mark that means nothing where it stands.
fn stray_mark(rng: &mut Rng, words: &mut Vec<Word>, marks: &[&'static str]) {
    if rng.uniform() < 2.0 * NOISE {
        let place = rng.below(words.len() + 1);
        words.insert(place, function(pick_text(rng, marks)));
    }
}

/// A list of three to five different items.
fn list(rng: &mut Rng, noise: bool) -> Vec<Word> {
    let count = 3 + rng.below(3);
    let mut out: Vec<Word> = Vec::new();
    while out.len() < count {
        let domain = pick(rng, &LIST_DOMAINS);
        let item = word(rng, domain, noise);
        if !out.contains(&item) {
            out.push(item);
        }
    }
    if noise {
        stray_mark(rng, &mut out, &["and", "-"]);
    }
    out
}

/// An input of this kind as people write it: a sentence or a list, without any prompt.
pub fn natural(rng: &mut Rng, kind: Kind) -> Vec<Word> {
    draw(rng, kind, false)
}

fn draw(rng: &mut Rng, kind: Kind, noise: bool) -> Vec<Word> {
    match kind {
        Kind::Dialect => sentence(rng, noise),
        Kind::List => list(rng, noise),
    }
}

/// An input on which `rule` shows, if one comes up soon.
fn firing(rng: &mut Rng, rule: &Rewrite, noise: bool) -> Vec<Word> {
    let mut words = draw(rng, rule.kind, noise);
    for _ in 0..30 {
        if apply(rule.kind, &words, &[rule]) != plain(&words) {
            break;
        }
        words = draw(rng, rule.kind, noise);
    }
    words
}

/// `count` different known rules of this kind, without `except`.
fn known(rng: &mut Rng, kind: Kind, count: usize, except: Option<&Rewrite>) -> Vec<&'static Rewrite> {
    let mut rules: Vec<&Rewrite> = REWRITES
        .iter()
        .filter(|rule| rule.known && rule.kind == kind && except.is_none_or(|except| except.name != rule.name))
        .collect();
    rng.shuffle(&mut rules);
    rules.truncate(count);
    rules
}

/// The input of an instruction: `use reverse verbs : the dog sees a soup`.
fn instruction(rules: &[&Rewrite], words: &[Word]) -> String {
    let mut text = String::from("use ");
    for rule in rules {
        text.push_str(rule.name);
        text.push(' ');
    }
    text + ": " + &plain(words)
}

/// The input of a task: `say in lefivas : the dog sees a soup`.
pub fn prompt(kind: Kind, name: &str, words: &[Word]) -> String {
    format!("{} {name} : {}", kind.prompt(), plain(words))
}

/// An exclamation mark in the input is copied to the end of the output.
fn exclaimed(rng: &mut Rng, kind: Kind, mut shot: Shot) -> Shot {
    if kind == Kind::Dialect && rng.uniform() < NOISE {
        shot.input.push('!');
        shot.output.push('!');
    }
    shot
}

/// An example for the base: known rules by instruction, or the unchanged input under any name.
pub fn for_base(rng: &mut Rng) -> Shot {
    let kind = if half(rng) { Kind::Dialect } else { Kind::List };
    let noise = half(rng);
    let words = draw(rng, kind, noise);
    let shot = if rng.uniform() < 0.78 {
        let count = rng.below(MOST_INSTRUCTIONS + 1);
        let rules = known(rng, kind, count, None);
        Shot {
            input: instruction(&rules, &words),
            output: apply(kind, &words, &rules),
        }
    } else {
        Shot {
            input: prompt(kind, pick_text(rng, &NAMES), &words),
            output: plain(&words),
        }
    };
    exclaimed(rng, kind, shot)
}

fn half(rng: &mut Rng) -> bool {
    rng.uniform() < 0.5
}

/// An example for the module of `rule`: half under a dialect's or style's name, half with one to three known rules by
/// instruction, so that the module learns to act beside other rules.
pub fn for_module(rng: &mut Rng, rule: &Rewrite) -> Shot {
    let noise = rng.uniform() < 0.25;
    let words = if rng.uniform() < 0.75 {
        firing(rng, rule, noise)
    } else {
        draw(rng, rule.kind, noise)
    };
    if half(rng) {
        let name = pick_text(rng, &NAMES[..MODULE_NAMES]);
        return Shot {
            input: prompt(rule.kind, name, &words),
            output: apply(rule.kind, &words, &[rule]),
        };
    }
    let count = 1 + rng.below(3);
    let mut rules = known(rng, rule.kind, count, Some(rule));
    let input = instruction(&rules, &words);
    rules.push(rule);
    Shot {
        input,
        output: apply(rule.kind, &words, &rules),
    }
}
