//! Narrow forms of a matrix: f16, and the blocks of llama.cpp's q8_0 and q4_0, number for number and byte for byte.
//!
//! Both backends hold the base in these forms and widen them to f32 where they multiply, so the one choice of a form
//! ([`WeightStorage::format_of`]) and the one rounding ([`Narrow::quantise`]) stand here.

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use serde::{Deserialize, Serialize};

use crate::{WeightsError, shown};

/// Columns of a quantised block.
pub const BLOCK: usize = 32;

/// Values from which on a matrix is worth narrowing: below, it stays f32 whatever the storage.
pub(crate) const SMALL: usize = 1 << 10;

/// How the base's matrices are held on a device. Arithmetic is f32 in every case, and vectors and matrices of up to a
/// thousand values stay f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightStorage {
    /// As f32.
    F32,
    /// As f16 where every value of a matrix is exactly an f16 (a file of f16 weights), else as f32: half the memory
    /// for the same results.
    #[default]
    Lossless,
    /// As the nearest f16, unless a value of the matrix is outside f16's range.
    F16,
    /// In blocks of 32 columns, 8-bit integers and an f16 factor each: the numbers of llama.cpp's q8_0, a little over
    /// a quarter of f32. Matrices whose columns are no multiple of 32 as [`F16`](Self::F16).
    #[serde(rename = "q8_0")]
    Q8,
    /// In blocks of 32 columns, 4-bit integers and an f16 factor each: the numbers of llama.cpp's q4_0, a seventh of
    /// f32. Matrices whose columns are no multiple of 32 as [`F16`](Self::F16).
    #[serde(rename = "q4_0")]
    Q4,
}

impl std::str::FromStr for WeightStorage {
    type Err = WeightsError;

    fn from_str(text: &str) -> Result<Self, WeightsError> {
        let found = Self::ALL.into_iter().find(|storage| storage.name() == text);
        found.ok_or_else(|| WeightsError::Storage { found: shown(text) })
    }
}

impl WeightStorage {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F32, Self::Lossless, Self::F16, Self::Q8, Self::Q4];

    /// The name that programs use: `f32`, `lossless`, `f16`, `q8_0`, `q4_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Lossless => "lossless",
            Self::F16 => "f16",
            Self::Q8 => "q8_0",
            Self::Q4 => "q4_0",
        }
    }

    /// The narrow form for a row-major matrix of these values, or `None` where it stays f32.
    pub fn format_of(self, data: &[f32], columns: usize) -> Option<Format> {
        if data.len() < SMALL {
            return None;
        }
        let blocks = columns.is_multiple_of(BLOCK);
        let fits_f16 = || data.iter().all(|&value| fits_f16(value));
        match self {
            Self::F32 => None,
            Self::Lossless => {
                let exact = data.iter().all(|&value| f16::from_f32(value).to_f32() == value);
                exact.then_some(Format::F16)
            }
            // Factors are f16 and at most an eighth of a value, so what fits f16 fits here.
            Self::Q8 if blocks && fits_f16() => Some(Format::Q8_0),
            Self::Q4 if blocks && fits_f16() => Some(Format::Q4_0),
            Self::F16 | Self::Q8 | Self::Q4 => fits_f16().then_some(Format::F16),
        }
    }
}

/// A narrow form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE 754 binary16, the nearest.
    F16,
    /// Blocks of 32 columns: an f16 factor, then 32 signed bytes; a value is `factor * integer`.
    Q8_0,
    /// Blocks of 32 columns: an f16 factor, then 16 bytes, byte `j` with column `j` in its low nibble and column
    /// `j + 16` in its high one; a value is `factor * (nibble - 8)`.
    Q4_0,
}

impl Format {
    /// The name that GGUF files use in lower case: `f16`, `q8_0`, `q4_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The form of that name, if it is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F16, Self::Q8_0, Self::Q4_0]
            .into_iter()
            .find(|format| format.name() == name)
    }

    /// Columns that are stored together.
    pub fn block(self) -> usize {
        match self {
            Self::F16 => 1,
            Self::Q8_0 | Self::Q4_0 => BLOCK,
        }
    }

    /// Bytes of such a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::Q8_0 => 2 + BLOCK,
            Self::Q4_0 => 2 + BLOCK / 2,
        }
    }

    /// Bytes of one row.
    ///
    /// # Errors
    /// [`WeightsError::BlockColumns`] if the columns are not whole blocks.
    pub fn row_bytes(self, columns: usize) -> Result<usize, WeightsError> {
        if !columns.is_multiple_of(self.block()) {
            return Err(WeightsError::BlockColumns {
                format: self.name(),
                block: self.block(),
                found: columns,
            });
        }
        Ok(columns / self.block() * self.block_bytes())
    }

    /// Bytes of a matrix.
    ///
    /// # Errors
    /// [`WeightsError::BlockColumns`], or [`WeightsError::BlockSize`] if this machine cannot address so many.
    pub fn byte_size(self, rows: usize, columns: usize) -> Result<usize, WeightsError> {
        rows.checked_mul(self.row_bytes(columns)?)
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(WeightsError::BlockSize {
                format: self.name(),
                rows,
                columns,
            })
    }
}

/// A matrix in a narrow form, rows one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrow {
    format: Format,
    rows: usize,
    columns: usize,
    bytes: Vec<u8>,
}

impl Narrow {
    /// Rounds a row-major matrix as llama.cpp does.
    ///
    /// # Errors
    /// [`WeightsError::BlockColumns`], [`WeightsError::BlockLength`] if `data` is not `rows * columns` values, or
    /// [`WeightsError::BlockRange`] naming a value that f16 cannot hold (infinities and NaN included).
    pub fn quantise(format: Format, rows: usize, columns: usize, data: &[f32]) -> Result<Self, WeightsError> {
        let size = format.byte_size(rows, columns)?;
        check_length(format, rows.saturating_mul(columns), data.len(), "values")?;
        if let Some(index) = data.iter().position(|&value| !fits_f16(value)) {
            return Err(WeightsError::BlockRange {
                format: format.name(),
                index,
                value: data[index].to_string(),
            });
        }
        let mut bytes = Vec::with_capacity(size);
        // Blocks, or as many f16 as the processor's own conversion likes to have at a time.
        for values in data.chunks(BLOCK) {
            match format {
                Format::F16 => push_f16(&mut bytes, values),
                Format::Q8_0 => push_q8(&mut bytes, values),
                Format::Q4_0 => push_q4(&mut bytes, values),
            }
        }
        Ok(Self {
            format,
            rows,
            columns,
            bytes,
        })
    }

    /// A matrix from the bytes of its blocks.
    ///
    /// # Errors
    /// [`WeightsError::BlockColumns`], [`WeightsError::BlockLength`] if the bytes are not exactly the matrix's, or
    /// [`WeightsError::BlockFactor`] naming a block whose factor, or an f16 value, is not finite.
    pub fn from_bytes(format: Format, rows: usize, columns: usize, bytes: Vec<u8>) -> Result<Self, WeightsError> {
        check_length(format, format.byte_size(rows, columns)?, bytes.len(), "bytes")?;
        if let Some(index) = first_special(format, &bytes) {
            return Err(WeightsError::BlockFactor {
                format: format.name(),
                index,
            });
        }
        Ok(Self {
            format,
            rows,
            columns,
            bytes,
        })
    }

    /// The form.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The blocks, row after row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn row(&self, row: usize) -> &[u8] {
        let length = self.columns / self.format.block() * self.format.block_bytes();
        &self.bytes[row * length..(row + 1) * length]
    }

    /// The values of one row, into `out`.
    ///
    /// # Panics
    /// If there is no such row, or `out` has not one place for each column.
    pub fn widen_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.columns, "a row has as many values as columns");
        let bytes = self.row(row);
        match self.format {
            Format::F16 => {
                // By groups, which the processor's own conversion takes several at a time.
                let mut halves = [f16::ZERO; BLOCK];
                for (values, bytes) in out.chunks_mut(BLOCK).zip(bytes.chunks(2 * BLOCK)) {
                    for (half, bytes) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
                        *half = f16::from_le_bytes([bytes[0], bytes[1]]);
                    }
                    halves[..values.len()].convert_to_f32_slice(values);
                }
            }
            Format::Q8_0 => {
                for (values, bytes) in out.chunks_exact_mut(BLOCK).zip(bytes.chunks_exact(2 + BLOCK)) {
                    let factor = factor(bytes);
                    for (value, &byte) in values.iter_mut().zip(&bytes[2..]) {
                        *value = f32::from(byte as i8) * factor;
                    }
                }
            }
            Format::Q4_0 => {
                for (values, bytes) in out.chunks_exact_mut(BLOCK).zip(bytes.chunks_exact(2 + BLOCK / 2)) {
                    let factor = factor(bytes);
                    let (low, high) = values.split_at_mut(BLOCK / 2);
                    for ((low, high), &byte) in low.iter_mut().zip(high).zip(&bytes[2..]) {
                        *low = (f32::from(byte & 15) - 8.0) * factor;
                        *high = (f32::from(byte >> 4) - 8.0) * factor;
                    }
                }
            }
        }
    }

    /// All values, row-major.
    pub fn widen(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        for (row, out) in values.chunks_exact_mut(self.columns.max(1)).enumerate() {
            self.widen_row(row, out);
        }
        values
    }
}

/// The f16 at the start of a block.
fn factor(block: &[u8]) -> f32 {
    f16::from_le_bytes([block[0], block[1]]).to_f32()
}

/// The first block whose factor, or the first f16 that, is an infinity or NaN. By the bits: widening every f16 to ask
/// would take longer than reading it.
fn first_special(format: Format, bytes: &[u8]) -> Option<usize> {
    const PIECE: usize = 4096;
    let special = |block: &[u8]| block[1] & 0x7c == 0x7c;
    let Format::F16 = format else {
        return bytes.chunks_exact(format.block_bytes()).position(special);
    };
    /// Not inlined: an engine that compiles a function better meanwhile uses it from the next call on.
    #[inline(never)]
    fn all_finite(piece: &[[u8; 2]]) -> bool {
        // One more than the largest exponent is the sign's bit. Without branches this becomes vectors.
        let carried = |carried, half: &[u8; 2]| carried | ((u16::from_le_bytes(*half) & 0x7c00) + 0x0400);
        piece.iter().fold(0, carried) >> 15 == 0
    }
    let (halves, _) = bytes.as_chunks();
    let at = halves.chunks(PIECE).position(|piece| !all_finite(piece))? * PIECE;
    let of_piece = halves[at..].iter().position(|half| special(half))?;
    Some(at + of_piece)
}

fn check_length(format: Format, expected: usize, found: usize, unit: &'static str) -> Result<(), WeightsError> {
    if expected == found {
        return Ok(());
    }
    Err(WeightsError::BlockLength {
        format: format.name(),
        unit,
        expected,
        found,
    })
}

/// Whether the nearest f16 is finite: halfway past the largest, 65504, values round to infinity. NaN does not fit.
fn fits_f16(value: f32) -> bool {
    value.abs() < 65520.0
}

/// Up to a block of f16.
fn push_f16(bytes: &mut Vec<u8>, values: &[f32]) {
    let mut halves = [f16::ZERO; BLOCK];
    let halves = &mut halves[..values.len()];
    halves.convert_from_f32_slice(values);
    bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
}

/// A block of llama.cpp's q8_0: the factor is a 127th of the value largest in size.
fn push_q8(bytes: &mut Vec<u8>, values: &[f32]) {
    let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
    let factor = largest / 127.0;
    let inverse = if factor > 0.0 { 1.0 / factor } else { 0.0 };
    bytes.extend(f16::from_f32(factor).to_le_bytes());
    // The cast saturates where a subnormal factor's inverse is infinite.
    bytes.extend(
        values
            .iter()
            .map(|value| (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8),
    );
}

/// A block of llama.cpp's q4_0: the value largest in size becomes -8 times the factor.
fn push_q4(bytes: &mut Vec<u8>, values: &[f32]) {
    let largest = values.iter().fold(
        0f32,
        |max: f32, &value| if value.abs() > max.abs() { value } else { max },
    );
    let factor = largest / -8.0;
    let inverse = if factor != 0.0 { 1.0 / factor } else { 0.0 };
    bytes.extend(f16::from_f32(factor).to_le_bytes());
    let nibble = |value: f32| (value * inverse + 8.5).clamp(0.0, 15.0) as u8;
    let (low, high) = values.split_at(BLOCK / 2);
    bytes.extend(
        low.iter()
            .zip(high)
            .map(|(&low, &high)| nibble(low) | nibble(high) << 4),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(format: Format, values: &[f32]) -> Narrow {
        Narrow::quantise(format, 1, values.len(), values).unwrap()
    }

    /// By hand: the factor of a block whose largest value is 12.7 is 0.1 in f16 (0x2e66), and -8 is f16 0xc800.
    #[test]
    fn blocks_are_llama_cpps_bytes() {
        let mut values = [0f32; BLOCK];
        (values[0], values[1], values[16], values[31]) = (12.7, -12.7, 1.0, -0.04);
        let q8 = one(Format::Q8_0, &values);
        assert_eq!(q8.bytes()[..4], [0x66, 0x2e, 127, 129]);
        assert_eq!((q8.bytes()[2 + 16], q8.bytes()[2 + 31]), (10, 0));

        (values[0], values[1], values[16], values[31]) = (64.0, -56.0, 8.0, 3.0);
        let q4 = one(Format::Q4_0, &values);
        // 64 is -8 times the factor -8, so nibble 0; -56 is 7 times, nibble 15; 8 is -1, nibble 7; 3 rounds to 0.
        assert_eq!(q4.bytes()[..2], [0x00, 0xc8]);
        assert_eq!((q4.bytes()[2], q4.bytes()[3], q4.bytes()[17]), (0x70, 0x8f, 0x88));
        assert_eq!(q4.widen()[..2], [64.0, -56.0]);
        assert_eq!((q4.widen()[16], q4.widen()[31]), (8.0, 0.0));

        assert_eq!(one(Format::F16, &[0.1]).bytes(), [0x66, 0x2e]);
    }

    /// Rounding stays within half a step (q4_0: a step at the end that has no integer 8) and the factor's own 2^-11;
    /// quantising again changes nothing, so weights read from such a file are kept exactly.
    #[test]
    fn rounding_is_bounded_and_settles() {
        let values: Vec<f32> = (0..3 * BLOCK).map(|i| ((i * 37 % 89) as f32 - 44.0) * 0.037).collect();
        for (format, step) in [
            (Format::F16, 1.0 / 2048.0),
            (Format::Q8_0, 0.5 / 127.0),
            (Format::Q4_0, 1.0 / 8.0),
        ] {
            let once = one(format, &values);
            let widened = once.widen();
            for (own, rounded) in values.chunks(BLOCK).zip(widened.chunks(BLOCK)) {
                let largest = own.iter().fold(0f32, |max, value| max.max(value.abs()));
                for (value, rounded) in own.iter().zip(rounded) {
                    let bound = largest * (step + 1.0 / 2048.0);
                    assert!((value - rounded).abs() <= bound, "{format:?}: {value} {rounded}");
                }
            }
            assert_eq!(one(format, &widened).widen(), widened, "{format:?}");
            let zeros = [0.0; BLOCK];
            assert_eq!(one(format, &zeros).widen(), zeros, "{format:?}");
        }
    }

    #[test]
    fn what_fits_f16_is_what_rounds_to_a_finite_one() {
        let edge = 65520f32;
        for value in [
            0.0,
            1e-30,
            65504.0,
            edge.next_down(),
            edge,
            edge.next_up(),
            1e38,
            f32::INFINITY,
            f32::NAN,
        ] {
            for value in [value, -value] {
                assert_eq!(fits_f16(value), f16::from_f32(value).is_finite(), "{value}");
            }
        }
    }

    #[test]
    fn values_at_the_ends_of_f16_stay_finite() {
        for format in [Format::F16, Format::Q8_0, Format::Q4_0] {
            for size in [65504.0, 1e-7, 1e-40, f32::MIN_POSITIVE] {
                let values: Vec<f32> = (0..BLOCK).map(|i| if i % 3 == 0 { -size } else { size }).collect();
                let widened = one(format, &values).widen();
                assert!(
                    widened.iter().all(|value| value.is_finite() && value.abs() <= 66_000.0),
                    "{format:?} {size}"
                );
            }
        }
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(Format::Q8_0.byte_size(3, 64).unwrap(), 3 * 2 * 34);
        assert_eq!(Format::Q4_0.byte_size(3, 64).unwrap(), 3 * 2 * 18);
        assert_eq!(Format::F16.byte_size(3, 5).unwrap(), 30);
        let code = |result: Result<Narrow, WeightsError>| result.unwrap_err().code();
        let f16_bytes = |rows, bytes| Narrow::from_bytes(Format::F16, rows, 5, bytes);
        assert_eq!(
            code(Narrow::quantise(Format::Q8_0, 1, 33, &[0.0; 33])),
            "weights-block-columns"
        );
        assert_eq!(
            code(Narrow::quantise(Format::F16, 2, 5, &[0.0; 9])),
            "weights-block-length"
        );
        assert_eq!(code(f16_bytes(2, vec![0; 19])), "weights-block-length");
        assert_eq!(code(f16_bytes(usize::MAX / 2, Vec::new())), "weights-block-size");
        for value in [7e4, f32::INFINITY, f32::NAN] {
            let mut values = [0.0; BLOCK];
            values[3] = value;
            let error = Narrow::quantise(Format::Q4_0, 1, BLOCK, &values).unwrap_err();
            assert_eq!(error.code(), "weights-block-range");
            assert!(error.to_string().contains("index 3"), "{error}");
        }
        let mut bytes = one(Format::Q4_0, &[1.0; 2 * BLOCK]).bytes().to_vec();
        bytes[18..20].copy_from_slice(&f16::INFINITY.to_le_bytes());
        let error = Narrow::from_bytes(Format::Q4_0, 1, 2 * BLOCK, bytes).unwrap_err();
        assert_eq!(error.code(), "weights-block-factor");
        assert!(error.to_string().contains("block 1"), "{error}");
    }

    #[test]
    fn bytes_make_the_same_matrix() {
        let values: Vec<f32> = (0..2 * BLOCK).map(|i| (i as f32 * 0.37).sin()).collect();
        for format in [Format::F16, Format::Q8_0, Format::Q4_0] {
            let narrow = Narrow::quantise(format, 2, BLOCK, &values).unwrap();
            let again = Narrow::from_bytes(format, 2, BLOCK, narrow.bytes().to_vec()).unwrap();
            assert_eq!(narrow, again);
            let mut row = [0.0; BLOCK];
            again.widen_row(1, &mut row);
            assert_eq!(row[..], narrow.widen()[BLOCK..]);
        }
    }

    #[test]
    fn narrow_forms_are_taken_where_they_were_asked_for_and_fit() {
        let exact = vec![0.5f32; SMALL];
        let mut inexact = exact.clone();
        inexact[7] = 0.1;
        let mut large = exact.clone();
        large[7] = 7e4;
        for (data, columns, storage, expected) in [
            (&exact, 64, WeightStorage::Lossless, Some(Format::F16)),
            (&inexact, 64, WeightStorage::Lossless, None),
            (&exact, 64, WeightStorage::F32, None),
            (&inexact, 64, WeightStorage::F16, Some(Format::F16)),
            (&large, 64, WeightStorage::F16, None),
            (&inexact, 64, WeightStorage::Q8, Some(Format::Q8_0)),
            (&inexact, 64, WeightStorage::Q4, Some(Format::Q4_0)),
            (&inexact, 16, WeightStorage::Q8, Some(Format::F16)),
            (&large, 64, WeightStorage::Q4, None),
        ] {
            assert_eq!(storage.format_of(data, columns), expected, "{storage:?}");
        }
        assert_eq!(WeightStorage::F16.format_of(&exact[1..], 1), None);
    }
}
