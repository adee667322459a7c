//! Skipping work whose inputs have not changed: a SHA-256 over files, remembered under `target/xtask/`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, read, write};
use crate::project::{root, target_dir};

/// Folders that hold nothing we wrote.
pub(crate) const GENERATED: &[&str] = &["target", "node_modules", ".git", "dist", "out", ".venv", "__pycache__"];

/// Every file under `paths` (files or folders), sorted, without [`GENERATED`] folders. A path that does not exist
/// has no files.
pub(crate) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = paths.to_vec();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(Error::file("list", &path))? {
                let entry = entry.map_err(Error::file("list", &path))?;
                let generated = GENERATED.iter().any(|g| entry.file_name() == **g);
                if !(generated && entry.path().is_dir()) {
                    open.push(entry.path());
                }
            }
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// SHA-256 over names (from the root) and contents of [`files`].
pub(crate) fn tree_hash(paths: &[PathBuf]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for file in files(paths)? {
        let name = file.strip_prefix(root()).unwrap_or(&file);
        let bytes = read(&file)?;
        hash.update(name.to_string_lossy().as_bytes());
        hash.update([0]);
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(&bytes);
    }
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of bytes.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// One remembered text, by name.
pub(crate) struct Stamp(PathBuf);

impl Stamp {
    /// The stamp `name` under `target/xtask/`.
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        Ok(Self(target_dir()?.join("xtask").join(name)))
    }

    /// A stamp at a path of the caller's choice: inside a folder that another tool empties, it goes with it.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// What was remembered.
    pub(crate) fn get(&self) -> Option<String> {
        std::fs::read_to_string(&self.0).ok()
    }

    /// True if `text` was remembered.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.get().as_deref() == Some(text)
    }

    /// Remembers `text`.
    pub(crate) fn set(&self, text: &str) -> Result<(), Error> {
        write(&self.0, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_names_contents_and_nothing_generated() {
        let folder = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        write(&folder.join("a"), "1").expect("write");
        let paths = [folder.clone()];
        let before = tree_hash(&paths).expect("hash");
        write(&folder.join("node_modules/x"), "1").expect("write");
        assert_eq!(tree_hash(&paths).expect("hash"), before);
        write(&folder.join("a"), "2").expect("write");
        let changed = tree_hash(&paths).expect("hash");
        assert_ne!(changed, before);
        std::fs::rename(folder.join("a"), folder.join("b")).expect("rename");
        assert_ne!(tree_hash(&paths).expect("hash"), changed);
        std::fs::remove_dir_all(&folder).expect("clean up");
    }
}
