//! The layouts that the kernels read, made on the host.

use half::f16;

use crate::options::WeightStorage;
use crate::tensor::Format;

/// Matrices below this stay f32 whatever the storage: there is nothing to gain.
const SMALL: usize = 1 << 12;

/// Columns of a quantised block.
const BLOCK: usize = 32;

/// How to hold a matrix of these values.
pub(crate) fn format(data: &[f32], columns: usize, storage: WeightStorage) -> Format {
    if data.len() < SMALL {
        return Format::F32;
    }
    let blocks = columns.is_multiple_of(BLOCK);
    let fits_f16 = || data.iter().all(|&value| f16::from_f32(value).is_finite());
    match storage {
        WeightStorage::F32 => Format::F32,
        WeightStorage::Lossless if data.iter().all(|&value| f16::from_f32(value).to_f32() == value) => Format::F16,
        WeightStorage::Lossless => Format::F32,
        // Factors are f16 and at most a 127th of a value, so what fits f16 fits here.
        WeightStorage::Q8 if blocks && fits_f16() => Format::Q8,
        WeightStorage::Q4 if blocks && fits_f16() => Format::Q4,
        _ if fits_f16() => Format::F16,
        _ => Format::F32,
    }
}

/// A row-major `[rows, columns]` matrix as panels: group `k4 * padded_rows + n` holds columns `4 k4 .. 4 k4 + 4` of row
/// `n` (for the quantised formats see `shaders/include/weight_q8.wgsl` and `weight_q4.wgsl`). Columns past the last and
/// rows from `rows` to `padded_rows` are zero.
pub(crate) fn panels(data: &[f32], columns: usize, padded_rows: usize, format: Format) -> Vec<u32> {
    let words_each = match format {
        Format::F32 => 4,
        Format::F16 => 2,
        Format::Q8 | Format::Q4 => return blocks(data, columns, padded_rows, format),
    };
    let groups = columns.div_ceil(4) * padded_rows;
    let mut words = vec![0u32; groups * words_each];
    for (n, row) in data.chunks_exact(columns.max(1)).enumerate() {
        for (k4, values) in row.chunks(4).enumerate() {
            let group = &mut words[(k4 * padded_rows + n) * words_each..][..words_each];
            for (k, &value) in values.iter().enumerate() {
                if format == Format::F32 {
                    group[k] = value.to_bits();
                } else {
                    // The low half first: unpack2x16float's order.
                    group[k / 2] |= u32::from(f16::from_f32(value).to_bits()) << (16 * (k % 2));
                }
            }
        }
    }
    words
}

fn blocks(data: &[f32], columns: usize, rows: usize, format: Format) -> Vec<u32> {
    let columns_a_word = if format == Format::Q8 { 4 } else { 8 };
    let factors = columns / columns_a_word * rows;
    let halves = columns / BLOCK * rows;
    let mut words = vec![0u32; factors + halves.div_ceil(2)];
    for (n, row) in data.chunks_exact(columns.max(1)).enumerate() {
        for (block, values) in row.chunks_exact(BLOCK).enumerate() {
            let (factor, integers) = if format == Format::Q8 {
                quantise_q8(values)
            } else {
                quantise_q4(values)
            };
            let half = block * rows + n;
            words[factors + half / 2] |= u32::from(factor.to_bits()) << (16 * (half % 2));
            let width = 32 / columns_a_word;
            for (k, integer) in integers.into_iter().enumerate() {
                let word = (block * BLOCK + k) / columns_a_word * rows + n;
                words[word] |= u32::from(integer) << (width * (k % columns_a_word));
            }
        }
    }
    words
}

/// A block as llama.cpp's q8_0: `factor * integer`, the integers in two's complement.
fn quantise_q8(values: &[f32]) -> (f16, Vec<u8>) {
    let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
    let factor = largest / 127.0;
    let inverse = if factor > 0.0 { 1.0 / factor } else { 0.0 };
    let integers = values
        .iter()
        .map(|value| (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8);
    (f16::from_f32(factor), integers.collect())
}

/// A block as llama.cpp's q4_0: `factor * (integer - 8)`. The value largest in size becomes -8 times the factor.
fn quantise_q4(values: &[f32]) -> (f16, Vec<u8>) {
    let largest = values.iter().fold(
        0f32,
        |max: f32, &value| if value.abs() > max.abs() { value } else { max },
    );
    let factor = largest / -8.0;
    let inverse = if factor != 0.0 { 1.0 / factor } else { 0.0 };
    let integers = values
        .iter()
        .map(|value| (value * inverse + 8.5).clamp(0.0, 15.0) as u8);
    (f16::from_f32(factor), integers.collect())
}

/// A module's `B` (`[d_out, rank]`) as rows over `d_out`, `[padded_rank, d_out rounded up to 4]`, appended to `out`.
/// Padding is zero.
pub(crate) fn push_rank_rows(out: &mut Vec<u32>, b: &[f32], rank: usize, padded_rank: usize, d_out: usize) {
    let width = d_out.next_multiple_of(4);
    let start = out.len();
    out.resize(start + padded_rank * width, 0);
    for (o, row) in b.chunks_exact(rank.max(1)).enumerate() {
        for (r, value) in row.iter().enumerate() {
            out[start + r * width + o] = value.to_bits();
        }
    }
}

/// The bits of f32 values.
pub(crate) fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_place_every_value_and_pad_with_zeros() {
        let (rows, columns, padded) = (3, 5, 4);
        let data: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 1.0).collect();
        let words = panels(&data, columns, padded, Format::F32);
        assert_eq!(words.len(), 2 * padded * 4);
        let at = |n: usize, k: usize| f32::from_bits(words[(k / 4 * padded + n) * 4 + k % 4]);
        for n in 0..padded {
            for k in 0..8 {
                let expected = if n < rows && k < columns {
                    data[n * columns + k]
                } else {
                    0.0
                };
                assert_eq!(at(n, k), expected, "row {n}, column {k}");
            }
        }
        let halves = panels(&data, columns, padded, Format::F16);
        let at = |n: usize, k: usize| {
            let word = halves[(k / 4 * padded + n) * 2 + k % 4 / 2];
            f16::from_bits((word >> (16 * (k % 2))) as u16).to_f32()
        };
        assert_eq!(at(2, 4), 15.0);
        assert_eq!(at(1, 3), 9.0);
        assert_eq!(at(3, 0), 0.0);
    }

    #[test]
    fn narrow_formats_are_taken_where_they_were_asked_for_and_fit() {
        let exact = vec![0.5f32; SMALL];
        let mut inexact = exact.clone();
        inexact[7] = 0.1;
        let mut large = exact.clone();
        large[7] = 7e4;
        for (data, columns, storage, expected) in [
            (&exact, 64, WeightStorage::Lossless, Format::F16),
            (&inexact, 64, WeightStorage::Lossless, Format::F32),
            (&exact, 64, WeightStorage::F32, Format::F32),
            (&inexact, 64, WeightStorage::F16, Format::F16),
            (&large, 64, WeightStorage::F16, Format::F32),
            (&inexact, 64, WeightStorage::Q8, Format::Q8),
            (&inexact, 64, WeightStorage::Q4, Format::Q4),
            (&inexact, 16, WeightStorage::Q8, Format::F16),
            (&large, 64, WeightStorage::Q4, Format::F32),
        ] {
            assert_eq!(format(data, columns, storage), expected, "{storage:?}");
        }
        assert_eq!(format(&exact[1..], 1, WeightStorage::F16), Format::F32);
    }

    /// Quantising what was quantised changes nothing, so weights read from such a file are kept exactly.
    #[test]
    fn quantising_twice_is_quantising_once() {
        let values: Vec<f32> = (0..BLOCK).map(|i| ((i * 37 % 29) as f32 - 14.0) * 0.037).collect();
        let q8 = |values: &[f32]| -> Vec<f32> {
            let (factor, integers) = quantise_q8(values);
            integers
                .iter()
                .map(|&integer| f32::from(integer as i8) * factor.to_f32())
                .collect()
        };
        let q4 = |values: &[f32]| -> Vec<f32> {
            let (factor, integers) = quantise_q4(values);
            integers
                .iter()
                .map(|&integer| (f32::from(integer) - 8.0) * factor.to_f32())
                .collect()
        };
        let once = q8(&values);
        assert_eq!(q8(&once), once);
        // Half a step of 1/127, and the factor's own rounding of 2^-11.
        let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
        for (value, rounded) in values.iter().zip(&once) {
            assert!(
                (value - rounded).abs() <= largest * (0.5 / 127.0 + 1.0 / 2048.0),
                "{value} {rounded}"
            );
        }
        let once = q4(&values);
        assert_eq!(q4(&once), once);
        // A step of 1/8: half of it for most values, all of it at the end that has no integer 8.
        for (value, rounded) in values.iter().zip(&once) {
            assert!(
                (value - rounded).abs() <= largest * (1.0 / 8.0 + 1.0 / 2048.0),
                "{value} {rounded}"
            );
        }
        assert_eq!(q8(&[0.0; BLOCK]), [0.0; BLOCK]);
        assert_eq!(q4(&[0.0; BLOCK]), [0.0; BLOCK]);
    }
}
