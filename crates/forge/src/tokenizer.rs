//! Writes the family's `tokenizer.json`: a unigram tokenizer with one piece for each word, in T5's pipeline.
//!
//! A trained unigram model would cut these few words into fragments, so the vocabulary is written by hand. There are no
//! letters: what the family does not know becomes `<unk>`, which the page can show while people type. (A word that begins
//! like a known one is unknown from there on: `zebra` is `ze` and something unknown.)

use std::collections::BTreeMap;

use lorahub_optim::Rng;
use serde_json::json;

use crate::data::for_base;
use crate::rewrite::Kind;
use crate::rules::REWRITES;
use crate::words::{DETERMINERS, MARKS, NAMES, NUMBERS};

/// Ids of the special tokens, as in T5.
pub const SPECIALS: [&str; 3] = ["<pad>", "</s>", "<unk>"];

/// Examples counted for the pieces' frequencies.
const SAMPLE: usize = 20_000;

/// All pieces, special tokens first. Words begin with a space sign; `,` and `!` also stand without one.
pub fn pieces() -> Vec<String> {
    let mut words: Vec<&str> = vec!["use", "say", "list", ":", "please"];
    words.extend(DETERMINERS);
    words.extend(MARKS);
    words.extend(NUMBERS);
    for kind in [Kind::Dialect, Kind::List] {
        for domain in kind.domains() {
            words.extend(domain.words.iter().flat_map(|&(english, other)| [english, other]));
        }
    }
    // Only known rules have a name that the base reads.
    words.extend(REWRITES.iter().filter(|rule| rule.known).map(|rule| rule.name));
    words.extend(NAMES);
    let mut pieces: Vec<String> = SPECIALS.iter().map(|&special| special.to_owned()).collect();
    pieces.extend(["▁", ",", "!", ":"].map(str::to_owned));
    for word in words {
        let piece = format!("▁{word}");
        if !pieces.contains(&piece) {
            pieces.push(piece);
        }
    }
    pieces
}

/// The bytes of `tokenizer.json`. Scores are log frequencies in examples drawn from `seed`.
pub fn tokenizer_json(seed: u64) -> Result<Vec<u8>, serde_json::Error> {
    let mut rng = Rng::new(seed);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..SAMPLE {
        let shot = for_base(&mut rng);
        for text in [&shot.input, &shot.output] {
            for word in text.replace([',', '!'], "").split(' ') {
                *counts.entry(format!("▁{word}")).or_default() += 1;
            }
        }
    }
    let pieces = pieces();
    let total: u64 = counts.values().sum::<u64>() + pieces.len() as u64;
    let vocab: Vec<(String, f64)> = pieces
        .into_iter()
        .enumerate()
        .map(|(id, piece)| {
            let count = counts.get(&piece).copied().unwrap_or(0) + 1;
            // Rounded, so that the file does not hang on the last bit of a logarithm.
            let score = ((count as f64 / total as f64).ln() * 1e4).round() / 1e4;
            (piece, if id < SPECIALS.len() { 0.0 } else { score })
        })
        .collect();
    let special = |(id, content): (usize, &str)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let specials: Vec<_> = SPECIALS.iter().copied().enumerate().map(special).collect();
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let single = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]);
    let pair = json!([
        {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
    ]);
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": specials,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFKC"},
            {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
        ]},
        "pre_tokenizer": metaspace,
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": false}
    });
    let mut bytes = serde_json::to_vec(&tokenizer)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorahub_t5::Tokenizer;

    #[test]
    fn every_example_comes_back_from_its_tokens_and_holds_nothing_unknown() {
        let tokenizer = Tokenizer::from_bytes(&tokenizer_json(0).unwrap(), 1).unwrap();
        let mut rng = Rng::new(3);
        for _ in 0..500 {
            let shot = for_base(&mut rng);
            for text in [&shot.input, &shot.output] {
                let ids = tokenizer.encode(text).unwrap();
                assert!(!ids.contains(&2), "{text}");
                assert_eq!(tokenizer.decode(&ids).unwrap(), *text);
            }
        }
    }

    #[test]
    fn what_it_does_not_know_is_marked() {
        let tokenizer = Tokenizer::from_bytes(&tokenizer_json(0).unwrap(), 1).unwrap();
        let text = "list in kavura : apples yoghurt Milk";
        let spans = tokenizer.unknown_spans(text).unwrap();
        assert_eq!(
            spans.iter().map(|span| text[span.clone()].trim()).collect::<Vec<_>>(),
            ["yoghurt"]
        );
    }
}
