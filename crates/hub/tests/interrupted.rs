//! Downloads that are cancelled, locked out, or end as a crash would end them, and go on later.

mod support;

use std::cell::Cell;
use std::time::Duration;

use lorahub_hub::{Cancel, Commit, Downloader, HubError, Key, Options, Repository, Sha256, Store};
use support::{
    Act, COMMIT, Memory, Rng, Server, Waits, download, file, options, run, run_for, stored, wanted, with_chunks,
};

#[test]
fn one_download_at_a_time() {
    let file = file();
    let (server, store) = (Server::new(file.clone()), Memory::default());
    let wanted = wanted(&file, true);
    let lock = run(store.lock(Key::of(&wanted.source, wanted.sha256))).expect("free");
    let clock = Waits::default();
    let downloader = Downloader::new(&server, &clock, &store, options());
    let result = run(downloader.download(&wanted, &Cancel::default(), &|_| ()));
    assert_eq!(result, Err(HubError::Busy));
    drop(lock);
    assert!(download(&server, &store, &wanted).0.is_ok());
}

#[test]
fn a_cancelled_download_goes_on_later() {
    let file = file();
    for after in 0..5 {
        let (server, store) = (Server::new(file.clone()), Memory::default());
        let clock = Waits::default();
        let cancel = Cancel::default();
        let remote = cancel.clone();
        server.set_plan(move |n, _| {
            if n == after {
                remote.cancel();
            }
            Act::Serve
        });
        let wanted = wanted(&file, true);
        let one = Options {
            parallel: 1,
            ..options()
        };
        let downloader = Downloader::new(&server, &clock, &store, one);
        let result = run(downloader.download(&wanted, &cancel, &|_| ()));
        assert_eq!(result, Err(HubError::Cancelled), "{after}");
        server.set_plan(|_, _| Act::Serve);
        let sent = server.sent.get();
        assert_eq!(download(&server, &store, &wanted).0, Ok(stored(&file)), "{after}");
        assert_eq!(
            server.sent.get() - sent,
            4500 - 1000 * after as u64,
            "only what is missing"
        );
    }
    // In the middle of a wait, and of an answer that does not come.
    for act in [Act::Wait(429, "200"), Act::Stall(5)] {
        let (server, store) = (Server::new(file.clone()).plan(move |_, _| act), Memory::default());
        let clock = Waits::default();
        let cancel = Cancel::default();
        let wanted = wanted(&file, true);
        let downloader = Downloader::new(&server, &clock, &store, options());
        let mut future = std::pin::pin!(downloader.download(&wanted, &cancel, &|_| ()));
        assert!(run_for(5, future.as_mut()).is_none(), "{act:?}");
        cancel.cancel();
        assert_eq!(run_for(50, future.as_mut()), Some(Err(HubError::Cancelled)), "{act:?}");
        assert!(clock.now.get() < Duration::from_secs(29), "{act:?}");
    }
}

#[test]
fn a_commit_is_resolved_once_and_recorded() {
    let answer = |commit: &str| format!(r#"{{"id":"a/b","sha":"{commit}"}}"#).into_bytes();
    let (server, store) = (Server::new(answer(COMMIT)).acts(&[Act::Status(500)]), Memory::default());
    let clock = Waits::default();
    let repository = Repository::new("lorahub/flan_t5_large-trec").expect("valid");
    let downloader = Downloader::new(&server, &clock, &store, options());
    let cancel = Cancel::default();
    assert_eq!(
        run(downloader.commit_of(&repository, &cancel))
            .expect("resolved")
            .as_str(),
        COMMIT
    );
    assert!(
        server.log.borrow()[1]
            .url
            .ends_with("/api/models/lorahub/flan_t5_large-trec/revision/main")
    );
    // It moves; what was recorded is used, and the change can be shown.
    let later = COMMIT.replace('0', "f");
    server.file.replace(answer(&later));
    assert_eq!(
        run(downloader.commit_of(&repository, &cancel))
            .expect("recorded")
            .as_str(),
        COMMIT
    );
    assert_eq!(server.requests(), 2);
    assert_eq!(
        run(downloader.latest(&repository, &cancel))
            .expect("the new one")
            .as_str(),
        later
    );
    server.file.replace(b"<html>".to_vec());
    assert_eq!(
        run(downloader.latest(&repository, &cancel)).expect_err("a page").code(),
        "hub-api"
    );
    let commit = Commit::new(COMMIT).expect("valid");
    server
        .file
        .replace(br#"[{"type":"file","path":"config.json","size":3}]"#.to_vec());
    assert_eq!(
        run(downloader.files_of(&repository, &commit, &cancel))
            .expect("a list")
            .len(),
        1
    );
}

/// Everything at once, for many seeds: random sizes, faults, hashes known or not, crashes at any moment that lose what
/// was not yet written, until it is there. What is kept is checked as it is kept (`Memory::commit`).
#[test]
fn no_fault_and_no_crash_leaves_a_wrong_file() {
    let (mut crashes, mut errors) = (0, 0);
    for seed in 0..600 {
        let mut rng = Rng(seed);
        let len = rng.below(9000) as usize;
        let file = rng.bytes(len);
        let mode = rng.below(3);
        let wanted = match mode {
            0 => wanted(&file, false),
            1 => wanted(&file, true),
            _ => with_chunks(&file, 1000),
        };
        // Without hashes of chunks a flipped bit loses all, and without any hash nobody can tell.
        let flips = mode == 2;
        let faults = rng.below(90);
        let ranges = rng.below(4) > 0;
        let mut fate = Rng(seed + 1_000_000);
        let server = Server::new(file.clone()).plan(move |_, request| {
            if fate.below(100) >= faults {
                return if ranges || request.range.is_none() {
                    Act::Serve
                } else {
                    Act::Whole
                };
            }
            let n = fate.below(1200) as usize;
            match fate.below(12) {
                0 => Act::Refuse,
                1 => Act::Cut(n),
                2 if request.range.is_some() => Act::Short(n),
                3 => Act::Stall(n),
                4 if flips => Act::Flip(n),
                5 if request.range.is_some() => Act::Long,
                6 => Act::Status(500),
                7 => Act::Wait(429, "3"),
                8 => Act::Status(403),
                9 => Act::WrongRange,
                10 => Act::NoSense,
                _ => Act::Cut(0),
            }
        });
        server.shows_headers.set(rng.below(4) > 0);
        let store = Memory::default();
        let clock = Waits::default();
        let mut left = 400;
        loop {
            left -= 1;
            assert!(left > 0, "seed {seed} never ends");
            let downloader = Downloader::new(&server, &clock, &store, options());
            let polls = if rng.below(4) == 0 {
                100_000
            } else {
                1 + rng.below(8) as usize
            };
            match run_for(polls, downloader.download(&wanted, &Cancel::default(), &|_| ())) {
                Some(Ok(found)) => {
                    assert_eq!(found, stored(&file), "seed {seed}");
                    break;
                }
                Some(Err(error)) => {
                    errors += 1;
                    let expected = ["hub-network", "hub-forbidden", "hub-chunk-digest"];
                    assert!(expected.contains(&error.code()), "seed {seed}: {error}");
                }
                None => {
                    crashes += 1;
                    store.crash(&mut rng);
                }
            }
        }
        assert_eq!(run(store.verify(Sha256::of(&file))), Ok(len as u64), "seed {seed}");
    }
    assert!(crashes > 500 && errors > 50, "{crashes} crashes, {errors} errors");
}

/// Interrupted again and again, a download by ranges fetches again at most the chunks in flight.
#[test]
fn an_interrupted_download_fetches_little_again() {
    let file = Rng(3).bytes(200_000);
    let (server, store) = (Server::new(file.clone()), Memory::default());
    let clock = Waits::default();
    let wanted = wanted(&file, true);
    let lost = Cell::new(0u64);
    let mut interruptions = 0;
    loop {
        let downloader = Downloader::new(&server, &clock, &store, options());
        let sent = server.sent.get();
        let key = Key::of(&wanted.source, wanted.sha256);
        let lines = |store: &Memory| {
            let journal = store.journals.borrow().get(&key).cloned().unwrap_or_default();
            journal
                .split(|byte| *byte == b'\n')
                .filter(|line| line.starts_with(b"{\"chunk\""))
                .count() as u64
        };
        let before = lines(&store);
        match run_for(
            4 + interruptions % 5,
            downloader.download(&wanted, &Cancel::default(), &|_| ()),
        ) {
            Some(result) => {
                assert_eq!(result, Ok(stored(&file)));
                break;
            }
            None => {
                interruptions += 1;
                let kept = 1000 * (lines(&store) - before);
                lost.set(lost.get() + (server.sent.get() - sent).saturating_sub(kept));
            }
        }
        assert!(interruptions < 500);
    }
    assert!(interruptions >= 10, "{interruptions}");
    let again = server.sent.get() - 200_000;
    assert_eq!(again, lost.get());
    assert!(
        again <= 3000 * interruptions as u64,
        "{again} bytes for {interruptions} interruptions"
    );
}
