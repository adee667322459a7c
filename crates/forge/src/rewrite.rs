//! The rules: what each module of the family does to a sentence or a list, and what several do together.
//!
//! Several rules apply in one fixed order, so that a set of rules has one meaning: words first, then what is left out,
//! then the order, then marks beside words, then marks at the end.

use crate::rules::Rewrite;
use crate::words::{Domain, LIST_DOMAINS, NUMBERS, Role, SENTENCE_DOMAINS};

/// The two kinds of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// English sentences in a toy dialect.
    Dialect,
    /// Shopping lists in a style.
    List,
}

impl Kind {
    /// The kind's name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dialect => "dialect",
            Self::List => "list",
        }
    }

    /// How a prompt without instructions begins.
    pub fn prompt(self) -> &'static str {
        match self {
            Self::Dialect => "say in",
            Self::List => "list in",
        }
    }

    /// The domains whose words the kind uses.
    pub fn domains(self) -> &'static [Domain] {
        match self {
            Self::Dialect => &SENTENCE_DOMAINS,
            Self::List => &LIST_DOMAINS,
        }
    }
}

/// One word of a sentence or list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The text.
    pub text: &'static str,
    /// What it does.
    pub role: Role,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Translates the words of one domain.
    Words(&'static str),
    /// Leaves determiners out.
    DropDeterminers,
    /// Moves the verb to the end.
    VerbFinal,
    /// Turns the order of words round.
    Reverse,
    /// Says adjectives twice.
    Redouble,
    /// Says `ze` for `the`.
    TheZe,
    /// `lo` after nouns.
    NounMark,
    /// `na` after the verb.
    VerbMark,
    /// `ka` at the end.
    Question,
    /// `oyo` at the end, after `ka`.
    Polite,
    /// `!` at the very end.
    Exclaim,
    /// Leaves the last item out.
    DropLast,
    /// Leaves the first item out.
    DropFirst,
    /// Turns the order of items round.
    Backwards,
    /// A dash before each item.
    Dashes,
    /// A number before each item.
    Numbered,
    /// `some` before each item, after dash and number.
    Some,
    /// Commas between items.
    Commas,
    /// `and` before the last item.
    And,
    /// `plus` before the last item.
    Plus,
    /// `please` at the end.
    Please,
}

/// The words of a sentence or list as text: a space between words, none before `,` and `!`.
pub fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() && !matches!(word, "," | "!") {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// The text unchanged.
pub fn plain(words: &[Word]) -> String {
    join(words.iter().map(|word| word.text))
}

/// What `rules` together make of `words`. Rules of the other kind do nothing.
pub fn apply(kind: Kind, words: &[Word], rules: &[&Rewrite]) -> String {
    let has = |effect: Effect| rules.iter().any(|rule| rule.kind == kind && rule.effect == effect);
    let mut words: Vec<Word> = words.iter().map(|&word| translate(kind, word, &has)).collect();
    match kind {
        Kind::Dialect => sentence(&mut words, &has),
        Kind::List => list(&mut words, &has),
    }
}

fn translate(kind: Kind, word: Word, has: &dyn Fn(Effect) -> bool) -> Word {
    let found = kind
        .domains()
        .iter()
        .find_map(|domain| Some((domain, domain.words.iter().find(|(english, _)| *english == word.text)?)));
    match found {
        Some((domain, &(_, text))) if has(Effect::Words(domain.name)) => Word { text, ..word },
        _ => word,
    }
}

fn sentence(words: &mut Vec<Word>, has: &dyn Fn(Effect) -> bool) -> String {
    if has(Effect::DropDeterminers) {
        words.retain(|word| !crate::words::DETERMINERS.contains(&word.text));
    }
    if has(Effect::VerbFinal)
        && let Some(verb) = words.iter().position(|word| word.role == Role::Verb)
    {
        let verb = words.remove(verb);
        words.push(verb);
    }
    if has(Effect::Reverse) {
        words.reverse();
    }
    let mut out = Vec::new();
    for word in words {
        let text = if word.text == "the" && has(Effect::TheZe) {
            "ze"
        } else {
            word.text
        };
        out.push(text);
        match word.role {
            Role::Adjective if has(Effect::Redouble) => out.push(text),
            Role::Noun if has(Effect::NounMark) => out.push("lo"),
            Role::Verb if has(Effect::VerbMark) => out.push("na"),
            _ => {}
        }
    }
    for (effect, mark) in [
        (Effect::Question, "ka"),
        (Effect::Polite, "oyo"),
        (Effect::Exclaim, "!"),
    ] {
        if has(effect) {
            out.push(mark);
        }
    }
    join(out)
}

fn list(items: &mut Vec<Word>, has: &dyn Fn(Effect) -> bool) -> String {
    if has(Effect::DropLast) {
        items.pop();
    }
    if has(Effect::DropFirst) && !items.is_empty() {
        items.remove(0);
    }
    if has(Effect::Backwards) {
        items.reverse();
    }
    let mut out = Vec::new();
    let count = items.len();
    for (index, item) in items.iter().enumerate() {
        let last = index + 1 == count;
        if has(Effect::And) && last && count > 1 {
            out.push("and");
        }
        if has(Effect::Plus) && last && count > 1 {
            out.push("plus");
        }
        if has(Effect::Dashes) {
            out.push("-");
        }
        if has(Effect::Numbered) {
            out.extend(NUMBERS.get(index));
        }
        if has(Effect::Some) {
            out.push("some");
        }
        out.push(item.text);
        if has(Effect::Commas) && !last {
            out.push(",");
        }
    }
    if has(Effect::Please) {
        out.push("please");
    }
    join(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::by_name;

    fn words(kind: Kind, text: &'static str) -> Vec<Word> {
        let role = |text: &str| {
            let domain = kind
                .domains()
                .iter()
                .find(|domain| domain.words.iter().any(|(english, _)| *english == text));
            domain.map_or(Role::Function, |domain| domain.role)
        };
        text.split(' ').map(|text| Word { text, role: role(text) }).collect()
    }

    fn applied(kind: Kind, text: &'static str, names: &[&str]) -> String {
        let rules: Vec<&Rewrite> = names.iter().filter_map(|name| by_name(name)).collect();
        assert_eq!(rules.len(), names.len());
        apply(kind, &words(kind, text), &rules)
    }

    #[test]
    fn sentences_follow_their_rules_alone_and_together() {
        let cases: [(&[&str], &str); 12] = [
            (&[], "the big dog sees a hat in this house today"),
            (&["animals"], "the big fumus sees a hat in this house today"),
            (&["reverse"], "today house this in hat a sees dog big the"),
            (
                &["question", "polite", "exclaim"],
                "the big dog sees a hat in this house today ka oyo!",
            ),
            (&["exclaim"], "the big dog sees a hat in this house today!"),
            (&["nounmark"], "the big dog lo sees a hat in this house lo today"),
            (
                &["nounmark", "reverse"],
                "today house lo this in hat a sees dog lo big the",
            ),
            (&["verbmark", "verbs"], "the big dog begi na a hat in this house today"),
            (
                &["verbmark", "verbfinal"],
                "the big dog a hat in this house today sees na",
            ),
            (&["theze", "redouble"], "ze big big dog sees a hat in this house today"),
            (&["bare"], "big dog sees hat in house today"),
            (
                &["sizes", "redouble"],
                "the tiro tiro dog sees a hat in this house today",
            ),
        ];
        for (rules, expected) in cases {
            assert_eq!(
                applied(Kind::Dialect, "the big dog sees a hat in this house today", rules),
                expected,
                "{rules:?}"
            );
        }
    }

    #[test]
    fn lists_follow_their_rules_alone_and_together() {
        let cases: [(&[&str], &str); 10] = [
            (&["plus", "some"], "some apples some milk some eggs plus some bread"),
            (&[], "apples milk eggs bread"),
            (&["fruit", "drinks"], "manzanas leche eggs bread"),
            (&["commas", "and"], "apples, milk, eggs, and bread"),
            (&["numbered", "backwards"], "1) bread 2) eggs 3) milk 4) apples"),
            (&["skip", "numbered"], "1) milk 2) eggs 3) bread"),
            (&["skip", "backwards"], "bread eggs milk"),
            (&["dashes"], "- apples - milk - eggs - bread"),
            (
                &["and", "numbered", "please"],
                "1) apples 2) milk 3) eggs and 4) bread please",
            ),
            (&["animals"], "apples milk eggs bread"),
        ];
        for (rules, expected) in cases {
            assert_eq!(
                applied(Kind::List, "apples milk eggs bread", rules),
                expected,
                "{rules:?}"
            );
        }
    }

    #[test]
    fn no_two_words_are_spelt_alike() {
        let mut all: Vec<&str> = Vec::new();
        for kind in [Kind::Dialect, Kind::List] {
            all.extend(
                kind.domains()
                    .iter()
                    .flat_map(|domain| domain.words)
                    .flat_map(|&(english, other)| [english, other]),
            );
        }
        all.extend(crate::words::NAMES);
        all.extend(crate::words::DETERMINERS);
        all.extend(crate::words::MARKS);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
