//! Operations on one row: in wasm `lorahub_kernels`, natively plain loops that the compiler turns into wider vectors
//! than wasm has.

use lorahub_kernels::LogSumExp;

/// Whether products and rows go through `lorahub_kernels`, which are made for wasm's registers.
pub(super) const OWN_KERNELS: bool = cfg!(target_arch = "wasm32");

/// `out` becomes `x` scaled to unit root mean square, times `weight`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    if OWN_KERNELS {
        return lorahub_kernels::rms_norm(x, weight, eps, out);
    }
    let inverse = 1.0 / (square_sum(x) / x.len() as f32 + eps).sqrt();
    for ((out, &value), &scale) in out.iter_mut().zip(x).zip(weight) {
        *out = value * inverse * scale;
    }
}

/// Sum of squares in eight running sums, which the compiler turns into vector lanes (one running sum it may not).
fn square_sum(row: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let chunks = row.chunks_exact(8);
    let tail: f32 = chunks.remainder().iter().map(|value| value * value).sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value * value;
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// Softmax in place. A row that holds an infinity or NaN comes out as NaN, so that the loss shows it.
pub(super) fn softmax(row: &mut [f32]) {
    if OWN_KERNELS {
        return lorahub_kernels::softmax(row, None);
    }
    let largest = row.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0f32;
    for value in row.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    let inverse = 1.0 / sum;
    for value in row.iter_mut() {
        *value *= inverse;
    }
}

/// `gate = gelu(gate) * up`.
pub(super) fn gated_gelu(gate: &mut [f32], up: &[f32]) {
    if OWN_KERNELS {
        return lorahub_kernels::gated_gelu(gate, up);
    }
    for (gate, &up) in gate.iter_mut().zip(up) {
        *gate = gelu(*gate) * up;
    }
}

/// GELU in the tanh form that T5 v1.1 was trained with (Hendrycks and Gimpel, equation 2).
fn gelu(x: f32) -> f32 {
    let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    // Past 10 the tanh is 1 to the last bit; the clamp keeps an infinite cube out of it.
    0.5 * x * (1.0 + inner.clamp(-10.0, 10.0).tanh())
}

/// `log(sum(exp(scores)))`; infinite if a score is not finite.
pub(super) fn log_sum_exp(scores: &[f32]) -> f64 {
    if OWN_KERNELS {
        let mut sum = LogSumExp::default();
        sum.push(scores);
        return sum.finish();
    }
    let mut largest = f32::MIN;
    let mut finite = true;
    for &score in scores {
        largest = largest.max(score);
        finite &= score.is_finite();
    }
    if !finite {
        // An overflow must make this candidate the worst one, and `max` above skips NaN.
        return f64::INFINITY;
    }
    let sum: f64 = scores
        .chunks(256)
        .map(|chunk| f64::from(chunk.iter().map(|&score| (score - largest).exp()).sum::<f32>()))
        .sum();
    f64::from(largest) + sum.ln()
}
