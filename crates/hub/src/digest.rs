//! SHA-256, as a value and while bytes come in, and what git calls a content.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A SHA-256: 64 lower-case hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Reads 64 lower-case hexadecimal digits; `None` if `text` is anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        bytes_of(text).map(Self)
    }

    /// A hash that something else has computed.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Twice as many lower-case hexadecimal digits as bytes.
fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; N];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// What git calls a content: the SHA-1 of its size and its bytes. Hubs tell it of small files, whose SHA-256 they do not
/// know. It finds damage; SHA-1 no longer proves that nobody made another content of that name on purpose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GitBlob([u8; 20]);

impl GitBlob {
    /// Reads 40 lower-case hexadecimal digits; `None` if `text` is anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        bytes_of(text).map(Self)
    }
}

impl fmt::Display for GitBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GitBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A [`GitBlob`] in the making.
pub(crate) struct BlobHasher(sha1::Sha1);

impl BlobHasher {
    /// Of a content with this many bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self(sha1::Sha1::new_with_prefix(format!("blob {size}\0")))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> GitBlob {
        GitBlob(self.0.finalize().into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text)
            .ok_or_else(|| serde::de::Error::custom("a SHA-256 is not 64 lower-case hexadecimal digits"))
    }
}

/// A hash in the making.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes taken in.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = Sha256::of(b"abc");
        assert_eq!(hash.to_string(), text);
        assert_eq!(Sha256::from_hex(text), Some(hash));
        assert_eq!(serde_json::to_string(&hash).expect("text"), format!("\"{text}\""));
        assert_eq!(
            serde_json::from_str::<Sha256>(&format!("\"{text}\"")).expect("a hash"),
            hash
        );
        let wrong = [
            &text[1..],
            &text.to_uppercase(),
            &format!("{text}0"),
            "",
            &text.replace('b', "g"),
        ];
        assert!(wrong.iter().all(|text| Sha256::from_hex(text).is_none()));
        let mut hasher = Hasher::default();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), hash);
        // As `printf abc | git hash-object --stdin` says.
        let mut hasher = BlobHasher::new(3);
        hasher.update(b"a");
        hasher.update(b"bc");
        let name = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f";
        assert_eq!(hasher.finish().to_string(), name);
        assert_eq!(
            GitBlob::from_hex(name).map(|blob| blob.to_string()),
            Some(name.to_owned())
        );
        assert!(GitBlob::from_hex(text).is_none());
    }
}
