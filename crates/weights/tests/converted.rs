//! Converted weights are what conversion gives, and a file that is not as it was written is refused.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use lorahub_weights::quant::WeightStorage;
use lorahub_weights::{
    Append, CONVERTED_VERSION, ConvertedTensors, Converting, Dtype, FileTensors, Held, Limits, ReadAt, TensorOut,
    Tensors, WeightsError, sha256_hex, write_safetensors,
};

const SOURCE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NARROW: [WeightStorage; 3] = [WeightStorage::F16, WeightStorage::Q8, WeightStorage::Q4];
/// A matrix of whole blocks, one of none, one that is too small, a vector, nothing.
const SHAPES: [(&str, &[usize]); 5] = [
    ("blocks", &[24, 64]),
    ("odd", &[40, 33]),
    ("small", &[4, 32]),
    ("norm", &[2048]),
    ("none", &[0, 32]),
];

/// A file in memory.
struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
        Ok(self.0[range.start as usize..range.end as usize].to_vec())
    }
}

fn safetensors(dtype: Dtype) -> FileTensors<Bytes> {
    let values = |count: usize| (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.013).collect();
    let data: Vec<Vec<f32>> = SHAPES.iter().map(|(_, shape)| values(shape.iter().product())).collect();
    let tensors: Vec<_> = SHAPES
        .iter()
        .zip(&data)
        .map(|((name, shape), data)| TensorOut {
            name: (*name).to_owned(),
            shape: shape.to_vec(),
            data,
            dtype,
        })
        .collect();
    let bytes = write_safetensors(&tensors, &BTreeMap::new()).unwrap();
    FileTensors::open(Bytes(bytes), &Limits::BASE).unwrap()
}

/// Loads as a device does, and returns the file and what the device was given.
fn convert(source: &dyn Tensors, storage: WeightStorage) -> (Vec<u8>, Vec<Held>) {
    let converting = Converting::new(source, SOURCE, storage, Vec::new());
    let held = SHAPES
        .iter()
        .map(|(name, _)| converting.held(name, storage).unwrap())
        .collect();
    (converting.finish().unwrap(), held)
}

fn open(bytes: Vec<u8>, storage: WeightStorage) -> Result<ConvertedTensors<Bytes>, WeightsError> {
    ConvertedTensors::open(Bytes(bytes), SOURCE, storage)
}

#[test]
fn what_was_converted_is_read_again() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let source = safetensors(dtype);
        for storage in WeightStorage::ALL {
            let (bytes, given) = convert(&source, storage);
            let opened = open(bytes, storage).unwrap();
            for ((name, shape), given) in SHAPES.iter().zip(given) {
                let values = source.f32(name).unwrap();
                assert_eq!(
                    given,
                    Held::new(shape, values, storage).unwrap(),
                    "{name} as {storage:?}"
                );
                assert!(given.fits(shape));
                assert_eq!(opened.shape(name).unwrap(), *shape);
                assert_eq!(opened.held(name, storage).unwrap(), given, "{name} as {storage:?}");
                // For another storage it is as if the narrow values had been the file's.
                let widened = given.widen();
                assert_eq!(opened.f32(name).unwrap(), widened);
                let other = Held::new(shape, widened, WeightStorage::F32).unwrap();
                assert_eq!(opened.held(name, WeightStorage::F32).unwrap(), other);
            }
            assert_eq!(opened.names().count(), SHAPES.len());
            assert_eq!(opened.held("nothing", storage).unwrap_err().code(), "weights-missing");
        }
    }
}

#[test]
fn a_file_says_what_is_in_a_form_already() {
    let (f32, f16) = (safetensors(Dtype::F32), safetensors(Dtype::F16));
    for storage in NARROW {
        assert!(!f32.is_in(storage), "{storage:?}");
        assert_eq!(f16.is_in(storage), storage == WeightStorage::F16);
    }
    assert!(f32.is_in(WeightStorage::F32) && !f16.is_in(WeightStorage::F32));
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_refused() {
    let storage = WeightStorage::Q8;
    let (bytes, _) = convert(&safetensors(Dtype::F32), storage);
    let code = |bytes: Vec<u8>| open(bytes, storage).err().map(|error| error.code());
    assert_eq!(code(bytes.clone()), None);
    for length in 0..bytes.len() {
        assert!(code(bytes[..length].to_vec()).is_some(), "the first {length} bytes");
    }
    // Every bit of what is not a tensor: mark and version in front; index, hash and length behind.
    let index = bytes.windows(9).rposition(|window| window == b"{\"source\"").unwrap();
    for at in (0..16).chain(index..bytes.len()) {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(code(flipped).is_some(), "bit {bit} of byte {at}");
        }
    }
    let mut newer = bytes.clone();
    newer[12..16].copy_from_slice(&(CONVERTED_VERSION + 1).to_le_bytes());
    assert_eq!(code(newer), Some("converted-version"));
    let other = "f".repeat(64);
    let error = ConvertedTensors::open(Bytes(bytes.clone()), &other, storage)
        .err()
        .unwrap();
    assert_eq!(error.code(), "converted-other");
    assert!(
        error
            .to_string()
            .contains(&format!("of {SOURCE} as q8_0, expected {other} as q8_0")),
        "{error}"
    );
    assert_eq!(open(bytes, WeightStorage::Q4).err().unwrap().code(), "converted-other");
}

/// An index whose hash is right and that is wrong all the same, as only a wrong writer makes it.
#[test]
fn a_wrong_index_is_refused() {
    let file = |index: &str, data: usize| {
        let mut bytes = b"LoRAHubHeld\n".to_vec();
        bytes.extend(CONVERTED_VERSION.to_le_bytes());
        bytes.extend(vec![0; data]);
        bytes.extend(index.as_bytes());
        bytes.extend(sha256_hex(index.as_bytes()).as_bytes());
        bytes.extend((index.len() as u64).to_le_bytes());
        open(bytes, WeightStorage::Q8)
    };
    let of = |tensors: &str| format!(r#"{{"source":"{SOURCE}","storage":"q8_0","tensors":[{tensors}]}}"#);
    let tensor = |shape: &str, form: &str| of(&format!(r#"{{"name":"a","shape":{shape},"form":"{form}"}}"#));
    assert!(file(&tensor("[2,32]", "q8_0"), 68).is_ok());
    let twice = r#"{"name":"a","shape":[1],"form":"f32"}"#;
    for (index, data, expected) in [
        ("{}".to_owned(), 0, "converted-index"),
        (tensor("[2,32]", "q8_0"), 67, "converted-length"),
        (tensor("[2,32]", "q8_0"), 69, "converted-length"),
        (tensor("[2,31]", "q8_0"), 0, "converted-index"),
        (tensor("[32]", "f16"), 64, "converted-index"),
        (tensor("[2,32]", "q9"), 68, "converted-index"),
        (tensor("[4611686018427387904,4]", "f32"), 0, "converted-index"),
        (of(&format!("{twice},{twice}")), 8, "converted-index"),
    ] {
        assert_eq!(
            file(&index, data).err().map(|error| error.code()),
            Some(expected),
            "{index}"
        );
    }
    // A factor that is no number is found when the tensor is read.
    let mut bytes = convert(&safetensors(Dtype::F32), WeightStorage::Q8).0;
    bytes[16..18].copy_from_slice(&[0x00, 0x7c]);
    let opened = open(bytes, WeightStorage::Q8).unwrap();
    let error = opened.held("blocks", WeightStorage::Q8).unwrap_err();
    assert_eq!(error.code(), "converted-factor");
    assert!(
        error.to_string().contains("block 0 of the converted tensor `blocks`"),
        "{error}"
    );
}

/// A value that is no number is found wherever it stands, and named.
#[test]
fn a_value_that_is_not_finite_is_found_when_the_tensor_is_read() {
    const COUNT: usize = 5000;
    struct One(Held, Vec<usize>);
    impl Tensors for One {
        fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
            Box::new(["one"].into_iter())
        }

        fn shape(&self, _: &str) -> Result<&[usize], WeightsError> {
            Ok(&self.1)
        }

        fn f32(&self, _: &str) -> Result<Vec<f32>, WeightsError> {
            Ok(self.0.clone().widen())
        }
    }
    for (storage, bad, code) in [
        (WeightStorage::F32, &[0x00, 0x00, 0x80, 0x7f][..], "weights-non-finite"),
        (WeightStorage::F32, &[0xff, 0xff, 0xff, 0xff], "weights-non-finite"),
        (WeightStorage::F16, &[0x00, 0x7c], "converted-factor"),
        (WeightStorage::F16, &[0xff, 0xff], "converted-factor"),
    ] {
        let largest = if storage == WeightStorage::F32 {
            f32::MAX
        } else {
            -65504.0
        };
        let source = One(Held::F32(vec![largest; COUNT]), vec![5, COUNT / 5]);
        let converting = Converting::new(&source, SOURCE, storage, Vec::new());
        converting.held("one", storage).unwrap();
        let bytes = converting.finish().unwrap();
        assert!(open(bytes.clone(), storage).unwrap().held("one", storage).is_ok());
        for index in [0, 1, 4095, 4096, COUNT - 1] {
            let mut bytes = bytes.clone();
            let at = 16 + index * bad.len();
            bytes[at..at + bad.len()].copy_from_slice(bad);
            let error = open(bytes, storage).unwrap().held("one", storage).unwrap_err();
            assert_eq!(error.code(), code, "{storage:?}");
            let (message, index) = (error.to_string(), index.to_string());
            assert!(
                message.split([' ', ',']).any(|word| word == index),
                "{index}: {message}"
            );
        }
    }
}

/// A file that becomes shorter after it was opened gives an error, for small tensors and large ones.
#[test]
fn a_file_that_is_cut_while_it_is_open_is_refused() {
    struct Shrinking(Vec<u8>, Rc<Cell<usize>>);
    impl ReadAt for Shrinking {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
            let end = self.1.get().min(range.end as usize);
            Ok(self.0[end.min(range.start as usize)..end].to_vec())
        }
    }
    let values = vec![0.5; 1 << 21];
    let tensors = [("large", vec![1 << 10, 1 << 11]), ("small", vec![2, 1 << 10])].map(|(name, shape)| TensorOut {
        name: name.to_owned(),
        data: &values[..shape.iter().product()],
        shape,
        dtype: Dtype::F32,
    });
    let bytes = write_safetensors(&tensors, &BTreeMap::new()).unwrap();
    let source = FileTensors::open(Bytes(bytes), &Limits::BASE).unwrap();
    for (storage, code) in [
        (WeightStorage::F32, "weights-tensor-bytes"),
        (WeightStorage::F16, "converted-cut"),
        (WeightStorage::Q8, "converted-cut"),
    ] {
        for (name, others) in [("large", 0), ("small", 1)] {
            let converting = Converting::new(&source, SOURCE, storage, Vec::new());
            // As many bytes as the tensor in front takes.
            let before: usize = (0..others)
                .map(|_| converting.held("large", storage).map_or(0, bytes_of))
                .sum();
            let own = converting.held(name, storage).map(bytes_of).unwrap();
            let file = converting.finish().unwrap();
            let length = Rc::new(Cell::new(file.len()));
            let opened = ConvertedTensors::open(Shrinking(file, length.clone()), SOURCE, storage).unwrap();
            length.set(16 + before + own - 1);
            assert_eq!(
                opened.held(name, storage).unwrap_err().code(),
                code,
                "{name} as {storage:?}"
            );
            length.set(16 + before + own);
            assert!(opened.held(name, storage).is_ok(), "{name} as {storage:?}");
        }
    }
}

fn bytes_of(held: Held) -> usize {
    match held {
        Held::F32(values) => 4 * values.len(),
        Held::Narrow(narrow) => narrow.bytes().len(),
    }
}

#[test]
fn what_cannot_be_written_is_read_all_the_same() {
    /// Full after some bytes.
    struct Small(usize);
    impl Append for Small {
        fn append(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
            let reason = "it is full".to_owned();
            self.0 = self.0.checked_sub(bytes.len()).ok_or(WeightsError::Write { reason })?;
            Ok(())
        }
    }
    let source = safetensors(Dtype::F32);
    for space in [0, 14, 20, 3000] {
        let converting = Converting::new(&source, SOURCE, WeightStorage::Q8, Small(space));
        for (name, _) in SHAPES {
            let held = converting.held(name, WeightStorage::Q8).unwrap();
            assert_eq!(held, source.held(name, WeightStorage::Q8).unwrap());
        }
        let error = converting.finish().err().unwrap();
        assert_eq!(error.code(), "weights-write", "{space} bytes");
    }
}

/// The tensors of a model are many and mostly small: asked for in their order, they come in few reads of the file.
#[test]
fn small_tensors_are_read_ahead() {
    struct Counting(Vec<u8>, Rc<Cell<usize>>);
    impl ReadAt for Counting {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
            self.1.set(self.1.get() + 1);
            Ok(self.0[range.start as usize..range.end as usize].to_vec())
        }
    }
    let storage = WeightStorage::Q8;
    let (bytes, given) = convert(&safetensors(Dtype::F32), storage);
    let reads = Rc::new(Cell::new(0));
    let opened = ConvertedTensors::open(Counting(bytes, reads.clone()), SOURCE, storage).unwrap();
    for again in 0..2 {
        for ((name, _), given) in SHAPES.iter().zip(&given) {
            assert_eq!(opened.held(name, storage).unwrap(), *given, "{name}, {again}");
        }
    }
    assert!(reads.get() <= 4, "{} reads of a small file", reads.get());
}
