//! House rules that no compiler knows, checked by reading the text of every file we wrote.
//!
//! The rules look at text, not at syntax trees, so they are few and blunt; where one would be wrong, change the rule
//! rather than exempting a file.

use std::path::{Path, PathBuf};

use crate::error::{Error, read_text};
use crate::project::{dist, root};
use crate::stamp::files;

/// Source files longer than this are two files.
const MAX_LINES: usize = 600;

/// Kinds of files whose length is limited and that may hold nothing unfinished.
const SOURCES: &[&str] = &["rs", "ts", "js", "mjs", "css", "wgsl", "html", "py"];

/// Words that mean "not done" or "not run". Split, so that this file passes its own rule.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("dbg", "!("),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[ign", "ore"),
    concat!("test.", "skip"),
    concat!("it.", "skip"),
    concat!("describe.", "skip"),
    concat!(".", "only("),
    concat!("debug", "ger;"),
];

/// The hosts that the page's files may name. None of them is ever asked for anything by itself: they are links to
/// follow, XML namespaces and addresses inside messages of libraries, and the hub with its hosts for large files, which
/// is asked for what a visitor chooses to download.
const PAGE_HOSTS: &[&str] = &["www.w3.org", "arxiv.org", "lit.dev", "huggingface.co", "*.hf.co"];

/// Folders whose text ships to browsers, from `www/`.
const PAGE_SOURCES: &[&str] = &["www/src", "www/public", "www/index.html", "www/offline.html"];

/// A broken rule.
#[derive(Debug, PartialEq)]
struct Finding {
    file: PathBuf,
    line: usize,
    what: String,
}

/// Checks every file, prints every finding.
///
/// # Errors
/// [`Error::Check`] if there is one.
pub(crate) fn run() -> Result<(), Error> {
    let mut findings = Vec::new();
    let mut looked_at = 0;
    for file in files(&[root().to_owned()])? {
        let name = file.strip_prefix(root()).unwrap_or(&file).to_owned();
        let kind = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !SOURCES.contains(&kind) || name.starts_with("pkg") {
            continue;
        }
        looked_at += 1;
        let text = read_text(&file)?;
        findings.extend(check(&name, kind, &text));
    }
    if looked_at == 0 {
        return Err(Error::Check(format!(
            "no source files under {}; run this from a checkout",
            root().display()
        )));
    }
    report(&findings)?;
    println!("  {looked_at} files keep the house rules");
    Ok(())
}

/// The finished page names no host beyond [`PAGE_HOSTS`].
pub(crate) fn dist_hosts() -> Result<(), Error> {
    let mut findings = Vec::new();
    for entry in std::fs::read_dir(dist()).map_err(Error::file("list", &dist()))? {
        let path = entry.map_err(Error::file("list", &dist()))?.path();
        for file in files(&[path])? {
            if matches!(
                file.extension().and_then(|e| e.to_str()),
                Some("html" | "js" | "css" | "svg")
            ) {
                findings.extend(foreign_hosts(&file, &read_text(&file)?));
            }
        }
    }
    report(&findings)
}

fn report(findings: &[Finding]) -> Result<(), Error> {
    for Finding { file, line, what } in findings {
        println!("  {}:{line}: {what}", file.display());
    }
    if findings.is_empty() {
        return Ok(());
    }
    Err(Error::Check(format!(
        "{} places break the house rules; mend each",
        findings.len()
    )))
}

fn check(name: &Path, kind: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, what: String| {
        findings.push(Finding {
            file: name.to_owned(),
            line,
            what,
        })
    };
    let lines = text.lines().count();
    if lines > MAX_LINES {
        find(lines, format!("{lines} lines; split it, at most {MAX_LINES}"));
    }
    for (index, line) in text.lines().enumerate() {
        if let Some(word) = UNFINISHED.iter().find(|w| line.contains(**w)) {
            find(index + 1, format!("`{word}`: finish it, or take it out"));
        }
    }
    if kind == "rs" {
        if !text.trim_start_matches("#!").trim_start().starts_with("//!") {
            find(
                1,
                "no `//!` at the top; say what the module is, and what it is not".into(),
            );
        }
        for line in silent_allows(text) {
            find(
                line,
                "an `allow` or `expect` attribute without `reason = \"...\"`; give it one".into(),
            );
        }
    }
    let unit_test = name.to_string_lossy().ends_with(".test.ts");
    if !unit_test && PAGE_SOURCES.iter().any(|folder| name.starts_with(folder)) {
        findings.extend(foreign_hosts(name, text));
    }
    findings
}

/// Lines of `allow` and `expect` attributes that give no reason.
fn silent_allows(text: &str) -> Vec<usize> {
    let openings = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
    let mut lines = Vec::new();
    for (at, _) in text.match_indices('#') {
        let rest = &text[at..];
        if !openings.iter().any(|o| rest.starts_with(o)) {
            continue;
        }
        // In a comment or a string it is talk about an attribute, not one.
        let before = text[..at].rsplit('\n').next().unwrap_or_default();
        if before.trim().is_empty() && !rest.split(']').next().unwrap_or(rest).contains("reason") {
            lines.push(text[..at].matches('\n').count() + 1);
        }
    }
    lines
}

/// Every `http://`, `https://`, `ws://`, `wss://` and bare `//host` address of a host that is not allowed.
fn foreign_hosts(name: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices("//") {
            let before = &line[..at];
            let scheme = ["http:", "https:", "ws:", "wss:"].iter().any(|s| before.ends_with(s));
            // `"//host/x"` is an address under the page's own scheme; `// words` is a comment.
            let bare = before.ends_with(['"', '\'', '`', '(', '=']);
            let host: String = line[at + 2..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*'))
                .collect();
            if (scheme || (bare && host.contains('.'))) && !PAGE_HOSTS.contains(&host.as_str()) {
                findings.push(Finding {
                    file: name.to_owned(),
                    line: index + 1,
                    what: format!(
                        "names the host `{host}`; the page may name only {}",
                        PAGE_HOSTS.join(", ")
                    ),
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(name: &str, kind: &str, text: &str) -> Vec<(usize, String)> {
        check(Path::new(name), kind, text)
            .into_iter()
            .map(|f| (f.line, f.what))
            .collect()
    }

    #[test]
    fn the_project_keeps_its_rules() {
        run().expect("the lines above say what to mend");
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let cases = [
            ("a.rs", "rs", "fn f() {}\n".to_owned(), 1, "no `//!`"),
            ("a.rs", "rs", "//! x\n".repeat(601), 601, "601 lines"),
            ("a.ts", "ts", format!("x\n// {}: y\n", UNFINISHED[0]), 2, "finish it"),
            (
                "a.rs",
                "rs",
                "//! x\n#[allow(\n    dead_code\n)]\n".to_owned(),
                2,
                "reason",
            ),
            (
                "www/src/a.ts",
                "ts",
                "fetch('https://example.com/x')".to_owned(),
                1,
                "example.com",
            ),
            (
                "www/src/a.ts",
                "ts",
                "fetch(`//example.com/x`)".to_owned(),
                1,
                "example.com",
            ),
            (
                "www/index.html",
                "html",
                "connect-src https://*.example.com".to_owned(),
                1,
                "*.example.com",
            ),
            (
                "www/index.html",
                "html",
                "<img src=\"http://192.0.2.1/x\">".to_owned(),
                1,
                "192.0.2.1",
            ),
        ];
        for (name, kind, text, line, what) in cases {
            let found = whats(name, kind, &text);
            assert!(
                found.len() == 1 && found[0].0 == line && found[0].1.contains(what),
                "{name} {what}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_right_passes() {
        let rust = "//! x\n#[allow(dead_code, reason = \"shown\")]\nfn f() {} // #[allow(x)]\n";
        assert_eq!(whats("a.rs", "rs", rust), []);
        let page = "// a comment\nconst ns = 'http://www.w3.org/2000/svg'; // and another.one\n";
        assert_eq!(whats("www/src/a.ts", "ts", page), []);
        let policy = "connect-src 'self' https://huggingface.co https://*.hf.co";
        assert_eq!(whats("www/index.html", "html", policy), []);
        assert_eq!(whats("tests/a.mjs", "mjs", "fetch('https://example.com')"), []);
    }
}
