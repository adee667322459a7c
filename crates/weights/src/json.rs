//! Reading JSON that anyone may have written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// A JSON object with its keys in order and repeats kept, which maps would drop without a word.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for PairsVisitor<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs<T>, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor(std::marker::PhantomData))
    }
}

/// The JSON reader's message, which may quote the file: escaped, and cut to a length fit for a sentence.
pub fn shown_reason(error: &serde_json::Error) -> String {
    const LIMIT: usize = 200;
    let message = error.to_string();
    let mut reason = String::new();
    for c in message.chars() {
        if reason.len() > LIMIT {
            return reason + "...";
        }
        match c {
            ' '..='~' => reason.push(c),
            _ => reason.extend(c.escape_default()),
        }
    }
    reason
}
