//! The words of both little worlds: a dialect's lexicons and the shopping lists' Spanish.
//!
//! Every word belongs to one domain. A domain's words and their translations are what its words rule knows.

/// What a word does in a sentence or list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Determiners, prepositions and everything no rule of a domain touches.
    Function,
    /// Nouns of the sentences.
    Noun,
    /// Adjectives of the sentences.
    Adjective,
    /// Verbs of the sentences.
    Verb,
    /// Adverbs of time, at the end of a sentence.
    Adverb,
    /// Entries of a list.
    Item,
}

/// A group of words with one translation each.
#[derive(Debug)]
pub struct Domain {
    /// The group's name, which is also its words rule's name.
    pub name: &'static str,
    /// What its words do.
    pub role: Role,
    /// English, and the word that the domain's rule puts in its place.
    pub words: &'static [(&'static str, &'static str)],
}

/// The sentences' domains; translations are invented words.
pub const SENTENCE_DOMAINS: [Domain; 10] = [
    Domain {
        name: "people",
        role: Role::Noun,
        words: &[
            ("man", "teka"),
            ("woman", "rebo"),
            ("boy", "dafi"),
            ("girl", "romes"),
            ("baker", "lodu"),
            ("farmer", "nodem"),
            ("king", "bedas"),
            ("queen", "kifun"),
            ("teacher", "keze"),
            ("doctor", "bavur"),
        ],
    },
    Domain {
        name: "sizes",
        role: Role::Adjective,
        words: &[
            ("big", "tiro"),
            ("small", "sipol"),
            ("tall", "tate"),
            ("tiny", "rolen"),
            ("long", "peme"),
            ("short", "zadis"),
            ("wide", "sonu"),
            ("thin", "tazel"),
        ],
    },
    Domain {
        name: "moods",
        role: Role::Adjective,
        words: &[
            ("happy", "piba"),
            ("sad", "dali"),
            ("mad", "sisa"),
            ("calm", "gepu"),
            ("proud", "fasu"),
            ("shy", "kemin"),
            ("brave", "geger"),
            ("tired", "pofa"),
        ],
    },
    Domain {
        name: "verbs",
        role: Role::Verb,
        words: &[
            ("sees", "begi"),
            ("likes", "zazis"),
            ("finds", "fabil"),
            ("holds", "limo"),
            ("wants", "dune"),
            ("sells", "budu"),
            ("hides", "lafin"),
            ("brings", "bage"),
            ("cleans", "mudu"),
            ("loses", "vina"),
        ],
    },
    Domain {
        name: "animals",
        role: Role::Noun,
        words: &[
            ("dog", "fumus"),
            ("cat", "bodu"),
            ("horse", "leves"),
            ("bird", "meran"),
            ("fish", "tiba"),
            ("cow", "pekas"),
            ("sheep", "lufal"),
            ("mouse", "gomu"),
            ("bear", "kuri"),
            ("fox", "vasor"),
        ],
    },
    Domain {
        name: "colours",
        role: Role::Adjective,
        words: &[
            ("red", "nenes"),
            ("blue", "sufu"),
            ("green", "disa"),
            ("yellow", "logu"),
            ("black", "kose"),
            ("white", "feka"),
            ("brown", "delis"),
            ("grey", "dekis"),
            ("pink", "dobul"),
        ],
    },
    Domain {
        name: "foods",
        role: Role::Noun,
        words: &[
            ("soup", "muta"),
            ("pizza", "fipu"),
            ("salad", "fonu"),
            ("steak", "feger"),
            ("sausage", "nona"),
            ("pancake", "zisur"),
            ("sandwich", "temi"),
            ("cookie", "guko"),
            ("pudding", "dipe"),
        ],
    },
    Domain {
        name: "tools",
        role: Role::Noun,
        words: &[
            ("hammer", "furi"),
            ("knife", "falor"),
            ("rope", "pafu"),
            ("lamp", "padi"),
            ("ladder", "ravo"),
            ("spoon", "sono"),
            ("broom", "beze"),
            ("bucket", "dotu"),
            ("saw", "sife"),
        ],
    },
    Domain {
        name: "places",
        role: Role::Noun,
        words: &[
            ("house", "gadu"),
            ("garden", "romi"),
            ("forest", "pepa"),
            ("river", "paka"),
            ("market", "viki"),
            ("school", "masir"),
            ("tower", "fesa"),
            ("village", "mabu"),
            ("kitchen", "mupol"),
        ],
    },
    Domain {
        name: "times",
        role: Role::Adverb,
        words: &[
            ("today", "tukir"),
            ("tonight", "fusa"),
            ("tomorrow", "zifes"),
            ("often", "babe"),
            ("never", "pumi"),
            ("always", "supen"),
            ("soon", "bapu"),
            ("again", "fegu"),
        ],
    },
];

/// The lists' domains; translations are Spanish.
pub const LIST_DOMAINS: [Domain; 5] = [
    Domain {
        name: "fruit",
        role: Role::Item,
        words: &[
            ("apples", "manzanas"),
            ("pears", "peras"),
            ("grapes", "uvas"),
            ("lemons", "limones"),
            ("plums", "ciruelas"),
            ("cherries", "cerezas"),
            ("oranges", "naranjas"),
            ("strawberries", "fresas"),
        ],
    },
    Domain {
        name: "drinks",
        role: Role::Item,
        words: &[
            ("milk", "leche"),
            ("water", "agua"),
            ("coffee", "café"),
            ("wine", "vino"),
            ("beer", "cerveza"),
            ("juice", "zumo"),
            ("tea", "té"),
            ("cider", "sidra"),
        ],
    },
    Domain {
        name: "bakery",
        role: Role::Item,
        words: &[
            ("bread", "pan"),
            ("cake", "tarta"),
            ("rolls", "bollos"),
            ("biscuits", "galletas"),
            ("toast", "tostadas"),
            ("flour", "harina"),
            ("muffins", "magdalenas"),
            ("waffles", "gofres"),
        ],
    },
    Domain {
        name: "greens",
        role: Role::Item,
        words: &[
            ("carrots", "zanahorias"),
            ("onions", "cebollas"),
            ("beans", "frijoles"),
            ("peas", "guisantes"),
            ("potatoes", "patatas"),
            ("tomatoes", "tomates"),
            ("leeks", "puerros"),
            ("lettuce", "lechuga"),
        ],
    },
    Domain {
        name: "pantry",
        role: Role::Item,
        words: &[
            ("eggs", "huevos"),
            ("cheese", "queso"),
            ("butter", "mantequilla"),
            ("rice", "arroz"),
            ("honey", "miel"),
            ("sugar", "azúcar"),
            ("salt", "sal"),
            ("oil", "aceite"),
        ],
    },
];

/// Words of the sentences that no domain holds.
pub const DETERMINERS: [&str; 4] = ["the", "a", "this", "every"];

/// The marks that rules add.
pub const MARKS: [&str; 10] = ["in", "lo", "na", "ze", "ka", "oyo", "!", ",", "-", "and"];

/// Numbers of list items.
pub const NUMBERS: [&str; 6] = ["1)", "2)", "3)", "4)", "5)", "6)"];

/// Names of dialects and styles. Modules are trained on the first half; targets use the second.
pub const NAMES: [&str; 60] = [
    "lefivas", "zogader", "pikitan", "nalito", "vibabas", "minuka", "sozabo", "kavura", "bitanon", "tasara", "gogilun",
    "tagiro", "nabode", "rurepu", "rugegis", "runinos", "ralezi", "furutur", "kepavun", "ganopin", "mekikel", "sagego",
    "sifosu", "davene", "tubotil", "mubules", "leteman", "petolos", "daronen", "tebeten", "galebor", "todokun",
    "lodono", "deruzu", "lapaga", "palezor", "fikosu", "didesu", "gazomo", "pogedu", "mosuzu", "tubunes", "darifer",
    "fadeko", "rifove", "bedulo", "lalizo", "vatofa", "vopegi", "soreter", "sitizun", "zugona", "basoru", "pematu",
    "resuna", "dutavu", "vemofis", "vizire", "lizegis", "nelogu",
];

/// How many of [`NAMES`] belong to the modules' training.
pub const MODULE_NAMES: usize = 30;
