//! What a visitor downloads, against the budgets of `wasm-pack.toml`.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::{Error, read};
use crate::project::{Budgets, dist, www};
use crate::stamp::{Stamp, files, hash};

/// Raw and compressed size in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size {
    pub(crate) raw: u64,
    pub(crate) compressed: u64,
}

/// The wasm file as a host that compresses with brotli at quality 11 sends it. Remembered by the file's hash, since
/// that quality takes seconds per megabyte.
pub(crate) fn brotli(path: &Path) -> Result<Size, Error> {
    let bytes = read(path)?;
    let raw = length(&bytes);
    let stamp = Stamp::new("brotli")?;
    let key = hash(&bytes);
    let known = stamp
        .get()
        .and_then(|text| text.strip_prefix(&key)?.trim().parse().ok());
    if let Some(compressed) = known {
        return Ok(Size { raw, compressed });
    }
    let mut out = Vec::new();
    let settings = brotli::enc::BrotliEncoderParams {
        quality: 11,
        lgwin: 24,
        size_hint: bytes.len(),
        ..Default::default()
    };
    brotli::BrotliCompress(&mut bytes.as_slice(), &mut out, &settings).map_err(Error::file("compress", path))?;
    let compressed = length(&out);
    stamp.set(&format!("{key} {compressed}"))?;
    Ok(Size { raw, compressed })
}

/// All JavaScript and CSS of the finished page, each file compressed on its own, as hosts do.
pub(crate) fn page() -> Result<Size, Error> {
    let mut sum = Size { raw: 0, compressed: 0 };
    let outputs = std::fs::read_dir(dist()).map_err(Error::file("list", &dist()))?;
    let tops: Vec<_> = outputs.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    for file in files(&tops)? {
        if !file.extension().is_some_and(|e| e == "js" || e == "css") {
            continue;
        }
        let bytes = read(&file)?;
        sum.raw += length(&bytes);
        sum.compressed += gzip(&bytes).map_err(Error::file("compress", &file))?;
    }
    if sum.raw == 0 {
        return Err(Error::Check(
            "www/dist holds no JavaScript; build the page first".into(),
        ));
    }
    Ok(sum)
}

/// Every file of the bundled family, as it lies.
pub(crate) fn demo_family() -> Result<u64, Error> {
    let folder = www().join("models/demo");
    let mut sum = 0;
    for file in files(std::slice::from_ref(&folder))? {
        sum += std::fs::metadata(&file).map_err(Error::file("read", &file))?.len();
    }
    if sum == 0 {
        return Err(Error::Check(
            "www/models/demo is empty; the page ships with a family".into(),
        ));
    }
    Ok(sum)
}

fn gzip(bytes: &[u8]) -> std::io::Result<u64> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(length(&encoder.finish()?))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Prints one line of the table and says whether `bytes` keeps within `budget`.
///
/// # Errors
/// [`Error::Check`] with both numbers.
pub(crate) fn gate(what: &str, bytes: u64, budget: u64) -> Result<(), Error> {
    println!("  {what}: {} of {}", kilobytes(bytes), kilobytes(budget));
    if bytes <= budget {
        return Ok(());
    }
    Err(Error::Check(format!(
        "{what} is {bytes} bytes, over its budget of {budget}; make it smaller, or argue for more in wasm-pack.toml"
    )))
}

/// All three gates; every one is printed before the first failure is returned.
pub(crate) fn all(wasm: &Path, budgets: &Budgets) -> Result<(), Error> {
    let results = [
        brotli(wasm).and_then(|s| gate("wasm, brotli", s.compressed, budgets.wasm_brotli)),
        page().and_then(|s| gate("JavaScript and CSS of the page, gzip", s.compressed, budgets.page_gzip)),
        demo_family().and_then(|bytes| gate("demo family", bytes, budgets.demo_family)),
    ];
    results.into_iter().collect()
}

/// Bytes in decimal kilobytes, the unit of the budgets.
pub(crate) fn kilobytes(bytes: u64) -> String {
    format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_at_the_budget_and_shuts_above_it() {
        assert!(gate("x", 100, 100).is_ok());
        let error = gate("x", 101, 100).expect_err("over budget").to_string();
        assert!(error.contains("101") && error.contains("100"), "{error}");
    }

    #[test]
    fn kilobytes_are_decimal() {
        assert_eq!(kilobytes(1_234_567), "1234.5 kB");
    }
}
