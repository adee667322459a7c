//! Text to token ids and back, by `tokenizer.json`.

use std::ops::Range;

use crate::T5Error;

/// Longest input or target of a shot, in tokens; the reference truncates there, keeping `</s>` last.
pub const MAX_TOKENS: usize = 2048;

/// A T5 tokenizer: SentencePiece unigram, `</s>` appended.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    eos: u32,
    unknown: Option<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`; `eos` is the model's `</s>`, which every encoding must end with.
    ///
    /// # Errors
    /// [`T5Error::Tokenizer`] if the file is malformed, or if its template does not append `eos`.
    pub fn from_bytes(bytes: &[u8], eos: u32) -> Result<Self, T5Error> {
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| T5Error::Tokenizer(error.to_string()))?;
        // A file saved from a training script may carry padding or truncation settings; here the caller decides.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| T5Error::Tokenizer(error.to_string()))?;
        let unknown = inner.token_to_id("<unk>");
        let tokenizer = Self { inner, eos, unknown };
        if tokenizer.encode("")?.last() != Some(&eos) {
            return Err(T5Error::Tokenizer(format!(
                "an encoding does not end with the model's </s> (id {eos})"
            )));
        }
        Ok(tokenizer)
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Token ids of `text`, `</s>` last.
    ///
    /// # Errors
    /// [`T5Error::Tokenizer`] if the pipeline of the file cannot handle the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, T5Error> {
        let encoding = self
            .inner
            .encode(text, true)
            .map_err(|error| T5Error::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Like [`encode`](Self::encode), cut to [`MAX_TOKENS`] with `</s>` last as the reference does; says whether it cut.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_truncated(&self, text: &str) -> Result<(Vec<u32>, bool), T5Error> {
        let mut ids = self.encode(text)?;
        let cut = ids.len() > MAX_TOKENS;
        if cut {
            ids.truncate(MAX_TOKENS - 1);
            ids.push(self.eos);
        }
        Ok((ids, cut))
    }

    /// The text of these ids, special tokens left out.
    ///
    /// # Errors
    /// [`T5Error::Tokenizer`] if the decoder of the file fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, T5Error> {
        self.inner
            .decode(ids, true)
            .map_err(|error| T5Error::Tokenizer(error.to_string()))
    }

    /// The parts of `text` that the model does not know (`<unk>`), as byte ranges in order.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn unknown_spans(&self, text: &str) -> Result<Vec<Range<usize>>, T5Error> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|error| T5Error::Tokenizer(error.to_string()))?;
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            if Some(id) != self.unknown || start >= end || !text.is_char_boundary(start) || !text.is_char_boundary(end)
            {
                continue;
            }
            match spans.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ => spans.push(start..end),
            }
        }
        Ok(spans)
    }
}
