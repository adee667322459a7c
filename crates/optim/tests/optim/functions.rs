//! Benchmark functions, the shared sample stream, and the loop that most tests run.

use lorahub_optim::CmaEs;

pub(crate) fn sphere(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v).sum()
}

/// Condition number 1e6, axis-parallel.
pub(crate) fn ellipsoid(x: &[f64]) -> f64 {
    let last = (x.len() - 1) as f64;
    x.iter()
        .enumerate()
        .map(|(i, v)| libm::pow(10.0, 6.0 * i as f64 / last) * v * v)
        .sum()
}

pub(crate) fn rosenbrock(x: &[f64]) -> f64 {
    x.windows(2)
        .map(|w| 100.0 * (w[1] - w[0] * w[0]).powi(2) + (1.0 - w[0]).powi(2))
        .sum()
}

pub(crate) fn rastrigin(x: &[f64]) -> f64 {
    let wave = |v: &f64| v * v - 10.0 * libm::cos(2.0 * std::f64::consts::PI * v);
    10.0 * x.len() as f64 + x.iter().map(wave).sum::<f64>()
}

pub(crate) fn named(name: &str) -> fn(&[f64]) -> f64 {
    match name {
        "sphere" => sphere,
        "ellipsoid" => ellipsoid,
        "rosenbrock" => rosenbrock,
        "rastrigin" => rastrigin,
        other => panic!("no benchmark function {other}"),
    }
}

/// Runs `generations` generations, or until the search wants to stop.
pub(crate) fn run(search: &mut CmaEs, generations: usize, loss: impl Fn(&[f64]) -> f64) {
    for _ in 0..generations {
        if search.stop().is_some() {
            return;
        }
        generation(search, &loss);
    }
}

/// One ask, evaluate, tell.
pub(crate) fn generation(search: &mut CmaEs, loss: impl Fn(&[f64]) -> f64) {
    let losses: Vec<f64> = search.ask().iter().map(|x| loss(x)).collect();
    search.tell(&losses).expect("one loss per candidate");
}

/// Approximately normal numbers that the Python side makes alike to the last bit: Irwin-Hall sums over a 64-bit LCG.
pub(crate) struct Stream(pub(crate) u64);

impl Stream {
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).fold(0.0, |total, _| total + self.uniform()) - 6.0
    }
}

/// A random rotation of R^n, row-major: a product of `n` Householder reflections.
pub(crate) fn rotation(n: usize, stream: &mut Stream) -> Vec<f64> {
    let mut q = vec![0.0; n * n];
    for i in 0..n {
        q[i * n + i] = 1.0;
    }
    for _ in 0..n {
        let v: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let length: f64 = v.iter().map(|a| a * a).sum();
        for row in q.chunks_exact_mut(n) {
            let product: f64 = row.iter().zip(&v).map(|(a, b)| a * b).sum();
            for (entry, b) in row.iter_mut().zip(&v) {
                *entry -= 2.0 * product / length * b;
            }
        }
    }
    q
}

/// `matrix x` for a row-major matrix.
pub(crate) fn apply(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix
        .chunks_exact(x.len())
        .map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum())
        .collect()
}

/// `matrix^T x`.
pub(crate) fn apply_transposed(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    let n = x.len();
    (0..n).map(|j| (0..n).map(|i| matrix[i * n + j] * x[i]).sum()).collect()
}
