//! Files read in pieces and by ranges give what they give when read at once, and are refused for the same reasons.

#[path = "../../../tests/hostile/safetensors.rs"]
mod hostile;

use std::collections::BTreeMap;

use lorahub_weights::{
    Dtype, FileTensors, Limits, ReadAt, SafeTensors, SafeTensorsHeader, ShardIndex, ShardedTensors, TensorOut,
    TensorStream, Tensors as _, WeightsError, write_safetensors,
};

/// Tensors of all formats, one empty, one of many bytes.
fn file() -> Vec<u8> {
    let values: Vec<f32> = (0..3000).map(|i| i as f32 / 64.0 - 20.0).collect();
    let tensor = |name: &str, shape: &[usize], dtype| TensorOut {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: &values[..shape.iter().product()],
        dtype,
    };
    let tensors = [
        tensor("a", &[2, 3], Dtype::F32),
        tensor("b", &[30, 100], Dtype::F32),
        tensor("c", &[0, 7], Dtype::F16),
        tensor("d", &[5], Dtype::F16),
        tensor("e", &[3, 3], Dtype::BF16),
        tensor("f", &[0], Dtype::BF16),
    ];
    write_safetensors(&tensors, &BTreeMap::from([("format".to_owned(), "pt".to_owned())])).expect("valid")
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// All of `bytes` through a stream, in pieces of such sizes in turn.
fn streamed(bytes: &[u8], sizes: &[usize]) -> Result<Tensors, WeightsError> {
    let mut tensors = BTreeMap::new();
    let mut stream = TensorStream::new(bytes.len() as u64, Limits::ADAPTER);
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(1).min(rest.len());
        let (piece, after) = rest.split_at(size);
        stream.push(piece, |tensor| {
            let values = match tensor.f32() {
                // Values are not the header's matter; this compares headers.
                Err(WeightsError::NonFinite { .. }) => Vec::new(),
                values => values?,
            };
            assert!(
                tensors
                    .insert(tensor.name.to_owned(), (tensor.shape.to_vec(), values))
                    .is_none()
            );
            Ok::<_, WeightsError>(())
        })?;
        rest = after;
    }
    stream.finish()?;
    Ok(tensors)
}

fn at_once(bytes: &[u8]) -> Result<Tensors, WeightsError> {
    let file = SafeTensors::parse(bytes, &Limits::ADAPTER)?;
    let tensor = |name: &str| {
        let values = file.f32(name).unwrap_or_default();
        (name.to_owned(), (file.shape(name).expect("listed").to_vec(), values))
    };
    Ok(file.names().map(tensor).collect())
}

#[test]
fn pieces_of_any_size_give_the_same_tensors() {
    let bytes = file();
    let expected = at_once(&bytes).expect("valid");
    assert_eq!(expected.len(), 6);
    for sizes in [
        [1, 1, 1],
        [7, 1, 13],
        [511, 1, 2],
        [512, 100, 1],
        [bytes.len(), 1, 1],
        [5000, 3, 9000],
    ] {
        assert_eq!(streamed(&bytes, &sizes), Ok(expected.clone()), "{sizes:?}");
    }
    assert_eq!(streamed(&hostile::valid(), &[1]), at_once(&hostile::valid()));
    let none = hostile::file("{}", &[]);
    assert_eq!(streamed(&none, &[3]), Ok(Tensors::new()));
}

#[test]
fn ranges_give_the_same_tensors() {
    let bytes = file();
    let expected = at_once(&bytes).expect("valid");
    let mut first: &[u8] = &[];
    let mut reads = 0;
    loop {
        let needed = SafeTensorsHeader::needed(first, bytes.len() as u64, &Limits::BASE).expect("valid");
        if needed <= first.len() as u64 {
            break;
        }
        (first, reads) = (&bytes[..needed as usize], reads + 1);
    }
    assert!(reads <= 2, "{reads}");
    let header = SafeTensorsHeader::parse(first, bytes.len() as u64, &Limits::BASE).expect("valid");
    assert_eq!(header.largest(), 12_000);
    assert_eq!(header.names().next(), Some("a"));
    assert_eq!(header.metadata()["format"], "pt");
    for name in header.names() {
        let range = header.range(name).expect("listed");
        let part = &bytes[range.start as usize..range.end as usize];
        let (shape, values) = &expected[name];
        assert_eq!(header.shape(name), Ok(shape.as_slice()));
        assert_eq!(header.f32(name, part).as_ref(), Ok(values));
        if !part.is_empty() {
            let error = header.f32(name, &part[1..]).expect_err("too short");
            assert_eq!(error.code(), "weights-tensor-bytes");
        }
    }
    assert_eq!(header.range("z").expect_err("missing").code(), "weights-missing");
}

#[test]
fn a_file_beyond_32_bits_has_its_ranges() {
    let shape = [1u64 << 20, 1 << 11];
    let bytes = shape[0] * shape[1] * 4;
    let json = format!(
        r#"{{"a":{{"dtype":"F32","shape":{shape:?},"data_offsets":[0,{bytes}]}},"b":{{"dtype":"F32","shape":[1],"data_offsets":[{bytes},{}]}}}}"#,
        bytes + 4
    );
    // Padded, so that the header alone is enough to tell that it is no other format.
    let first = hostile::file(&format!("{json:<600}"), &[]);
    let data = first.len() as u64;
    let header = SafeTensorsHeader::parse(&first, data + bytes + 4, &Limits::BASE).expect("valid");
    assert_eq!(header.range("b"), Ok(data + bytes..data + bytes + 4));
    assert_eq!(header.largest(), 8 << 30);
    // There is no buffer for a tensor of which nothing has come.
    let mut stream = TensorStream::new(data + bytes + 4, Limits::BASE);
    stream.push(&first, |_| Ok::<_, WeightsError>(())).expect("a header");
    assert!(stream.header().is_some_and(|header| header.len() == 2));
    assert_eq!(stream.finish().expect_err("cut").code(), "weights-stream-length");
}

#[test]
fn streams_refuse_what_is_refused_at_once() {
    for hostile::BadFile { what, bytes, code, .. } in hostile::bad_files() {
        for sizes in [[1, 2, 3], [400, 200, 100_000], [1 << 24, 1, 1]] {
            match streamed(&bytes, &sizes) {
                Ok(_) => panic!("{what}: accepted"),
                // Nothing at all comes in of an empty file.
                Err(WeightsError::StreamLength { expected: 0, .. }) => assert!(bytes.is_empty(), "{what}"),
                Err(error) => assert_eq!(error.code(), code, "{what}: {error}"),
            }
        }
    }
}

#[test]
fn a_stream_is_as_long_as_it_was_said_to_be() {
    let bytes = file();
    let mut stream = TensorStream::new(bytes.len() as u64, Limits::ADAPTER);
    let none = |_: lorahub_weights::StreamedTensor<'_>| Ok::<_, WeightsError>(());
    stream.push(&bytes[..bytes.len() - 1], none).expect("valid so far");
    let error = stream.push(&[0, 0], none).expect_err("a byte too many");
    let (expected, found) = (bytes.len() as u64, bytes.len() as u64 + 1);
    assert_eq!(error, WeightsError::StreamLength { expected, found });
    assert!(error.to_string().contains("download it again"));
}

/// SplitMix64, for inputs that vary from a seed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn mutated_files_are_judged_alike() {
    let valid = file();
    let mut accepted = 0;
    for seed in 0..10_000u64 {
        let mut state = seed;
        let mut bytes = valid.clone();
        // Mostly in the header, which is what is read here.
        let reach = [400, bytes.len()][usize::from(seed % 8 == 0)];
        for _ in 0..1 + next(&mut state) % 3 {
            let at = (next(&mut state) % reach as u64) as usize;
            match next(&mut state) % 3 {
                0 => bytes[at] = b"0123456789,:[]{}\""[(next(&mut state) % 17) as usize],
                1 => bytes[at] ^= 1 << (next(&mut state) % 8),
                _ => drop(bytes.remove(at)),
            }
        }
        let sizes = [
            1 + (next(&mut state) % 900) as usize,
            1 + (next(&mut state) % 9000) as usize,
        ];
        let (whole, parts) = (at_once(&bytes), streamed(&bytes, &sizes));
        accepted += usize::from(whole.is_ok());
        assert_eq!(whole, parts, "seed {seed}");
    }
    assert!(accepted > 300, "{accepted}");
}

fn header_of(names: &[&str]) -> SafeTensorsHeader {
    let tensors: Vec<_> = names
        .iter()
        .map(|name| TensorOut {
            name: name.to_string(),
            shape: vec![1],
            data: &[1.0],
            dtype: Dtype::F32,
        })
        .collect();
    let bytes = write_safetensors(&tensors, &BTreeMap::new()).expect("valid");
    SafeTensorsHeader::parse(&bytes, bytes.len() as u64, &Limits::BASE).expect("valid")
}

#[test]
fn an_index_says_which_shard_has_what() {
    let json = br#"{"metadata":{"total_size":12.0},"weight_map":{"a":"model-1.safetensors","c":"model-2.safetensors","b":"model-1.safetensors"}}"#;
    let index = ShardIndex::parse(json, &Limits::BASE).expect("valid");
    let (one, two) = ("model-1.safetensors", "model-2.safetensors");
    assert_eq!(index.files().collect::<Vec<_>>(), [one, two]);
    assert_eq!(index.file_of("c"), Ok(two));
    assert_eq!(index.file_of("z").expect_err("missing").code(), "weights-missing");
    assert_eq!(index.check(one, &header_of(&["a", "b"])), Ok(()));
    for (file, names, code) in [
        (one, &["a"][..], "weights-shard-lacks"),
        (one, &["a", "b", "c"], "weights-shard-extra"),
        ("model-3.safetensors", &["a"], "weights-index-file"),
    ] {
        let error = index.check(file, &header_of(names)).expect_err(code);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[test]
fn a_broken_index_is_refused() {
    let cases: [(&str, &str); 11] = [
        ("", "weights-index-json"),
        ("[]", "weights-index-json"),
        (r#"{"weight_map":{}}"#, "weights-index-json"),
        (r#"{"weight_map":{"a":1}}"#, "weights-index-json"),
        (r#"{"weight_map":{"a":"m.safetensors"},"more":1}"#, "weights-index-json"),
        (
            r#"{"weight_map":{"a":"m.safetensors","a":"n.safetensors"}}"#,
            "weights-duplicate-tensor",
        ),
        (r#"{"weight_map":{"a b":"m.safetensors"}}"#, "weights-tensor-name"),
        (r#"{"weight_map":{"a":"../m.safetensors"}}"#, "weights-index-file"),
        (r#"{"weight_map":{"a":"x/m.safetensors"}}"#, "weights-index-file"),
        (r#"{"weight_map":{"a":".safetensors"}}"#, "weights-index-file"),
        (r#"{"weight_map":{"a":"m.bin"}}"#, "weights-index-file"),
    ];
    for (json, code) in cases {
        let error = ShardIndex::parse(json.as_bytes(), &Limits::BASE).expect_err(json);
        assert_eq!(error.code(), code, "{json}: {error}");
    }
}

/// A file in memory that is read by ranges, and may end before its size says.
struct Ranges(Vec<u8>, u64);

impl Ranges {
    fn of(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Self(bytes, size)
    }
}

impl ReadAt for Ranges {
    fn size(&self) -> u64 {
        self.1
    }

    fn read_at(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>, WeightsError> {
        let end = range.end.min(self.0.len() as u64);
        Ok(self.0[range.start.min(end) as usize..end as usize].to_vec())
    }
}

#[test]
fn a_file_read_by_ranges_has_the_tensors_of_the_whole() {
    let bytes = file();
    let whole = SafeTensors::parse(&bytes, &Limits::ADAPTER).expect("valid");
    let ranged = FileTensors::open(Ranges::of(bytes.clone()), &Limits::ADAPTER).expect("valid");
    let mut names: Vec<&str> = ranged.names().collect();
    names.sort_unstable();
    assert!(names.iter().copied().eq(whole.names()));
    for name in names {
        assert_eq!(ranged.shape(name), whole.shape(name));
        assert_eq!(ranged.f32(name), whole.f32(name));
    }
    assert!(matches!(ranged.f32("z"), Err(WeightsError::Missing { .. })));
}

#[test]
fn a_file_that_was_cut_after_its_size_was_asked_is_refused() {
    let bytes = file();
    let size = bytes.len() as u64;
    for kept in [0, 5, 20, bytes.len() / 2] {
        let cut = Ranges(bytes[..kept].to_vec(), size);
        let found = FileTensors::open(cut, &Limits::ADAPTER).and_then(|file| file.f32("f").and(file.f32("e")));
        assert!(found.is_err(), "{kept} bytes were taken for {size}");
    }
}

#[test]
fn shards_are_one_model() {
    let shard = |names: &[&str]| {
        let tensors: Vec<TensorOut<'_>> = names
            .iter()
            .map(|name| TensorOut {
                name: (*name).to_owned(),
                shape: vec![2],
                data: if *name == "a" { &[1.0, 2.0] } else { &[3.0, 4.0] },
                dtype: Dtype::F32,
            })
            .collect();
        write_safetensors(&tensors, &BTreeMap::new()).expect("valid")
    };
    let index = |map: &str| ShardIndex::parse(format!("{{\"weight_map\": {map}}}").as_bytes(), &Limits::BASE);
    let map = r#"{"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}"#;
    let open = |second: &'static [&'static str]| {
        ShardedTensors::open(index(map).expect("valid"), &Limits::BASE, |name| {
            Ok(Ranges::of(shard(if name == "1.safetensors" { &["a"] } else { second })))
        })
    };
    let model = open(&["b", "c"]).expect("valid");
    assert_eq!(model.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(model.f32("a"), Ok(vec![1.0, 2.0]));
    assert_eq!(model.f32("c"), Ok(vec![3.0, 4.0]));
    assert!(matches!(model.shape("d"), Err(WeightsError::Missing { .. })));
    assert!(matches!(open(&["b"]), Err(WeightsError::ShardLacks { .. })));
    assert!(matches!(open(&["b", "c", "d"]), Err(WeightsError::ShardExtra { .. })));
}

#[test]
fn a_tensor_larger_than_a_piece_is_read_whole() {
    let values: Vec<f32> = (0..(5 << 20) / 4 + 1).map(|i| i as f32).collect();
    let tensor = TensorOut {
        name: "t".to_owned(),
        shape: vec![values.len()],
        data: &values,
        dtype: Dtype::F32,
    };
    let bytes = write_safetensors(&[tensor], &BTreeMap::new()).expect("valid");
    let file = FileTensors::open(Ranges::of(bytes), &Limits::BASE).expect("valid");
    assert_eq!(file.f32("t"), Ok(values));
}
