//! The store of files: what the trait promises, and a download through it that is interrupted.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use lorahub_hub::{Cancel, Chunks, Downloader, FileStore, HubError, KeptTensors, Key, Sha256, Store, Stored, Wanted};
use lorahub_weights::{Dtype, Limits, TensorOut, write_safetensors};
use support::{Act, Rng, Server, Waits, options, run, run_for, source};

/// A folder of its own for a test, empty at first and removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lorahub-hub-{}-{name}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn parts_become_files_and_nothing_else_does() {
    let folder = Folder::new("parts");
    let store = FileStore::open(&folder.0).expect("a folder");
    let (key, content) = (Key::of_text("x"), b"0123456789".to_vec());
    let sha256 = Sha256::of(&content);
    assert_eq!(run(store.journal(key)), Ok(vec![]));
    assert_eq!(run(store.read_part(key, 0..5)), Ok(vec![]));
    run(store.append_journal(key, b"one")).expect("written");
    run(store.append_journal(key, b"two")).expect("written");
    assert_eq!(run(store.journal(key)), Ok(b"onetwo".to_vec()));
    // Behind the end first.
    run(store.write_part(key, 4, &content[4..])).expect("written");
    run(store.write_part(key, 0, &content[..4])).expect("written");
    assert_eq!(run(store.read_part(key, 2..5)), Ok(b"234".to_vec()));
    assert_eq!(run(store.read_part(key, 8..50)), Ok(b"89".to_vec()));
    assert_eq!(run(store.parts()), Ok(vec![key]));
    assert_eq!((run(store.size(sha256)), run(store.list())), (Ok(None), Ok(vec![])));
    let error = run(store.commit(key, 11, sha256)).expect_err("another size");
    assert_eq!(error.code(), "hub-store");
    run(store.commit(key, 10, sha256)).expect("kept");
    assert_eq!(run(store.parts()), Ok(vec![]));
    assert_eq!(run(store.read_part(key, 0..5)), Ok(vec![]));
    assert_eq!(run(store.size(sha256)), Ok(Some(10)));
    assert_eq!(run(store.read(sha256, 3..5)), Ok(b"34".to_vec()));
    assert_eq!(run(store.list()), Ok(vec![Stored { sha256, size: 10 }]));
    assert_eq!(run(store.verify(sha256)), Ok(10));
    let error = run(Chunks::of_kept(&store, sha256, 4)).expect_err("small parts");
    assert_eq!(error.code(), "manifest-chunks");
    let chunks = run(Chunks::of_kept(&store, sha256, 65_536)).expect("kept");
    assert_eq!(chunks.sha256, [sha256], "one part is the whole");
    std::fs::write(store.path(sha256), b"0123456788").expect("spoilt");
    assert!(matches!(run(store.verify(sha256)), Err(HubError::Corrupt { expected, .. }) if expected == sha256));
    // A file without bytes, and strangers in the folder.
    let empty = Sha256::of(b"");
    run(store.commit(Key::of_text("empty"), 0, empty)).expect("kept");
    std::fs::write(folder.0.join("files/readme.txt"), "mine").expect("written");
    assert_eq!(run(store.list()).expect("a list").len(), 2);
    run(store.delete(sha256)).expect("deleted");
    run(store.delete(sha256)).expect("not there any more");
    assert_eq!(run(store.verify(sha256)), Err(HubError::NotKept { sha256 }));
    assert_eq!(run(store.read(sha256, 0..1)), Err(HubError::NotKept { sha256 }));
    assert_eq!(run(store.record(key)), Ok(None));
    run(store.put_record(key, b"a record")).expect("written");
    run(store.put_record(key, b"another")).expect("written");
    assert_eq!(run(store.record(key)), Ok(Some(b"another".to_vec())));
    run(store.append_journal(key, b"one")).expect("written");
    run(store.discard(key)).expect("removed");
    assert_eq!(run(store.parts()), Ok(vec![]));
    run(store.delete_all()).expect("all deleted");
    assert_eq!((run(store.list()), run(store.record(key))), (Ok(vec![]), Ok(None)));
    assert!(folder.0.join("files/readme.txt").exists(), "what is not ours stays");
}

#[test]
fn a_kept_model_is_read_tensor_by_tensor() {
    let folder = Folder::new("tensors");
    let store = FileStore::open(&folder.0).expect("a folder");
    let values: Vec<f32> = (0..600).map(|i| i as f32 / 8.0).collect();
    let tensor = |name: &str, shape: &[usize], dtype| TensorOut {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: &values[..shape.iter().product()],
        dtype,
    };
    let tensors = [tensor("a", &[20, 30], Dtype::F32), tensor("b", &[7], Dtype::F16)];
    let file = write_safetensors(&tensors, &BTreeMap::new()).expect("valid");
    let (sha256, key) = (Sha256::of(&file), Key::of_text("x"));
    run(store.write_part(key, 0, &file)).expect("written");
    run(store.commit(key, file.len() as u64, sha256)).expect("kept");
    let kept = run(KeptTensors::open(&store, sha256, &Limits::BASE)).expect("valid");
    assert_eq!(kept.header().names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(run(kept.f32("a")), Ok(values.clone()));
    assert_eq!(run(kept.f32("b")), Ok(values[..7].to_vec()));
    assert_eq!(run(kept.bytes("b")).expect("there").len(), 14);
    assert_eq!(run(kept.f32("z")).expect_err("not there").code(), "weights-missing");
    std::fs::write(store.path(sha256), &file[..file.len() - 3]).expect("cut");
    assert_eq!(run(kept.f32("b")).expect_err("cut").code(), "weights-tensor-bytes");
    let error = run(KeptTensors::open(&store, sha256, &Limits::BASE)).expect_err("cut");
    assert_eq!(error.code(), "weights-data-cut");
    let error = run(KeptTensors::open(&store, Sha256::of(b"z"), &Limits::BASE)).expect_err("not kept");
    assert_eq!(error.code(), "hub-not-kept");
}

#[test]
fn a_key_is_locked_once() {
    let folder = Folder::new("locks");
    let store = FileStore::open(&folder.0).expect("a folder");
    let key = Key::of_text("x");
    let lock = run(store.lock(key)).expect("free");
    assert!(matches!(run(store.lock(key)), Err(HubError::Busy)));
    assert!(run(store.lock(Key::of_text("y"))).is_ok());
    drop(lock);
    assert!(run(store.lock(key)).is_ok());
}

#[test]
fn a_file_in_the_way_is_an_error() {
    let folder = Folder::new("blocked");
    std::fs::create_dir_all(&folder.0).expect("a folder");
    std::fs::write(folder.0.join("files"), "no folder").expect("written");
    let error = FileStore::open(&folder.0).expect_err("a file is in the way");
    assert_eq!(error.code(), "hub-store");
    assert!(error.to_string().contains("make its folder"), "{error}");
}

#[test]
fn an_interrupted_download_goes_on_in_another_process() {
    let folder = Folder::new("download");
    let file = Rng(4).bytes(20_500);
    let server = Server::new(file.clone()).acts(&[Act::Serve, Act::Cut(3), Act::Stall(1)]);
    let clock = Waits::default();
    let wanted = Wanted {
        source: source(),
        size: Some(20_500),
        sha256: Some(Sha256::of(&file)),
        chunks: None,
        blob: None,
    };
    let mut interruptions = 0;
    loop {
        // Opened anew each time, as after a crash.
        let store = FileStore::open(&folder.0).expect("a folder");
        let downloader = Downloader::new(&server, &clock, &store, options());
        match run_for(
            4 + interruptions % 5,
            downloader.download(&wanted, &Cancel::default(), &|_| ()),
        ) {
            Some(result) => {
                let sha256 = Sha256::of(&file);
                assert_eq!(result, Ok(Stored { sha256, size: 20_500 }));
                assert_eq!(std::fs::read(store.path(sha256)).expect("kept"), file);
                break;
            }
            None => interruptions += 1,
        }
        assert!(interruptions < 100);
    }
    assert!(interruptions > 2, "{interruptions}");
    assert!(server.sent.get() < 20_500 + 3000 * (interruptions as u64 + 1));
}

/// Nobody can fill a disk in a test, so a file is asked for that needs more than there is, on the smaller of two file
/// systems: no file is downloaded that is larger than 64 GiB.
#[test]
fn a_file_that_the_disk_has_no_room_for_is_refused_before_its_first_byte() {
    let mut folder = Folder::new("room");
    let memory = PathBuf::from("/dev/shm");
    let space = |path: &PathBuf| fs4::available_space(path).unwrap_or(u64::MAX);
    if space(&memory) < space(&std::env::temp_dir()) {
        folder = Folder(memory.join(format!("lorahub-hub-{}-room", std::process::id())));
    }
    let store = FileStore::open(&folder.0).expect("a folder");
    let free = run(store.free()).expect("asked").expect("known");
    let total = fs4::total_space(&folder.0).expect("asked");
    assert!(0 < free && free <= total, "{free} of {total}");
    let server = Server::new(Vec::new());
    let clock = Waits::default();
    let downloader = Downloader::new(&server, &clock, &store, options());
    let wanted = Wanted {
        source: source(),
        size: Some(free.saturating_add(1 << 30)),
        sha256: None,
        chunks: None,
        blob: None,
    };
    let error = run(downloader.download(&wanted, &Cancel::default(), &|_| ())).expect_err("too large");
    match error {
        HubError::Quota { needed, free: told } => assert!(needed > told && told <= total, "{needed}, {told}"),
        // A disk with more room than any model needs.
        HubError::TooLarge { found, limit, .. } => assert!(found > limit && free > limit - (1 << 30)),
        other => panic!("{other}"),
    }
    assert!(server.log.borrow().is_empty(), "nothing was asked for");
}
