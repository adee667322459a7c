//! Random modules, and what both rules mean written as plainly as possible, sharing no code with the crate.

#![allow(
    dead_code,
    reason = "each test crate that includes this file uses its own part of it"
)]

use std::collections::BTreeMap;

use lorahub_adapters::{BaseSpec, LoraPair, Module, TargetSpec};

/// SplitMix64, for inputs that vary from a seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    pub(crate) fn value(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value() as f32).collect()
    }
}

/// Targets of unequal sizes, among them one whose `d_in` is not its `d_out`.
pub(crate) fn base() -> BaseSpec {
    let target = |path: &str, d_in, d_out| TargetSpec {
        path: path.to_owned(),
        d_in,
        d_out,
    };
    BaseSpec {
        id: Some("tiny/t5".to_owned()),
        revision: None,
        targets: vec![
            target("encoder.block.0.layer.0.SelfAttention.q", 7, 5),
            target("encoder.block.0.layer.0.SelfAttention.k", 7, 5),
            target("encoder.block.0.layer.0.SelfAttention.v", 7, 5),
            target("encoder.block.0.layer.1.DenseReluDense.wo", 9, 7),
            target("decoder.block.0.layer.1.EncDecAttention.q", 7, 5),
            target("decoder.block.0.layer.1.EncDecAttention.v", 7, 5),
        ],
    }
}

/// A module on all `q`, `v` and `wo` of [`base`].
pub(crate) fn module(name: &str, rank: usize, alpha: f64, seed: u64) -> Module {
    let mut rng = Rng(seed);
    let base = base();
    let mut pairs = BTreeMap::new();
    for TargetSpec { path, d_in, d_out } in base.targets.clone() {
        if !path.ends_with(".k") {
            let (a, b) = (rng.values(rank * d_in), rng.values(d_out * rank));
            pairs.insert(
                path,
                LoraPair {
                    rank,
                    d_in,
                    d_out,
                    a,
                    b,
                },
            );
        }
    }
    Module::new(name, rank, alpha, pairs, Some(&base)).expect("a valid module")
}

/// `sum over i of w_i s_i B_i A_i`, in f64.
pub(crate) fn exact(modules: &[Module], w: &[f64], path: &str) -> Vec<f64> {
    let LoraPair { d_in, d_out, .. } = modules[0].pairs[path];
    let mut delta = vec![0.0; d_out * d_in];
    for (module, w) in modules.iter().zip(w) {
        let LoraPair { a, b, rank, .. } = &module.pairs[path];
        for o in 0..d_out {
            for i in 0..d_in {
                for k in 0..*rank {
                    let product = f64::from(b[o * rank + k]) * f64::from(a[k * d_in + i]);
                    delta[o * d_in + i] += w * (module.alpha / *rank as f64) * product;
                }
            }
        }
    }
    delta
}

/// `s_1 (sum over i of w_i (s_i / s_1) B_i) (sum over j of w_j A_j)`, in f64 and without the crate's order of sums:
/// the cross terms written out.
pub(crate) fn reference(modules: &[Module], w: &[f64], path: &str) -> Vec<f64> {
    let LoraPair { d_in, d_out, rank, .. } = modules[0].pairs[path];
    let mut delta = vec![0.0; d_out * d_in];
    for (of_b, w_b) in modules.iter().zip(w) {
        for (of_a, w_a) in modules.iter().zip(w) {
            let (b, a) = (&of_b.pairs[path].b, &of_a.pairs[path].a);
            for o in 0..d_out {
                for i in 0..d_in {
                    for k in 0..rank {
                        let product = f64::from(b[o * rank + k]) * f64::from(a[k * d_in + i]);
                        delta[o * d_in + i] += w_b * w_a * (of_b.alpha / rank as f64) * product;
                    }
                }
            }
        }
    }
    delta
}

/// Asserts that every value is within `tolerance` of the largest reference value.
pub(crate) fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-30f64, |max, value| max.max(value.abs()));
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(found) - expected).abs() <= tolerance * scale,
            "{what}, index {index}: {found} is not {expected}"
        );
    }
}
