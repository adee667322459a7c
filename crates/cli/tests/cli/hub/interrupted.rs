//! Downloads that are killed, stopped, or meet each other.

use std::process::Command;
use std::time::{Duration, Instant};

use lorahub_hub::Sha256;
use serde_json::json;

use super::cdn::{Cdn, Rng};
use crate::support::Ran;

const CHUNK: usize = 1 << 18;
const CHUNKS: usize = 160;
const FILE: &str = "x/base/model.safetensors";

/// A hub with a file of 40 MiB.
fn large() -> (Cdn, Sha256, String) {
    let cdn = Cdn::start();
    let sha256 = cdn.write("x/base", "model.safetensors", &Rng(7).bytes(CHUNK * CHUNKS));
    let manifest = cdn.manifest(&json!([{ "path": "model.safetensors" }]), &json!({}));
    (cdn, sha256, manifest)
}

fn arguments<'a>(cdn: &'a Cdn, manifest: &'a str) -> Vec<&'a str> {
    cdn.download(&["x/base", "--manifest", manifest, "--chunk-bytes", "262144"])
}

/// Answers that were sent whole.
fn sent(cdn: &Cdn) -> usize {
    let whole = |entry: &&serde_json::Value| entry["hop"] == "cdn" && entry["sent"].as_u64() == Some(CHUNK as u64);
    cdn.log().iter().filter(whole).count()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: not in a minute");
        std::thread::sleep(Duration::from_millis(3));
    }
}

#[test]
fn a_download_killed_at_random_points_ends_right_and_fetches_little_again() {
    let (cdn, sha256, manifest) = large();
    // As slow as a line, so that there is a middle to be killed in.
    cdn.faults(&json!([{ "kind": "slow", "bytesPerSecond": 6_000_000, "count": null }]));
    let arguments = arguments(&cdn, &manifest);
    let mut random = Rng(11);
    let mut kills = 0;
    while kills < 32 {
        let before = sent(&cdn);
        let mut child = cdn.command(&arguments).spawn().unwrap();
        // From before the first byte to after a few parts, and anywhere inside one.
        let parts = random.below(5) as usize;
        if parts > 0 {
            wait_until("some parts", || sent(&cdn) >= before + parts);
        }
        std::thread::sleep(Duration::from_millis(random.below(40)));
        assert!(child.try_wait().unwrap().is_none(), "it ended after {kills} kills");
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert_eq!(cdn.files(), 0, "nothing is taken for whole");
    }
    cdn.faults(&json!([]));
    let told = cdn.run_json(&arguments);
    assert_eq!(told["entries"][0]["files"][0]["sha256"], sha256.to_string());
    assert_eq!(Sha256::of(&cdn.kept(sha256).unwrap()), sha256);
    // Three are in flight at once; each kill may lose them, whole or in part, and no other.
    let asked = cdn.ranges(FILE).len();
    assert!(
        asked >= CHUNKS && asked <= CHUNKS + 3 * kills,
        "{asked} requests, {kills} kills"
    );
    let verified = cdn.run_json(&["store", "verify", "--json"]);
    assert_eq!((&verified["files"], &verified["corrupt"]), (&json!(1), &json!([])));
}

#[test]
fn a_download_that_is_stopped_says_how_to_go_on() {
    let (cdn, sha256, manifest) = large();
    cdn.faults(&json!([{ "kind": "slow", "bytesPerSecond": 1_000_000, "count": null }]));
    let arguments = arguments(&cdn, &manifest);
    let stopped = cdn.command(&arguments).spawn().unwrap();
    wait_until("a part", || sent(&cdn) >= 1);
    // Another process stays out of the way.
    cdn.refused(&arguments, 1, &["error[hub-busy]", "another tab or process"]);
    let interrupted = Command::new("kill")
        .args(["-INT", &stopped.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let ran = Ran::from(stopped.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
    let again = format!("lorahub {}", arguments.join(" "));
    assert!(
        ran.stderr.contains("error[hub-cancelled]") && ran.stderr.contains(&again),
        "{}",
        ran.stderr
    );
    let listed = cdn.run_json(&["store", "list", "--json"]);
    assert_eq!(listed["unfinished"].as_array().unwrap().len(), 1);
    let (here, before) = (sent(&cdn), cdn.ranges(FILE).len());
    cdn.faults(&json!([]));
    cdn.run_json(&arguments);
    assert!(cdn.kept(sha256).is_some());
    let after = cdn.ranges(FILE).len() - before;
    assert!(after <= CHUNKS - here + 3, "{after} parts came, {here} were here");
    assert_eq!(cdn.run_json(&["store", "list", "--json"])["unfinished"], json!([]));
}

#[test]
fn an_unfinished_download_can_be_deleted() {
    let cdn = Cdn::start();
    cdn.write("x/base", "model.safetensors", &Rng(5).bytes(1 << 18));
    let manifest = cdn.manifest(&json!([{ "path": "model.safetensors" }]), &json!({}));
    cdn.faults(&json!([{ "kind": "status", "status": 404, "after": 1, "count": null }]));
    let more = [
        "x/base",
        "--manifest",
        &manifest,
        "--chunk-bytes",
        "65536",
        "--parallel",
        "1",
    ];
    cdn.refused(&cdn.download(&more), 1, &["error[hub-not-found]"]);
    let listed = cdn.run_json(&["store", "list", "--json"]);
    let key = listed["unfinished"][0].as_str().expect("one is unfinished").to_owned();
    cdn.run_json(&["store", "delete", &key, "--json"]);
    assert_eq!(cdn.run_json(&["store", "list", "--json"])["unfinished"], json!([]));
    cdn.refused(
        &["store", "delete", &key],
        1,
        &["error[not_in_store]", "lorahub store list"],
    );
}
