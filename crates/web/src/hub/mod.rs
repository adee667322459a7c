//! [`Hub`]: models and modules from a hub, kept in the browser.

mod cache;
mod direct;
mod fetch;
mod load;
mod opfs;
mod site;
mod store;

use std::cell::Cell;
use std::collections::BTreeSet;

use js_sys::Reflect;
use lorahub_hub::{
    Cancel, Catalogue, Commit, Downloader, Entry, Hub as Address, HubError, Kept, KeptFile, Kind, Manifest, Options,
    Progress, Store as _, Stored, check_sample, delete_kept, discard_conversions, public_manifest,
};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::error::Failure;
use crate::turns::seconds;
use crate::types::to_js;
pub(crate) use direct::Direct;
use fetch::{BrowserClock, BrowserFetch};
use store::BrowserStore;

/// The models and modules of a manifest, downloaded from one hub or mirror into the browser's own file system, or where it
/// gives pages none, into its cache. In a worker only.
#[wasm_bindgen]
pub struct Hub {
    store: BrowserStore,
    address: Address,
    manifest: Manifest,
}

/// What a download tells: which file of which base or module, and what it is doing.
#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    path: &'a str,
    /// From 0, of `files`.
    index: usize,
    files: usize,
    #[serde(flatten)]
    progress: &'a Progress,
}

/// A base or module that was downloaded.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    kept: &'a Kept,
    bytes: u64,
    /// Whether all its files are still there.
    whole: bool,
}

#[wasm_bindgen]
impl Hub {
    /// Opens the store, for this hub or mirror (the public one unless given) and this manifest (the public modules and
    /// Flan-T5 unless given, as the text of a JSON file). Nothing is fetched.
    ///
    /// # Errors
    /// `hub_store` where the browser gives no storage, `manifest_hub` for another address, and a `manifest_...` code for
    /// every way in which a manifest can be wrong.
    pub async fn open(address: Option<String>, manifest: Option<String>) -> Result<Hub, JsValue> {
        Ok(Self::open_at(address.as_deref(), manifest.as_deref()).await?)
    }

    /// The manifest.
    ///
    /// # Errors
    /// None in practice: a conversion of plain values.
    #[wasm_bindgen(getter, unchecked_return_type = "Manifest")]
    pub fn manifest(&self) -> Result<JsValue, JsValue> {
        Ok(to_js(&self.manifest)?)
    }

    /// The host that a download asks first; hubs send the browser on to others for large files.
    #[wasm_bindgen(getter)]
    pub fn address(&self) -> String {
        self.address.as_str().to_owned()
    }

    /// What was downloaded, bases first.
    ///
    /// # Errors
    /// `hub_store`
    #[wasm_bindgen(unchecked_return_type = "Downloaded[]")]
    pub async fn kept(&self) -> Result<JsValue, JsValue> {
        Ok(self.shown().await?)
    }

    /// Bytes that the browser still gives this site; `undefined` if it does not say.
    ///
    /// # Errors
    /// `hub_store`
    pub async fn free(&self) -> Result<Option<f64>, JsValue> {
        let free = self.store.free().await.map_err(Failure::from)?;
        Ok(free.map(|bytes| bytes as f64))
    }

    /// Downloads bases and modules by their names; what is kept already is not fetched again, and what was broken off
    /// goes on. A name's entry in the catalogue is made when all its files are there and have the right hashes.
    ///
    /// # Errors
    /// `hub_unlisted` for a name that the manifest does not have; `hub_cancelled`; `hub_quota`, `hub_busy`, `hub_network`
    /// and a code of its own for everything that a hub can do wrong.
    pub async fn download(
        &self,
        names: Vec<String>,
        signal: Option<web_sys::AbortSignal>,
        #[wasm_bindgen(unchecked_param_type = "((progress: DownloadProgress) => void) | undefined")]
        on_progress: Option<js_sys::Function>,
    ) -> Result<(), JsValue> {
        let cancel = Cancel::default();
        let of_signal = cancel.clone();
        let listener = Closure::<dyn FnMut()>::new(move || of_signal.cancel());
        if let Some(signal) = &signal {
            if signal.aborted() {
                cancel.cancel();
            }
            signal.add_event_listener_with_callback("abort", listener.as_ref().unchecked_ref())?;
        }
        let done = self.download_all(&names, &cancel, on_progress.as_ref()).await;
        if let Some(signal) = &signal {
            signal.remove_event_listener_with_callback("abort", listener.as_ref().unchecked_ref())?;
        }
        Ok(done?)
    }

    /// The files of a base or module that is kept, by their paths. Of each its size is checked, and one of its chunks,
    /// each time another one.
    ///
    /// # Errors
    /// `hub_not_downloaded`, `hub_not_kept` where the browser has cleared a file, and `hub_damaged` where it has changed
    /// one, which is then deleted.
    #[wasm_bindgen(unchecked_return_type = "Record<string, Blob>")]
    pub async fn files(&self, name: &str) -> Result<JsValue, JsValue> {
        let kept = self.find(name).await?;
        let files = js_sys::Object::new();
        for KeptFile { path, stored } in &kept.files {
            self.sample(&kept, path, *stored).await?;
            let blob = self.store.blob(stored.sha256).await.map_err(Failure::from)?;
            Reflect::set(&files, &path.into(), &blob)?;
        }
        Ok(files.into())
    }

    /// Reads every file of a base or module and compares its hash; returns their bytes. Converted weights that are not
    /// what they were are deleted, for they can be made again.
    ///
    /// # Errors
    /// `hub_corrupt` for a file that the browser or a disk has changed, and as [`files`](Self::files).
    pub async fn verify(&self, name: &str) -> Result<f64, JsValue> {
        Ok(self.verified(name).await? as f64)
    }

    /// Deletes a base or module: those of its files that no other has.
    ///
    /// # Errors
    /// `hub_not_downloaded`, `hub_store`
    pub async fn delete(&self, name: &str) -> Result<(), JsValue> {
        Ok(self.remove(name).await?)
    }

    /// Deletes everything that was downloaded, wholly or in part.
    ///
    /// # Errors
    /// `hub_store`
    #[wasm_bindgen(js_name = deleteAll)]
    pub async fn delete_all(&self) -> Result<(), JsValue> {
        Ok(self.store.delete_all().await.map_err(Failure::from)?)
    }
}

impl Hub {
    async fn open_at(address: Option<&str>, manifest: Option<&str>) -> Result<Self, Failure> {
        let address = match address {
            Some(address) => Address::new(address).map_err(HubError::from)?,
            None => Address::public(),
        };
        let manifest = match manifest {
            Some(text) => Manifest::parse(text.as_bytes()).map_err(HubError::from)?,
            None => public_manifest().map_err(HubError::from)?,
        };
        let store = BrowserStore::open().await?;
        Ok(Self {
            store,
            address,
            manifest,
        })
    }

    async fn shown(&self) -> Result<JsValue, Failure> {
        let catalogue = Catalogue::load(&self.store).await?;
        let mut shown = Vec::new();
        for kept in catalogue.entries() {
            shown.push(Shown {
                kept,
                bytes: kept.bytes(),
                whole: kept.missing(&self.store).await?.is_empty(),
            });
        }
        to_js(&shown)
    }

    async fn find(&self, name: &str) -> Result<Kept, Failure> {
        let catalogue = Catalogue::load(&self.store).await?;
        let found = [Kind::Base, Kind::Module].map(|kind| catalogue.get(kind, name));
        found.into_iter().flatten().next().cloned().ok_or_else(|| {
            Failure::new(
                "hub_not_downloaded",
                format!("`{name}` has not been downloaded; download it first"),
            )
        })
    }

    async fn sample(&self, kept: &Kept, path: &str, stored: Stored) -> Result<(), Failure> {
        let name = format!("{}/{path}", kept.name);
        Ok(check_sample(&self.store, stored, &name, pick()).await?)
    }

    async fn verified(&self, name: &str) -> Result<u64, Failure> {
        let kept = self.find(name).await?;
        let mut bytes = 0;
        for file in &kept.files {
            bytes += self.store.verify(file.stored.sha256).await?;
        }
        for one in &kept.converted {
            match self.store.verify(one.stored.sha256).await {
                Ok(own) => bytes += own,
                Err(HubError::Corrupt { .. } | HubError::NotKept { .. }) => {
                    delete_kept(&self.store, one.stored.sha256).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bytes)
    }

    async fn download_all(
        &self,
        names: &[String],
        cancel: &Cancel,
        on_progress: Option<&js_sys::Function>,
    ) -> Result<(), Failure> {
        let mut entries = Vec::new();
        for name in names {
            let before = entries.len();
            entries.extend(Entry::find(&self.manifest, name));
            if entries.len() == before {
                return Err(Failure::new(
                    "hub_unlisted",
                    format!("`{name}` is not in the manifest; choose one that it lists"),
                ));
            }
        }
        // Without it the browser may clear what took an hour to come. It may refuse, and then things stay as they are.
        site::persist().await;
        let mut options = Options::new(self.address.clone(), 0);
        options.seed = (seconds() * 1e3) as u64;
        let downloader = Downloader::new(&BrowserFetch, &BrowserClock, &self.store, options);
        let files = entries.iter().map(|entry| entry.files().len()).sum();
        let index = Cell::new(0);
        for entry in &entries {
            let commit = match entry.commit() {
                Some(commit) => commit.clone(),
                None => downloader.commit_of(entry.repository(), cancel).await?,
            };
            let tell = |path: &str, progress: &Progress| {
                let told = Told {
                    name: entry.name(),
                    path,
                    index: index.get(),
                    files,
                    progress,
                };
                if let (Some(listener), Ok(told)) = (on_progress, to_js(&told)) {
                    // A listener that throws is the listener's fault; the download goes on.
                    let _ = listener.call1(&JsValue::UNDEFINED, &told);
                }
            };
            if let Some(whole) = self.whole(entry, &commit).await? {
                for KeptFile { path, stored } in &whole.files {
                    tell(path, &Progress::Kept { bytes: stored.size });
                    index.set(index.get() + 1);
                }
                continue;
            }
            let mut kept = Vec::new();
            for wanted in downloader.completed(entry, &commit, cancel).await?.wanted {
                let path = wanted.source.path().to_owned();
                let progress = |progress| tell(&path, &progress);
                let stored = downloader.download(&wanted, cancel, &progress).await?;
                kept.push(KeptFile { path, stored });
                index.set(index.get() + 1);
            }
            let kept = entry.kept(&commit, kept);
            Catalogue::change(&self.store, &BrowserClock, |catalogue| catalogue.put(kept)).await?;
        }
        Ok(())
    }

    /// What is kept of an entry at a commit, if all of it is.
    async fn whole(&self, entry: &Entry, commit: &Commit) -> Result<Option<Kept>, Failure> {
        let catalogue = Catalogue::load(&self.store).await?;
        match catalogue.get(entry.kind(), entry.name()) {
            Some(kept) if kept.is_whole(entry, commit, &self.store).await? => Ok(Some(kept.clone())),
            _ => Ok(None),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        let kept = self.find(name).await?;
        let mut left = BTreeSet::new();
        Catalogue::change(&self.store, &BrowserClock, |catalogue| {
            catalogue.remove(kept.kind, &kept.name);
            left = catalogue.hashes();
        })
        .await?;
        for sha256 in kept.hashes().filter(|hash| !left.contains(hash)) {
            delete_kept(&self.store, sha256).await?;
        }
        if kept.kind == Kind::Base {
            discard_conversions(&self.store, &kept.name).await?;
        }
        Ok(())
    }
}

/// Which chunk of a file is sampled: another one each time, by the clock.
fn pick() -> u64 {
    (seconds() * 1e3) as u64
}
