//! Malformed safetensors files, each made from a valid one by one fault, with the error it must give.

#![allow(
    dead_code,
    reason = "each test crate that includes this file uses its own part of it"
)]

/// A file that must be refused.
pub(crate) struct BadFile {
    /// What is wrong with it.
    pub(crate) what: &'static str,
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// The code of the error it must give.
    pub(crate) code: &'static str,
    /// What the message must contain.
    pub(crate) says: &'static [&'static str],
}

/// Puts a file together from its header and data, whatever they are.
pub(crate) fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The data of `values` as stored F32.
pub(crate) fn f32_data(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The header of [`valid`].
pub(crate) const VALID_HEADER: &str = r#"{"__metadata__":{"format":"pt"},"x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"y":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}}"#;

/// A valid file: `x` of `[2, 2]` and `y` of `[2]`, both F32.
pub(crate) fn valid() -> Vec<u8> {
    file(VALID_HEADER, &f32_data(&[1.0, -2.0, 3.5, 0.0, 0.25, -0.125]))
}

/// [`valid`] with `from` in its header replaced by `to`.
fn with_header(from: &str, to: &str) -> Vec<u8> {
    assert!(VALID_HEADER.contains(from), "`{from}` is not in the header");
    file(&VALID_HEADER.replacen(from, to, 1), &valid()[8 + VALID_HEADER.len()..])
}

/// Every malformed file.
pub(crate) fn bad_files() -> Vec<BadFile> {
    let mut cases = Vec::new();
    let mut case = |what, bytes, code, says| {
        cases.push(BadFile {
            what,
            bytes,
            code,
            says,
        })
    };
    let data = &valid()[8 + VALID_HEADER.len()..];

    case(
        "empty",
        vec![],
        "weights-too-short",
        &["0 bytes", "8-byte header length", "download"],
    );
    case("seven bytes", vec![1; 7], "weights-too-short", &["7 bytes"]);
    case(
        "a torch.save archive",
        b"PK\x03\x04\x00\x00\x08\x08\x00\x00adapter_model/data.pkl".to_vec(),
        "weights-foreign",
        &["PyTorch zip archive", "pytorch_model.bin", "save_pretrained"],
    );
    case(
        "a legacy torch.save pickle",
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec(),
        "weights-foreign",
        &["Python pickle", "run code", "safetensors.torch.save_file"],
    );
    case(
        "a GGUF file",
        b"GGUF\x03\x00\x00\x00{\x00\x00\x00\x00\x00\x00\x00".to_vec(),
        "weights-foreign",
        &["GGUF", "base models only", ".gguf"],
    );
    case(
        "a Git LFS pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 19\n".to_vec(),
        "weights-foreign",
        &["Git LFS pointer", "git lfs pull"],
    );
    case(
        "an error page",
        b"<!DOCTYPE html><html><body>404</body></html>".to_vec(),
        "weights-foreign",
        &["web page", "download the file itself"],
    );
    case(
        "a header length of 2^64 - 1",
        [vec![0xff; 8], b"{}".to_vec()].concat(),
        "weights-header-too-long",
        &["18446744073709551615 bytes", "limit is 8388608"],
    );
    case(
        "a header length above the limit",
        [((8u64 << 20) + 1).to_le_bytes().to_vec(), vec![b'{'; 9 << 20]].concat(),
        "weights-header-too-long",
        &["8388609 bytes", "limit is 8388608"],
    );
    case(
        "a header longer than the file",
        [1000u64.to_le_bytes().to_vec(), b"{}".to_vec()].concat(),
        "weights-header-cut",
        &["1000 bytes", "only 2 follow", "download"],
    );
    case(
        "white space before the header",
        with_header("{", " {"),
        "weights-header-start",
        &["0x20", "0x7b (`{`)"],
    );
    case(
        "a byte order mark",
        with_header("{", "\u{feff}{"),
        "weights-header-start",
        &["0xef"],
    );
    case("an array as header", file("[]", &[]), "weights-header-start", &["0x5b"]);
    case(
        "no header",
        file("", &[]),
        "weights-header-json",
        &["empty", "save the file again"],
    );
    case(
        "a header cut short",
        file(r#"{"x":"#, &[]),
        "weights-header-json",
        &["EOF", "save the file again"],
    );
    case(
        "text after the header",
        with_header("}}", "}}!"),
        "weights-header-json",
        &["trailing"],
    );
    case(
        "a header that is not UTF-8",
        {
            let mut bytes = valid();
            let x = bytes.iter().position(|&byte| byte == b'x').unwrap();
            bytes[x] = 0xff;
            bytes
        },
        "weights-header-json",
        &["unicode"],
    );
    case(
        "a tensor that is a number",
        with_header(r#"{"dtype":"F32","shape":[2],"data_offsets":[16,24]}"#, "3"),
        "weights-header-json",
        &["invalid type: integer `3`"],
    );
    case(
        "an entry without a shape",
        with_header(r#""shape":[2],"#, ""),
        "weights-header-json",
        &["missing field `shape`"],
    );
    case(
        "an entry with an unknown field",
        with_header(r#""shape":[2],"#, r#""shape":[2],"quantized":true,"#),
        "weights-header-json",
        &["unknown field `quantized`"],
    );
    case(
        "an entry with a field twice",
        with_header(r#""shape":[2],"#, r#""shape":[2],"shape":[2],"#),
        "weights-header-json",
        &["duplicate field `shape`"],
    );
    case(
        "a negative dimension",
        with_header("[2]", "[-2]"),
        "weights-header-json",
        &["`-2`"],
    );
    case(
        "a fractional dimension",
        with_header("[2]", "[2.0]"),
        "weights-header-json",
        &["2.0"],
    );
    case(
        "a dimension of 2^64",
        with_header("[2]", "[18446744073709551616]"),
        "weights-header-json",
        &["1.844674407370955"],
    );
    case(
        "a range of three",
        with_header("[16,24]", "[16,24,32]"),
        "weights-header-json",
        &["trailing"],
    );
    case(
        "metadata that is not text",
        with_header(r#""pt""#, "3"),
        "weights-header-json",
        &["string"],
    );
    case(
        "deep nesting",
        file(&format!(r#"{{"x":{}"#, "[".repeat(200_000)), &[]),
        "weights-header-json",
        &["save the file again"],
    );
    case(
        "a tensor twice, with one range",
        with_header(
            r#","y""#,
            r#","x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"y""#,
        ),
        "weights-duplicate-tensor",
        &["`x`", "twice", "expected once"],
    );
    case(
        "a tensor twice, once escaped",
        with_header(r#""y""#, r#""\u0078""#),
        "weights-duplicate-tensor",
        &["`x`", "twice", "expected once"],
    );
    case(
        "metadata twice",
        with_header(r#""x""#, r#""__metadata__":{},"x""#),
        "weights-duplicate-metadata",
        &["`__metadata__`", "twice"],
    );
    case(
        "a metadata key twice",
        with_header(r#""format":"pt""#, r#""format":"pt","format":"tf""#),
        "weights-duplicate-metadata",
        &["`format`", "twice"],
    );
    case(
        "too many tensors",
        {
            let entries: Vec<_> = (0..10_001)
                .map(|i| format!(r#""t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
                .collect();
            file(&format!("{{{}}}", entries.join(",")), &[])
        },
        "weights-too-many-tensors",
        &["10001 tensors", "limit is 10000"],
    );
    case(
        "a nameless tensor",
        with_header(r#""y""#, r#""""#),
        "weights-tensor-name",
        &["empty", "printable ASCII"],
    );
    case(
        "a long name",
        with_header(r#""y""#, &format!(r#""{}""#, "y".repeat(513))),
        "weights-tensor-name",
        &["too long", "1 to 512", "yyy..."],
    );
    case(
        "a name with a line break and a terminal command",
        with_header(r#""y""#, r#""y\n\u001b[31m""#),
        "weights-tensor-name",
        &[r"`y\n\u{1b}[31m`", "printable ASCII"],
    );
    case(
        "nine dimensions",
        with_header("[2]", "[2,1,1,1,1,1,1,1,1]"),
        "weights-too-many-dims",
        &["`y`", "9 dimensions", "limit is 8"],
    );
    case(
        "large metadata",
        with_header(r#""pt""#, &format!(r#""{}""#, "p".repeat(64 << 10))),
        "weights-metadata-too-long",
        &["65542 bytes", "limit is 65536"],
    );
    for dtype in ["I64", "F64", "F8_E4M3", "BOOL", "f32", "\\u001b"] {
        case(
            "a number format that is not read",
            with_header(
                r#""dtype":"F32","shape":[2],"#,
                &format!(r#""dtype":"{dtype}","shape":[2],"#),
            ),
            "weights-dtype",
            &["`y`", "expected F32, F16 or BF16", "convert"],
        );
    }
    case(
        "a shape that overflows",
        with_header("[2]", "[4294967296,4294967296]"),
        "weights-shape-overflow",
        &["`y`", "[4294967296, 4294967296]"],
    );
    case(
        "a shape that overflows before a zero",
        with_header(
            "[2],\"data_offsets\":[16,24]",
            "[4294967296,4294967296,0],\"data_offsets\":[24,24]",
        ),
        "weights-shape-overflow",
        &["`y`"],
    );
    case(
        "a range backwards",
        with_header("[16,24]", "[24,16]"),
        "weights-reversed",
        &["`y`", "byte 24", "byte 16"],
    );
    case(
        "a range shorter than the shape",
        with_header("[2]", "[3]"),
        "weights-length",
        &["`y`", "[3]", "F32", "12 bytes", "has 8"],
    );
    case(
        "two tensors on one range",
        with_header("[2],\"data_offsets\":[16,24]", "[2],\"data_offsets\":[8,16]"),
        "weights-overlap",
        &["`y`", "byte 8", "byte 16"],
    );
    case(
        "a hole between tensors",
        file(&VALID_HEADER.replace("[16,24]", "[20,28]"), &[data, &[0; 4]].concat()),
        "weights-hole",
        &["`y`", "byte 20", "expected byte 16"],
    );
    case(
        "a hole before the first tensor",
        file(r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, &[0; 8]),
        "weights-hole",
        &["`x`", "byte 4", "expected byte 0"],
    );
    case(
        "data cut short",
        valid()[..valid().len() - 1].to_vec(),
        "weights-data-cut",
        &["`y`", "byte 24", "only 23", "download"],
    );
    case(
        "a range beyond 4 GiB",
        file(
            r#"{"x":{"dtype":"F32","shape":[4294967296],"data_offsets":[0,17179869184]}}"#,
            &[],
        ),
        if usize::BITS == 32 {
            "weights-shape-overflow"
        } else {
            "weights-data-cut"
        },
        &["`x`"],
    );
    case(
        "bytes after the last tensor",
        [valid(), vec![0]].concat(),
        "weights-trailing",
        &["byte 24", "25 data bytes", "save the file again"],
    );
    cases
}
