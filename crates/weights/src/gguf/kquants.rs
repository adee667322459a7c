//! llama.cpp's k-quants, as far as they are read: superblocks of 256 columns, whose blocks have factors of six or eight
//! bits beside one or two f16 ones. Nothing here is held in these forms; they are widened to f32 as they are read.

use half::f16;

/// Columns of a superblock.
const COLUMNS: usize = 256;

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KQuant {
    /// A factor and an offset, both f16; eight factors and eight offsets of six bits, packed into 12 bytes; then 128
    /// bytes of nibbles. Of a block of 32 columns a value is `factor * nibble - offset`.
    Q4K,
    /// 128 bytes with the low four bits and 64 with the high two; 16 signed bytes of factors; an f16 factor. Of a block
    /// of 16 columns a value is `factor * (integer - 32)`.
    Q6K,
}

impl KQuant {
    /// Columns of a superblock, and its bytes.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Self::Q4K => (COLUMNS, 2 + 2 + 12 + 128),
            Self::Q6K => (COLUMNS, 128 + 64 + 16 + 2),
        }
    }

    /// The numbers of whole superblocks.
    ///
    /// # Errors
    /// The first superblock with a factor that is not finite.
    pub(super) fn widen(self, bytes: &[u8]) -> Result<Vec<f32>, usize> {
        let (columns, size) = self.block();
        let mut values = vec![0.0; bytes.len() / size * columns];
        let superblocks = bytes.chunks_exact(size).zip(values.chunks_exact_mut(columns));
        for (index, (bytes, values)) in superblocks.enumerate() {
            let finite = match self {
                Self::Q4K => widen_q4(bytes, values),
                Self::Q6K => widen_q6(bytes, values),
            };
            finite.ok_or(index)?;
        }
        Ok(values)
    }
}

/// An f16 at a byte, unless it is not finite.
fn factor(bytes: &[u8], at: usize) -> Option<f32> {
    let factor = f16::from_le_bytes([bytes[at], bytes[at + 1]]);
    factor.is_finite().then(|| factor.to_f32())
}

fn widen_q4(bytes: &[u8], values: &mut [f32]) -> Option<()> {
    let (factor, offset) = (factor(bytes, 0)?, factor(bytes, 2)?);
    let (packed, nibbles) = bytes[4..].split_at(12);
    // Two blocks share 32 bytes: one has the low nibbles, the next the high ones.
    for (block, values) in values.chunks_exact_mut(32).enumerate() {
        let (small_factor, small_offset) = six_bits(packed, block);
        let (factor, offset) = (factor * f32::from(small_factor), offset * f32::from(small_offset));
        let shift = 4 * (block % 2);
        for (value, byte) in values.iter_mut().zip(&nibbles[block / 2 * 32..]) {
            *value = factor * f32::from((byte >> shift) & 15) - offset;
        }
    }
    Some(())
}

/// A block's factor and offset: of the first four blocks the low six bits of a byte each, of the others four bits of a
/// byte that they share, and above them the two bits that the first four leave.
fn six_bits(packed: &[u8], block: usize) -> (u8, u8) {
    if block < 4 {
        return (packed[block] & 63, packed[block + 4] & 63);
    }
    let shared = packed[block + 4];
    let (factor_top, offset_top) = (packed[block - 4] >> 6, packed[block] >> 6);
    ((shared & 15) | (factor_top << 4), (shared >> 4) | (offset_top << 4))
}

fn widen_q6(bytes: &[u8], values: &mut [f32]) -> Option<()> {
    let (low, rest) = bytes.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (factors, rest) = rest.split_at(16);
    let factor = factor(rest, 0)?;
    // Half by half: four runs of 32 columns share 64 bytes of low bits and 32 of high ones.
    for (column, value) in values.iter_mut().enumerate() {
        let (half, run, at) = (column / 128, column / 32 % 4, column % 32);
        let low = low[half * 64 + run % 2 * 32 + at] >> (4 * (run / 2)) & 15;
        let high = high[half * 32 + at] >> (2 * run) & 3;
        let integer = (low | (high << 4)) as i8 - 32;
        let small = i8::from_le_bytes([factors[column / 16]]);
        *value = factor * f32::from(small) * f32::from(integer);
    }
    Some(())
}
