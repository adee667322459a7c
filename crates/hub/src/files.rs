//! The store in a folder of the file system.
//!
//! `files/HASH` whole files, `parts/KEY.part` and `parts/KEY.journal` downloads in progress, `parts/KEY.lock` who works
//! on them, `records/KEY` records. All names are hexadecimal digits, so nothing outside can name another path.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use lorahub_weights::{Append, WeightsError};

use crate::{HubError, Key, Sha256, Store, Stored};

/// A [`Store`] in a folder.
#[derive(Clone, Debug)]
pub struct FileStore {
    root: PathBuf,
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> HubError {
    move |error| HubError::Store {
        action,
        reason: error.to_string(),
    }
}

/// What is not there is no error where it was to be removed, or may be absent.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl FileStore {
    /// Opens the folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`HubError::Store`] if it cannot be made.
    pub fn open(root: &Path) -> Result<Self, HubError> {
        for folder in ["files", "parts", "records"] {
            fs::create_dir_all(root.join(folder)).map_err(failed("make its folder"))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The path of a kept file, for readers that map or stream it.
    pub fn path(&self, sha256: Sha256) -> PathBuf {
        self.root.join("files").join(sha256.to_string())
    }

    fn of_part(&self, key: Key, kind: &str) -> PathBuf {
        self.root.join("parts").join(format!("{key}.{kind}"))
    }

    /// The names in one of its folders that `read` understands, with the path of each.
    fn names<T>(&self, folder: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<(T, PathBuf)>, HubError> {
        let mut found = Vec::new();
        let entries = fs::read_dir(self.root.join(folder)).map_err(failed("list its folder"))?;
        for entry in entries {
            let path = entry.map_err(failed("list its folder"))?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(&read) {
                found.push((name, path));
            }
        }
        Ok(found)
    }
}

/// Reads up to a range's end.
fn read_range(file: &mut File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(range.start))?;
    file.take(range.end.saturating_sub(range.start))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes a rename or a new file in `folder` last.
fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix lets a folder be opened and synced; elsewhere the file system sees to it.
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}

/// A part that is being written.
#[derive(Debug)]
pub struct PartWriter(File);

impl Append for PartWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        self.0.write_all(bytes).map_err(|error| WeightsError::Write {
            reason: error.to_string(),
        })
    }
}

impl Store for FileStore {
    type Lock = File;
    type Writer = PartWriter;

    async fn lock(&self, key: Key) -> Result<File, HubError> {
        let action = "lock a download";
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.of_part(key, "lock"))
            .map_err(failed(action))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(HubError::Busy),
            Err(TryLockError::Error(error)) => Err(failed(action)(error)),
        }
    }

    async fn free(&self) -> Result<Option<u64>, HubError> {
        let free = fs4::available_space(&self.root).map_err(failed("say how much is free"))?;
        Ok(Some(free))
    }

    async fn journal(&self, key: Key) -> Result<Vec<u8>, HubError> {
        let bytes = if_there(fs::read(self.of_part(key, "journal"))).map_err(failed("read a journal"))?;
        Ok(bytes.unwrap_or_default())
    }

    async fn append_journal(&self, key: Key, bytes: &[u8]) -> Result<(), HubError> {
        let append = || {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.of_part(key, "journal"))?;
            file.write_all(bytes)?;
            file.sync_data()
        };
        append().map_err(failed("write a journal"))
    }

    async fn write_part(&self, key: Key, offset: u64, bytes: &[u8]) -> Result<(), HubError> {
        let write = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(self.of_part(key, "part"))?;
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(bytes)
        };
        write().map_err(failed("write a download"))
    }

    async fn writer(&self, key: Key) -> Result<PartWriter, HubError> {
        let file = File::create(self.of_part(key, "part"));
        file.map(PartWriter).map_err(failed("write a part"))
    }

    async fn read_part(&self, key: Key, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let read = || match if_there(File::open(self.of_part(key, "part")))? {
            Some(mut file) => read_range(&mut file, range),
            None => Ok(Vec::new()),
        };
        read().map_err(failed("read a download"))
    }

    async fn discard(&self, key: Key) -> Result<(), HubError> {
        for kind in ["part", "journal"] {
            if_there(fs::remove_file(self.of_part(key, kind))).map_err(failed("remove a download"))?;
        }
        Ok(())
    }

    async fn commit(&self, key: Key, size: u64, sha256: Sha256) -> Result<(), HubError> {
        let commit = || {
            let part = self.of_part(key, "part");
            // A file without bytes has no part yet.
            let file = OpenOptions::new()
                .create(size == 0)
                .truncate(false)
                .write(true)
                .open(&part)?;
            if file.metadata()?.len() != size {
                return Err(io::Error::other("the part has another size"));
            }
            file.sync_all()?;
            fs::rename(&part, self.path(sha256))?;
            sync_folder(&self.root.join("files"))?;
            if_there(fs::remove_file(self.of_part(key, "journal"))).map(drop)
        };
        commit().map_err(failed("keep a file"))
    }

    async fn parts(&self) -> Result<Vec<Key>, HubError> {
        let key = |name: &str| name.strip_suffix(".journal").and_then(Key::from_hex);
        let mut keys: Vec<_> = self.names("parts", key)?.into_iter().map(|(key, _)| key).collect();
        keys.sort();
        Ok(keys)
    }

    async fn size(&self, sha256: Sha256) -> Result<Option<u64>, HubError> {
        let metadata = if_there(fs::metadata(self.path(sha256))).map_err(failed("read a file"))?;
        Ok(metadata.map(|metadata| metadata.len()))
    }

    async fn read(&self, sha256: Sha256, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let action = "read a file";
        let file = if_there(File::open(self.path(sha256))).map_err(failed(action))?;
        let mut file = file.ok_or(HubError::NotKept { sha256 })?;
        read_range(&mut file, range).map_err(failed(action))
    }

    async fn list(&self) -> Result<Vec<Stored>, HubError> {
        let mut files = Vec::new();
        for (sha256, path) in self.names("files", Sha256::from_hex)? {
            let size = fs::metadata(path).map_err(failed("read a file"))?.len();
            files.push(Stored { sha256, size });
        }
        files.sort();
        Ok(files)
    }

    async fn delete(&self, sha256: Sha256) -> Result<(), HubError> {
        if_there(fs::remove_file(self.path(sha256)))
            .map(drop)
            .map_err(failed("delete a file"))
    }

    async fn delete_all(&self) -> Result<(), HubError> {
        // Only what is ours by name; the folder may be anyone's.
        let hex = |name: &str| Key::from_hex(name.split('.').next().unwrap_or_default());
        for folder in ["files", "parts", "records"] {
            for (_, path) in self.names(folder, hex)? {
                if_there(fs::remove_file(path)).map_err(failed("delete a file"))?;
            }
        }
        Ok(())
    }

    async fn record(&self, key: Key) -> Result<Option<Vec<u8>>, HubError> {
        if_there(fs::read(self.root.join("records").join(key.to_string()))).map_err(failed("read a record"))
    }

    async fn put_record(&self, key: Key, bytes: &[u8]) -> Result<(), HubError> {
        let put = || {
            let folder = self.root.join("records");
            let new = folder.join(format!("{key}.new"));
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, folder.join(key.to_string()))?;
            sync_folder(&folder)
        };
        put().map_err(failed("write a record"))
    }

    async fn remove_record(&self, key: Key) -> Result<(), HubError> {
        let removed = fs::remove_file(self.root.join("records").join(key.to_string()));
        if_there(removed).map(drop).map_err(failed("remove a record"))
    }
}
