//! The one source of randomness: xoshiro256++, seeded by splitmix64.
//!
//! D. Blackman and S. Vigna, *Scrambled linear pseudorandom number generators* (2021), and the reference C code at
//! prng.di.unimi.it. Ours rather than a crate's, so that a seed means the same stream in every version and on every
//! target. Not for cryptography.

use crate::{OptimError, bits};
use serde::{Deserialize, Serialize};

/// A seeded generator of uniform and normal numbers. Equal seeds give equal streams, natively and in WebAssembly.
///
/// Serialises exactly, the spare normal number included, so that a resumed stream goes on where it stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct Rng {
    s: [u64; 4],
    /// The polar method makes normal numbers in pairs; this is the second of the last pair.
    spare: Option<f64>,
}

impl Rng {
    /// The generator of `seed`; every seed is as good as any other, 0 included.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        // Four successive splitmix64 outputs are never all zero, the one state xoshiro cannot leave.
        Self {
            s: std::array::from_fn(|_| splitmix64(&mut state)),
            spare: None,
        }
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.s;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A multiple of 2^-53, uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * SCALE
    }

    /// A standard normal number, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let u = 2.0 * self.uniform() - 1.0;
            let v = 2.0 * self.uniform() - 1.0;
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                let factor = (-2.0 * libm::log(s) / s).sqrt();
                self.spare = Some(v * factor);
                return u * factor;
            }
        }
    }

    /// A uniform index in `0..n`, without bias; 0 when `n` is 0 or 1.
    ///
    /// D. Lemire, *Fast random integer generation in an interval* (2019).
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        if n < 2 {
            return 0;
        }
        // The low half of the product tells whether this draw falls in the incomplete last stretch of 2^64 / n.
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as usize;
            }
        }
    }

    /// Puts `items` in a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The seeding generator that xoshiro's authors recommend.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// [`Rng`] as it is saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(with = "bits")]
    words: [u64; 4],
    #[serde(with = "bits")]
    spare_normal: Option<f64>,
}

impl From<Rng> for State {
    fn from(rng: Rng) -> Self {
        Self {
            words: rng.s,
            spare_normal: rng.spare,
        }
    }
}

impl TryFrom<State> for Rng {
    type Error = OptimError;

    fn try_from(state: State) -> Result<Self, OptimError> {
        if state.words == [0; 4] {
            return Err(OptimError::State {
                what: "the random generator is all zeros".into(),
            });
        }
        if state.spare_normal.is_some_and(|spare| !spare.is_finite()) {
            return Err(OptimError::State {
                what: "the random generator holds a number that is not finite".into(),
            });
        }
        Ok(Self {
            s: state.words,
            spare: state.spare_normal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Rng, splitmix64};

    /// The values that the `rand_xoshiro` crate and the authors' C code give for the state `[1, 2, 3, 4]`.
    #[test]
    fn xoshiro256_plus_plus_reference_values() {
        let mut rng = Rng {
            s: [1, 2, 3, 4],
            spare: None,
        };
        let expected = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
            14_011_001_112_246_962_877,
            12_406_186_145_184_390_807,
            15_849_039_046_786_891_736,
            10_450_023_813_501_588_000,
        ];
        for value in expected {
            assert_eq!(rng.next_u64(), value);
        }
    }

    #[test]
    fn splitmix64_reference_values() {
        let mut state = 1_477_776_061_723_855_037;
        for value in [
            1_985_237_415_132_408_290_u64,
            2_979_275_885_539_914_483,
            13_511_426_838_097_143_398,
        ] {
            assert_eq!(splitmix64(&mut state), value);
        }
    }

    /// Sample moments of 200 000 numbers; each limit is five standard errors.
    #[test]
    fn normal_moments() {
        let mut rng = Rng::new(3);
        let count = 200_000;
        let (mut m1, mut m2, mut m3, mut m4) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..count {
            let z = rng.normal();
            m1 += z;
            m2 += z * z;
            m3 += z * z * z;
            m4 += z * z * z * z;
        }
        let count = f64::from(count);
        let limit = |variance: f64| 5.0 * (variance / count).sqrt();
        assert!((m1 / count).abs() < limit(1.0));
        assert!((m2 / count - 1.0).abs() < limit(2.0));
        assert!((m3 / count).abs() < limit(15.0));
        assert!((m4 / count - 3.0).abs() < limit(96.0));
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut rng = Rng::new(0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[rng.below(7)] += 1;
        }
        // Binomial(70 000, 1/7) has a standard deviation of 93.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 465), "{counts:?}");
        assert_eq!((rng.below(0), rng.below(1)), (0, 0));
    }

    #[test]
    fn shuffle_reaches_every_order_equally() {
        let mut rng = Rng::new(11);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..60_000 {
            let mut items = [0, 1, 2];
            rng.shuffle(&mut items);
            *counts.entry(items).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Binomial(60 000, 1/6) has a standard deviation of 91.
        assert!(counts.values().all(|count| count.abs_diff(10_000) < 456), "{counts:?}");
    }

    #[test]
    fn resumes_in_mid_pair() {
        let mut rng = Rng::new(5);
        rng.normal();
        let text = serde_json::to_string(&rng).expect("serialises");
        let mut copy: Rng = serde_json::from_str(&text).expect("deserialises");
        for _ in 0..10 {
            assert_eq!(copy.normal().to_bits(), rng.normal().to_bits());
        }
        let zeros = format!(r#"{{"words":"{}","spare_normal":""}}"#, "0".repeat(64));
        assert!(serde_json::from_str::<Rng>(&zeros).is_err());
    }
}
