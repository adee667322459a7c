//! The header of a GGUF file: metadata, of which three keys matter here, and the list of tensors.
//!
//! It is read front to back in pieces of which one is in memory. Nothing is allocated on a number's word alone.

use std::collections::BTreeSet;
use std::ops::Range;

use super::GgufError;
use super::kquants::KQuant;
use crate::error::shown;
use crate::header::check_name;
use crate::quant::Format;
use crate::{Dtype, ForeignFormat, Limits, ReadAt, WeightsError};

/// Bytes read at once.
const PIECE: u64 = 64 << 10;
/// Where tensors start if the file does not say: at multiples of this.
const ALIGNMENT: u64 = 32;
/// The largest alignment that makes sense.
const MOST_ALIGNMENT: u64 = 64 << 10;
/// Most metadata keys.
const KEYS: u64 = 10_000;
/// Longest metadata key, as the format has it.
const KEY_BYTES: u64 = (1 << 16) - 1;
/// Most dimensions of a tensor, as ggml has it.
const DIMS: u32 = 4;
/// Longest value of `general.architecture`.
const ARCHITECTURE_BYTES: u64 = 64;

/// How a tensor's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain(Dtype),
    Blocks(Format),
    Superblocks(KQuant),
}

impl Kind {
    /// Values and bytes that belong together.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Plain(dtype) => (1, dtype.size()),
            Self::Blocks(format) => (format.block(), format.block_bytes()),
            Self::Superblocks(form) => form.block(),
        }
    }
}

/// One tensor, where it lies, and its name in the file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Outermost dimension first.
    pub(super) shape: Vec<usize>,
    /// Its bytes in the file.
    pub(super) range: Range<u64>,
}

/// Reads and checks the header: its tensors tile the rest of the file, but for the padding between them.
pub(super) fn read<R: ReadAt>(file: &R, limits: &Limits) -> Result<Vec<Entry>, WeightsError> {
    let mut cursor = Cursor::new(file, limits);
    check_magic(&mut cursor)?;
    let (tensors, keys) = (cursor.u64()?, cursor.u64()?);
    if tensors > limits.tensors as u64 {
        return Err(WeightsError::TooManyTensors {
            found: usize::try_from(tensors).unwrap_or(usize::MAX),
            limit: limits.tensors,
        });
    }
    if keys > KEYS {
        let (found, limit) = (keys, KEYS);
        return Err(GgufError::TooManyKeys { found, limit }.into());
    }
    let alignment = read_metadata(&mut cursor, keys)?;
    let mut entries = Vec::new();
    for index in 0..tensors {
        entries.push(read_entry(&mut cursor, index, limits)?);
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = entries.iter().find(|entry| !names.insert(entry.name.as_str())) {
        return Err(WeightsError::DuplicateTensor {
            name: twice.name.clone(),
        });
    }
    place(
        &mut entries,
        cursor.at.next_multiple_of(alignment),
        cursor.size,
        alignment,
    )?;
    Ok(entries)
}

/// Checks that the tensors, whose ranges count from `data` on, tile the file to its end, and counts them from the
/// file's start.
fn place(entries: &mut [Entry], data: u64, size: u64, alignment: u64) -> Result<(), WeightsError> {
    // Tensors without values come before the one that starts where they lie.
    entries.sort_by_key(|entry| (entry.range.start, entry.range.end));
    let data_len = size.saturating_sub(data);
    let (mut end, mut expected) = (0, 0);
    for Entry { name, range, .. } in &*entries {
        let (name, found) = (name.clone(), range.start);
        if !found.is_multiple_of(alignment) {
            return Err(GgufError::Unaligned { name, found, alignment }.into());
        }
        if found < expected {
            return Err(WeightsError::Overlap {
                name,
                expected: end,
                found,
            });
        }
        if found > expected {
            return Err(WeightsError::Hole { name, expected, found });
        }
        if range.end > data_len {
            return Err(WeightsError::DataCut {
                name,
                expected: range.end,
                found: data_len,
            });
        }
        end = range.end;
        // It lies inside the file, so this is no large number.
        expected = end.next_multiple_of(alignment);
    }
    // The last one's padding may be missing.
    if data_len > expected {
        return Err(WeightsError::Trailing {
            expected: end,
            found: data_len,
        });
    }
    for entry in entries {
        entry.range = data + entry.range.start..data + entry.range.end;
    }
    Ok(())
}

fn check_magic<R: ReadAt>(cursor: &mut Cursor<'_, R>) -> Result<(), WeightsError> {
    let first = cursor.peek()?;
    match ForeignFormat::detect(first) {
        Some(ForeignFormat::Gguf) => {}
        Some(format) => return Err(GgufError::Foreign { format }.into()),
        None => {
            let found = first.iter().copied().take(4).collect();
            return Err(GgufError::Magic { found }.into());
        }
    }
    cursor.u32()?;
    match cursor.u32()? {
        2 | 3 => Ok(()),
        found if matches!(found.swap_bytes(), 1..=3) => Err(GgufError::BigEndian.into()),
        found => Err(GgufError::Version { found }.into()),
    }
}

/// A metadata value, as far as anybody here looks at it.
enum Value {
    Whole(u64),
    Text(String),
    Other,
}

/// Reads all metadata, and returns the alignment.
fn read_metadata<R: ReadAt>(cursor: &mut Cursor<'_, R>, keys: u64) -> Result<u64, WeightsError> {
    let mut seen = BTreeSet::new();
    let mut alignment = ALIGNMENT;
    for index in 0..keys {
        let key = cursor.text("metadata key", index, KEY_BYTES)?;
        let kind = cursor.u32()?;
        let wanted = matches!(
            key.as_str(),
            "general.alignment" | "general.architecture" | "split.count"
        );
        let value = read_value(cursor, &key, index, kind, wanted)?;
        let found = || match &value {
            Value::Whole(value) => value.to_string(),
            Value::Text(text) => format!("`{}`", shown(text)),
            Value::Other => format!("a value of type {kind}"),
        };
        match (key.as_str(), &value) {
            ("general.alignment", Value::Whole(value))
                if value.is_power_of_two() && (8..=MOST_ALIGNMENT).contains(value) =>
            {
                alignment = *value;
            }
            ("general.alignment", _) => {
                return Err(GgufError::Value {
                    key: "general.alignment",
                    found: found(),
                    expected: "a power of two from 8 to 65536",
                    remedy: "convert the model again",
                }
                .into());
            }
            ("general.architecture", Value::Text(text)) if text == "t5" => {}
            ("general.architecture", _) => {
                return Err(GgufError::Value {
                    key: "general.architecture",
                    found: found(),
                    expected: "`t5`",
                    remedy: "use a T5 or Flan-T5 with encoder and decoder",
                }
                .into());
            }
            ("split.count", Value::Whole(0 | 1)) => {}
            ("split.count", _) => {
                return Err(GgufError::Value {
                    key: "split.count",
                    found: found(),
                    expected: "one file",
                    remedy: "join the parts with llama-gguf-split --merge",
                }
                .into());
            }
            _ => {}
        }
        if seen.contains(&key) {
            return Err(WeightsError::DuplicateMetadata { key: shown(&key) });
        }
        seen.insert(key);
    }
    Ok(alignment)
}

/// Reads a value, or passes over it if it is not wanted.
fn read_value<R: ReadAt>(
    cursor: &mut Cursor<'_, R>,
    key: &str,
    index: u64,
    kind: u32,
    wanted: bool,
) -> Result<Value, WeightsError> {
    const TEXT: u32 = 8;
    const ARRAY: u32 = 9;
    let other = |found| GgufError::ValueType { key: shown(key), found };
    match kind {
        TEXT if wanted => {
            let text = cursor.text("the value of metadata key", index, ARCHITECTURE_BYTES)?;
            return Ok(Value::Text(text));
        }
        TEXT => {
            let length = cursor.u64()?;
            cursor.skip(length)?;
        }
        ARRAY => {
            let (of, count) = (cursor.u32()?, cursor.u64()?);
            if of == TEXT {
                // Each takes at least its length, so their number is bounded by the header's bytes.
                for _ in 0..count {
                    let length = cursor.u64()?;
                    cursor.skip(length)?;
                }
            } else {
                let size = scalar_bytes(of).ok_or_else(|| other(of))?;
                cursor.skip(count.saturating_mul(size))?;
            }
        }
        _ => {
            let size = scalar_bytes(kind).ok_or_else(|| other(kind))?;
            // The unsigned ones and, where they are not negative, the signed ones.
            let whole = matches!(kind, 0..=5 | 10 | 11);
            let mut bytes = [0; 8];
            for byte in bytes.iter_mut().take(size as usize) {
                [*byte] = cursor.take()?;
            }
            let signed = matches!(kind, 1 | 3 | 5 | 11);
            let negative = signed && bytes.get(size as usize - 1).is_some_and(|top| top & 0x80 != 0);
            if whole && !negative {
                return Ok(Value::Whole(u64::from_le_bytes(bytes)));
            }
        }
    }
    Ok(Value::Other)
}

/// Bytes of a value of a type that always has as many.
fn scalar_bytes(kind: u32) -> Option<u64> {
    match kind {
        // u8, i8, bool.
        0 | 1 | 7 => Some(1),
        // u16, i16.
        2 | 3 => Some(2),
        // u32, i32, f32.
        4..=6 => Some(4),
        // u64, i64, f64.
        10..=12 => Some(8),
        _ => None,
    }
}

/// Reads one line of the list of tensors; its range counts from where the data start.
fn read_entry<R: ReadAt>(cursor: &mut Cursor<'_, R>, index: u64, limits: &Limits) -> Result<Entry, WeightsError> {
    let name = cursor.text("the name of tensor", index, limits.name_bytes as u64)?;
    check_name(&name, limits)?;
    let dims = cursor.u32()?;
    if dims > DIMS {
        return Err(WeightsError::TooManyDims {
            name,
            found: dims as usize,
            limit: DIMS as usize,
        });
    }
    let mut wide = Vec::new();
    for _ in 0..dims {
        wide.push(cursor.u64()?);
    }
    // GGUF writes the innermost first.
    wide.reverse();
    let number = cursor.u32()?;
    let start = cursor.u64()?;
    let kind = kind_of(number).ok_or_else(|| GgufError::Type {
        name: name.clone(),
        found: type_name(number),
    })?;
    let overflow = || WeightsError::ShapeOverflow {
        name: name.clone(),
        shape: wide.clone(),
    };
    let shape = wide
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect::<Option<Vec<_>>>();
    let shape = shape.ok_or_else(overflow)?;
    let (block, block_bytes) = kind.block();
    let columns = shape.last().copied().unwrap_or(1);
    if !columns.is_multiple_of(block) {
        let found = columns;
        return Err(GgufError::Columns { name, found, block }.into());
    }
    // Any overflow on the way is one, even if a later dimension is zero: such shapes have no honest maker.
    let values = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let bytes = values
        .and_then(|values| (values / block).checked_mul(block_bytes))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .ok_or_else(overflow)?;
    let end = start.checked_add(bytes as u64).ok_or_else(overflow)?;
    Ok(Entry {
        name,
        kind,
        shape,
        range: start..end,
    })
}

fn kind_of(number: u32) -> Option<Kind> {
    match number {
        0 => Some(Kind::Plain(Dtype::F32)),
        1 => Some(Kind::Plain(Dtype::F16)),
        30 => Some(Kind::Plain(Dtype::BF16)),
        2 => Some(Kind::Blocks(Format::Q4_0)),
        8 => Some(Kind::Blocks(Format::Q8_0)),
        12 => Some(Kind::Superblocks(KQuant::Q4K)),
        14 => Some(Kind::Superblocks(KQuant::Q6K)),
        _ => None,
    }
}

/// What ggml calls a type that is not read here.
fn type_name(number: u32) -> String {
    let name = match number {
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        13 => "Q5_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("of the unknown type {number}"),
    };
    name.to_owned()
}

/// Reads a file's header front to back.
struct Cursor<'f, R> {
    file: &'f R,
    /// Bytes of the file.
    size: u64,
    /// Where the header must have ended.
    limit: u64,
    /// The next byte.
    at: u64,
    /// The piece in memory, and where in the file it starts.
    piece: Vec<u8>,
    piece_at: u64,
}

impl<'f, R: ReadAt> Cursor<'f, R> {
    fn new(file: &'f R, limits: &Limits) -> Self {
        Self {
            file,
            size: file.size(),
            limit: limits.header_bytes as u64,
            at: 0,
            piece: Vec::new(),
            piece_at: 0,
        }
    }

    /// Where the next `count` bytes end, if they are in the file and the header's limit.
    fn end(&self, count: u64) -> Result<u64, GgufError> {
        let wanted = self.at.saturating_add(count);
        if wanted > self.size {
            return Err(GgufError::Cut {
                wanted,
                found: self.size,
            });
        }
        if wanted > self.limit {
            return Err(GgufError::HeaderTooLong {
                wanted,
                limit: self.limit,
            });
        }
        Ok(wanted)
    }

    fn skip(&mut self, count: u64) -> Result<(), WeightsError> {
        self.at = self.end(count)?;
        Ok(())
    }

    /// What is in memory from the next byte on: at least that one, unless the file ends.
    fn peek(&mut self) -> Result<&[u8], WeightsError> {
        let end = self.piece_at + self.piece.len() as u64;
        if !(self.piece_at..end).contains(&self.at) && self.at < self.size {
            self.piece = self.file.read_at(self.at..self.size.min(self.at + PIECE))?;
            self.piece_at = self.at;
        }
        let from = usize::try_from(self.at - self.piece_at).unwrap_or(usize::MAX);
        Ok(self.piece.get(from..).unwrap_or_default())
    }

    /// Fills `out` with the next bytes.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), WeightsError> {
        self.end(out.len() as u64)?;
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let have = self.peek()?;
            let count = have.len().min(rest.len());
            let (Some(from), Some(to)) = (have.get(..count), rest.get_mut(..count)) else {
                break;
            };
            to.copy_from_slice(from);
            if count == 0 {
                // Shorter than its size was a moment ago.
                return Err(GgufError::Cut {
                    wanted: self.at + 1,
                    found: self.at,
                }
                .into());
            }
            done += count;
            self.at += count as u64;
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WeightsError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, WeightsError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, WeightsError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// A text with its length in front, of at most `limit` bytes.
    fn text(&mut self, what: &'static str, index: u64, limit: u64) -> Result<String, WeightsError> {
        let found = self.u64()?;
        if found > limit {
            return Err(GgufError::TextLength {
                what,
                index,
                found,
                limit,
            }
            .into());
        }
        self.end(found)?;
        let mut bytes = vec![0; usize::try_from(found).unwrap_or(0)];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| GgufError::Text { what, index }.into())
    }
}
