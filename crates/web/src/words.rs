//! What a model's tokenizer can say to people: its words, and where a text leaves them.

use std::ops::Range;

/// Up to this many pieces a vocabulary can be one of whole words, to be listed; larger ones, as Flan-T5's, are made of
/// parts of words.
const MOST_WORDS: usize = 4096;

/// A space at the start of a piece, as SentencePiece writes it.
const SPACE: char = '\u{2581}';

/// Text units as JavaScript counts them, `[start, end)`.
pub(crate) type Span = [usize; 2];

/// The words of `tokenizer.json`, in its order, without markers such as `</s>`; empty for a vocabulary of parts.
pub(crate) fn words(tokenizer_json: &[u8]) -> Vec<String> {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(tokenizer_json) else {
        return Vec::new();
    };
    // A unigram vocabulary: [[piece, score], ...].
    let Some(pieces) = json["model"]["vocab"].as_array() else {
        return Vec::new();
    };
    // A letter that may follow any other is there to spell words with.
    let letter = |piece: &serde_json::Value| {
        let mut letters = piece[0].as_str().unwrap_or_default().chars();
        letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none()
    };
    if pieces.len() > MOST_WORDS || pieces.iter().any(letter) {
        return Vec::new();
    }
    let word = |piece: &serde_json::Value| {
        let word = piece[0].as_str()?.strip_prefix(SPACE)?;
        (!word.is_empty()).then(|| word.to_owned())
    };
    pieces.iter().filter_map(word).collect()
}

/// Where `text` leaves the vocabulary, in UTF-16 units: each word that holds one of the `unknown` byte ranges, or what
/// else is unknown without the white space at its ends. `unknown` is sorted and disjoint, at character boundaries.
pub(crate) fn unknown_words(text: &str, unknown: Vec<Range<usize>>) -> Vec<Span> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for span in unknown {
        let part = &text[span.clone()];
        let start = span.start + (part.len() - part.trim_start().len());
        let end = span.start + part.trim_end().len();
        if start >= end {
            continue;
        }
        // The tokenizer takes the longest piece it knows, so of `zebra` it may not know `bra` alone.
        let before = text[..start].trim_end_matches(char::is_alphabetic).len();
        let start = if text[start..].starts_with(char::is_alphabetic) {
            before
        } else {
            start
        };
        let after = text[end..].len() - text[end..].trim_start_matches(char::is_alphabetic).len();
        let end = if text[..end].ends_with(char::is_alphabetic) {
            end + after
        } else {
            end
        };
        match words.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ => words.push(start..end),
        }
    }
    to_utf16(text, words)
}

/// Byte ranges as UTF-16 units; they are sorted and disjoint, at character boundaries of `text`.
fn to_utf16(text: &str, spans: Vec<Range<usize>>) -> Vec<Span> {
    let (mut byte, mut unit) = (0, 0);
    let mut advance = |to: usize| {
        unit += text[byte..to].encode_utf16().count();
        byte = to;
        unit
    };
    spans
        .into_iter()
        .map(|span| [advance(span.start), advance(span.end)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{unknown_words, words};

    #[test]
    fn utf16_counts_pairs_twice_and_spaces_do_not_count() {
        // One letter of two bytes and one unit, one emoji of four bytes and two units.
        let text = "é😀 x ";
        assert_eq!(unknown_words(text, vec![0..2, 2..6, 6..9]), [[0, 3], [4, 5]]);
        assert!(unknown_words(text, std::iter::once(6..7).collect()).is_empty());
    }

    #[test]
    fn a_word_is_unknown_as_a_whole() {
        let text = "the zebra, ünder (x)";
        let at = |part: &str| text.find(part).expect("is in the text");
        let spans = vec![at("bra")..at("bra") + 3, at("ünd")..at("ünd") + 2, at("(")..at("(") + 1];
        let found: Vec<String> = unknown_words(text, spans)
            .into_iter()
            .map(|[start, end]| text.chars().skip(start).take(end - start).collect())
            .collect();
        assert_eq!(found, ["zebra", "ünder", "("]);
    }

    #[test]
    fn words_leave_out_markers_and_what_stands_without_a_space() {
        let json =
            r#"{"model": {"vocab": [["<pad>", 0], ["</s>", 0], ["▁", -2], ["▁cat", -3], [",", -9], ["▁a", -4]]}}"#;
        assert_eq!(words(json.as_bytes()), ["cat", "a"]);
        assert!(words(r#"{"model": {"vocab": [["▁cat", -3], ["s", -4]]}}"#.as_bytes()).is_empty());
        assert!(words(b"{").is_empty());
        assert!(words(br#"{"model": {"vocab": {"a": 1}}}"#).is_empty());
    }
}
