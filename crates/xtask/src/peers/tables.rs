//! The comparison's results as Markdown.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bench_tables::{number, table, words};

/// Every run of an evaluation.
pub(crate) fn evaluations(reports: &[&Value]) -> Option<String> {
    let rows = reports.iter().map(|report| {
        vec![
            words(&report["shape"]),
            words(&report["lengths"]),
            words(&report["subject"]),
            report["threads"].to_string(),
            modules(report),
            report["candidates"].to_string(),
            number(&report["time"]["ms"], 1),
            range(report),
            number(&report["time"]["cpu_ms"], 1),
            number(&report["of_ours"], 2),
        ]
    });
    let head = [
        "model",
        "shots",
        "who",
        "threads",
        "modules",
        "candidates together",
        "ms each",
        "least to most",
        "CPU ms each",
        "time / ours",
    ];
    table(&head, rows.collect())
}

/// Every generation.
pub(crate) fn generation(reports: &[&Value]) -> Option<String> {
    let rows = reports.iter().map(|report| {
        vec![
            words(&report["shape"]),
            words(&report["subject"]),
            report["threads"].to_string(),
            modules(report),
            number(&report["tokens_per_second"], 1),
            number(&report["time"]["ms"], 1),
            range(report),
            number(&report["time"]["cpu_ms"], 1),
            number(&report["of_ours"], 2),
        ]
    });
    let head = [
        "model",
        "who",
        "threads",
        "modules",
        "tokens/s",
        "ms in all",
        "least to most",
        "CPU ms in all",
        "time / ours",
    ];
    table(&head, rows.collect())
}

/// A row for each product, a column for each number of rows: our rate, candle's, and how many times it is ours.
pub(crate) fn products(reports: &[&Value]) -> Option<String> {
    let mut order: Vec<[String; 2]> = Vec::new();
    let mut rates: BTreeMap<(String, u64), BTreeMap<String, f64>> = BTreeMap::new();
    let mut sizes: Vec<u64> = Vec::new();
    for report in reports {
        let key = [
            words(&report["shape"]),
            format!("{} x {}", report["d_in"], report["d_out"]),
        ];
        let rows = report["rows"].as_u64().unwrap_or_default();
        let rate = report["gflops"].as_f64().unwrap_or(f64::NAN);
        rates
            .entry((key.join(" "), rows))
            .or_default()
            .insert(words(&report["subject"]), rate);
        if !order.contains(&key) {
            order.push(key);
        }
        sizes.push(rows);
    }
    sizes.sort_unstable();
    sizes.dedup();
    let rows = order.into_iter().map(|key| {
        let cells = sizes.iter().map(|&size| {
            let rates = rates.get(&(key.join(" "), size));
            let rate = |name: &str| rates.and_then(|rates| rates.get(name));
            match (rate("ours f32"), rate("candle")) {
                (Some(ours), Some(candle)) => format!("{ours:.1} / {candle:.1} = {:.2}", ours / candle),
                _ => String::new(),
            }
        });
        key.iter().cloned().chain(cells).collect()
    });
    let columns: Vec<String> = sizes.iter().map(|size| format!("M = {size}")).collect();
    let head: Vec<&str> = ["model", "K x N"]
        .into_iter()
        .chain(columns.iter().map(String::as_str))
        .collect();
    let rows: Vec<Vec<String>> = rows.collect();
    let text = table(&head, rows)?;
    Some(format!("GFLOP/s of our bare product / candle's = ratio:\n\n{text}"))
}

fn modules(report: &Value) -> String {
    if report["modules"] == true { "20" } else { "none" }.to_owned()
}

fn range(report: &Value) -> String {
    let time = &report["time"];
    format!("{} to {}", number(&time["least_ms"], 1), number(&time["most_ms"], 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_for_each_run_and_a_ratio_for_each_product() {
        let time = json!({"ms": 2.0, "least_ms": 1.0, "most_ms": 3.0, "cpu_ms": 4.0});
        let run = json!({"shape": "s", "lengths": "64", "subject": "candle", "threads": 1, "modules": false,
                         "candidates": 1, "time": time, "of_ours": 1.5, "tokens_per_second": 16.0});
        let gemm = |subject: &str, rate: f64| json!({"shape": "s", "subject": subject, "rows": 5, "d_in": 4, "d_out": 8, "gflops": rate});
        let (ours, candle) = (gemm("ours f32", 30.0), gemm("candle", 20.0));
        for (found, row) in [
            (
                evaluations(&[&run]),
                "| s | 64 | candle | 1 | none | 1 | 2.0 | 1.0 to 3.0 | 4.0 | 1.50 |",
            ),
            (
                generation(&[&run]),
                "| s | candle | 1 | none | 16.0 | 2.0 | 1.0 to 3.0 | 4.0 | 1.50 |",
            ),
            (products(&[&ours, &candle]), "| s | 4 x 8 | 30.0 / 20.0 = 1.50 |"),
        ] {
            let found = found.expect("a table");
            assert!(found.lines().any(|line| line == row), "no line `{row}` in\n{found}");
        }
    }
}
