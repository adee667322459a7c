//! Every fault of the CDN: it is overcome, or ends with its own error; what is kept is always right.

use std::time::{Duration, Instant};

use lorahub_hub::Sha256;
use serde_json::{Value, json};

use super::cdn::{Cdn, Rng};

/// Bytes of a range.
const CHUNK: usize = 65_536;
const FILE: &str = "x/base/model.safetensors";

/// A hub with one file of seven ranges.
struct One {
    cdn: Cdn,
    bytes: Vec<u8>,
    sha256: Sha256,
}

impl One {
    fn new() -> Self {
        let cdn = Cdn::start();
        let bytes = Rng(3).bytes(6 * CHUNK + 5000);
        let sha256 = cdn.write("x/base", "model.safetensors", &bytes);
        Self { cdn, bytes, sha256 }
    }

    /// A manifest with the hashes of the file's parts.
    fn chunked(&self) -> String {
        let hashes: Vec<_> = self
            .bytes
            .chunks(CHUNK)
            .map(|part| Sha256::of(part).to_string())
            .collect();
        let file = json!({ "path": "model.safetensors", "size": self.bytes.len(), "sha256": self.sha256.to_string(),
                           "chunks": { "bytes": CHUNK, "sha256": hashes } });
        self.cdn.manifest(&json!([file]), &json!({}))
    }

    /// A manifest that knows nothing but the name; the hub's list tells the rest.
    fn plain(&self) -> String {
        self.cdn.manifest(&json!([{ "path": "model.safetensors" }]), &json!({}))
    }

    fn arguments<'a>(&'a self, manifest: &'a str) -> Vec<&'a str> {
        self.cdn
            .download(&["x/base", "--manifest", manifest, "--chunk-bytes", "65536"])
    }

    /// Forgets everything but the faults.
    fn clear(&self) {
        // A store that was never made is empty too.
        let _ = std::fs::remove_dir_all(self.cdn.folder.path().join("store"));
        self.cdn.forget();
    }

    fn assert_whole(&self, what: &Value) {
        assert!(self.cdn.kept(self.sha256) == Some(self.bytes.clone()), "{what}");
        assert_eq!(self.cdn.files(), 1, "{what}");
    }
}

#[test]
fn passing_faults_are_overcome() {
    let one = One::new();
    let (chunked, plain) = (one.chunked(), one.plain());
    let n = 7;
    // The fault, what is said of it, and how many requests reach the CDN in all.
    for (fault, says, requests) in [
        (json!({ "kind": "refuse" }), "broke off", n + 1),
        (json!({ "kind": "drop", "at": 0 }), "broke off", n + 1),
        (json!({ "kind": "drop", "at": 30_000, "after": 3 }), "broke off", n + 1),
        (json!({ "kind": "truncate", "at": 1000 }), "broke off", n + 1),
        (json!({ "kind": "stall", "at": 20_000 }), "nothing comes", n + 1),
        (json!({ "kind": "wrong-range" }), "other bytes came", n + 1),
        (
            json!({ "kind": "status", "status": 500, "count": 2 }),
            "the server failed",
            n + 2,
        ),
        (
            json!({ "kind": "status", "status": 429, "retryAfter": 1 }),
            "asks to wait; try 2 in 1.0 s",
            n + 1,
        ),
        (
            json!({ "kind": "status", "status": 429, "hop": "hub" }),
            "asks to wait",
            n,
        ),
        (json!({ "kind": "status", "status": 503, "hop": "api" }), "", n),
        (json!({ "kind": "expired" }), "no longer good", n + 1),
        (json!({ "kind": "flip", "at": 100_000 }), "another hash", n + 1),
        (json!({ "kind": "no-ranges", "count": null }), "in one", 1),
        (json!({ "kind": "hidden", "count": null }), "", n),
        (
            json!({ "kind": "slow", "bytesPerSecond": 500_000, "count": null }),
            "",
            n,
        ),
    ] {
        for (manifest, name) in [(&chunked, "chunked"), (&plain, "plain")] {
            // Without hashes of parts a flipped bit spoils the whole: see below.
            if fault["kind"] == "flip" && name == "plain" {
                continue;
            }
            one.clear();
            one.cdn.faults(&json!([fault]));
            let stalls = fault["kind"] == "stall";
            let timeout = ["--timeout", if stalls { "1" } else { "30" }];
            let ran = one.cdn.run(&[&one.arguments(manifest)[..], &timeout].concat());
            let what = json!([fault, name]);
            assert_eq!(ran.code, 0, "{what}\n{}", ran.stderr);
            assert!(ran.stderr.contains(says), "{what}\n{}", ran.stderr);
            one.assert_whole(&what);
            // Ranges that are refused are asked for three at a time, and a busy machine may seem to stall too.
            let found = one.cdn.ranges(FILE).len();
            let more = if stalls || fault["kind"] == "no-ranges" { 3 } else { 0 };
            assert!(
                (requests..=requests + more).contains(&found),
                "{what}: {found} requests"
            );
        }
    }
}

#[test]
fn a_flipped_bit_costs_its_own_part_only() {
    let one = One::new();
    let manifest = one.chunked();
    one.cdn.faults(&json!([{ "kind": "flip", "at": 3 * CHUNK + 17 }]));
    let told = one.cdn.run_json(&one.arguments(&manifest));
    let size = one.bytes.len();
    assert_eq!(told["entries"][0]["files"][0]["fetched"], size + CHUNK);
    let mut ranges = one.cdn.ranges(FILE);
    ranges.sort();
    ranges.dedup_by(|a, b| {
        let twice = a == b;
        assert!(!twice || *a == format!("bytes={}-{}", 3 * CHUNK, 4 * CHUNK - 1), "{a}");
        twice
    });
    assert_eq!(ranges.len(), 7);
    one.assert_whole(&told);
}

#[test]
fn lasting_faults_end_with_their_own_error_and_leave_nothing_to_trust() {
    let one = One::new();
    let (chunked, plain) = (one.chunked(), one.plain());
    let flip = json!({ "kind": "flip", "at": 9, "count": null });
    for (fault, manifest, says) in [
        (flip.clone(), &plain, "error[hub-digest]"),
        (
            json!({ "kind": "status", "status": 404, "count": null }),
            &chunked,
            "error[hub-not-found]",
        ),
        (
            json!({ "kind": "status", "status": 404, "count": null, "hop": "hub" }),
            &plain,
            "error[hub-not-found]",
        ),
        (
            json!({ "kind": "status", "status": 429, "retryAfter": 4000, "count": null }),
            &plain,
            "error[hub-rate-limited]",
        ),
        (
            json!({ "kind": "expired", "count": null }),
            &chunked,
            "error[hub-forbidden]",
        ),
    ] {
        one.clear();
        one.cdn.faults(&json!([fault]));
        one.cdn.refused(&one.arguments(manifest), 1, &[says]);
        assert_eq!(one.cdn.files(), 0, "{fault}");
        // Nobody takes it for downloaded, in spite of what is here of it.
        let listed = one.cdn.run_json(&["store", "list", "--json"]);
        assert_eq!(
            (&listed["entries"], &listed["unnamed"]),
            (&json!([]), &json!([])),
            "{fault}"
        );
        one.cdn.faults(&json!([]));
        one.cdn.run_json(&one.arguments(manifest));
        one.assert_whole(&fault);
    }
}

#[test]
fn small_files_are_held_against_what_the_hub_says_of_them() {
    let cdn = Cdn::start();
    let sha256 = cdn.write("x/base", "config.json", b"{\"d_model\": 512}");
    let manifest = cdn.manifest(&json!([{ "path": "config.json" }]), &json!({}));
    cdn.faults(&json!([{ "kind": "flip", "at": 13, "path": "x/base/config.json" }]));
    let arguments = cdn.download(&["x/base", "--manifest", &manifest]);
    cdn.refused(&arguments, 1, &["error[hub-blob-digest]", "nothing of it is kept"]);
    assert_eq!(cdn.files(), 0);
    cdn.run_json(&arguments);
    assert!(cdn.kept(sha256).is_some());
}

#[test]
fn a_mirror_without_an_api_is_trusted_once() {
    let cdn = Cdn::start();
    let first = cdn.write("x/base", "config.json", b"{}");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    cdn.moves("x/base", commit);
    let manifest = cdn.manifest(&json!([{ "path": "config.json" }]), &json!({ "commit": commit }));
    cdn.faults(&json!([{ "kind": "status", "status": 404, "hop": "api", "count": null }]));
    let arguments = cdn.download(&["x/base", "--manifest", &manifest]);
    let ran = cdn.run(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("no list of its files"), "{}", ran.stderr);
    // Deleted, and another content under the same commit: that is not taken.
    cdn.run_json(&["store", "delete", "x/base", "--json"]);
    assert_eq!(cdn.files(), 0);
    cdn.write("x/base", "config.json", b"[]");
    cdn.refused(&arguments, 1, &["error[hub-digest]"]);
    cdn.write("x/base", "config.json", b"{}");
    cdn.run_json(&arguments);
    assert!(cdn.kept(first).is_some());
}

#[test]
fn requests_tell_nothing_but_what_is_asked_for() {
    let one = One::new();
    let manifest = one.plain();
    one.cdn.run_json(&one.arguments(&manifest));
    for entry in one.cdn.log() {
        let headers: Vec<&str> = entry["headers"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(Value::as_str)
            .collect();
        let known = |header: &&str| ["host", "user-agent", "range"].contains(header);
        assert!(headers.iter().all(known), "{headers:?}");
        assert_eq!(entry["method"], "GET");
    }
}

#[test]
fn a_hub_that_is_not_there_is_said_to_be() {
    let one = One::new();
    let manifest = one.plain();
    one.cdn
        .faults(&json!([{ "kind": "status", "status": 500, "hop": "api", "count": 1 }]));
    let before = Instant::now();
    one.cdn.run_json(&one.arguments(&manifest));
    // What is here needs no hub, and nobody waits long for one.
    let nowhere = one.cdn.run_json(&[
        "download",
        "x/base",
        "--manifest",
        &manifest,
        "--json",
        "--hub",
        "http://127.0.0.1:9",
    ]);
    assert_eq!(nowhere["entries"][0]["commit_from"], "recorded");
    assert!(nowhere["entries"][0].get("main").is_none());
    assert!(before.elapsed() < Duration::from_secs(20));
    one.cdn.refused(
        &[
            "download",
            "x/base",
            "--manifest",
            &manifest,
            "--hub",
            "http://example.org",
        ],
        2,
        &["is not a hub's address", "https://"],
    );
    one.cdn.refused(&["download"], 2, &["NAME"]);
}
