//! The hub and CDN of `tests/cdn`, started with `node`, and the binary against it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lorahub_hub::Sha256;
use serde_json::{Value, json};

use crate::support::{Folder, Ran, command};

/// A hub of the repositories in a folder, and a store to download into.
pub(crate) struct Cdn {
    pub(crate) folder: Folder,
    server: Child,
    pub(crate) origin: String,
}

impl Cdn {
    /// A hub without repositories.
    pub(crate) fn start() -> Self {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path().join("root")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cdn/cdn.mjs");
        let mut server = Command::new("node")
            .arg(script)
            .args(["--root", &folder.join("root")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js, which the tests need");
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let told: Value = serde_json::from_str(&line).expect("the server's address");
        Self {
            origin: told["origin"].as_str().unwrap().to_owned(),
            folder,
            server,
        }
    }

    /// Writes a file of a repository, and returns its hash.
    pub(crate) fn write(&self, repository: &str, file: &str, bytes: &[u8]) -> Sha256 {
        self.folder.write(&format!("root/{repository}/{file}"), bytes);
        Sha256::of(bytes)
    }

    /// Copies the files of a folder into a repository.
    pub(crate) fn copy(&self, repository: &str, from: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            self.write(repository, &name, &std::fs::read(entry.path()).unwrap());
        }
    }

    /// Writes a manifest of one base, `x/base`, with these files, and returns its path. The repository is the base's
    /// name; `more` is put into the base.
    pub(crate) fn manifest(&self, files: &Value, more: &Value) -> String {
        let mut base = json!({ "id": "x/base", "repository": "x/base", "files": files });
        for (name, value) in more.as_object().into_iter().flatten() {
            base[name] = value.clone();
        }
        let manifest = json!({ "version": 1, "bases": [base], "modules": [] });
        let text = manifest.to_string();
        let name = format!("manifest-{}.json", Sha256::of(text.as_bytes()));
        self.folder.write(&name, text)
    }

    /// The binary, with this hub's store and without proxies.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("LORAHUB_STORE", self.folder.join("store"));
        for proxy in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
            command.env_remove(proxy).env_remove(proxy.to_lowercase());
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs a command that must succeed and print one JSON object.
    pub(crate) fn run_json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}\n{}", ran.stderr);
        serde_json::from_str(&ran.stdout).expect("one JSON object")
    }

    /// Runs a command that must fail, print nothing, and say all of `says`.
    pub(crate) fn refused(&self, arguments: &[&str], code: i32, says: &[&str]) {
        let ran = self.run(arguments);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (code, ""),
            "{arguments:?}\n{}",
            ran.stderr
        );
        for words in says {
            assert!(
                ran.stderr.contains(words),
                "{arguments:?}: no `{words}` in\n{}",
                ran.stderr
            );
        }
    }

    /// The arguments of a download from this hub.
    pub(crate) fn download<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["download", "--json", "--hub", &self.origin], more].concat()
    }

    /// The content of a kept file; `None` if it is not kept.
    pub(crate) fn kept(&self, sha256: Sha256) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join(format!("store/files/{sha256}"))).ok()
    }

    /// How many files are kept.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("store/files")).map_or(0, Iterator::count)
    }

    pub(crate) fn faults(&self, faults: &Value) {
        self.ask("POST", "/_faults", &faults.to_string());
    }

    /// Moves a repository's `main`.
    pub(crate) fn moves(&self, repository: &str, commit: &str) {
        self.ask("POST", "/_commits", &json!({ repository: commit }).to_string());
    }

    pub(crate) fn log(&self) -> Vec<Value> {
        match serde_json::from_str(&self.ask("GET", "/_log", "")).unwrap() {
            Value::Array(log) => log,
            other => panic!("{other}"),
        }
    }

    pub(crate) fn forget(&self) {
        self.ask("DELETE", "/_log", "");
    }

    /// The ranges that the CDN was asked for, of one file.
    pub(crate) fn ranges(&self, file: &str) -> Vec<String> {
        let log = self.log();
        let of_file = log
            .iter()
            .filter(|entry| entry["hop"] == "cdn" && entry["path"] == file);
        of_file
            .map(|entry| entry["range"].as_str().unwrap_or("all").to_owned())
            .collect()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let host = self.origin.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        body.to_owned()
    }
}

impl Drop for Cdn {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// SplitMix64, for bytes and numbers from a seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// `len` bytes, a multiple of 8.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}
