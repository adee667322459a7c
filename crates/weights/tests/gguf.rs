//! GGUF files: what candle writes is read as candle reads it, bit for bit, and nothing malformed is let in.

#[path = "../../../tests/hostile/gguf.rs"]
mod hostile;

use std::io::Cursor;
use std::ops::Range;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use lorahub_weights::quant::{Format, Narrow};
use lorahub_weights::{GgufTensors, Limits, ReadAt, Tensors as _, WeightsError};

/// A file in memory, and how much of it comes at once at most.
struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
        let part = self.0.get(range.start as usize..range.end as usize);
        part.map(<[u8]>::to_vec).ok_or_else(|| WeightsError::Read {
            reason: "asked for bytes outside the file".to_owned(),
        })
    }
}

fn open(bytes: &[u8]) -> Result<GgufTensors<Bytes>, WeightsError> {
    GgufTensors::open(Bytes(bytes.to_vec()), &Limits::BASE)
}

/// SplitMix64, for inputs that vary from a seed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Values of very different sizes, a block of zeros among them.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut value = |i: usize| {
        let bits = next(&mut state);
        let size = 2f32.powi((bits % 24) as i32 - 16);
        let value = ((bits >> 40) as f32 / 8_388_608.0 - 1.0) * size;
        if (32..64).contains(&i) { 0.0 } else { value }
    };
    (0..count).map(&mut value).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

const KINDS: [GgmlDType; 7] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q8_0,
    GgmlDType::Q4_0,
    GgmlDType::Q6K,
    GgmlDType::Q4K,
];

#[test]
fn what_candle_writes_is_what_candle_reads() {
    let shapes = [
        &[96][..],
        &[7, 64],
        &[3, 5, 32],
        &[32, 128],
        &[1, 32],
        &[512],
        &[5, 768],
        &[2, 3, 256],
    ];
    let mut tensors = Vec::new();
    for (kind, seed) in KINDS.into_iter().zip(1..) {
        for shape in shapes {
            let count: usize = shape.iter().product();
            if !shape[shape.len() - 1].is_multiple_of(kind.block_size()) {
                continue;
            }
            let tensor = Tensor::from_vec(values(count, seed), shape, &Device::Cpu).unwrap();
            let name = format!("{kind:?}.{}", shape.len() * 1000 + count);
            tensors.push((name, QTensor::quantize(&tensor, kind).unwrap()));
        }
    }
    let borrowed: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let metadata = [
        ("general.architecture", Value::String("t5".to_owned())),
        ("test.list", Value::Array(vec![Value::String("a".to_owned()); 3])),
        ("test.number", Value::F64(0.5)),
    ];
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    for metadata in [&metadata[..], &[]] {
        let mut file = Cursor::new(Vec::new());
        gguf_file::write(&mut file, metadata, &borrowed).unwrap();
        let ours = open(file.get_ref()).unwrap();
        file.set_position(0);
        let theirs = gguf_file::Content::read(&mut file).unwrap();
        assert_eq!(ours.names().count(), theirs.tensor_infos.len());
        for name in ours.names() {
            let tensor = theirs.tensor(&mut file, name, &Device::Cpu).unwrap();
            assert_eq!(ours.shape(name).unwrap(), tensor.shape().dims(), "{name}");
            let expected = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap();
            let expected = expected.to_vec1::<f32>().unwrap();
            assert_eq!(bits(&ours.f32(name).unwrap()), bits(&expected), "{name}");
        }
    }
}

/// Every bit that a file may hold, not only those that a maker of files would choose.
#[test]
fn superblocks_of_any_bits_are_what_candle_reads() {
    let mut state = 5;
    for (kind, number, size) in [(GgmlDType::Q4K, 12, 144), (GgmlDType::Q6K, 14, 210)] {
        let mut data: Vec<u8> = (0..24 * size).map(|_| next(&mut state) as u8).collect();
        for block in data.chunks_exact_mut(size) {
            // The high bytes of the f16 factors: finite ones.
            for at in if number == 12 { vec![1, 3] } else { vec![209] } {
                block[at] &= 0xbb;
            }
        }
        let mut file = hostile::valid();
        file.tensors[0] = hostile::Tensor::new("enc.output_norm.weight", &[2, 12 * 256], number, data.clone());
        let ours = open(&file.bytes())
            .unwrap()
            .f32("encoder.final_layer_norm.weight")
            .unwrap();
        let storage = candle_core::quantized::QStorage::from_data(data.into(), &Device::Cpu, kind).unwrap();
        let theirs = QTensor::new(storage, (2, 12 * 256))
            .unwrap()
            .dequantize(&Device::Cpu)
            .unwrap();
        let theirs = theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(&ours), bits(&theirs), "{kind:?}");
    }
}

#[test]
fn superblocks_must_be_finite() {
    for (number, size, factors) in [(12, 144, &[0, 2][..]), (14, 210, &[208])] {
        for &at in factors {
            let mut data = vec![0; 3 * size];
            data[2 * size + at..][..2].copy_from_slice(&[0x00, 0x7c]);
            let mut file = hostile::valid();
            file.tensors[0] = hostile::Tensor::new("enc.output_norm.weight", &[3 * 256], number, data);
            let error = open(&file.bytes())
                .unwrap()
                .f32("encoder.final_layer_norm.weight")
                .unwrap_err();
            assert_eq!(error.code(), "gguf-factor");
            assert!(error.to_string().contains("block 2"), "{error}");
        }
    }
}

/// The same reference for the other direction: what this project rounds to is what the formats prescribe.
#[test]
fn blocks_are_the_bytes_that_candle_makes() {
    for (format, kind) in [
        (Format::F16, GgmlDType::F16),
        (Format::Q8_0, GgmlDType::Q8_0),
        (Format::Q4_0, GgmlDType::Q4_0),
    ] {
        for seed in 10..14 {
            let values = values(64 * 96, seed);
            let ours = Narrow::quantise(format, 64, 96, &values).unwrap();
            let tensor = Tensor::from_vec(values, (64, 96), &Device::Cpu).unwrap();
            let theirs = QTensor::quantize(&tensor, kind).unwrap();
            assert!(ours.bytes() == &*theirs.data().unwrap(), "{format:?}, seed {seed}");
        }
    }
}

#[test]
fn a_file_written_by_hand_is_read_by_candle_and_by_us_alike() {
    for alignment in [32, 8, 256] {
        for version in [2, 3] {
            let mut file = hostile::valid();
            (file.version, file.alignment) = (version, alignment);
            if alignment != 32 {
                file = file.with("general.alignment", 4, &(alignment as u32).to_le_bytes());
            }
            let bytes = file.bytes();
            let ours = open(&bytes).unwrap();
            let mut cursor = Cursor::new(&bytes);
            let theirs = gguf_file::Content::read(&mut cursor).unwrap();
            for (own, name) in [
                ("enc.output_norm.weight", "encoder.final_layer_norm.weight"),
                ("token_embd.weight", "shared.weight"),
                (
                    "enc.blk.0.attn_q.weight",
                    "encoder.block.0.layer.0.SelfAttention.q.weight",
                ),
                (
                    "dec.blk.0.cross_attn_q.weight",
                    "decoder.block.0.layer.1.EncDecAttention.q.weight",
                ),
            ] {
                let tensor = theirs.tensor(&mut cursor, own, &Device::Cpu).unwrap();
                assert_eq!(ours.shape(name).unwrap(), tensor.shape().dims(), "{name}");
                let expected = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap();
                let expected = expected.to_vec1::<f32>().unwrap();
                assert_eq!(bits(&ours.f32(name).unwrap()), bits(&expected), "{name}");
            }
            assert!(ours.f32("empty").unwrap().is_empty());
            assert_eq!(ours.names().count(), 5);
            assert_eq!(ours.f32("token_embd.weight").unwrap_err().code(), "weights-missing");
            // The last tensor's padding may be missing.
            let end = bytes.len() - (alignment - 36 % alignment) % alignment;
            assert!(open(&bytes[..end]).is_ok(), "{alignment}");
            assert!(open(&bytes[..end - 1]).is_err(), "{alignment}");
        }
    }
}

#[test]
fn malformed_files_are_refused_with_their_own_error() {
    for case in hostile::bad_files() {
        let error = match open(&case.bytes) {
            Ok(_) => panic!("{} was accepted", case.what),
            Err(error) => error,
        };
        assert_eq!(error.code(), case.code, "{}: {error}", case.what);
        let message = error.to_string();
        for words in case.says {
            assert!(message.contains(words), "{}: `{message}` lacks `{words}`", case.what);
        }
        assert!(message.len() < 600 && message.is_ascii(), "{}: {message}", case.what);
    }
}

#[test]
fn values_must_be_finite() {
    let mut file = hostile::valid();
    file.tensors[0].data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    file.tensors[2].data[34..36].copy_from_slice(&[0x00, 0x7c]);
    let file = open(&file.bytes()).unwrap();
    let error = file.f32("encoder.final_layer_norm.weight").unwrap_err();
    assert_eq!(error.code(), "weights-non-finite");
    assert!(error.to_string().contains("index 1"), "{error}");
    let error = file.f32("encoder.block.0.layer.0.SelfAttention.q.weight").unwrap_err();
    assert_eq!(error.code(), "gguf-factor");
    assert!(error.to_string().contains("block 1"), "{error}");
}

/// A file that became shorter while it was open gives errors, whatever the reader of ranges does about it.
#[test]
fn a_file_that_shrinks_is_an_error() {
    struct Shrunk(Vec<u8>, u64);
    impl ReadAt for Shrunk {
        fn size(&self) -> u64 {
            self.1
        }

        fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
            let end = self.0.len().min(range.end as usize);
            Ok(self.0.get(range.start as usize..end).unwrap_or_default().to_vec())
        }
    }
    let bytes = hostile::valid().bytes();
    let header = hostile::valid().header().len();
    for length in 0..bytes.len() {
        let file = Shrunk(bytes[..length].to_vec(), bytes.len() as u64);
        match GgufTensors::open(file, &Limits::BASE) {
            Err(error) => assert!(length < header, "{length}: {error}"),
            Ok(file) => {
                assert!(length >= header, "{length}");
                let read = |name: &str| file.f32(name).err().map(|error| error.code());
                // The last four bytes are padding.
                let cut = (length < bytes.len() - 28).then_some("weights-tensor-bytes");
                assert_eq!(
                    read("decoder.block.0.layer.1.EncDecAttention.q.weight"),
                    cut,
                    "{length}"
                );
            }
        }
    }
}
