//! The table of the family's rules: which there are, which the base knows, and which have a module.

use crate::rewrite::{Effect, Kind};

/// A rule of the family.
#[derive(Debug)]
pub struct Rewrite {
    /// Its name: in instructions, and the module's.
    pub name: &'static str,
    /// Which kind of task it belongs to.
    pub kind: Kind,
    /// What it does.
    pub effect: Effect,
    /// Whether the base has learnt it by instruction; the others it has never seen.
    pub known: bool,
    /// Whether a module for it is in the family.
    pub shipped: bool,
    /// A title for people.
    pub title: &'static str,
    /// One sentence for people.
    pub description: &'static str,
}

const fn rule(
    name: &'static str,
    kind: Kind,
    effect: Effect,
    [known, shipped]: [bool; 2],
    title: &'static str,
    description: &'static str,
) -> Rewrite {
    Rewrite {
        name,
        kind,
        effect,
        known,
        shipped,
        title,
        description,
    }
}

const KNOWN: [bool; 2] = [true, false];
const KNOWN_MODULE: [bool; 2] = [true, true];
const NEW_MODULE: [bool; 2] = [false, true];

use Effect as E;
use Kind::{Dialect as D, List as L};

/// All rules, modules in the family's order.
#[rustfmt::skip]
pub const REWRITES: [Rewrite; 35] = [
    rule("animals", D, E::Words("animals"), NEW_MODULE, "Animal words", "Ten animals have names of their own: dog is fumus."),
    rule("colours", D, E::Words("colours"), NEW_MODULE, "Colour words", "Nine colours have names of their own: red is nenes."),
    rule("foods", D, E::Words("foods"), NEW_MODULE, "Food words", "Nine dishes have names of their own: soup is muta."),
    rule("tools", D, E::Words("tools"), NEW_MODULE, "Tool words", "Nine tools have names of their own: hammer is furi."),
    rule("places", D, E::Words("places"), NEW_MODULE, "Place words", "Nine places have names of their own: house is gadu."),
    rule("times", D, E::Words("times"), NEW_MODULE, "Time words", "Eight words of time have names of their own: today is tukir."),
    rule("verbs", D, E::Words("verbs"), KNOWN_MODULE, "Verbs", "Ten verbs have words of their own: sees is begi."),
    rule("reverse", D, E::Reverse, KNOWN_MODULE, "Reversed", "The sentence is said from its end to its beginning."),
    rule("question", D, E::Question, KNOWN_MODULE, "Question", "The sentence ends with ka."),
    rule("nounmark", D, E::NounMark, KNOWN_MODULE, "Marked nouns", "Every noun is followed by lo."),
    rule("exclaim", D, E::Exclaim, NEW_MODULE, "Exclamation", "The sentence ends with an exclamation mark."),
    rule("verbmark", D, E::VerbMark, NEW_MODULE, "Marked verb", "The verb is followed by na."),
    rule("theze", D, E::TheZe, NEW_MODULE, "Ze for the", "The is said ze."),
    rule("redouble", D, E::Redouble, NEW_MODULE, "Double adjectives", "Every adjective is said twice."),
    rule("fruit", L, E::Words("fruit"), NEW_MODULE, "Fruit in Spanish", "Eight fruits are written in Spanish: apples is manzanas."),
    rule("drinks", L, E::Words("drinks"), NEW_MODULE, "Drinks in Spanish", "Eight drinks are written in Spanish: milk is leche."),
    rule("bakery", L, E::Words("bakery"), NEW_MODULE, "Bakery in Spanish", "Eight baker's goods are written in Spanish: bread is pan."),
    rule("greens", L, E::Words("greens"), KNOWN_MODULE, "Vegetables in Spanish", "Eight vegetables are written in Spanish: onions is cebollas."),
    rule("commas", L, E::Commas, KNOWN_MODULE, "Commas", "Items are separated by commas."),
    rule("numbered", L, E::Numbered, KNOWN_MODULE, "Numbered", "Items are numbered: 1) 2) 3)."),
    rule("backwards", L, E::Backwards, KNOWN_MODULE, "Backwards", "The list is written from its end to its beginning."),
    rule("and", L, E::And, NEW_MODULE, "And", "The word and comes before the last item."),
    rule("dashes", L, E::Dashes, NEW_MODULE, "Dashes", "Every item begins with a dash."),
    rule("skip", L, E::DropFirst, NEW_MODULE, "Without the first", "The first item is left out."),
    rule("people", D, E::Words("people"), KNOWN, "People", "Ten people have names of their own."),
    rule("sizes", D, E::Words("sizes"), KNOWN, "Sizes", "Eight sizes have names of their own."),
    rule("moods", D, E::Words("moods"), KNOWN, "Moods", "Eight moods have names of their own."),
    rule("polite", D, E::Polite, KNOWN, "Polite", "The sentence ends with oyo."),
    rule("bare", D, E::DropDeterminers, KNOWN, "Bare", "Determiners are left out."),
    rule("verbfinal", D, E::VerbFinal, KNOWN, "Verb last", "The verb comes last."),
    rule("pantry", L, E::Words("pantry"), KNOWN, "Pantry in Spanish", "Eight basics are written in Spanish."),
    rule("cut", L, E::DropLast, KNOWN, "Without the last", "The last item is left out."),
    rule("some", L, E::Some, KNOWN, "Some", "Every item begins with some."),
    rule("plus", L, E::Plus, KNOWN, "Plus", "The word plus comes before the last item."),
    rule("please", L, E::Please, KNOWN, "Please", "The list ends with please."),
];

/// The rules with a module, in the family's order.
pub fn shipped() -> impl Iterator<Item = &'static Rewrite> {
    REWRITES.iter().filter(|rule| rule.shipped)
}

/// The rule of this name.
pub fn by_name(name: &str) -> Option<&'static Rewrite> {
    REWRITES.iter().find(|rule| rule.name == name)
}
