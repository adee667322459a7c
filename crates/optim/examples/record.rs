//! Writes `tests/golden/cma/replay.json`: two searches with their losses and the bits of every point they asked.
//!
//! ```text
//! cargo run -p lorahub-optim --example record > tests/golden/cma/replay.json
//! ```
//!
//! The first is shaped like the search over module weights (20 coordinates, box, sixteen candidates), the second is
//! unbounded, odd and long. Both have missing losses and ties.

use lorahub_optim::{Recording, Settings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (n, sigma) = (20, 0.15);
    let weights = Settings {
        bounds: Some((vec![-1.5; n], vec![1.5; n])),
        lambda: Some(16),
        seed: 0,
        ..Settings::new(vec![0.0; n], sigma)
    };
    // Three useful modules, one beyond the box, and the penalty on the mean absolute weight.
    let composed = |generation: usize, w: &[f64]| {
        let pull = [(2, 1.0), (7, 0.5), (11, 2.0)];
        let fit: f64 = pull.iter().map(|&(i, target)| (w[i] - target) * (w[i] - target)).sum();
        let penalty = w.iter().map(|v| v.abs()).sum::<f64>() / w.len() as f64;
        let overflowed = generation % 4 == 1 && w[3] > 0.2;
        if overflowed {
            f64::NAN
        } else {
            2.0 + fit + 0.05 * penalty
        }
    };
    let odd = Settings {
        lambda: Some(9),
        active: false,
        seed: 42,
        ..Settings::new(vec![0.5; 7], 0.3)
    };
    // Rounded to steps of 1 / 8, so that losses tie.
    let stepped = |generation: usize, x: &[f64]| {
        let valley: f64 = x
            .windows(2)
            .map(|v| 10.0 * (v[1] - v[0] * v[0]) * (v[1] - v[0] * v[0]))
            .sum();
        if generation == 5 {
            f64::INFINITY
        } else {
            ((valley + (1.0 - x[0]) * (1.0 - x[0])) * 8.0).round() / 8.0
        }
    };
    let recordings = [
        Recording::record(weights, 16, composed)?,
        Recording::record(odd, 50, stepped)?,
    ];
    println!("{}", serde_json::to_string_pretty(&recordings)?);
    Ok(())
}
