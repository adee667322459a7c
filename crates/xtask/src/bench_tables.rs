//! The benchmark's results as Markdown, on the terminal and in the document.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bench::{Results, kept};
use crate::error::{Error, read_text, write};
use crate::peers;
use crate::project::root;

/// The document that holds the tables of all results that are kept.
pub(crate) const DOCUMENT: &str = "docs/benchmarks.md";

/// Between these lines the document is ours.
const BEGIN: &str = "<!-- Tables of benches/results, written by `cargo xtask bench`. -->";
const END: &str = "<!-- End of the tables. -->";

/// Puts the tables of all results into the document.
///
/// # Errors
/// [`Error::Content`] if it has no place for them.
pub(crate) fn update_document() -> Result<(), Error> {
    let path = root().join(DOCUMENT);
    let text = read_text(&path)?;
    write(&path, updated(&text, &kept()?)?)
}

fn updated(document: &str, results: &[Results]) -> Result<String, Error> {
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        return Err(Error::Content {
            path: root().join(DOCUMENT),
            found: "no place for the tables".into(),
            expected: format!("the lines `{BEGIN}` and `{END}`"),
        });
    };
    let mut sections: Vec<String> = results.iter().map(section).collect();
    if sections.is_empty() {
        sections.push("None is kept yet.\n".to_owned());
    }
    Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", sections.join("\n")))
}

/// One device in one place.
pub(crate) fn section(results: &Results) -> String {
    let of_kind = |kind: &str| -> Vec<&Value> { results.reports.iter().filter(|r| r["kind"] == kind).collect() };
    let mut text = String::new();
    for device in of_kind("device") {
        text += &format!("### {}, {}\n\n", words(&device["name"]), results.place);
        if device["software"] == true {
            text += "**A software adapter: it proves results, not speed.**\n\n";
        }
        text += &format!(
            "{}; {}; list `{}`, {} repetitions",
            results.machine,
            results.made,
            words(&device["list"]),
            device["repetitions"]
        );
        if let Some(load) = results.load_before {
            text += &format!("; load average before the run {load:.2}");
        }
        text += ".\n\n";
    }
    let tables = [
        evaluations(&of_kind("evaluation")),
        products(&of_kind("gemm")),
        generation(&of_kind("greedy")),
        peers::tables::evaluations(&of_kind("peer_evaluation")),
        peers::tables::generation(&of_kind("peer_greedy")),
        peers::tables::products(&of_kind("peer_gemm")),
    ];
    text + &tables.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// A table, or nothing without rows.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    Some(line(&head) + &rule + &rows.iter().map(|row| line(row)).collect::<String>())
}

fn evaluations(reports: &[&Value]) -> Option<String> {
    let mut rows = Vec::new();
    for report in reports {
        for batch in report["batches"].as_array().into_iter().flatten() {
            rows.push(vec![
                words(&report["shape"]),
                words(&report["lengths"]),
                words(&report["rule"]),
                batch["candidates"].to_string(),
                number(&batch["time"]["ms"], 1),
                number(&batch["time"]["cpu_ms"], 1),
                number(&batch["gflops"], 1),
                number(&batch["gemm_gflops"], 1),
                number(&batch["share"], 2),
                number(&batch["times_floor"], 2),
                number(&batch["of_singles"], 3),
            ]);
        }
    }
    let head = [
        "model",
        "shots",
        "rule",
        "candidates together",
        "ms each",
        "CPU ms each",
        "GFLOP/s",
        "bare GEMM's",
        "share",
        "times its floor",
        "time / as many singles",
    ];
    table(&head, rows)
}

/// A row for each product and kind of weights, a column for each number of rows.
fn products(reports: &[&Value]) -> Option<String> {
    let mut sizes: Vec<u64> = reports.iter().filter_map(|report| report["rows"].as_u64()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut order = Vec::new();
    let mut rates: BTreeMap<Vec<String>, BTreeMap<u64, String>> = BTreeMap::new();
    for report in reports {
        let key = vec![
            words(&report["shape"]),
            words(&report["weights"]),
            words(&report["product"]),
            format!("{} x {}", report["d_in"], report["d_out"]),
        ];
        if !rates.contains_key(&key) {
            order.push(key.clone());
        }
        let rows = report["rows"].as_u64().unwrap_or_default();
        rates.entry(key).or_default().insert(rows, number(&report["gflops"], 1));
    }
    let rows = order.into_iter().map(|key| {
        let rates = rates.get(&key);
        let cells = sizes.iter().map(|size| {
            let rate = rates.and_then(|rates| rates.get(size));
            rate.cloned().unwrap_or_default()
        });
        key.iter().cloned().chain(cells).collect()
    });
    let columns: Vec<String> = sizes.iter().map(|size| format!("GFLOP/s at M = {size}")).collect();
    let head: Vec<&str> = ["model", "weights", "product", "K x N"]
        .into_iter()
        .chain(columns.iter().map(String::as_str))
        .collect();
    table(&head, rows.collect())
}

fn generation(reports: &[&Value]) -> Option<String> {
    let rows = reports.iter().map(|report| {
        vec![
            words(&report["shape"]),
            report["batch"].to_string(),
            format!("{} in, {} out", report["input_tokens"], report["new_tokens"]),
            number(&report["tokens_per_second"], 1),
            number(&report["time"]["ms"], 1),
            number(&report["time"]["cpu_ms"], 1),
        ]
    });
    let head = [
        "model",
        "batch",
        "tokens of each",
        "tokens/s",
        "ms in all",
        "CPU ms in all",
    ];
    table(&head, rows.collect())
}

pub(crate) fn words(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

/// Empty where there is no number.
pub(crate) fn number(value: &Value, digits: usize) -> String {
    value
        .as_f64()
        .map_or_else(String::new, |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_document_shows_what_was_measured() {
        let text = read_text(&root().join(DOCUMENT)).expect("the document");
        let results = kept().expect("results");
        let now = updated(&text, &results).expect("a place for the tables");
        assert!(
            now == text,
            "{DOCUMENT} is not what benches/results says; `cargo xtask bench` renews it"
        );
    }

    #[test]
    fn a_document_without_a_place_is_an_error() {
        assert!(updated("# Benchmarks\n", &[]).is_err());
        assert!(updated(&format!("{END} {BEGIN}"), &[]).is_err());
    }

    #[test]
    fn every_kind_of_report_has_its_table() {
        let time = json!({"ms": 2.0, "least_ms": 1.0, "most_ms": 3.0});
        let results = Results {
            made: "2026-01-01".into(),
            machine: "a machine".into(),
            load_before: Some(0.5),
            place: "native".into(),
            reports: vec![
                json!({"kind": "device", "name": "a device", "software": true, "list": "reduced", "repetitions": 3}),
                json!({"kind": "gemm", "shape": "demo", "product": "o", "weights": "f16", "rows": 16, "d_in": 4,
                       "d_out": 8, "gflops": 12.34, "time": time}),
                json!({"kind": "gemm", "shape": "demo", "product": "wo", "weights": "f16", "rows": 128, "d_in": 4,
                       "d_out": 8, "gflops": 5.0, "time": time}),
                json!({"kind": "evaluation", "shape": "demo", "lengths": "64", "rule": "exact", "batches": [
                       {"candidates": 1, "time": time, "gflops": 1.0, "gemm_gflops": 2.0, "share": 0.5,
                        "times_floor": 1.5}]}),
                json!({"kind": "greedy", "shape": "demo", "batch": 8, "input_tokens": 64, "new_tokens": 32,
                       "tokens_per_second": 100.0, "time": time}),
            ],
        };
        let text = section(&results);
        for line in [
            "### a device, native",
            "**A software adapter: it proves results, not speed.**",
            "a machine; 2026-01-01; list `reduced`, 3 repetitions; load average before the run 0.50.",
            "| demo | f16 | o | 4 x 8 | 12.3 |  |",
            "| demo | f16 | wo | 4 x 8 |  | 5.0 |",
            "| demo | 64 | exact | 1 | 2.0 |  | 1.0 | 2.0 | 0.50 | 1.50 |  |",
            "| demo | 8 | 64 in, 32 out | 100.0 | 2.0 |  |",
        ] {
            assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
        }
    }
}
