//! What is written is read back, and the format's own library reads it alike; broken files never cause a panic.

#[path = "../../../tests/hostile/safetensors.rs"]
mod hostile;

use std::collections::BTreeMap;

use half::{bf16, f16};
use lorahub_weights::{
    Dtype, Limits, SafeTensors, TensorOut, TensorPlan, WeightsError, safetensors_size, sha256_hex, write_safetensors,
};

/// SplitMix64: enough to vary inputs, from a seed that a failure prints.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

/// `value` as the format stores it.
fn stored(value: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F32 => value,
        Dtype::F16 => f16::from_f32(value).to_f32(),
        Dtype::BF16 => bf16::from_f32(value).to_f32(),
    }
}

/// Random tensors: any rank up to four, zero dimensions too, sizes around the conversion's block of 4096.
fn random_tensors(rng: &mut Rng) -> Vec<(TensorPlan, Vec<f32>)> {
    let count = rng.below(6);
    (0..count)
        .map(|i| {
            let shape = match rng.below(8) {
                0 => vec![],
                1 => vec![0, 3],
                2 => vec![4095 + rng.below(3)],
                3 => vec![2, 4096],
                dims => (0..dims % 4 + 1).map(|_| 1 + rng.below(7)).collect(),
            };
            let len = shape.iter().product();
            let scale = 10f32.powi(rng.below(9) as i32 - 5);
            let data = (0..len)
                .map(|_| (rng.next() as i64 as f32 / i64::MAX as f32) * scale)
                .collect();
            (
                TensorPlan {
                    name: format!("t{}.{i}", rng.below(100)),
                    shape,
                    dtype: DTYPES[rng.below(3)],
                },
                data,
            )
        })
        .collect()
}

fn write(tensors: &[(TensorPlan, Vec<f32>)], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let out: Vec<_> = tensors
        .iter()
        .map(|(plan, data)| TensorOut {
            name: plan.name.clone(),
            shape: plan.shape.clone(),
            data,
            dtype: plan.dtype,
        })
        .collect();
    let bytes = write_safetensors(&out, metadata).expect("valid tensors");
    let plans: Vec<_> = tensors.iter().map(|(plan, _)| plan.clone()).collect();
    assert_eq!(safetensors_size(&plans, metadata), Ok(bytes.len()));
    bytes
}

fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

#[test]
fn written_files_are_read_back_and_the_library_agrees() {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let tensors = random_tensors(&mut rng);
        let metadata = metadata(&[("format", "pt"), ("a \"quoted\" key", "tab\tand ü")]);
        let bytes = write(&tensors, &metadata);
        let ours = SafeTensors::parse(&bytes, &Limits::BASE).expect("our own file");
        let library = safetensors::SafeTensors::deserialize(&bytes).expect("the library reads it");
        assert_eq!(ours.metadata(), &metadata, "seed {seed}");
        assert_eq!(ours.len(), tensors.len(), "seed {seed}");
        assert_eq!(library.len(), tensors.len(), "seed {seed}");
        for (TensorPlan { name, shape, dtype }, data) in &tensors {
            let expected: Vec<_> = data.iter().map(|&value| stored(value, *dtype)).collect();
            assert_eq!(ours.f32(name).as_ref(), Ok(&expected), "seed {seed}");
            assert_eq!(ours.shape(name), Ok(shape.as_slice()), "seed {seed}");
            assert_eq!(ours.dtype(name), Ok(*dtype), "seed {seed}");
            let view = library.tensor(name).expect("the library finds it");
            assert_eq!(view.shape(), shape, "seed {seed}");
            assert_eq!(format!("{:?}", view.dtype()), dtype.name(), "seed {seed}");
            let raw: Vec<f32> = match dtype {
                Dtype::F32 => view
                    .data()
                    .chunks(4)
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                    .collect(),
                Dtype::F16 => view
                    .data()
                    .chunks(2)
                    .map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f32())
                    .collect(),
                Dtype::BF16 => view
                    .data()
                    .chunks(2)
                    .map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f32())
                    .collect(),
            };
            assert_eq!(raw, expected, "seed {seed}");
        }
    }
}

#[test]
fn what_the_library_writes_is_read() {
    let data = hostile::f32_data(&[1.0, 2.0, 3.0]);
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![3, 1], &data).expect("a view");
    let bytes = safetensors::serialize([("only", view)], None).expect("serialised");
    let file = SafeTensors::parse(&bytes, &Limits::ADAPTER).expect("valid");
    assert_eq!(file.f32("only"), Ok(vec![1.0, 2.0, 3.0]));
    assert!(file.metadata().is_empty());
}

#[test]
fn equal_tensors_in_any_order_give_equal_bytes() {
    let tensors = random_tensors(&mut Rng(7));
    assert!(tensors.len() > 2, "the seed gives several tensors");
    let metadata = metadata(&[("format", "pt"), ("made-by", "test")]);
    let forwards = write(&tensors, &metadata);
    let backwards: Vec<_> = tensors.into_iter().rev().collect();
    assert_eq!(forwards, write(&backwards, &metadata));
}

#[test]
fn the_bytes_are_fixed() {
    let tensor = TensorOut {
        name: "b".to_owned(),
        shape: vec![2],
        data: &[1.0, -0.5],
        dtype: Dtype::F16,
    };
    let wide = TensorOut {
        name: "c".to_owned(),
        shape: vec![1],
        data: &[2.0],
        dtype: Dtype::F32,
    };
    let bytes = write_safetensors(&[tensor, wide], &metadata(&[("format", "pt")])).expect("valid");
    let header = concat!(
        r#"{"__metadata__":{"format":"pt"},"c":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"#,
        r#""b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}"#
    );
    let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    assert_eq!(bytes, hostile::file(&padded, &[0, 0, 0, 0x40, 0, 0x3c, 0, 0xb8]));
}

#[test]
fn tensors_that_cannot_be_written_are_named() {
    let out = |name: &str, shape: &[usize], data, dtype| TensorOut {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data,
        dtype,
    };
    let none = BTreeMap::new();
    let cases = [
        (
            out("x", &[3], &[1.0, 2.0], Dtype::F32),
            "weights-out-length",
            ["`x`", "[3]", "2 values"],
        ),
        (
            out("x", &[usize::MAX, 2], &[], Dtype::F32),
            "weights-shape-overflow",
            ["`x`", "shape", "address"],
        ),
        (
            out("x", &[2], &[1.0, f32::NAN], Dtype::F32),
            "weights-non-finite",
            ["`x`", "NaN", "index 1"],
        ),
        (
            out("x", &[2], &[1.0, -7e4], Dtype::F16),
            "weights-out-range",
            ["`x`", "-70000", "F16"],
        ),
        (
            out("x", &[1], &[f32::MAX], Dtype::BF16),
            "weights-out-range",
            ["`x`", "BF16", "F32"],
        ),
        (
            out("a b", &[1], &[1.0], Dtype::F32),
            "weights-tensor-name",
            ["`a b`", "printable", "rename"],
        ),
        (
            out("__metadata__", &[1], &[1.0], Dtype::F32),
            "weights-duplicate-tensor",
            ["__metadata__", "twice", "once"],
        ),
    ];
    for (tensor, code, says) in cases {
        let error = write_safetensors(&[tensor], &none).expect_err(code);
        assert_eq!(error.code(), code, "{error}");
        for words in says {
            assert!(error.to_string().contains(words), "`{words}` is not in: {error}");
        }
    }
    let twice = [out("x", &[1], &[1.0], Dtype::F32), out("x", &[1], &[1.0], Dtype::F32)];
    let error = write_safetensors(&twice, &none).expect_err("a name twice");
    assert_eq!(error, WeightsError::DuplicateTensor { name: "x".to_owned() });
}

/// Reads everything that can be read. Returns whether the file was accepted.
fn read_all(bytes: &[u8]) -> bool {
    let Ok(file) = SafeTensors::parse(bytes, &Limits::ADAPTER) else {
        return false;
    };
    let names: Vec<_> = file.names().map(str::to_owned).collect();
    for name in names {
        let len: usize = file.shape(&name).expect("listed").iter().product();
        match file.f32(&name) {
            Ok(values) => assert_eq!(values.len(), len),
            Err(error) => assert_eq!(error.code(), "weights-non-finite"),
        }
    }
    true
}

#[test]
fn no_bytes_cause_a_panic() {
    let valid = hostile::valid();
    for cut in 0..valid.len() {
        assert!(!read_all(&valid[..cut]), "cut to {cut} bytes");
    }
    for bit in 0..valid.len() * 8 {
        let mut bytes = valid.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // What we accept the library accepts too: our checks are the stricter ones.
        if read_all(&bytes) {
            safetensors::SafeTensors::deserialize(&bytes).expect("the library accepts it");
        }
    }
    let mut accepted = 0;
    for seed in 0..20_000 {
        let mut rng = Rng(seed);
        let mut bytes = valid.clone();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len());
            match rng.below(4) {
                0 => bytes[at] = rng.next() as u8,
                // Digits and punctuation make other valid headers more often than random bytes do.
                1 => bytes[at] = b"0123456789,:[]{}\""[rng.below(17)],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, rng.next() as u8),
            }
        }
        accepted += usize::from(read_all(&bytes));
    }
    assert!(accepted > 100, "the mutations reach the values too: {accepted}");
    for seed in 0..2000 {
        let mut rng = Rng(seed);
        let mut bytes: Vec<_> = (0..rng.below(200)).map(|_| rng.next() as u8).collect();
        if bytes.len() > 8 && seed % 2 == 0 {
            let length = bytes.len() as u64 - 8;
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            bytes[8] = b'{';
        }
        read_all(&bytes);
    }
}

#[test]
fn sha256_is_sha256() {
    // FIPS 180-2, appendix B.1.
    assert_eq!(
        sha256_hex(b"abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}
