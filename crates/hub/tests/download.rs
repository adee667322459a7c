//! Downloads from a server that fails: what is kept is always right, and as little as possible comes twice.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use lorahub_hub::{Cancel, Downloader, GitBlob, HubError, Key, Options, Progress, Reason, Sha256, Store, Wanted};
use support::{
    Act, COMMIT, Memory, Rng, Server, Waits, download, file, options, run, run_for, stored, wanted, with_chunks,
};

#[test]
fn ranges_fetch_a_file_once() {
    for size in [0, 1, 999, 1000, 1001, 4500, 5000] {
        for hash in [true, false] {
            for shows_headers in [true, false] {
                let file = Rng(2).bytes(size);
                let (server, store) = (Server::new(file.clone()), Memory::default());
                server.shows_headers.set(shows_headers);
                let wanted = wanted(&file, hash);
                let what = format!("{size} bytes, hash {hash}, headers {shows_headers}");
                let (result, told) = download(&server, &store, &wanted);
                assert_eq!(result, Ok(stored(&file)), "{what}");
                assert_eq!(store.files.borrow()[&Sha256::of(&file)], file, "{what}");
                assert!(
                    store.journals.borrow().is_empty() && store.parts.borrow().is_empty(),
                    "{what}"
                );
                let Some(Progress::Done { bytes, fetched }) = told.last() else {
                    panic!("{what}: {told:?}");
                };
                assert_eq!(*bytes, size as u64, "{what}");
                // Without a size the server has to tell it, else the answer to the first range is for nothing.
                assert!(*fetched <= size as u64 + 1000, "{what}: {fetched}");
                // And a second time it is there.
                let requests = server.requests();
                let (result, told) = download(&server, &store, &wanted);
                assert_eq!(result, Ok(stored(&file)), "{what}");
                assert_eq!(told, [Progress::Kept { bytes: size as u64 }], "{what}");
                assert_eq!(server.requests(), requests, "{what}");
            }
        }
    }
}

#[test]
fn requests_are_single_ranges_at_the_pinned_commit() {
    let file = file();
    let (server, store) = (Server::new(file.clone()), Memory::default());
    download(&server, &store, &wanted(&file, true)).0.expect("good");
    let log = server.log.borrow();
    let url = format!("http://127.0.0.1:1/lorahub/flan_t5_large-trec/resolve/{COMMIT}/adapter_model.bin");
    assert!(log.iter().all(|request| request.url == url && !request.fresh));
    let ranges: Vec<_> = log.iter().filter_map(lorahub_hub::Request::range_header).collect();
    assert_eq!(
        ranges,
        [
            "bytes=0-999",
            "bytes=1000-1999",
            "bytes=2000-2999",
            "bytes=3000-3999",
            "bytes=4000-4499"
        ]
    );
}

#[test]
fn a_few_ranges_are_fetched_at_once() {
    let file = file();
    let store = Memory::default();
    // Nobody answers the first three: were they not sent at once, there would be fewer before the first stalls.
    let server = Server::new(file.clone()).plan(|n, _| if n < 3 { Act::Stall(0) } else { Act::Serve });
    let clock = Waits::default();
    let cancel = Cancel::default();
    let wanted = wanted(&file, true);
    let downloader = Downloader::new(&server, &clock, &store, options());
    assert!(run_for(3, downloader.download(&wanted, &cancel, &|_| ())).is_none());
    assert_eq!(server.requests(), 3);
}

#[test]
fn every_passing_fault_is_overcome() {
    let file = file();
    let faults: [(&[Act], Reason); 13] = [
        (&[Act::Refuse], Reason::Network),
        (&[Act::Cut(0), Act::Cut(1), Act::Cut(999)], Reason::Network),
        (&[Act::Short(0), Act::Short(500)], Reason::Network),
        (&[Act::Stall(0), Act::Stall(700)], Reason::Stalled),
        (&[Act::Long], Reason::Reply),
        (&[Act::WrongRange, Act::WrongRange], Reason::Reply),
        (&[Act::NoSense], Reason::Reply),
        (&[Act::Status(500), Act::Status(502), Act::Status(504)], Reason::Server),
        (&[Act::Status(408)], Reason::Server),
        (&[Act::Status(429), Act::Status(429)], Reason::Busy),
        (&[Act::Wait(503, "7")], Reason::Busy),
        (&[Act::Status(403)], Reason::Expired),
        (&[Act::Flip(3)], Reason::Hash),
    ];
    for (acts, expected) in faults {
        let (server, store) = (Server::new(file.clone()).acts(acts), Memory::default());
        let (result, told) = download(&server, &store, &with_chunks(&file, 1000));
        assert_eq!(result, Ok(stored(&file)), "{acts:?}");
        let reasons: Vec<_> = told
            .iter()
            .filter_map(|progress| match progress {
                Progress::Waiting { reason, .. } => Some(*reason),
                _ => None,
            })
            .collect();
        assert_eq!(reasons, vec![expected; acts.len()], "{acts:?}");
        assert!(!told.contains(&Progress::Whole), "{acts:?}");
        // Only what failed came again.
        assert_eq!(server.requests(), 5 + acts.len(), "{acts:?}");
    }
}

#[test]
fn after_a_refusal_caches_are_passed_by() {
    let file = file();
    let (server, store) = (Server::new(file.clone()).acts(&[Act::Status(403)]), Memory::default());
    download(&server, &store, &wanted(&file, true)).0.expect("good");
    let log = server.log.borrow();
    assert!(!log[0].fresh && log.last().expect("requests").fresh);
}

#[test]
fn the_server_says_how_long_to_wait() {
    let file = file();
    let clock = Waits::default();
    let (server, store) = (
        Server::new(file.clone()).acts(&[Act::Wait(429, "40")]),
        Memory::default(),
    );
    let told = RefCell::new(Vec::new());
    let downloader = Downloader::new(&server, &clock, &store, options());
    let wanted = wanted(&file, true);
    let result = run(downloader.download(&wanted, &Cancel::default(), &|progress| {
        told.borrow_mut().push(progress)
    }));
    assert_eq!(result, Ok(stored(&file)));
    assert!(clock.now.get() >= Duration::from_secs(40));
    assert!(told.borrow().contains(&Progress::Waiting {
        reason: Reason::Busy,
        attempt: 1,
        seconds: 40.0
    }));
    let server = Server::new(file.clone()).acts(&[Act::Wait(429, "4000")]);
    let error = download(&server, &Memory::default(), &wanted).0.expect_err("too long");
    assert!(matches!(error, HubError::RateLimited { seconds: 4000, .. }), "{error}");
}

#[test]
fn waits_grow_and_vary_with_the_seed() {
    let file = file();
    let waits = |seed| {
        let (server, store) = (
            Server::new(file.clone()).plan(|_, _| Act::Status(500)),
            Memory::default(),
        );
        let clock = Waits::default();
        let told = RefCell::new(Vec::new());
        let one = Options {
            seed,
            parallel: 1,
            ..options()
        };
        let downloader = Downloader::new(&server, &clock, &store, one);
        let wanted = wanted(&file, true);
        let result = run(downloader.download(&wanted, &Cancel::default(), &|progress| {
            if let Progress::Waiting { seconds, .. } = progress {
                told.borrow_mut().push(seconds);
            }
        }));
        assert!(
            matches!(result, Err(HubError::Network { attempts: 6, .. })),
            "{result:?}"
        );
        assert_eq!(server.requests(), 6);
        told.into_inner()
    };
    let first = waits(1);
    assert_eq!(first.len(), 5);
    for (n, wait) in first.iter().enumerate() {
        let most = 0.5 * f64::from(1 << n);
        assert!((most / 2.0..=most).contains(wait), "{first:?}");
    }
    assert_eq!(first, waits(1));
    assert_ne!(first, waits(2));
}

#[test]
fn lasting_faults_end_with_their_own_error() {
    let file = file();
    let cases = [
        (Act::Refuse, "hub-network", "no answer"),
        (Act::Cut(10), "hub-network", "reset"),
        (Act::Short(10), "hub-network", "broke off"),
        (Act::Stall(10), "hub-network", "30 seconds"),
        (Act::Status(500), "hub-network", "status 500"),
        (Act::Status(404), "hub-not-found", "commit"),
        (Act::Status(410), "hub-not-found", "410"),
        (Act::Status(401), "hub-forbidden", "login"),
        (Act::Status(403), "hub-forbidden", "terms"),
        (Act::Status(451), "hub-status", "451"),
        (Act::Status(302), "hub-status", "302"),
        (Act::Flip(7), "hub-chunk-digest", "bytes"),
    ];
    for (act, code, words) in cases {
        let (server, store) = (Server::new(file.clone()).plan(move |_, _| act), Memory::default());
        let error = download(&server, &store, &with_chunks(&file, 1000)).0.expect_err(code);
        assert_eq!(error.code(), code, "{act:?}: {error}");
        for words in [words, "http://127.0.0.1:1/lorahub"] {
            assert!(error.to_string().contains(words), "{act:?}: {error}");
        }
        assert!(store.files.borrow().is_empty(), "{act:?}");
    }
}

#[test]
fn where_ranges_fail_the_whole_file_is_fetched() {
    let file = file();
    for act in [
        Act::Whole,
        Act::Refuse,
        Act::Long,
        Act::WrongRange,
        Act::NoSense,
        Act::Status(400),
        Act::Status(405),
        Act::Status(416),
        Act::Status(501),
    ] {
        for hash in [true, false] {
            let plan = move |_, request: &lorahub_hub::Request| match request.range {
                Some(_) => act,
                None => Act::Serve,
            };
            let (server, store) = (Server::new(file.clone()).plan(plan), Memory::default());
            let (result, told) = download(&server, &store, &wanted(&file, hash));
            assert_eq!(result, Ok(stored(&file)), "{act:?}, hash {hash}");
            assert!(told.contains(&Progress::Whole), "{act:?}, hash {hash}");
            let whole = server
                .log
                .borrow()
                .iter()
                .filter(|request| request.range.is_none())
                .count();
            assert_eq!(whole, 1, "{act:?}, hash {hash}");
        }
    }
}

#[test]
fn a_whole_file_that_breaks_off_goes_on_with_its_chunks() {
    let file = file();
    // Whole answers that break off at 1500, 2500, then are good; a broken one that had a new chunk is progress.
    let plan = |n: usize, request: &lorahub_hub::Request| match (&request.range, n) {
        (Some(_), _) => Act::Whole,
        (None, n) if n < 20 => Act::Cut(1500 + 10 * n),
        (None, _) => Act::Serve,
    };
    let (server, store) = (Server::new(file.clone()).plan(plan), Memory::default());
    let (result, _) = download(&server, &store, &with_chunks(&file, 1000));
    // The first chunk is progress once; after that six broken answers in a row are enough.
    assert_eq!(result.expect_err("it never ends").code(), "hub-network");
    let key = Key::of(&support::source(), Some(Sha256::of(&file)));
    assert_eq!(store.parts.borrow()[&key].len(), 1000);
    server.set_plan(|_, _| Act::Serve);
    let requests = server.requests();
    let (result, told) = download(&server, &store, &with_chunks(&file, 1000));
    assert_eq!(result, Ok(stored(&file)));
    assert_eq!(server.requests() - requests, 4, "the first chunk is there");
    assert!(told.contains(&Progress::Checking {
        done: 1000,
        total: 1000
    }));
}

#[test]
fn wrong_content_is_never_kept() {
    let file = file();
    // One flipped bit, of which no chunk hash tells: the whole hash does, and all goes.
    let (server, store) = (Server::new(file.clone()).acts(&[Act::Flip(5)]), Memory::default());
    let error = download(&server, &store, &wanted(&file, true)).0.expect_err("wrong");
    assert!(
        matches!(error, HubError::Digest { expected, .. } if expected == Sha256::of(&file)),
        "{error}"
    );
    assert!(store.files.borrow().is_empty() && store.parts.borrow().is_empty() && store.journals.borrow().is_empty());
    assert_eq!(download(&server, &store, &wanted(&file, true)).0, Ok(stored(&file)));
    // With chunk hashes only its chunk comes again.
    let (server, store) = (Server::new(file.clone()).acts(&[Act::Flip(5)]), Memory::default());
    assert_eq!(
        download(&server, &store, &with_chunks(&file, 1000)).0,
        Ok(stored(&file))
    );
    assert_eq!(server.requests(), 6);
}

#[test]
fn a_bit_that_the_storage_flips_costs_one_chunk() {
    let file = file();
    for hash in [true, false] {
        let (server, store) = (Server::new(file.clone()), Memory::default());
        store.spoils.set(Some(2100));
        assert_eq!(
            download(&server, &store, &wanted(&file, hash)).0,
            Ok(stored(&file)),
            "{hash}"
        );
        assert_eq!(server.requests(), 6, "{hash}");
        assert_eq!(server.sent.get(), 5500, "{hash}");
    }
}

#[test]
fn another_size_is_refused() {
    let mut file = file();
    let wanted = wanted(&file, true);
    file.push(1);
    let error = download(&Server::new(file.clone()), &Memory::default(), &wanted)
        .0
        .expect_err("longer");
    assert!(
        matches!(
            error,
            HubError::Size {
                expected: 4500,
                found: 4501,
                ..
            }
        ),
        "{error}"
    );
    for size in [4001, 100] {
        file.truncate(size);
        let error = download(&Server::new(file.clone()), &Memory::default(), &wanted)
            .0
            .expect_err("shorter");
        assert!(
            matches!(error, HubError::Size { expected: 4500, found, .. } if found == size as u64),
            "{error}"
        );
    }
    // Without ranges, and without being told its length.
    let server = Server::new(Rng(9).bytes(4600)).plan(|_, _| Act::Whole);
    server.shows_headers.set(false);
    let error = download(&server, &Memory::default(), &wanted).0.expect_err("longer");
    assert!(matches!(error, HubError::Size { expected: 4500, .. }), "{error}");
}

#[test]
fn a_size_that_no_file_has_is_refused() {
    let file = file();
    let server = Server::new(file.clone()).plan(|_, _| Act::Huge);
    let error = download(&server, &Memory::default(), &wanted(&file, false))
        .0
        .expect_err("too large");
    assert!(matches!(error, HubError::TooLarge { found: u64::MAX, .. }), "{error}");
    let mut wanted = wanted(&file, true);
    wanted.size = Some(1 << 40);
    let error = download(&Server::new(file), &Memory::default(), &wanted)
        .0
        .expect_err("too large");
    assert_eq!(error.code(), "hub-too-large");
}

#[test]
fn what_was_seen_first_must_stay() {
    let (first, second) = (file(), Rng(5).bytes(4500));
    let store = Memory::default();
    let wanted = wanted(&first, false);
    assert_eq!(
        download(&Server::new(first.clone()), &store, &wanted).0,
        Ok(stored(&first))
    );
    run(store.delete(Sha256::of(&first))).expect("deleted");
    let error = download(&Server::new(second), &store, &wanted)
        .0
        .expect_err("another file");
    assert!(
        matches!(error, HubError::Digest { expected, .. } if expected == Sha256::of(&first)),
        "{error}"
    );
    assert_eq!(
        download(&Server::new(first.clone()), &store, &wanted).0,
        Ok(stored(&first))
    );
    // A record that cannot be read is no licence to trust anything.
    run(store.delete(Sha256::of(&first))).expect("deleted");
    store
        .records
        .borrow_mut()
        .values_mut()
        .for_each(|record| record.truncate(5));
    assert_eq!(
        download(&Server::new(first), &store, &wanted)
            .0
            .expect_err("no record")
            .code(),
        "hub-store"
    );
}

#[test]
fn a_file_that_changes_while_it_comes_starts_again() {
    let (first, second) = (file(), Rng(5).bytes(3700));
    for changes_twice in [false, true] {
        let server = Rc::new(Server::new(first.clone()));
        let (weak, new) = (Rc::downgrade(&server), second.clone());
        server.set_plan(move |n, _| {
            let server = weak.upgrade().expect("a server");
            if n == 3 {
                server.file.replace(new.clone());
                server.etag.replace(Some("\"two\"".to_owned()));
            }
            if n == 7 && changes_twice {
                server.etag.replace(Some("\"three\"".to_owned()));
            }
            Act::Serve
        });
        let store = Memory::default();
        let result = download(&server, &store, &wanted(&first, false)).0;
        if changes_twice {
            assert_eq!(result.expect_err("it changes").code(), "hub-changed");
            assert!(store.files.borrow().is_empty());
        } else {
            assert_eq!(result, Ok(stored(&second)));
        }
    }
}

#[test]
fn space_is_asked_for_first() {
    let file = file();
    let store = Memory::default();
    store.room.set(Some(4499));
    let server = Server::new(file.clone());
    let error = download(&server, &store, &wanted(&file, true)).0.expect_err("no room");
    assert_eq!(
        error,
        HubError::Quota {
            needed: 4500,
            free: 4499
        }
    );
    assert_eq!(server.requests(), 0);
    store.room.set(Some(4500));
    assert_eq!(download(&server, &store, &wanted(&file, true)).0, Ok(stored(&file)));
}

#[test]
fn a_small_file_is_held_against_its_name_in_git() {
    // As `printf 'hello\n' | git hash-object --stdin` says.
    let blob = GitBlob::from_hex("ce013625030ba8dba906f756967f9e9ca394464a");
    let file = b"hello\n".to_vec();
    let wanted = Wanted {
        blob,
        ..wanted(&file, false)
    };
    let (server, store) = (Server::new(file.clone()).acts(&[Act::Flip(2)]), Memory::default());
    let (result, _) = download(&server, &store, &wanted);
    let error = result.expect_err("a flipped bit");
    assert!(
        matches!(&error, HubError::BlobDigest { expected, .. } if Some(*expected) == blob),
        "{error}"
    );
    assert!(store.files.borrow().is_empty() && store.parts.borrow().is_empty() && store.records.borrow().is_empty());
    assert_eq!(download(&server, &store, &wanted).0, Ok(stored(&file)));
}
