//! Every way in which a PyTorch archive can be wrong, besides what it shares with other weight files.

/// Why what `torch.save` is said to have written cannot be read. Each message ends with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// The file does not end with a zip directory.
    #[error(
        "the PyTorch archive of {found} bytes does not end with a zip end record without comment; it is cut or has bytes \
         added: download it again"
    )]
    End {
        /// Bytes in the file.
        found: usize,
    },
    /// The end records of the directory contradict each other, the format, or the file's size.
    #[error("the PyTorch archive's directory has {what} {found}, expected {expected}; download it again")]
    Directory {
        /// The field.
        what: &'static str,
        /// Its value.
        found: u64,
        /// What it must be.
        expected: u64,
    },
    /// More entries than any adapter or T5 has.
    #[error("the PyTorch archive has {found} entries, the limit is {limit}; check that it belongs to a T5 model")]
    TooManyEntries {
        /// Entries by the directory.
        found: u64,
        /// The limit.
        limit: usize,
    },
    /// A directory record that is cut, or has another form.
    #[error("record {index} of the PyTorch archive's directory has {problem}; download the file again")]
    Record {
        /// The record, from 0.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An entry that is compressed. `torch.save` never compresses.
    #[error(
        "entry `{name}` of the PyTorch archive is compressed (method {method}), expected stored (0); pack the archive \
         again without compression, or save it again with torch.save"
    )]
    Compressed {
        /// The entry, escaped and cut.
        name: String,
        /// The zip method.
        method: u16,
    },
    /// An entry that is encrypted, or uses another part of zip that `torch.save` does not.
    #[error(
        "entry `{name}` of the PyTorch archive has the flags 0x{flags:04x}, expected none but 0x0808; save it again \
         with torch.save, without encryption"
    )]
    Flags {
        /// The entry, escaped and cut.
        name: String,
        /// Its flags.
        flags: u16,
    },
    /// Two entries of one name.
    #[error("entry `{name}` is in the PyTorch archive twice, expected once; save it again with torch.save")]
    DuplicateEntry {
        /// The entry, escaped and cut.
        name: String,
    },
    /// An entry whose local header contradicts the directory.
    #[error("entry `{name}` of the PyTorch archive has {problem} in front of its data; download the file again")]
    LocalHeader {
        /// The entry, escaped and cut.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Entries that share bytes, with each other or with the directory.
    #[error(
        "entry `{name}` of the PyTorch archive ends at byte {found}, expected at most {limit}, where the next one \
         starts; save it again with torch.save"
    )]
    EntryOverlap {
        /// The entry, escaped and cut.
        name: String,
        /// Where it ends.
        found: u64,
        /// Where what follows it starts.
        limit: usize,
    },
    /// An entry that is not in the archive's one folder.
    #[error(
        "entry `{name}` of the PyTorch archive is outside the folder `{root}`, expected one folder for all; save it \
         again with torch.save"
    )]
    OtherRoot {
        /// The entry, escaped and cut.
        name: String,
        /// The folder of the first entry, escaped and cut.
        root: String,
    },
    /// Compiled code.
    #[error(
        "the archive has `{name}`: it is TorchScript, code and all, expected a dict of tensors; save \
         model.state_dict() with torch.save, or convert it to safetensors"
    )]
    Script {
        /// The entry that shows it.
        name: &'static str,
    },
    /// An archive without its pickle.
    #[error("the zip archive has no `data.pkl` in its folder, expected what torch.save writes; choose the weight file")]
    NoPickle,
    /// Stored with the high byte first.
    #[error(
        "the PyTorch archive's byte order is `{found}`, expected `little`; save it again on a little-endian machine"
    )]
    ByteOrder {
        /// What the entry says, escaped and cut.
        found: String,
    },
    /// A part larger than any that `torch.save` writes for such models.
    #[error(
        "the PyTorch archive's pickle has more than {limit} {what}, the limit; check that it belongs to a T5 model"
    )]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The pickle ends within an operation, or without STOP.
    #[error("the PyTorch archive's pickle ends at byte {found}, within an operation; download the file again")]
    PickleCut {
        /// Its length.
        found: usize,
    },
    /// Bytes behind STOP.
    #[error(
        "the PyTorch archive's pickle stops at byte {expected} but has {found} bytes; save it again with torch.save"
    )]
    PickleTrailing {
        /// Where it stops.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// Another pickle protocol.
    #[error(
        "the PyTorch archive's pickle starts with 0x{found:04x}, expected 0x8002 (protocol 2); save it again with \
         torch.save and its default pickle_protocol"
    )]
    Protocol {
        /// The first two bytes.
        found: u16,
    },
    /// An operation that a dict of tensors does not need.
    #[error(
        "the PyTorch archive's pickle has operation 0x{found:02x} at byte {at}, expected only those of a dict of \
         tensors; save the state dict alone, or convert it to safetensors"
    )]
    Opcode {
        /// The operation.
        found: u8,
        /// Its place in the pickle.
        at: usize,
    },
    /// A name of Python that a dict of tensors does not need. Calling such names is how pickles run code.
    #[error(
        "the PyTorch archive's pickle asks for `{name}`, expected only what rebuilds tensors; it may run code in \
         Python: load it only if you trust it, and convert it to safetensors"
    )]
    Global {
        /// The name, escaped and cut.
        name: String,
    },
    /// An operation on something it cannot be meant for.
    #[error(
        "the PyTorch archive's pickle has, for the operation at byte {at}, {found}, expected {expected}; download the \
         file again, or convert it to safetensors"
    )]
    Operand {
        /// The operation's place in the pickle.
        at: usize,
        /// What it needs.
        expected: &'static str,
        /// What there is.
        found: &'static str,
    },
    /// The pickle is not a dict of tensors.
    #[error(
        "the PyTorch archive holds {found}, expected a dict from names to tensors; save the state dict alone, or \
         convert it to safetensors"
    )]
    NotStateDict {
        /// What it holds.
        found: &'static str,
    },
    /// A value of the dict that is not a tensor.
    #[error(
        "`{name}` in the PyTorch archive is {found}, expected a tensor; save the state dict alone, without the \
         optimiser and other state"
    )]
    NotTensor {
        /// The key, escaped and cut.
        name: String,
        /// What it is.
        found: &'static str,
    },
    /// A storage whose entry is not in the archive, or whose key is not a number.
    #[error("storage `{key}` is not among the PyTorch archive's entries, expected `data/{key}`; download it again")]
    NoStorage {
        /// The key, escaped and cut.
        key: String,
    },
    /// A storage whose size contradicts its entry.
    #[error(
        "storage `{key}` of {numel} values in {dtype} needs {expected} bytes, but its entry has {found}; save the file \
         again with torch.save"
    )]
    StorageSize {
        /// The key.
        key: String,
        /// Values by the pickle.
        numel: u64,
        /// Their format.
        dtype: &'static str,
        /// Bytes by values and format.
        expected: u64,
        /// Bytes of the entry.
        found: u64,
    },
    /// A storage described twice, differently.
    #[error(
        "storage `{key}` of the PyTorch archive is described twice, as {first} and as {second}; save it again with \
         torch.save"
    )]
    StorageConflict {
        /// The key.
        key: String,
        /// The first format.
        first: &'static str,
        /// The second format, or the same with another length.
        second: &'static str,
    },
    /// A size and strides of different lengths.
    #[error("tensor `{name}` has {dims} dimensions but {strides} strides, expected as many; save the file again")]
    Strides {
        /// The tensor.
        name: String,
        /// Its dimensions.
        dims: usize,
        /// Its strides.
        strides: usize,
    },
    /// A view that reaches past its storage.
    #[error(
        "tensor `{name}` of shape {shape:?} from value {offset} with strides {strides:?} reaches past its storage of \
         {numel} values; save the file again with torch.save"
    )]
    Bounds {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its first value in the storage.
        offset: u64,
        /// Its strides, in values.
        strides: Vec<u64>,
        /// Values of the storage.
        numel: u64,
    },
    /// A view that is more than sizes and strides, such as a negated one.
    #[error("a tensor of the PyTorch archive is a negated or conjugated view; save it again as .clone() of itself")]
    LazyView,
    /// Expanded views that would fill the memory.
    #[error(
        "the PyTorch archive's tensors have more than {limit} values, the limit for a file of its size, with `{name}`; \
         save it again with .contiguous() tensors"
    )]
    TooManyValues {
        /// The tensor with which the limit is passed.
        name: String,
        /// The limit.
        limit: u64,
    },
}

impl TorchError {
    /// The variant's own short name, which does not change between versions: for programs to compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::End { .. } => "torch-end",
            Self::Directory { .. } => "torch-directory",
            Self::TooManyEntries { .. } => "torch-too-many-entries",
            Self::Record { .. } => "torch-record",
            Self::Compressed { .. } => "torch-compressed",
            Self::Flags { .. } => "torch-flags",
            Self::DuplicateEntry { .. } => "torch-duplicate-entry",
            Self::LocalHeader { .. } => "torch-local-header",
            Self::EntryOverlap { .. } => "torch-entry-overlap",
            Self::OtherRoot { .. } => "torch-other-root",
            Self::Script { .. } => "torch-script",
            Self::NoPickle => "torch-no-pickle",
            Self::ByteOrder { .. } => "torch-byte-order",
            Self::Limit { .. } => "torch-limit",
            Self::PickleCut { .. } => "torch-pickle-cut",
            Self::PickleTrailing { .. } => "torch-pickle-trailing",
            Self::Protocol { .. } => "torch-protocol",
            Self::Opcode { .. } => "torch-opcode",
            Self::Global { .. } => "torch-global",
            Self::Operand { .. } => "torch-operand",
            Self::NotStateDict { .. } => "torch-not-state-dict",
            Self::NotTensor { .. } => "torch-not-tensor",
            Self::NoStorage { .. } => "torch-no-storage",
            Self::StorageSize { .. } => "torch-storage-size",
            Self::StorageConflict { .. } => "torch-storage-conflict",
            Self::Strides { .. } => "torch-strides",
            Self::Bounds { .. } => "torch-bounds",
            Self::LazyView => "torch-lazy-view",
            Self::TooManyValues { .. } => "torch-too-many-values",
        }
    }
}
