//! Numbers as the hexadecimal digits of their bits, for serde's `with`.
//!
//! A state that resumes bit-identically has to survive every format on its way: JSON has no infinities, JavaScript's
//! `JSON` drops the sign of zero and the low bits of a 64-bit integer, and some decimal parsers round. Sixteen
//! hexadecimal digits a number survive all of them. Not meant for people to read; results for people are plain numbers.

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Writes `value` as one string of hexadecimal digits; see [`Bits`].
///
/// # Errors
/// Those of the serializer only.
pub fn serialize<T: Bits, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = String::new();
    value.write(&mut text);
    serializer.serialize_str(&text)
}

/// Reads what [`serialize`] wrote.
///
/// # Errors
/// When the text is not whole groups of sixteen hexadecimal digits, or not as many as the type has.
pub fn deserialize<'de, T: Bits, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    T::read(&text)
        .ok_or_else(|| D::Error::custom("expected numbers as groups of 16 hexadecimal digits; the state is damaged"))
}

/// What can be written as hexadecimal digits of its bits, sixteen to a number, most significant first.
pub trait Bits: Sized {
    /// Appends the digits to `text`.
    fn write(&self, text: &mut String);
    /// Reads all of `text`; `None` if it is not what [`Bits::write`] makes.
    fn read(text: &str) -> Option<Self>;
}

impl Bits for u64 {
    fn write(&self, text: &mut String) {
        text.push_str(&format!("{self:016x}"));
    }

    fn read(text: &str) -> Option<Self> {
        // `from_str_radix` alone would accept a leading plus sign.
        if text.len() != 16 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        Self::from_str_radix(text, 16).ok()
    }
}

impl Bits for f64 {
    fn write(&self, text: &mut String) {
        self.to_bits().write(text);
    }

    fn read(text: &str) -> Option<Self> {
        u64::read(text).map(f64::from_bits)
    }
}

/// All numbers in one run of digits.
impl<T: Bits> Bits for Vec<T>
where
    T: Number,
{
    fn write(&self, text: &mut String) {
        text.reserve(16 * self.len());
        for number in self {
            number.write(text);
        }
    }

    fn read(text: &str) -> Option<Self> {
        text.as_bytes()
            .chunks(16)
            .map(|digits| T::read(std::str::from_utf8(digits).ok()?))
            .collect()
    }
}

/// No digits for `None`.
impl<T: Bits + Number> Bits for Option<T> {
    fn write(&self, text: &mut String) {
        if let Some(number) = self {
            number.write(text);
        }
    }

    fn read(text: &str) -> Option<Self> {
        if text.is_empty() {
            Some(None)
        } else {
            T::read(text).map(Some)
        }
    }
}

/// No digits for `None`, which therefore cannot be told from no numbers; nothing here saves an optional empty vector.
impl Bits for Option<Vec<f64>> {
    fn write(&self, text: &mut String) {
        if let Some(numbers) = self {
            numbers.write(text);
        }
    }

    fn read(text: &str) -> Option<Self> {
        if text.is_empty() {
            Some(None)
        } else {
            Vec::read(text).map(Some)
        }
    }
}

/// Two rows, or no digits for `None`.
impl Bits for Option<(Vec<f64>, Vec<f64>)> {
    fn write(&self, text: &mut String) {
        if let Some((first, second)) = self {
            first.write(text);
            text.push(' ');
            second.write(text);
        }
    }

    fn read(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(None);
        }
        let (first, second) = text.split_once(' ')?;
        Some(Some((Vec::read(first)?, Vec::read(second)?)))
    }
}

/// One run of digits.
impl<const N: usize> Bits for [u64; N] {
    fn write(&self, text: &mut String) {
        for number in self {
            number.write(text);
        }
    }

    fn read(text: &str) -> Option<Self> {
        Vec::<u64>::read(text)?.try_into().ok()
    }
}

/// Rows separated by one space. No row may be empty, because "no rows" is the empty text.
impl Bits for Vec<Vec<f64>> {
    fn write(&self, text: &mut String) {
        for (i, row) in self.iter().enumerate() {
            if i > 0 {
                text.push(' ');
            }
            row.write(text);
        }
    }

    fn read(text: &str) -> Option<Self> {
        if text.is_empty() {
            Some(Self::new())
        } else {
            text.split(' ').map(Vec::read).collect()
        }
    }
}

/// A single number, sixteen digits.
pub trait Number {}
impl Number for u64 {}
impl Number for f64 {}

#[cfg(test)]
mod tests {
    use super::Bits;

    fn round_trip<T: Bits>(value: &T) -> T {
        let mut text = String::new();
        value.write(&mut text);
        T::read(&text).expect("what was just written")
    }

    #[test]
    fn every_bit_survives() {
        for x in [
            0.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE / 3.0,
            0.1,
            -1e300,
        ] {
            assert_eq!(round_trip(&x).to_bits(), x.to_bits());
        }
        assert_eq!(round_trip(&u64::MAX), u64::MAX);
        assert_eq!(round_trip(&[1, u64::MAX, 0]), [1, u64::MAX, 0]);
        assert_eq!(round_trip(&Vec::<f64>::new()), Vec::<f64>::new());
        assert_eq!(
            round_trip(&vec![vec![1.5, -2.0], vec![0.25]]),
            vec![vec![1.5, -2.0], vec![0.25]]
        );
        assert_eq!(round_trip(&Vec::<Vec<f64>>::new()), Vec::<Vec<f64>>::new());
        assert_eq!(round_trip(&None::<f64>), None);
        assert_eq!(round_trip(&Some(2.5)), Some(2.5));
    }

    #[test]
    fn damaged_text_is_refused() {
        for text in [
            "",
            "0",
            "+00000000000000f",
            "00000000000000000",
            "g000000000000000",
            "000000000000000\u{e9}",
        ] {
            assert_eq!(f64::read(text), None, "{text:?}");
        }
        assert_eq!(Vec::<f64>::read("3ff00000000000003ff"), None);
        assert_eq!(
            Vec::<f64>::read("\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}"),
            None
        );
        assert_eq!(<[u64; 4]>::read("0000000000000001"), None);
        assert_eq!(Vec::<Vec<f64>>::read("3ff0000000000000 3ff"), None);
    }
}
