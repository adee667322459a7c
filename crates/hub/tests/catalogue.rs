//! The catalogue: names that stay with their files, one change after the other.

mod support;

use lorahub_hub::{
    Base, Catalogue, Commit, FileEntry, FileStore, HubError, Kept, KeptFile, Key, Kind, Module, Repository, Set,
    Sha256, Store, Stored,
};
use support::{COMMIT, Memory, Waits, run};

fn commit() -> Commit {
    Commit::new(COMMIT).expect("valid")
}

fn file(path: &str, content: &[u8]) -> KeptFile {
    KeptFile {
        path: path.to_owned(),
        stored: Stored {
            sha256: Sha256::of(content),
            size: content.len() as u64,
        },
    }
}

fn base(files: Vec<KeptFile>) -> Kept {
    let base = Base {
        id: "x/base".to_owned(),
        repository: Repository::new("x/base").expect("valid"),
        commit: None,
        files: vec![FileEntry::new("config.json")],
        licence: Some("Apache-2.0".to_owned()),
        description: None,
    };
    Kept::base(&base, commit(), files)
}

fn module(name: &str, files: Vec<KeptFile>) -> Kept {
    let module = Module {
        name: name.to_owned(),
        base: "x/base".to_owned(),
        repository: Repository::new("x/module").expect("valid"),
        commit: None,
        files: vec![FileEntry::new("adapter_config.json")],
        rule: Some("exact".to_owned()),
        task: None,
        tags: Vec::new(),
        licence: None,
        description: None,
    };
    Kept::module(&module, commit(), files)
}

#[test]
fn what_is_put_in_is_found_again() {
    let (store, clock) = (Memory::default(), Waits::default());
    assert_eq!(run(Catalogue::load(&store)), Ok(Catalogue::default()));
    let set = Set {
        name: "both".to_owned(),
        modules: vec!["b".to_owned(), "a".to_owned()],
        description: None,
    };
    run(Catalogue::change(&store, &clock, |catalogue| {
        catalogue.put(module("b", vec![file("adapter_config.json", b"b")]));
        catalogue.put(base(vec![file("config.json", b"old")]));
        catalogue.put_set(set.clone());
    }))
    .expect("changed");
    run(Catalogue::change(&store, &clock, |catalogue| {
        catalogue.put(module("a", vec![file("adapter_config.json", b"b")]));
        catalogue.put(base(vec![file("config.json", b"new"), file("sub/more.json", b"more")]));
    }))
    .expect("changed");
    let catalogue = run(Catalogue::load(&store)).expect("a catalogue");
    let names: Vec<_> = catalogue
        .entries()
        .iter()
        .map(|kept| (kept.kind, kept.name.as_str()))
        .collect();
    assert_eq!(
        names,
        [(Kind::Base, "x/base"), (Kind::Module, "a"), (Kind::Module, "b")]
    );
    assert_eq!(catalogue.set("both"), Some(&set));
    assert_eq!(catalogue.set("none"), None);
    assert_eq!(catalogue.hashes().len(), 3, "one content under two names is one");
    let base = catalogue.get(Kind::Base, "x/base").expect("kept");
    assert_eq!(
        base.file("config.json").map(|file| file.sha256),
        Some(Sha256::of(b"new"))
    );
    assert_eq!((base.file("other"), base.bytes()), (None, 7));
    assert_eq!(catalogue.get(Kind::Module, "x/base"), None);
    let module = catalogue.get(Kind::Module, "a").expect("kept");
    assert_eq!(
        (module.base.as_deref(), module.rule.as_deref()),
        (Some("x/base"), Some("exact"))
    );
    run(Catalogue::change(&store, &clock, |catalogue| {
        catalogue.remove(Kind::Module, "a")
    }))
    .expect("changed");
    assert_eq!(run(Catalogue::load(&store)).expect("a catalogue").entries().len(), 2);
}

#[test]
fn files_that_went_are_missed() {
    let store = Memory::default();
    let kept = base(vec![file("config.json", b"content"), file("other.json", b"other")]);
    store
        .files
        .borrow_mut()
        .insert(Sha256::of(b"content"), b"content".to_vec());
    store.files.borrow_mut().insert(Sha256::of(b"other"), b"oth".to_vec());
    let missing = run(kept.missing(&store)).expect("looked up");
    assert_eq!(missing, [&kept.files[1]], "there, but with another size");
}

#[test]
fn a_record_of_another_form_is_refused() {
    let (store, clock) = (Memory::default(), Waits::default());
    run(Catalogue::change(&store, &clock, |_| ())).expect("changed");
    let key = *store.records.borrow().keys().next().expect("a record");
    for text in [
        "",
        "{}",
        r#"{"version":2,"entries":[],"sets":[]}"#,
        r#"{"version":1,"entries":[{}],"sets":[]}"#,
    ] {
        store.records.borrow_mut().insert(key, text.into());
        let error = run(Catalogue::load(&store)).expect_err(text);
        assert_eq!(error.code(), "hub-store", "{text}");
        assert!(
            run(Catalogue::change(&store, &clock, |_| ())).is_err(),
            "{text}: and not written over"
        );
    }
}

#[test]
fn changes_wait_for_each_other() {
    let folder = std::env::temp_dir().join(format!("lorahub-hub-{}-catalogue", std::process::id()));
    let store = FileStore::open(&folder).expect("a folder");
    let clock = Waits::default();
    let lock = run(store.lock(Key::of_text("catalogue"))).expect("free");
    assert_eq!(run(Catalogue::change(&store, &clock, |_| ())), Err(HubError::Busy));
    drop(lock);
    run(Catalogue::change(&store, &clock, |_| ())).expect("free again");
    std::fs::remove_dir_all(&folder).expect("removed");
}
