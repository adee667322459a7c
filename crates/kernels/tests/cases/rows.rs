//! Row operations.

use lorahub_kernels::{EXP_ERROR, LogSumExp, gated_gelu, rms_norm, softmax};

use super::{Numbers, UNIT, assert_near};

/// Every length to 20, and around the blocks that a row is cut into.
fn lengths() -> impl Iterator<Item = usize> {
    (1..=20).chain([63, 64, 65, 255, 256, 257, 511, 512, 513, 2816])
}

/// Values spread over a scale.
fn scaled(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    Numbers(seed).take(count).iter().map(|value| value * scale).collect()
}

fn check_norm(x: &[f32], weight: &[f32], eps: f32) {
    let mut out = vec![f32::NAN; x.len()];
    rms_norm(x, weight, eps, &mut out);
    let square_sum: f64 = x.iter().map(|&value| f64::from(value).powi(2)).sum();
    let inverse = 1.0 / (square_sum / x.len() as f64 + f64::from(eps)).sqrt();
    for (i, found) in out.into_iter().enumerate() {
        let expected = f64::from(x[i]) * inverse * f64::from(weight[i]);
        // The sum of squares rounds length / 8 + 4 times in its lanes, the root halves that; then a division for the
        // mean, eps, root, inverse and two products round once each.
        let roundings = (x.len() / 8 + 5) as f64 / 2.0 + 7.0;
        let tolerance = roundings * UNIT * expected.abs() + f64::from(f32::from_bits(1));
        assert_near(found, expected, tolerance, || format!("[{i}] of {}", x.len()));
    }
}

pub(crate) fn norms() {
    for length in lengths() {
        for scale in [1e-4, 1.0, 1e4] {
            check_norm(&scaled(1, length, scale), &scaled(2, length, 2.0), 1e-6);
        }
    }
}

pub(crate) fn norms_of_extreme_values() {
    for length in lengths() {
        let weight = scaled(3, length, 1.0);
        check_norm(&vec![0.0; length], &weight, 1e-6);
        // Squares far below and beyond f32.
        check_norm(&scaled(4, length, 1e-30), &weight, 1e-6);
        check_norm(&scaled(5, length, 3e38), &weight, 1e-6);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = scaled(6, length, 1.0);
            x[length - 1] = bad;
            let mut out = vec![0.0; length];
            rms_norm(&x, &vec![1.0; length], 1e-6, &mut out);
            assert!(out[length - 1].is_nan(), "{bad} became {}", out[length - 1]);
        }
    }
}

fn check_softmax(scores: &[f32], bias: Option<&[f32]>) {
    let mut found = scores.to_vec();
    softmax(&mut found, bias);
    // The sum of the bias rounds in f32 by definition.
    let biased: Vec<f64> = match bias {
        Some(bias) => scores
            .iter()
            .zip(bias)
            .map(|(score, bias)| f64::from(score + bias))
            .collect(),
        None => scores.iter().map(|&score| f64::from(score)).collect(),
    };
    let largest = biased.iter().copied().fold(f64::MIN, f64::max);
    let total: f64 = biased.iter().map(|score| (score - largest).exp()).sum();
    for (i, (&found, score)) in found.iter().zip(&biased).enumerate() {
        let expected = (score - largest).exp() / total;
        // The difference to the largest rounds before its exponential is taken; the sum rounds length / 4 + 4 times;
        // the inverse and the product once each. Below normal numbers the steps are absolute.
        let difference = (largest - score).min(104.0);
        let relative = 2.0 * EXP_ERROR + (difference + (scores.len() / 4 + 8) as f64) * UNIT;
        let tolerance = relative * expected + 2.0 * f64::from(f32::from_bits(1));
        assert_near(found, expected, tolerance, || format!("[{i}] of {}", scores.len()));
    }
}

pub(crate) fn softmaxes() {
    for length in lengths() {
        for scale in [0.1, 10.0, 100.0] {
            let (scores, bias) = (scaled(7, length, scale), scaled(8, length, 5.0));
            check_softmax(&scores, None);
            check_softmax(&scores, Some(&bias));
            // A row far below zero has its largest score there too.
            let low: Vec<f32> = scores.iter().map(|score| score - 500.0).collect();
            check_softmax(&low, Some(&bias));
        }
    }
}

pub(crate) fn softmaxes_of_extreme_values() {
    softmax(&mut [], None);
    for length in lengths() {
        for value in [0.0, 1e4, -1e4, f32::MAX, f32::MIN] {
            check_softmax(&vec![value; length], None);
        }
        check_softmax(&scaled(9, length, f32::MAX), None);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, length / 2, length - 1] {
                let mut scores = scaled(10, length, 1.0);
                let mut bias = scaled(11, length, 1.0);
                let mut biased = scores.clone();
                scores[place] = bad;
                softmax(&mut scores, None);
                assert!(
                    scores.iter().all(|value| value.is_nan()),
                    "{bad} among {length} scores vanished"
                );
                bias[place] = bad;
                softmax(&mut biased, Some(&bias));
                assert!(biased.iter().all(|value| value.is_nan()), "{bad} in the bias vanished");
            }
        }
    }
}

/// The exponential seen through a softmax of `[0, x]`: its first result is the inverse of the sum, because `e^0` is
/// exactly 1, and its second is that times the exponential.
pub(crate) fn exponentials_over_the_whole_range() {
    // Every 509th number from -0 down to minus infinity.
    let mut worst = 0f64;
    let mut bits = (-0f32).to_bits();
    while bits < f32::NEG_INFINITY.to_bits() {
        let x = f32::from_bits(bits);
        let mut row = [0.0, x];
        softmax(&mut row, None);
        let e = f64::from(x).exp();
        let expected = e * f64::from(row[0]);
        let tolerance = (EXP_ERROR + UNIT) * expected + f64::from(f32::from_bits(1));
        if e > 1e-37 {
            worst = worst.max((f64::from(row[1]) - expected).abs() / expected);
        }
        assert_near(row[1], expected, tolerance, || format!("exp({x:e})"));
        bits += 509;
    }
    assert!(worst > UNIT / 4.0, "the measurement sees nothing: {worst}");
}

pub(crate) fn gelus_over_the_whole_range() {
    let gelu = |x: f64| {
        let v = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        (x / (1.0 + (-v).exp()), v)
    };
    // Every 1021st f32, with both signs, in rows of 7.
    let values: Vec<f32> = (0..f32::INFINITY.to_bits())
        .step_by(1021)
        .map(f32::from_bits)
        .flat_map(|x| [x, -x])
        .collect();
    for x in values.chunks(7) {
        let mut found = x.to_vec();
        let up: Vec<f32> = x
            .iter()
            .enumerate()
            .map(|(i, _)| if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        gated_gelu(&mut found, &up);
        for ((&x, &found), &up) in x.iter().zip(&found).zip(&up) {
            let (expected, v) = gelu(f64::from(x));
            // v rounds five times and its constants once each; an error of v moves 1 / (1 + e^-v) by its share of the
            // lower end. Then the exponential, a sum, a division and a product. Where the exponential overflows, at x of
            // -10.06, the result is zero instead of at most 11 / f32::MAX.
            let lower = 1.0 / (1.0 + v.exp());
            let relative = 7.0 * UNIT * v.abs().min(104.0) * lower + EXP_ERROR + 4.0 * UNIT;
            let tolerance = relative * expected.abs() + 4e-38;
            assert_near(found, expected * f64::from(up), tolerance, || format!("gelu({x:e})"));
        }
    }
    for length in lengths() {
        let mut gate = vec![1.0; length];
        gate[length - 1] = f32::NAN;
        gated_gelu(&mut gate, &vec![1.0; length]);
        assert!(gate[length - 1].is_nan() && gate[..length - 1].iter().all(|value| value.is_finite()));
    }
    let mut gate = [f32::INFINITY, f32::NEG_INFINITY, 1.0, 1.0, 1.0];
    gated_gelu(&mut gate, &[1.0, 1.0, f32::INFINITY, f32::NAN, 1.0]);
    assert!(
        gate[..4].iter().all(|value| !value.is_finite()) && gate[4].is_finite(),
        "{gate:?}"
    );
}

fn log_sum(scores: &[f32], piece: usize) -> f64 {
    let mut sum = LogSumExp::default();
    scores.chunks(piece.max(1)).for_each(|scores| sum.push(scores));
    sum.finish()
}

fn check_log_sum(scores: &[f32]) {
    let largest = scores.iter().copied().fold(f32::MIN, f32::max);
    let total: f64 = scores
        .iter()
        .map(|&score| (f64::from(score) - f64::from(largest)).exp())
        .sum();
    let expected = f64::from(largest) + total.ln();
    for piece in [1, 7, 256, 300, scores.len()] {
        let found = log_sum(scores, piece);
        // In f32: the exponential, its argument's rounding (weighted, at most 1 for the terms that count, since
        // d e^-d < 0.4), and 32 + 4 sums of a block; the logarithm makes the total's relative error absolute.
        let tolerance = EXP_ERROR + 40.0 * UNIT + 1e-15 * expected.abs();
        assert!(
            (found - expected).abs() <= tolerance,
            "{found}, expected {expected} within {tolerance:e} for {} scores by {piece}",
            scores.len()
        );
    }
}

pub(crate) fn log_sums() {
    for length in lengths().chain([32128]) {
        for scale in [0.1, 10.0, 1e4] {
            check_log_sum(&scaled(12, length, scale));
            let low: Vec<f32> = scaled(13, length, scale).iter().map(|score| score - 1e5).collect();
            check_log_sum(&low);
        }
        // Rising scores move the largest in every piece.
        check_log_sum(&(0..length).map(|i| i as f32 / 10.0).collect::<Vec<_>>());
    }
}

pub(crate) fn log_sums_of_extreme_values() {
    assert_eq!(LogSumExp::default().finish(), f64::NEG_INFINITY);
    for length in lengths() {
        for value in [0.0, 1e4, -1e4, f32::MAX, f32::MIN] {
            check_log_sum(&vec![value; length]);
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, length / 2, length - 1] {
                let mut scores = scaled(14, length, 1.0);
                scores[place] = bad;
                for piece in [1, 5, length] {
                    assert_eq!(log_sum(&scores, piece), f64::INFINITY, "{bad} at {place} of {length}");
                }
            }
        }
    }
}
