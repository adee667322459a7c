//! The zip archive around a PyTorch file, as far as `torch.save` uses zip: stored entries, always a zip64 end, sizes
//! in data descriptors behind the data.
//!
//! Only the directory at the end knows the sizes, so it alone is believed, and a local header must agree with it.
//! Checksums are not compared: `torch.serialization.set_crc32_options(False)` writes valid files with wrong ones.

use std::collections::BTreeMap;

use super::TorchError;
use crate::shown;

/// The most entries that are read; flan-t5-xxl has fewer than 1000.
const ENTRIES: usize = 4096;

const END: usize = 22;
const LOCATOR_64: usize = 20;
const END_64: usize = 56;
const RECORD: usize = 46;
const LOCAL: usize = 30;

/// Sizes follow the data (torch.save), and the name is UTF-8.
const FLAGS: u16 = 0x0808;
/// The extra field with 64-bit sizes.
const EXTRA_64: u16 = 1;

/// The archive's entries by their path in its one folder, each with its data.
pub(super) fn entries(bytes: &[u8]) -> Result<BTreeMap<&str, &[u8]>, TorchError> {
    let directory = Directory::find(bytes)?;
    let records = directory.records(bytes)?;
    let mut spans = Vec::with_capacity(records.len());
    for record in &records {
        spans.push((record.local, record.data(bytes)?, record.name));
    }
    spans.sort_by_key(|(local, ..)| *local);
    let mut data = BTreeMap::new();
    let root = root_of(spans.first().map_or("", |(.., name)| name));
    for (index, (_, (start, end), name)) in spans.iter().enumerate() {
        let limit = spans.get(index + 1).map_or(directory.start, |(local, ..)| *local);
        let name = *name;
        let range = usize::try_from(*end).ok().filter(|end| *end <= limit);
        let Some(range) = range.and_then(|end| bytes.get(*start..end)) else {
            let (name, found) = (shown(name), *end);
            return Err(TorchError::EntryOverlap { name, found, limit });
        };
        let Some(path) = name.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')) else {
            let (name, root) = (shown(name), shown(root));
            return Err(TorchError::OtherRoot { name, root });
        };
        if data.insert(path, range).is_some() {
            return Err(TorchError::DuplicateEntry { name: shown(name) });
        }
    }
    Ok(data)
}

/// The folder of an entry.
fn root_of(name: &str) -> &str {
    name.split_once('/').map_or("", |(root, _)| root)
}

/// Where the directory lies.
struct Directory {
    start: usize,
    end: usize,
    entries: usize,
}

impl Directory {
    fn find(bytes: &[u8]) -> Result<Self, TorchError> {
        // A comment could hold a second end record, and torch.save writes none: the record is the file's last bytes.
        let no_end = || TorchError::End { found: bytes.len() };
        let end_at = bytes.len().checked_sub(END).ok_or_else(no_end)?;
        let end = Fields(&bytes[end_at..]);
        if !end.0.starts_with(b"PK\x05\x06") || end.u16(20) != 0 {
            return Err(no_end());
        }
        require("a disk number", u64::from(end.u16(4)), 0)?;
        require("a start disk", u64::from(end.u16(6)), 0)?;
        let small = [
            ("an entry count on this disk", u64::from(end.u16(8)), 0xffff),
            ("an entry count", u64::from(end.u16(10)), 0xffff),
            ("a size", u64::from(end.u32(12)), 0xffff_ffff),
            ("an offset", u64::from(end.u32(16)), 0xffff_ffff),
        ];
        let locator = end_at
            .checked_sub(LOCATOR_64)
            .filter(|&at| bytes[at..].starts_with(b"PK\x06\x07"));
        let ([_, entries, size, offset], directory_end) = match locator {
            None => (small.map(|(_, value, _)| value), end_at),
            Some(at) => {
                let large = Self::end_64(bytes, at)?;
                for ((what, value, unknown), expected) in small.into_iter().zip(large) {
                    if value != unknown {
                        require(what, value, expected)?;
                    }
                }
                // `end_64` found its record in front of the locator.
                (large, at.saturating_sub(END_64))
            }
        };
        let limit = ENTRIES;
        let entries = usize::try_from(entries)
            .ok()
            .filter(|&found| found <= limit)
            .ok_or(TorchError::TooManyEntries { found: entries, limit })?;
        require("an end at", offset.saturating_add(size), directory_end as u64)?;
        Ok(Self {
            // Not past `directory_end`, which is a usize.
            start: offset as usize,
            end: directory_end,
            entries,
        })
    }

    /// Entries on this disk, entries, size and offset by the zip64 end record in front of the locator at `at`.
    fn end_64(bytes: &[u8], at: usize) -> Result<[u64; 4], TorchError> {
        let locator = Fields(&bytes[at..]);
        require("a zip64 locator's disk", u64::from(locator.u32(4)), 0)?;
        let found = locator.u64(8);
        let end = at
            .checked_sub(END_64)
            .filter(|&end_at| end_at as u64 == found)
            .map(|end_at| Fields(&bytes[end_at..]))
            .filter(|end| end.0.starts_with(b"PK\x06\x06"))
            .ok_or(TorchError::Directory {
                what: "a zip64 end record at",
                found,
                expected: at.saturating_sub(END_64) as u64,
            })?;
        require("a zip64 end record of size", end.u64(4), END_64 as u64 - 12)?;
        require("a disk number", u64::from(end.u32(16)), 0)?;
        require("a start disk", u64::from(end.u32(20)), 0)?;
        let [here, entries] = [end.u64(24), end.u64(32)];
        require("an entry count on this disk", here, entries)?;
        Ok([here, entries, end.u64(40), end.u64(48)])
    }

    fn records<'a>(&self, bytes: &'a [u8]) -> Result<Vec<Record<'a>>, TorchError> {
        let mut rest = bytes.get(self.start..self.end).unwrap_or_default();
        let mut records = Vec::with_capacity(self.entries);
        for index in 0..self.entries {
            let (record, after) =
                Record::read(rest, self.start).map_err(|problem| TorchError::Record { index, problem })?;
            record.check()?;
            records.push(record);
            rest = after;
        }
        require("bytes behind its last record:", rest.len() as u64, 0)?;
        Ok(records)
    }
}

fn require(what: &'static str, found: u64, expected: u64) -> Result<(), TorchError> {
    if found == expected {
        Ok(())
    } else {
        Err(TorchError::Directory { what, found, expected })
    }
}

/// One entry by the directory.
struct Record<'a> {
    name: &'a str,
    flags: u16,
    method: u16,
    size: u64,
    stored: u64,
    local: usize,
}

impl<'a> Record<'a> {
    /// Reads the record that `bytes` start with; entries end before `directory`.
    fn read(bytes: &'a [u8], directory: usize) -> Result<(Self, &'a [u8]), &'static str> {
        let (head, rest) = bytes.split_at_checked(RECORD).ok_or("too few bytes")?;
        let head = Fields(head);
        if !head.0.starts_with(b"PK\x01\x02") {
            return Err("another signature than PK\\x01\\x02");
        }
        let cut = "a name, extra field or comment that is cut";
        let (name, rest) = rest.split_at_checked(head.u16(28).into()).ok_or(cut)?;
        let (extra, rest) = rest.split_at_checked(head.u16(30).into()).ok_or(cut)?;
        let (_, rest) = rest.split_at_checked(head.u16(32).into()).ok_or(cut)?;
        let name = str::from_utf8(name).map_err(|_| "a name that is not UTF-8")?;
        if head.u16(34) != 0 {
            return Err("a disk number other than 0");
        }
        let mut large = extra_64(extra)?;
        let mut widen = |value: u32| match value {
            u32::MAX => {
                let (value, rest) = large.split_first_chunk().ok_or("no 64-bit size")?;
                large = rest;
                Ok(u64::from_le_bytes(*value))
            }
            value => Ok(u64::from(value)),
        };
        let (size, stored, local) = (widen(head.u32(24))?, widen(head.u32(20))?, widen(head.u32(42))?);
        let record = Self {
            name,
            flags: head.u16(8),
            method: head.u16(10),
            size,
            stored,
            local: usize::try_from(local)
                .ok()
                .filter(|&at| at < directory)
                .ok_or("an offset behind the data")?,
        };
        Ok((record, rest))
    }

    fn check(&self) -> Result<(), TorchError> {
        let name = || shown(self.name);
        if self.flags & !FLAGS != 0 {
            return Err(TorchError::Flags {
                name: name(),
                flags: self.flags,
            });
        }
        if self.method != 0 {
            return Err(TorchError::Compressed {
                name: name(),
                method: self.method,
            });
        }
        if self.size != self.stored {
            let problem = "sizes that differ though it is stored";
            return Err(TorchError::LocalHeader { name: name(), problem });
        }
        Ok(())
    }

    /// Where the data start and end, by the local header's length and the directory's size.
    fn data(&self, bytes: &[u8]) -> Result<(usize, u64), TorchError> {
        let wrong = |problem| TorchError::LocalHeader {
            name: shown(self.name),
            problem,
        };
        let (head, rest) = bytes
            .get(self.local..)
            .and_then(|local| local.split_at_checked(LOCAL))
            .filter(|(head, _)| head.starts_with(b"PK\x03\x04"))
            .ok_or_else(|| wrong("no local header"))?;
        let head = Fields(head);
        if head.u16(8) != self.method || (head.u16(6) & !FLAGS) != 0 {
            return Err(wrong("a local header with another method or flags"));
        }
        let name = usize::from(head.u16(26));
        if rest.get(..name) != Some(self.name.as_bytes()) {
            return Err(wrong("a local header with another name"));
        }
        let start = self.local + LOCAL + name + usize::from(head.u16(28));
        Ok((start, (start as u64).saturating_add(self.size)))
    }
}

/// The content of the extra field with 64-bit sizes; empty if there is none.
fn extra_64(mut extra: &[u8]) -> Result<&[u8], &'static str> {
    let mut found = None;
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let head = Fields(head);
        let (content, rest) = rest
            .split_at_checked(head.u16(2).into())
            .ok_or("an extra field that is cut")?;
        if head.u16(0) == EXTRA_64 && found.replace(content).is_some() {
            return Err("64-bit sizes twice");
        }
        extra = rest;
    }
    if extra.is_empty() {
        Ok(found.unwrap_or_default())
    } else {
        Err("an extra field that is cut")
    }
}

/// Little-endian numbers of a record whose length was checked; 0 past its end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0
            .get(at..)
            .and_then(|bytes| bytes.first_chunk())
            .copied()
            .unwrap_or([0; N])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}
