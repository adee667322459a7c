//! Converted weights in a store, and the sample that is looked at when a file is opened.

mod support;

use lorahub_hub::{
    Base, Catalogue, Commit, Conversion, FileEntry, FileStore, Kept, KeptFile, Kind, Repository, Sha256, Store, Stored,
    check_sample, delete_kept, discard_conversions,
};
use lorahub_weights::Append as _;
use lorahub_weights::quant::WeightStorage;
use support::{COMMIT, Memory, Rng, Server, Waits, download, file, run, wanted};

const NAME: &str = "x/base";
const SOURCE: &str = "source";
/// More than one chunk, the last one short.
const BYTES: usize = (9 << 20) + 5;

/// A store that has a base.
fn with_base<S: Store>(store: &S) {
    let base = Base {
        id: NAME.to_owned(),
        repository: Repository::new(NAME).expect("valid"),
        commit: None,
        files: vec![FileEntry::new("config.json")],
        licence: None,
        description: None,
    };
    let stored = Stored {
        sha256: Sha256::of(b"{}"),
        size: 2,
    };
    let path = "config.json".to_owned();
    let kept = Kept::base(
        &base,
        Commit::new(COMMIT).expect("valid"),
        vec![KeptFile { path, stored }],
    );
    run(Catalogue::change(store, &Waits::default(), |catalogue| {
        catalogue.put(kept)
    }))
    .expect("changed");
}

/// Keeps these bytes, written in pieces, as what was converted.
fn convert<S: Store>(store: &S, source: &str, storage: WeightStorage, bytes: &[u8]) {
    let (conversion, mut out) = run(Conversion::begin(store, NAME, source, storage)).expect("begun");
    for piece in bytes.chunks((3 << 20) + 1) {
        out.append(piece).expect("written");
    }
    run(conversion.keep(&Waits::default(), out)).expect("kept");
}

fn kept<S: Store>(store: &S) -> Kept {
    let catalogue = run(Catalogue::load(store)).expect("a catalogue");
    catalogue.get(Kind::Base, NAME).expect("the base").clone()
}

#[test]
fn what_is_converted_is_kept_with_its_base_until_something_else_is() {
    let store = Memory::default();
    with_base(&store);
    let (first, second) = (Rng(1).bytes(BYTES), Rng(2).bytes(100));
    convert(&store, SOURCE, WeightStorage::Q8, &first);
    assert!(run(store.parts()).expect("listed").is_empty());
    let found = kept(&store).converted(SOURCE, WeightStorage::Q8).expect("kept");
    assert_eq!((found.sha256, found.size), (Sha256::of(&first), BYTES as u64));
    assert_eq!(kept(&store).converted(SOURCE, WeightStorage::Q4), None);
    assert_eq!(kept(&store).converted("another", WeightStorage::Q8), None);
    let mut older = kept(&store);
    older.converted[0].version -= 1;
    assert_eq!(older.converted(SOURCE, WeightStorage::Q8), None);
    assert_eq!(kept(&store).bytes(), 2, "they are no part of what was downloaded");
    assert!(kept(&store).hashes().any(|hash| hash == found.sha256));

    // The same base put in again, as a download does, keeps them.
    with_base(&store);
    assert_eq!(kept(&store).converted(SOURCE, WeightStorage::Q8), Some(found));
    // Of another source they take the place of the old ones, whose file goes with what was recorded of it.
    let records = store.records.borrow().len();
    convert(&store, "another", WeightStorage::Q8, &second);
    assert_eq!(kept(&store).converted(SOURCE, WeightStorage::Q8), None);
    let found = kept(&store).converted("another", WeightStorage::Q8).expect("kept");
    assert_eq!(run(store.list()), Ok(vec![found]));
    assert_eq!(store.records.borrow().len(), records);
    convert(&store, "another", WeightStorage::Q4, &first);
    assert_eq!(kept(&store).converted.len(), 2);
    run(delete_kept(&store, found.sha256)).expect("deleted");
    assert_eq!(run(store.size(found.sha256)), Ok(None));
}

#[test]
fn a_conversion_that_ends_early_leaves_nothing_or_what_can_be_seen() {
    let store = Memory::default();
    with_base(&store);
    let (conversion, mut out) = run(Conversion::begin(&store, NAME, SOURCE, WeightStorage::Q8)).expect("begun");
    let busy = run(Conversion::begin(&store, NAME, SOURCE, WeightStorage::Q8))
        .err()
        .expect("two at once");
    assert_eq!(busy.code(), "hub-busy");
    out.append(b"half").expect("written");
    run(conversion.give_up(Some(out))).expect("removed");
    assert!(run(store.parts()).expect("listed").is_empty() && store.parts.borrow().is_empty());

    // A page that is left says nothing; the next conversion starts anew.
    let (conversion, mut out) = run(Conversion::begin(&store, NAME, SOURCE, WeightStorage::Q8)).expect("begun");
    out.append(b"a half that is longer than the whole").expect("written");
    drop((conversion, out));
    assert_eq!(run(store.parts()).expect("listed").len(), 1);
    convert(&store, SOURCE, WeightStorage::Q8, b"whole");
    let (conversion, out) = run(Conversion::begin(&store, NAME, SOURCE, WeightStorage::F16)).expect("begun");
    drop((conversion, out));
    run(discard_conversions(&store, NAME)).expect("removed");
    assert!(store.parts.borrow().is_empty());
    assert!(run(store.parts()).expect("listed").is_empty());
    assert_eq!(run(store.verify(Sha256::of(b"whole"))), Ok(5));

    // A store that is full says so to the writer.
    store.room.set(Some(3));
    let (conversion, mut out) = run(Conversion::begin(&store, NAME, SOURCE, WeightStorage::Q4)).expect("begun");
    assert_eq!(out.append(b"four").expect_err("full").code(), "weights-write");
    run(conversion.give_up(Some(out))).expect("removed");

    // A base that was deleted meanwhile has no use for them.
    store.room.set(None);
    let (conversion, mut out) = run(Conversion::begin(&store, NAME, SOURCE, WeightStorage::Q4)).expect("begun");
    out.append(b"late").expect("written");
    run(Catalogue::change(&store, &Waits::default(), |catalogue| {
        catalogue.remove(Kind::Base, NAME)
    }))
    .expect("removed");
    let error = run(conversion.keep(&Waits::default(), out)).expect_err("nobody's");
    assert_eq!(error.code(), "hub-not-kept");
    assert_eq!(run(store.size(Sha256::of(b"late"))), Ok(None));
}

#[test]
fn the_chunk_that_is_sampled_shows_its_damage_and_no_other_does() {
    let bytes = Rng(3).bytes(BYTES);
    for at in [0, (4 << 20) - 1, 4 << 20, BYTES - 1] {
        let store = Memory::default();
        with_base(&store);
        convert(&store, SOURCE, WeightStorage::Q8, &bytes);
        let file = kept(&store).converted(SOURCE, WeightStorage::Q8).expect("kept");
        for pick in [0, 1, 2, 3, u64::MAX] {
            run(check_sample(&store, file, "x", pick)).expect("as it was");
        }
        store.files.borrow_mut().get_mut(&file.sha256).expect("kept")[at] ^= 1;
        let chunk = (at / (4 << 20)) as u64;
        run(check_sample(&store, file, "x", chunk + 1)).expect("another chunk");
        let error = run(check_sample(&store, file, "x", chunk)).expect_err("damaged");
        assert_eq!(error.code(), "hub-damaged");
        let (start, end) = (chunk * (4 << 20), ((chunk + 1) * (4 << 20)).min(BYTES as u64));
        assert!(
            error
                .to_string()
                .starts_with(&format!("bytes {start} to {end} of x have changed")),
            "{error}"
        );
        assert_eq!(run(store.size(file.sha256)), Ok(None), "it is deleted");
        assert_eq!(
            run(check_sample(&store, file, "x", 0)).expect_err("gone").code(),
            "hub-not-kept"
        );
    }
}

#[test]
fn a_downloaded_file_is_sampled_and_its_size_is_compared() {
    let (bytes, store) = (file(), Memory::default());
    for hash in [true, false] {
        let stored = download(&Server::new(bytes.clone()), &store, &wanted(&bytes, hash))
            .0
            .expect("kept");
        // Five chunks of a thousand bytes.
        for pick in 0..5 {
            run(check_sample(&store, stored, "x", pick)).expect("as it came");
        }
        store.files.borrow_mut().get_mut(&stored.sha256).expect("kept")[4200] ^= 1;
        run(check_sample(&store, stored, "x", 3)).expect("another chunk");
        assert_eq!(
            run(check_sample(&store, stored, "x", 4)).expect_err("damaged").code(),
            "hub-damaged"
        );
    }
    let stored = download(&Server::new(bytes.clone()), &store, &wanted(&bytes, true))
        .0
        .expect("it is fetched again");
    store
        .files
        .borrow_mut()
        .get_mut(&stored.sha256)
        .expect("kept")
        .truncate(4000);
    let error = run(check_sample(&store, stored, "x", 0)).expect_err("short");
    assert!(error.to_string().contains("(4000 bytes in all)"), "{error}");
    assert_eq!(run(store.size(stored.sha256)), Ok(None));
}

#[test]
fn a_folder_keeps_them_as_memory_does() {
    let folder = std::env::temp_dir().join(format!("lorahub-converted-{}", std::process::id()));
    let store = FileStore::open(&folder).expect("a folder");
    with_base(&store);
    let (conversion, mut out) = run(Conversion::begin(&store, NAME, SOURCE, WeightStorage::Q8)).expect("begun");
    out.append(&[7; 5000]).expect("written");
    drop((conversion, out));
    convert(&store, SOURCE, WeightStorage::Q8, b"shorter");
    let stored = kept(&store).converted(SOURCE, WeightStorage::Q8).expect("kept");
    assert_eq!(run(store.verify(stored.sha256)), Ok(7));
    std::fs::write(store.path(stored.sha256), b"changed").expect("spoilt");
    assert_eq!(
        run(check_sample(&store, stored, "x", 0)).expect_err("damaged").code(),
        "hub-damaged"
    );
    assert!(!store.path(stored.sha256).exists());
    std::fs::remove_dir_all(&folder).expect("removed");
}
