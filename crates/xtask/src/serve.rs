//! `cargo xtask serve`: the finished page on this machine, as a plain static host serves it.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;

use tiny_http::{Header, Method, Request, Response, Server, StatusCode};

use crate::error::Error;
use crate::process::Cmd;
use crate::project::{browser_tests, dist};
use crate::{browser, build, setup};

/// Threads that answer; a browser opens about six connections.
const THREADS: usize = 6;

/// The first port tried, and how many after it.
const FIRST_PORT: u16 = 8080;
const PORTS: u16 = 20;

/// `cargo xtask serve`.
pub(crate) fn run(port: Option<u16>, check: bool) -> Result<(), Error> {
    let steps = if check { 3 } else { 2 };
    println!("[1/{steps}] wasm and page");
    build::page()?;
    if check {
        println!("[2/{steps}] browser");
        setup::npm_ci(&browser_tests())?;
        let chromium = browser::chromium()?;
        println!("[3/{steps}] the main job in {}", chromium.display());
        let (server, address) = listen(port.or(Some(0)))?;
        let server = Arc::new(server);
        start(&server);
        let url = format!("http://localhost:{}/", address.port());
        return Cmd::new("node")
            .args(["check.mjs", &url])
            .dir(&browser_tests())
            .env(browser::CHROMIUM, chromium)
            .run();
    }
    println!("[2/{steps}] server");
    let (server, address) = listen(port)?;
    let server = Arc::new(server);
    println!("\n  http://localhost:{}/\n\n  Ctrl-C stops it.", address.port());
    for worker in start(&server) {
        // A worker ends only with the process; a panic in one leaves the others at work.
        let _ = worker.join();
    }
    Ok(())
}

/// Listens on the loopback interface only: this is a tool for the person at this machine.
fn listen(port: Option<u16>) -> Result<(Server, SocketAddr), Error> {
    let candidates: Vec<u16> = port.map_or_else(|| (FIRST_PORT..FIRST_PORT + PORTS).collect(), |p| vec![p]);
    let mut reason = String::new();
    for candidate in &candidates {
        match Server::http(("127.0.0.1", *candidate)) {
            Ok(server) => {
                if let Some(address) = server.server_addr().to_ip() {
                    return Ok((server, address));
                }
            }
            Err(error) => reason = error.to_string(),
        }
    }
    let ports = candidates.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    Err(Error::Check(format!(
        "cannot listen on 127.0.0.1, port {ports} ({reason}); name a free one with --port"
    )))
}

fn start(server: &Arc<Server>) -> Vec<thread::JoinHandle<()>> {
    let worker = || {
        let server = Arc::clone(server);
        thread::spawn(move || {
            for request in server.incoming_requests() {
                // The visitor may have gone; that is no failure of ours.
                let _ = answer(request, &dist());
            }
        })
    };
    (0..THREADS).map(|_| worker()).collect()
}

/// What makes the page cross-origin isolated, so that its threads may share memory.
const ISOLATED: [(&str, &str); 2] = [
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
];

fn answer(request: Request, folder: &Path) -> std::io::Result<()> {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return request.respond(plain(405, "only GET and HEAD"));
    }
    let Some(mut path) = within(folder, request.url()) else {
        return request.respond(plain(400, "no such path"));
    };
    if path.is_dir() {
        path.push("index.html");
    }
    let Ok(bytes) = std::fs::read(&path) else {
        return request.respond(plain(404, "not found"));
    };
    // Never chunked, so that the page's progress knows how much is to come.
    let mut response = Response::from_data(bytes).with_chunked_threshold(usize::MAX);
    for (name, value) in [("Content-Type", mime(&path))].into_iter().chain(ISOLATED) {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    request.respond(response)
}

fn plain(status: u16, text: &str) -> Response<std::io::Cursor<Vec<u8>>> {
    Response::from_string(text).with_status_code(StatusCode(status))
}

/// The file under `folder` that a request target names; `None` for anything that climbs out or is not plain UTF-8.
fn within(folder: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let decoded = percent_decoded(path)?;
    let relative = Path::new(&decoded);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_)));
    plain.then(|| folder.join(relative))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    // A backslash is a separator on Windows only; no file of ours has one.
    String::from_utf8(bytes).ok().filter(|t| !t.contains(['\\', '\0']))
}

fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "md" | "txt" => "text/plain; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let inside = |target| within(Path::new("/d"), target);
        assert_eq!(inside("/"), Some("/d/".into()));
        assert_eq!(
            inside("/models/demo/a%20b.json?x=1"),
            Some("/d/models/demo/a b.json".into())
        );
        for target in [
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "//etc/passwd",
            "/a%",
            "/a%zz",
            "/%ff",
            "/..%5cx",
            "x",
        ] {
            assert_eq!(inside(target), None, "{target}");
        }
    }

    #[test]
    fn wasm_streams_only_under_its_own_type() {
        assert_eq!(mime(Path::new("a/lorahub_web_bg.wasm")), "application/wasm");
        assert_eq!(mime(Path::new("model.safetensors")), "application/octet-stream");
    }
}
