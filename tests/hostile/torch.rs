//! PyTorch archives made by hand: a tiny writer of zip and pickle, and malformed archives with the error each must give.

#![allow(
    dead_code,
    reason = "each test crate that includes this file uses its own part of it"
)]

/// An archive that must be refused.
pub(crate) struct BadArchive {
    /// What is wrong with it.
    pub(crate) what: &'static str,
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// The code of the error it must give.
    pub(crate) code: &'static str,
    /// What the message must contain.
    pub(crate) says: &'static [&'static str],
}

/// A zip entry, and what its records claim.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    /// The size that the directory gives.
    pub(crate) size: u64,
    /// The name in the local header.
    pub(crate) local_name: String,
    /// Extra field of the directory record.
    pub(crate) extra: Vec<u8>,
    /// The offset that the directory gives, if not the true one.
    pub(crate) offset: Option<u32>,
}

impl Entry {
    pub(crate) fn new(path: &str, data: &[u8]) -> Self {
        let name = format!("adapter_model/{path}");
        Self {
            local_name: name.clone(),
            name,
            data: data.to_vec(),
            method: 0,
            flags: 0x0808,
            size: data.len() as u64,
            extra: Vec::new(),
            offset: None,
        }
    }
}

/// A zip file as `torch.save` lays it out: data descriptors, a zip64 end always.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = entry.offset.unwrap_or(file.len() as u32);
        // Sizes and checksum of the local header are zero: they follow the data.
        file.extend_from_slice(b"PK\x03\x04\0\0");
        file.extend_from_slice(&entry.flags.to_le_bytes());
        file.extend_from_slice(&entry.method.to_le_bytes());
        file.extend_from_slice(&[0; 16]);
        file.extend_from_slice(&(entry.local_name.len() as u16).to_le_bytes());
        file.extend_from_slice(&[4, 0]);
        file.extend_from_slice(entry.local_name.as_bytes());
        file.extend_from_slice(b"FB\0\0");
        file.extend_from_slice(&entry.data);
        file.extend_from_slice(b"PK\x07\x08\0\0\0\0");
        file.extend_from_slice(&(entry.data.len() as u32).to_le_bytes());
        file.extend_from_slice(&(entry.data.len() as u32).to_le_bytes());
        let size = u32::try_from(entry.size).unwrap_or(u32::MAX);
        directory.extend_from_slice(b"PK\x01\x02\0\0\0\0");
        directory.extend_from_slice(&entry.flags.to_le_bytes());
        directory.extend_from_slice(&entry.method.to_le_bytes());
        directory.extend_from_slice(&[0; 8]);
        directory.extend_from_slice(&size.to_le_bytes());
        directory.extend_from_slice(&size.to_le_bytes());
        directory.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
        directory.extend_from_slice(&(entry.extra.len() as u16).to_le_bytes());
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(entry.name.as_bytes());
        directory.extend_from_slice(&entry.extra);
    }
    let start = file.len() as u64;
    file.extend_from_slice(&directory);
    let end_64 = file.len() as u64;
    let count = entries.len() as u64;
    file.extend_from_slice(b"PK\x06\x06");
    file.extend_from_slice(&44u64.to_le_bytes());
    file.extend_from_slice(&[0; 12]);
    for value in [count, count, directory.len() as u64, start] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    file.extend_from_slice(&end_64.to_le_bytes());
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    file.extend_from_slice(&(count as u16).to_le_bytes());
    file.extend_from_slice(&(count as u16).to_le_bytes());
    file.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    file.extend_from_slice(&(start as u32).to_le_bytes());
    file.extend_from_slice(&[0; 2]);
    file
}

/// A pickle's operations.
#[derive(Clone, Default)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    pub(crate) fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }

    /// Any whole number, as the longest form.
    pub(crate) fn int(self, value: i64) -> Self {
        self.op(b"\x8a\x08").op(&value.to_le_bytes())
    }

    pub(crate) fn ints(self, values: &[i64]) -> Self {
        values
            .iter()
            .fold(self.op(b"("), |pickle, value| pickle.int(*value))
            .op(b"t")
    }

    pub(crate) fn storage(self, class: &str, key: &str, numel: i64) -> Self {
        self.op(b"(")
            .text("storage")
            .op(format!("ctorch\n{class}\n").as_bytes())
            .text(key)
            .text("cpu")
            .int(numel)
            .op(b"tQ")
    }

    /// The arguments of `_rebuild_tensor_v2` after the storage, and the call.
    pub(crate) fn rebuilt(self, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        self.int(offset)
            .ints(shape)
            .ints(strides)
            .op(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    pub(crate) fn tensor(self, storage: (&str, &str, i64), offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        let (class, key, numel) = storage;
        self.op(b"ctorch._utils\n_rebuild_tensor_v2\n(")
            .storage(class, key, numel)
            .rebuilt(offset, shape, strides)
    }
}

/// The pickle of [`valid`].
pub(crate) fn valid_pickle() -> Pickle {
    Pickle::new()
        .op(b"}q\0(")
        .text("x")
        .tensor(("FloatStorage", "0", 4), 0, &[2, 2], &[2, 1])
        .text("y")
        .tensor(("FloatStorage", "1", 2), 0, &[2], &[1])
        .op(b"u.")
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The entries of [`valid`].
pub(crate) fn valid_entries() -> Vec<Entry> {
    vec![
        Entry::new("data.pkl", &valid_pickle().0),
        Entry::new("byteorder", b"little"),
        Entry::new("data/0", &floats(&[1.0, -2.0, 3.5, 0.0])),
        Entry::new("data/1", &floats(&[0.25, -0.125])),
        Entry::new("version", b"3\n"),
    ]
}

/// A valid archive: `x` of `[2, 2]` and `y` of `[2]`, both F32.
pub(crate) fn valid() -> Vec<u8> {
    zip(&valid_entries())
}

/// An archive with tensors by name in F32, each with a storage of its own.
pub(crate) fn archive_of(tensors: &[(String, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut pickle = Pickle::new().op(b"}(");
    let mut entries = vec![Entry::new("data.pkl", b""), Entry::new("byteorder", b"little")];
    for (number, (name, shape, data)) in tensors.iter().enumerate() {
        let key = number.to_string();
        let shape: Vec<_> = shape.iter().map(|&dim| dim as i64).collect();
        let mut strides = vec![1; shape.len()];
        for at in (1..shape.len()).rev() {
            strides[at - 1] = strides[at] * shape[at];
        }
        let storage = ("FloatStorage", key.as_str(), data.len() as i64 / 4);
        pickle = pickle.text(name).tensor(storage, 0, &shape, &strides);
        entries.push(Entry::new(&format!("data/{key}"), data));
    }
    let pickle = pickle.op(b"u.").0;
    entries[0] = Entry::new("data.pkl", &pickle);
    zip(&entries)
}

/// [`valid`] with another pickle.
pub(crate) fn with_pickle(pickle: &Pickle) -> Vec<u8> {
    let mut entries = valid_entries();
    entries[0] = Entry::new("data.pkl", &pickle.0);
    zip(&entries)
}

/// [`valid`] with the one tensor `x`, described so.
fn with_tensor(storage: (&str, &str, i64), offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    with_pickle(
        &Pickle::new()
            .op(b"}")
            .text("x")
            .tensor(storage, offset, shape, strides)
            .op(b"s."),
    )
}

/// [`valid`] with its entries changed.
fn with_entries(change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
    let mut entries = valid_entries();
    change(&mut entries);
    zip(&entries)
}

/// [`valid`] with bytes replaced, each counted from its end.
fn with_tail(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut file = valid();
    for (from_end, bytes) in parts {
        let at = file.len() - from_end;
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
    file
}

/// A size of 16,000 dimensions, remembered and used by 2000 tensors: each would copy it.
fn many_long_sizes() -> Pickle {
    let start = Pickle::new()
        .op(b"(")
        .op(&b"K\x01".repeat(16_000))
        .op(b"tq\0ctorch._utils\n_rebuild_tensor_v2\nq\x01")
        .storage("FloatStorage", "0", 4)
        .op(b"q\x02}q\x03");
    (0..2000)
        .fold(start, |pickle, _| pickle.op(b"h\x01(h\x02K\0h\0h\0\x89h\x03tR"))
        .op(b".")
}

const F4: (&str, &str, i64) = ("FloatStorage", "0", 4);

/// Every malformed archive.
#[rustfmt::skip]
pub(crate) fn bad_archives() -> Vec<BadArchive> {
    let mut cases = Vec::new();
    let mut case = |what, bytes, code, says| cases.push(BadArchive { what, bytes, code, says });
    let start = || Pickle::new().op(b"}(").text("x");

    // The file.
    case("empty", vec![], "torch-end", &["0 bytes", "end record", "download"]);
    case("a signature alone", b"PK\x03\x04".to_vec(), "torch-end", &["4 bytes"]);
    case("cut by one byte", valid()[..valid().len() - 1].to_vec(), "torch-end", &["cut or has bytes added"]);
    case("a byte behind the end", [valid(), vec![0]].concat(), "torch-end", &["cut or has bytes added"]);
    case("a comment", [with_tail(&[(2, &[1, 0])]), vec![b' ']].concat(), "torch-end", &["without comment"]);
    case("a second disk", with_tail(&[(18, &[1])]), "torch-directory", &["disk number 1", "expected 0"]);
    case("an end record that contradicts zip64", with_tail(&[(12, &[7, 0])]), "torch-directory", &["entry count 7", "expected 5"]);
    case("a zip64 record elsewhere", with_tail(&[(34, &[9])]), "torch-directory", &["zip64 end record at"]);
    case("a longer zip64 record", with_tail(&[(94, &[45])]), "torch-directory", &["45", "expected 44"]);
    case("too many entries", with_tail(&[(74, &[0, 0, 1]), (66, &[0, 0, 1]), (14, &[0xff; 4])]), "torch-too-many-entries", &["65536 entries", "limit is 4096"]);
    case("a directory of another length", with_tail(&[(58, &[1, 0]), (10, &[0xff; 4])]), "torch-directory", &["an end at", "download"]);
    case("a legacy pickle", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec(), "weights-foreign", &["Python pickle", "run code", "1.6"]);
    case("a tar archive", [vec![b'a'; 257], b"ustar".to_vec()].concat(), "weights-foreign", &["tar archive", "1.6"]);

    // Entries.
    case("deflate", with_entries(|e| e[2].method = 8), "torch-compressed", &["`adapter_model/data/0`", "method 8", "without compression"]);
    case("encryption", with_entries(|e| e[2].flags |= 1), "torch-flags", &["0x0809", "without encryption"]);
    case("an entry twice", with_entries(|e| e.push(Entry::new("data/0", b""))), "torch-duplicate-entry", &["`adapter_model/data/0`", "twice"]);
    case("two records for one place", with_entries(|e| e[3].offset = Some(0)), "torch-local-header", &["`adapter_model/data/1`", "another name"]);
    case("an entry past its end", with_entries(|e| e[2].size = 400), "torch-entry-overlap", &["`adapter_model/data/0`", "at most"]);
    case("the last entry past its end", with_entries(|e| e[4].size = 40), "torch-entry-overlap", &["`adapter_model/version`"]);
    case("another name in front of the data", with_entries(|e| e[2].local_name = "adapter_model/data/9".to_owned()), "torch-local-header", &["another name"]);
    case("no local header", with_entries(|e| e[2].offset = Some(3)), "torch-local-header", &["no local header"]);
    case("an offset behind the data", with_entries(|e| e[2].offset = Some(1 << 30)), "torch-record", &["record 2", "offset behind the data"]);
    case("a 64-bit size that is not there", with_entries(|e| e[2].size = u64::MAX), "torch-record", &["no 64-bit size"]);
    case("a 64-bit size beyond the file", with_entries(|e| { e[2].size = u64::MAX; e[2].extra = [&[1, 0, 16, 0][..], &[0xf0; 16]].concat(); }), "torch-entry-overlap", &["`adapter_model/data/0`"]);
    case("64-bit sizes twice", with_entries(|e| e[2].extra = vec![1, 0, 0, 0, 1, 0, 0, 0]), "torch-record", &["twice"]);
    case("an extra field that is cut", with_entries(|e| e[2].extra = vec![7, 0, 1, 0]), "torch-record", &["extra field"]);
    case("another folder", with_entries(|e| { e[2].name = "other/data/0".to_owned(); e[2].local_name = e[2].name.clone(); }), "torch-other-root", &["`other/data/0`", "`adapter_model`"]);
    case("no pickle", with_entries(|e| drop(e.remove(0))), "torch-no-pickle", &["`data.pkl`"]);
    case("no entries", zip(&[]), "torch-no-pickle", &["choose the weight file"]);
    case("TorchScript", with_entries(|e| e.push(Entry::new("constants.pkl", b""))), "torch-script", &["TorchScript", "state_dict"]);
    case("the other byte order", with_entries(|e| e[1] = Entry::new("byteorder", b"big")), "torch-byte-order", &["`big`", "`little`"]);

    // The pickle's bytes.
    case("no bytes of pickle", with_pickle(&Pickle::default()), "torch-pickle-cut", &["byte 0"]);
    case("protocol 4", with_pickle(&Pickle(b"\x80\x04}.".to_vec())), "torch-protocol", &["0x8004", "0x8002", "pickle_protocol"]);
    case("no STOP", with_pickle(&Pickle::new().op(b"}")), "torch-pickle-cut", &["byte 3", "download"]);
    case("bytes behind STOP", with_pickle(&Pickle::new().op(b"}.}")), "torch-pickle-trailing", &["byte 4", "5 bytes"]);
    case("a text of 4 GiB", with_pickle(&Pickle::new().op(b"X\xff\xff\xff\xff")), "torch-limit", &["text", "4096"]);
    case("a text that is cut", with_pickle(&Pickle::new().op(b"X\x10\0\0\0abc")), "torch-pickle-cut", &[]);
    case("text that is not UTF-8", with_pickle(&Pickle::new().op(b"X\x01\0\0\0\xff")), "torch-operand", &["UTF-8"]);
    case("a name without end", with_pickle(&Pickle::new().op(b"c").op(&[b'a'; 9000])), "torch-limit", &["text"]);
    case("a number of 64 bytes", with_pickle(&Pickle::new().op(b"\x8a\x40").op(&[1; 64])), "torch-operand", &["at most 8 bytes"]);
    case("two million nested tuples", with_pickle(&Pickle::new().op(b"N").op(&vec![0x85; 2_000_000]).op(b".")), "torch-limit", &["tuples and dicts", "1048576"]);
    case("a memo bomb", with_pickle(&(0..60u8).fold(Pickle::new().op(b"N"), |p, i| p.op(&[b'q', i, b'h', i, 0x86])).op(b".")), "torch-not-state-dict", &["a tuple"]);
    case("a full stack", with_pickle(&Pickle::new().op(&vec![b'N'; 20_000])), "torch-limit", &["stack", "16384"]);
    case("marks without end", with_pickle(&Pickle::new().op(&vec![b'('; 20_000])), "torch-limit", &["marks"]);
    case("a full memo", with_pickle(&(0..70_000u32).fold(Pickle::new().op(b"N"), |p, i| p.op(b"r").op(&i.to_le_bytes()))), "torch-limit", &["memo", "65536"]);
    case("endless work", with_pickle(&Pickle::new().op(b"N").op(&b"q\0".repeat(5_100_000))), "torch-limit", &["5000000 operations"]);
    case("17 MB of pickle", with_pickle(&Pickle::new().op(&vec![b'N'; 17 << 20])), "torch-limit", &["16777216 bytes"]);

    case("one long size for many tensors", with_pickle(&many_long_sizes()), "torch-limit", &["tuples and dicts", "1048576"]);

    // What it asks for.
    case("a call of os.system", with_pickle(&Pickle::new().op(b"cos\nsystem\n(").text("true").op(b"tR.")), "torch-global", &["`os.system`", "run code"]);
    case("a call of eval", with_pickle(&Pickle::new().op(b"c__builtin__\neval\n")), "torch-global", &["`__builtin__.eval`"]);
    case("a name to be shown with care", with_pickle(&Pickle::new().op(b"ca\x1b[2J\nb\n")), "torch-global", &["u{1b}"]);
    case("STACK_GLOBAL", with_pickle(&Pickle::new().op(b"\x93")), "torch-opcode", &["0x93", "byte 2"]);
    case("INST", with_pickle(&Pickle::new().op(b"(ios\nsystem\n")), "torch-opcode", &["0x69", "byte 3"]);
    case("a list", with_pickle(&Pickle::new().op(b"].")), "torch-opcode", &["0x5d", "safetensors"]);

    // Operations without their operands.
    case("an empty stack", with_pickle(&Pickle::new().op(b".")), "torch-operand", &["nothing"]);
    case("a tuple below the stack", with_pickle(&Pickle::new().op(b"N\x87.")), "torch-operand", &["too few"]);
    case("a tuple below a mark", with_pickle(&Pickle::new().op(b"N(\x85.")), "torch-operand", &["too few"]);
    case("items without a mark", with_pickle(&Pickle::new().op(b"}u.")), "torch-operand", &["a mark"]);
    case("items of no dict", with_pickle(&Pickle::new().op(b"N(NNu.")), "torch-operand", &["a dict", "None"]);
    case("items of a tensor", with_pickle(&start().tensor(F4, 0, &[4], &[1]).op(b"NNs.")), "torch-operand", &["a dict", "a tensor"]);
    case("an odd item", with_pickle(&Pickle::new().op(b"}(Nu.")), "torch-operand", &["odd"]);
    case("nothing remembered", with_pickle(&Pickle::new().op(b"h\0.")), "torch-operand", &["remembered"]);
    case("a value left over", with_pickle(&Pickle::new().op(b"}}.")), "torch-operand", &["several"]);
    case("a mark left over", with_pickle(&Pickle::new().op(b"(}.")), "torch-operand", &["several"]);
    case("a call of a dict", with_pickle(&Pickle::new().op(b"})R.")), "torch-operand", &["a function", "a dict"]);
    case("a call of a storage class", with_pickle(&Pickle::new().op(b"ctorch\nFloatStorage\n)R.")), "torch-operand", &["a function"]);
    case("arguments that are no tuple", with_pickle(&Pickle::new().op(b"ccollections\nOrderedDict\n}R.")), "torch-operand", &["tuple of arguments"]);
    case("an ordered dict with items", with_pickle(&Pickle::new().op(b"ccollections\nOrderedDict\nN\x85R.")), "torch-operand", &["without arguments"]);
    case("attributes of a tuple", with_pickle(&Pickle::new().op(b")}b.")), "torch-operand", &["with attributes", "a tuple"]);
    case("attributes that are no dict", with_pickle(&Pickle::new().op(b"}Nb.")), "torch-operand", &["dict of attributes"]);
    case("a tensor of three arguments", with_pickle(&start().op(b"ctorch._utils\n_rebuild_tensor_v2\nNNN\x87R.")), "torch-operand", &["_rebuild_tensor_v2", "too few"]);
    case("a tensor of no storage", with_pickle(&start().op(b"ctorch._utils\n_rebuild_tensor_v2\n(N").rebuilt(0, &[4], &[1])), "torch-operand", &["_rebuild_tensor_v2", "others"]);
    case("a parameter of no tensor", with_pickle(&start().op(b"ctorch._utils\n_rebuild_parameter\nN\x89}\x87R.")), "torch-operand", &["_rebuild_parameter"]);
    case("a storage of no tuple", with_pickle(&Pickle::new().op(b"NQ.")), "torch-operand", &["storage"]);
    case("a storage of another kind", with_pickle(&Pickle::new().op(b"(").text("module").op(b"tQ.")), "torch-operand", &["another tuple"]);

    // Storages and tensors.
    case("a storage of negative length", with_tensor(("FloatStorage", "0", -4), 0, &[4], &[1]), "torch-operand", &["length", "negative"]);
    case("a storage without entry", with_tensor(("FloatStorage", "7", 4), 0, &[4], &[1]), "torch-no-storage", &["`7`", "`data/7`"]);
    case("a storage outside the data", with_tensor(("FloatStorage", "../data.pkl", 4), 0, &[4], &[1]), "torch-no-storage", &["`../data.pkl`"]);
    case("a storage longer than its entry", with_tensor(("FloatStorage", "0", 5), 0, &[4], &[1]), "torch-storage-size", &["5 values", "20 bytes", "has 16"]);
    case("a storage shorter than its entry", with_tensor(("HalfStorage", "0", 4), 0, &[4], &[1]), "torch-storage-size", &["F16", "8 bytes", "has 16"]);
    case("a storage without measure", with_tensor(("DoubleStorage", "0", i64::MAX), 0, &[4], &[1]), "torch-storage-size", &["F64"]);
    case("a storage of two kinds", with_pickle(&start().tensor(F4, 0, &[4], &[1]).text("y").tensor(("HalfStorage", "0", 8), 0, &[4], &[1]).op(b"u.")), "torch-storage-conflict", &["`0`", "F32", "F16"]);
    case("another number format", with_tensor(("LongStorage", "0", 2), 0, &[2], &[1]), "weights-dtype", &["`x`", "I64", "F32"]);
    case("a negative offset", with_tensor(F4, -1, &[4], &[1]), "torch-operand", &["offset", "negative"]);
    case("a negative stride", with_tensor(F4, 3, &[4], &[-1]), "torch-operand", &["strides of at least 0"]);
    case("a negative size", with_tensor(F4, 0, &[-4], &[1]), "torch-operand", &["sizes of at least 0"]);
    case("more strides than sizes", with_tensor(F4, 0, &[4], &[1, 1]), "torch-strides", &["1 dimensions", "2 strides"]);
    case("a view past its storage", with_tensor(F4, 1, &[4], &[1]), "torch-bounds", &["`x`", "[4]", "4 values"]);
    case("a stride past its storage", with_tensor(F4, 0, &[2, 2], &[3, 1]), "torch-bounds", &["[3, 1]"]);
    case("an offset past its storage, of nothing", with_tensor(F4, 5, &[0], &[1]), "torch-bounds", &["from value 5"]);
    case("an address without measure", with_tensor(F4, i64::MAX, &[2, 2], &[i64::MAX, i64::MAX]), "torch-bounds", &["reaches past"]);
    case("a shape without measure", with_tensor(F4, 0, &[i64::MAX, i64::MAX], &[0, 0]), "weights-shape-overflow", &["`x`"]);
    case("a view expanded to terabytes", with_tensor(F4, 0, &[1 << 40], &[0]), "torch-too-many-values", &["`x`", "1048576", "contiguous"]);
    case("nine dimensions", with_tensor(F4, 0, &[1; 9], &[1; 9]), "weights-too-many-dims", &["9 dimensions", "limit is 8"]);
    case("a negated view", with_pickle(&start().op(b"ctorch._utils\n_rebuild_tensor_v2\n(").storage("FloatStorage", "0", 4).int(0).ints(&[4]).ints(&[1]).op(b"\x89ccollections\nOrderedDict\n)R}").text("neg").op(b"\x88stRu.")), "torch-lazy-view", &["negated", ".clone()"]);
    case("hooks", with_pickle(&start().op(b"ctorch._utils\n_rebuild_tensor_v2\n(").storage("FloatStorage", "0", 4).int(0).ints(&[4]).ints(&[1]).op(b"\x89}").text("h").op(b"NstRu.")), "torch-operand", &["hooks"]);
    case("a tensor's name twice", with_pickle(&start().tensor(F4, 0, &[4], &[1]).text("x").tensor(F4, 0, &[4], &[1]).op(b"u.")), "weights-duplicate-tensor", &["`x`", "twice"]);
    case("a name with spaces", with_pickle(&Pickle::new().op(b"}").text("a b").tensor(F4, 0, &[4], &[1]).op(b"s.")), "weights-tensor-name", &["`a b`"]);

    // Not a dict of tensors.
    case("a dict of numbers", with_pickle(&start().op(b"K\x01u.")), "torch-not-tensor", &["`x`", "a number", "optimiser"]);
    case("a dict by numbers", with_pickle(&Pickle::new().op(b"}K\x01Ns.")), "torch-not-state-dict", &["not text"]);
    case("text", with_pickle(&Pickle::new().text("x").op(b".")), "torch-not-state-dict", &["text", "state dict"]);
    cases
}
