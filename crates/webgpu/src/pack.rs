//! The layouts that the kernels read, made on the host. How values become narrow is `weights::quant`'s.

use lorahub_weights::Held;
use lorahub_weights::quant::{BLOCK, Format as NarrowFormat, Narrow};

use crate::tensor::Format;

/// A matrix of the base in the layout of `shaders/include/weight_*.wgsl`.
pub(crate) fn matrix(held: &Held, (rows, columns): (usize, usize)) -> (Format, Vec<u32>) {
    match held {
        Held::F32(data) => (Format::F32, panels(data, columns, rows)),
        Held::Narrow(of) => narrow(of),
    }
}

/// A row-major `[rows, columns]` matrix as panels: group `k4 * padded_rows + n` holds columns `4 k4 .. 4 k4 + 4` of row
/// `n`. Columns past the last and rows from `rows` to `padded_rows` are zero.
pub(crate) fn panels(data: &[f32], columns: usize, padded_rows: usize) -> Vec<u32> {
    let mut words = vec![0u32; columns.div_ceil(4) * padded_rows * 4];
    for (n, row) in data.chunks_exact(columns.max(1)).enumerate() {
        for (k4, values) in row.chunks(4).enumerate() {
            let group = &mut words[(k4 * padded_rows + n) * 4..][..4];
            for (word, value) in group.iter_mut().zip(values) {
                *word = value.to_bits();
            }
        }
    }
    words
}

/// The same of a narrow matrix; the factors of blocks lie behind all integers, two in a word.
fn narrow(of: &Narrow) -> (Format, Vec<u32>) {
    let (rows, columns) = (of.rows(), of.columns());
    let (format, columns_a_word, words) = match of.format() {
        NarrowFormat::F16 => (Format::F16, 2, columns.div_ceil(4) * rows * 2),
        NarrowFormat::Q8_0 => (Format::Q8, 4, columns / 4 * rows),
        NarrowFormat::Q4_0 => (Format::Q4, 8, columns / 8 * rows),
    };
    let halves = if format == Format::F16 {
        0
    } else {
        columns / BLOCK * rows
    };
    let mut packed = vec![0u32; words + halves.div_ceil(2)];
    let block_bytes = of.format().block_bytes();
    let blocks_a_row = columns / of.format().block();
    for (at, block) in of.bytes().chunks_exact(block_bytes).enumerate() {
        let (n, block_of_row) = (at / blocks_a_row, at % blocks_a_row);
        let half = u32::from(u16::from_le_bytes([block[0], block[1]]));
        if format == Format::F16 {
            // The low half first: unpack2x16float's order.
            let k = block_of_row;
            packed[(k / 4 * rows + n) * 2 + k % 4 / 2] |= half << (16 * (k % 2));
            continue;
        }
        let place = block_of_row * rows + n;
        packed[words + place / 2] |= half << (16 * (place % 2));
        for k in 0..BLOCK {
            let integer = match format {
                Format::Q8 => block[2 + k],
                // The second half of a q4_0 block is in the high nibbles.
                _ => block[2 + k % 16] >> (4 * (k / 16)) & 15,
            };
            let word = (block_of_row * BLOCK + k) / columns_a_word * rows + n;
            packed[word] |= u32::from(integer) << (32 / columns_a_word * (k % columns_a_word));
        }
    }
    (format, packed)
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
    use half::f16;

    use super::*;

    #[test]
    fn panels_place_every_value_and_pad_with_zeros() {
        let (rows, columns, padded) = (3, 5, 4);
        let data: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 1.0).collect();
        let words = panels(&data, columns, padded);
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
        let (format, halves) = narrow(&Narrow::quantise(NarrowFormat::F16, rows, columns, &data).unwrap());
        assert_eq!((format, halves.len()), (Format::F16, 2 * rows * 2));
        let at = |n: usize, k: usize| {
            let word = halves[(k / 4 * rows + n) * 2 + k % 4 / 2];
            f16::from_bits((word >> (16 * (k % 2))) as u16).to_f32()
        };
        for (n, row) in data.chunks(columns).enumerate() {
            for k in 0..8 {
                assert_eq!(at(n, k), row.get(k).copied().unwrap_or(0.0), "row {n}, column {k}");
            }
        }
    }

    /// Read back as the shaders read it, a quantised matrix is the one that the CPU widens.
    #[test]
    fn blocks_place_every_value() {
        let (rows, columns) = (3, 64);
        let data: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 0.37).sin()).collect();
        for format in [NarrowFormat::Q8_0, NarrowFormat::Q4_0] {
            let quantised = Narrow::quantise(format, rows, columns, &data).unwrap();
            let (format, words) = narrow(&quantised);
            let each = if format == Format::Q8 { 4 } else { 8 };
            for (at, expected) in quantised.widen().into_iter().enumerate() {
                let (n, k) = (at / columns, at % columns);
                let bits = words[k / each * rows + n] >> (32 / each * (k % each));
                let half = k / BLOCK * rows + n;
                let factor = words[columns / each * rows + half / 2] >> (16 * (half % 2));
                let factor = f16::from_bits(factor as u16).to_f32();
                let integer = if format == Format::Q8 {
                    f32::from(bits as u8 as i8)
                } else {
                    (bits & 15) as f32 - 8.0
                };
                assert_eq!(integer * factor, expected, "{format:?}: row {n}, column {k}");
            }
        }
    }
}
