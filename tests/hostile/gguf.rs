//! GGUF files made by hand: a tiny writer, and malformed files with the error each must give.

#![allow(
    dead_code,
    reason = "each test crate that includes this file uses its own part of it"
)]

/// ggml's numbers of the types that are read.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const Q4_0: u32 = 2;
pub(crate) const Q8_0: u32 = 8;

/// A file that must be refused.
pub(crate) struct BadGguf {
    /// What is wrong with it.
    pub(crate) what: &'static str,
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// The code of the error it must give.
    pub(crate) code: &'static str,
    /// What the message must contain.
    pub(crate) says: &'static [&'static str],
}

/// A tensor, and what its line in the header claims.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: Vec<u8>,
    /// Innermost dimension first, as GGUF has it.
    pub(crate) dims: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
    /// The offset that the header gives, if not the true one.
    pub(crate) offset: Option<u64>,
}

impl Tensor {
    /// `shape` has the outermost dimension first.
    pub(crate) fn new(name: &str, shape: &[usize], kind: u32, data: Vec<u8>) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            dims: shape.iter().rev().map(|&dim| dim as u64).collect(),
            kind,
            data,
            offset: None,
        }
    }

    pub(crate) fn f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(name, shape, F32, data)
    }
}

/// A file in parts.
#[derive(Clone)]
pub(crate) struct Gguf {
    pub(crate) version: u32,
    /// Counts that the header gives, if not the true ones.
    pub(crate) tensor_count: Option<u64>,
    pub(crate) key_count: Option<u64>,
    /// Key, type, and the value's bytes.
    pub(crate) metadata: Vec<(Vec<u8>, u32, Vec<u8>)>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) alignment: usize,
}

/// A text as GGUF has it.
pub(crate) fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// An array's bytes.
pub(crate) fn array(kind: u32, count: u64, values: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), values].concat()
}

impl Gguf {
    pub(crate) fn new(tensors: Vec<Tensor>) -> Self {
        Self {
            version: 3,
            tensor_count: None,
            key_count: None,
            metadata: vec![(b"general.architecture".to_vec(), 8, text(b"t5"))],
            tensors,
            alignment: 32,
        }
    }

    pub(crate) fn with(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.metadata.push((key.as_bytes().to_vec(), kind, value.to_vec()));
        self
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.key_count.unwrap_or(self.metadata.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.metadata {
            file.extend(text(key));
            file.extend(kind.to_le_bytes());
            file.extend(value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            file.extend(text(&tensor.name));
            file.extend((tensor.dims.len() as u32).to_le_bytes());
            file.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            file.extend(tensor.kind.to_le_bytes());
            file.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(self.alignment) as u64;
        }
        file
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = self.header();
        for tensor in &self.tensors {
            file.resize(file.len().next_multiple_of(self.alignment), 0);
            file.extend(&tensor.data);
        }
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file
    }
}

/// A valid file with a tensor of each kind, metadata of every type, and padding.
pub(crate) fn valid() -> Gguf {
    let block = |size: usize| {
        (0..size)
            .map(|i| if i == 1 { 0x2c } else { i as u8 })
            .collect::<Vec<u8>>()
    };
    let mut file = Gguf::new(vec![
        Tensor::f32("enc.output_norm.weight", &[3], &[1.0, -2.5, 0.125]),
        Tensor::new("token_embd.weight", &[2, 5], F16, vec![0x3c; 20]),
        Tensor::new(
            "enc.blk.0.attn_q.weight",
            &[2, 32],
            Q8_0,
            [block(34), block(34)].concat(),
        ),
        Tensor::new("empty", &[0, 7], F32, Vec::new()),
        Tensor::new(
            "dec.blk.0.cross_attn_q.weight",
            &[1, 64],
            Q4_0,
            [block(18), block(18)].concat(),
        ),
    ]);
    for (kind, bytes) in [
        (0, 1),
        (1, 1),
        (2, 2),
        (3, 2),
        (4, 4),
        (5, 4),
        (6, 4),
        (7, 1),
        (10, 8),
        (11, 8),
        (12, 8),
    ] {
        file = file.with(&format!("test.type{kind}"), kind, &[1; 8][..bytes]);
    }
    let texts = [text(b"a"), text("\u{2581}of".as_bytes())].concat();
    file.with("tokenizer.ggml.tokens", 9, &array(8, 2, &texts))
        .with("tokenizer.ggml.scores", 9, &array(6, 3, &[0; 12]))
        .with("general.name", 8, &text("M\u{fc}ller".as_bytes()))
}

/// The valid file with one thing wrong, for every thing.
pub(crate) fn bad_files() -> Vec<BadGguf> {
    let mut cases = Vec::new();
    let mut add = |what, bytes, code, says| {
        cases.push(BadGguf {
            what,
            bytes,
            code,
            says,
        })
    };
    let edited = |edit: &dyn Fn(&mut Gguf)| {
        let mut file = valid();
        edit(&mut file);
        file.bytes()
    };
    let first = |edit: &dyn Fn(&mut Tensor)| edited(&|file| edit(&mut file.tensors[0]));
    let whole = valid().bytes();
    let data = valid().header().len().next_multiple_of(32);

    add(
        "nothing",
        Vec::new(),
        "gguf-magic",
        &["[]", "expected 47 47 55 46", "download it again"][..],
    );
    add("zeros", vec![0; 99], "gguf-magic", &["[00, 00, 00, 00]"]);
    add(
        "a web page",
        b"<!doctype html>".to_vec(),
        "gguf-foreign",
        &["a web page", "not GGUF"],
    );
    add(
        "an archive",
        b"PK\x03\x04".to_vec(),
        "gguf-foreign",
        &["PyTorch zip archive", "pytorch_model.bin"],
    );
    add(
        "a pointer",
        b"version https://git-lfs.github.com/spec/v1".to_vec(),
        "gguf-foreign",
        &["git lfs pull"],
    );
    add(
        "version 1",
        edited(&|file| file.version = 1),
        "gguf-version",
        &["version 1, expected 2 or 3", "convert"],
    );
    add(
        "version 4",
        edited(&|file| file.version = 4),
        "gguf-version",
        &["version 4"],
    );
    add(
        "big-endian",
        edited(&|file| file.version = 3 << 24),
        "gguf-big-endian",
        &["big-endian", "--bigendian"],
    );
    add(
        "cut in the counts",
        whole[..20].to_vec(),
        "gguf-cut",
        &["up to 24", "has 20", "download it again"],
    );
    add("cut in the metadata", whole[..60].to_vec(), "gguf-cut", &["has 60"]);
    add(
        "cut in the list",
        whole[..data - 60].to_vec(),
        "gguf-cut",
        &["download it again"],
    );
    add(
        "cut after the list",
        whole[..data].to_vec(),
        "weights-data-cut",
        &["`enc.output_norm.weight`", "only 0 data bytes"],
    );
    add(
        "cut in the data",
        whole[..whole.len() - 60].to_vec(),
        "weights-data-cut",
        &["`dec.blk.0.cross_attn_q.weight`"],
    );
    add(
        "more at the end",
        [&whole[..], &[0]].concat(),
        "weights-trailing",
        &["belongs to no tensor"],
    );
    add(
        "too many tensors",
        edited(&|file| file.tensor_count = Some(u64::MAX)),
        "weights-too-many-tensors",
        &["limit is 10000"],
    );
    add(
        "more tensors than there are",
        edited(&|file| file.tensor_count = Some(9)),
        "weights-tensor-name",
        &["is empty"],
    );
    add(
        "fewer tensors than there are",
        edited(&|file| file.tensor_count = Some(3)),
        "weights-trailing",
        &[],
    );
    add(
        "too many keys",
        edited(&|file| file.key_count = Some(1 << 40)),
        "gguf-too-many-keys",
        &["1099511627776", "limit is 10000"],
    );
    add(
        "a key twice",
        valid().with("test.type0", 0, &[1]).bytes(),
        "weights-duplicate-metadata",
        &["`test.type0`"],
    );
    add(
        "the architecture twice",
        valid().with("general.architecture", 8, &text(b"t5")).bytes(),
        "weights-duplicate-metadata",
        &[],
    );
    add(
        "a key that is not text",
        edited(&|file| file.metadata[1].0 = vec![0xff]),
        "gguf-text",
        &["metadata key 1", "UTF-8"],
    );
    add(
        "a key of another tool's length",
        {
            let mut bytes = whole.clone();
            bytes[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
            bytes
        },
        "gguf-text-length",
        &["metadata key 0", "18446744073709551615", "65535"],
    );
    add(
        "an unknown type of value",
        valid().with("a", 13, &[]).bytes(),
        "gguf-value-type",
        &["`a`", "type 13"],
    );
    add(
        "an array of arrays",
        valid().with("a", 9, &array(9, 1, &array(0, 0, &[]))).bytes(),
        "gguf-value-type",
        &["`a`", "type 9"],
    );
    add(
        "an endless array",
        valid().with("a", 9, &array(12, u64::MAX, &[])).bytes(),
        "gguf-cut",
        &[],
    );
    add(
        "an endless array of texts",
        valid().with("a", 9, &array(8, u64::MAX, &[])).bytes(),
        "gguf-cut",
        &[],
    );
    add(
        "an endless text",
        valid().with("a", 8, &u64::MAX.to_le_bytes()).bytes(),
        "gguf-cut",
        &[],
    );
    add(
        "another architecture",
        edited(&|file| file.metadata[0].2 = text(b"llama")),
        "gguf-value",
        &["general.architecture", "`llama`", "expected `t5`"],
    );
    add(
        "half a T5",
        edited(&|file| file.metadata[0].2 = text(b"t5encoder")),
        "gguf-value",
        &["`t5encoder`", "decoder"],
    );
    add(
        "a long architecture",
        edited(&|file| file.metadata[0].2 = text(&[b'a'; 65])),
        "gguf-text-length",
        &["the value of metadata key 0", "65", "limit is 64"],
    );
    add(
        "an architecture that is a number",
        edited(&|file| (file.metadata[0].1, file.metadata[0].2) = (4, vec![0; 4])),
        "gguf-value",
        &["general.architecture", "is 0"],
    );
    add(
        "one part of two",
        valid().with("split.count", 2, &[2, 0]).bytes(),
        "gguf-value",
        &["split.count", "is 2", "llama-gguf-split --merge"],
    );
    add(
        "no alignment",
        valid().with("general.alignment", 4, &[0; 4]).bytes(),
        "gguf-value",
        &["general.alignment", "is 0", "power of two"],
    );
    add(
        "an odd alignment",
        valid().with("general.alignment", 4, &[24, 0, 0, 0]).bytes(),
        "gguf-value",
        &["is 24"],
    );
    add(
        "a huge alignment",
        valid()
            .with("general.alignment", 10, &(1u64 << 63).to_le_bytes())
            .bytes(),
        "gguf-value",
        &["9223372036854775808"],
    );
    add(
        "a negative alignment",
        valid().with("general.alignment", 1, &[0x80]).bytes(),
        "gguf-value",
        &["a value of type 1"],
    );
    add(
        "another alignment than the data's",
        valid().with("general.alignment", 4, &[64, 0, 0, 0]).bytes(),
        "gguf-unaligned",
        &["data byte 32", "multiple of 64"],
    );
    add(
        "a name twice",
        first(&|tensor| tensor.name = b"empty".to_vec()),
        "weights-duplicate-tensor",
        &["`empty`"],
    );
    add(
        "a tensor under two names",
        first(&|tensor| tensor.name = b"shared.weight".to_vec()),
        "weights-duplicate-tensor",
        &["`shared.weight`"],
    );
    add(
        "no name",
        first(&|tensor| tensor.name = Vec::new()),
        "weights-tensor-name",
        &["empty"],
    );
    add(
        "a name with a space",
        first(&|tensor| tensor.name = b"a b".to_vec()),
        "weights-tensor-name",
        &["`a b`"],
    );
    add(
        "a name that is not text",
        first(&|tensor| tensor.name = vec![0xfe]),
        "gguf-text",
        &["the name of tensor 0"],
    );
    add(
        "a long name",
        first(&|tensor| tensor.name = vec![b'a'; 600]),
        "gguf-text-length",
        &["the name of tensor 0", "600", "512"],
    );
    add(
        "five dimensions",
        first(&|tensor| tensor.dims = vec![3, 1, 1, 1, 1]),
        "weights-too-many-dims",
        &["5 dimensions, the limit is 4"],
    );
    add(
        "a shape beyond any file",
        first(&|tensor| tensor.dims = vec![1 << 40, 1 << 40]),
        "weights-shape-overflow",
        &["[1099511627776, 1099511627776]"],
    );
    add(
        "a shape beyond this file",
        first(&|tensor| tensor.dims = vec![1 << 40]),
        "weights-data-cut",
        &["4398046511104"],
    );
    add(
        "an empty shape beyond any file",
        first(&|tensor| tensor.dims = vec![0, 1 << 62, 4]),
        "weights-shape-overflow",
        &[],
    );
    add(
        "fewer values than there is room for",
        first(&|tensor| tensor.data = vec![0; 70]),
        "weights-hole",
        &["expected byte 32"],
    );
    add(
        "an offset inside another",
        edited(&|file| file.tensors[1].offset = Some(0)),
        "weights-overlap",
        &["`token_embd.weight`"],
    );
    add(
        "an offset beyond the next",
        edited(&|file| file.tensors[4].offset = Some(1 << 20)),
        "weights-hole",
        &["1048576"],
    );
    add(
        "an offset beyond any file",
        edited(&|file| file.tensors[4].offset = Some(u64::MAX - 31)),
        "weights-shape-overflow",
        &[],
    );
    add(
        "an odd offset",
        edited(&|file| file.tensors[1].offset = Some(33)),
        "gguf-unaligned",
        &["data byte 33"],
    );
    add(
        "Q5_K",
        first(&|tensor| tensor.kind = 13),
        "gguf-type",
        &[
            "Q5_K, expected F32, F16, BF16, Q8_0, Q4_0, Q6_K or Q4_K",
            "llama-quantize",
        ],
    );
    add(
        "Q3_K",
        first(&|tensor| tensor.kind = 11),
        "gguf-type",
        &["`enc.output_norm.weight` is Q3_K"],
    );
    add(
        "half a superblock",
        first(&|tensor| (tensor.kind, tensor.dims) = (12, vec![128])),
        "gguf-columns",
        &["rows of 128", "blocks of 256"],
    );
    add(
        "a type that llama.cpp took out",
        first(&|tensor| tensor.kind = 4),
        "gguf-type",
        &["the unknown type 4"],
    );
    add(
        "half a block",
        first(&|tensor| (tensor.kind, tensor.dims) = (Q8_0, vec![16])),
        "gguf-columns",
        &["rows of 16", "blocks of 32"],
    );
    add(
        "blocks that run over rows",
        first(&|tensor| (tensor.kind, tensor.dims) = (Q4_0, vec![16, 2])),
        "gguf-columns",
        &["rows of 16"],
    );
    cases
}
