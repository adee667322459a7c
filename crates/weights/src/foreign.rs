//! Telling apart the other files that people take for weights, so that the error can name the way out.

/// A file format that is not safetensors but often stands in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignFormat {
    /// What `torch.save` writes since PyTorch 1.6: a zip archive with a pickle in it.
    TorchZip,
    /// A bare pickle: what `torch.save` wrote before, or any other.
    Pickle,
    /// What PyTorch wrote before pickles of its own, and any other tar archive.
    Tar,
    /// llama.cpp's format.
    Gguf,
    /// What git checks out in place of a large file when Git LFS is not installed.
    LfsPointer,
    /// A web page, usually an error or a login page saved under the file's name.
    Html,
}

impl ForeignFormat {
    /// Recognises a format by its first bytes; `None` if it is none of ours.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        let text = bytes.trim_ascii_start();
        let html = [b"<!doctype".as_slice(), b"<html"];
        match bytes {
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Some(Self::TorchZip),
            [b'G', b'G', b'U', b'F', ..] => Some(Self::Gguf),
            // Opcode PROTO with a protocol that exists.
            [0x80, 2..=5, ..] => Some(Self::Pickle),
            _ if bytes.get(257..262) == Some(b"ustar") => Some(Self::Tar),
            _ if bytes.starts_with(b"version https://git-lfs") => Some(Self::LfsPointer),
            _ if html
                .iter()
                .any(|tag| text.get(..tag.len()).is_some_and(|t| t.eq_ignore_ascii_case(tag))) =>
            {
                Some(Self::Html)
            }
            _ => None,
        }
    }

    /// The format in words, with its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::TorchZip => "a PyTorch zip archive (`.bin` or `.pt`)",
            Self::Pickle => "a Python pickle (`.bin` or `.pt`)",
            Self::Tar => "a tar archive (an early PyTorch file, or any other)",
            Self::Gguf => "a GGUF file",
            Self::LfsPointer => "a Git LFS pointer",
            Self::Html => "a web page",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::TorchZip => {
                "if it holds weights, give it the name under which such a file is looked for (adapter_model.bin, \
                 pytorch_model.bin), or save it again with save_pretrained, which writes safetensors"
            }
            Self::Pickle | Self::Tar => {
                "such files can run code and are never read: load it in Python, if you trust it, and save it with \
                 safetensors.torch.save_file or, in PyTorch 1.6 or later, with torch.save"
            }
            Self::Gguf => "GGUF is read for base models only: give it a name that ends in .gguf",
            Self::LfsPointer => "fetch the file itself with `git lfs pull`",
            Self::Html => "download the file itself, not the page that shows it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ForeignFormat as F;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let tar = [vec![b'a'; 257], b"ustar\x0000".to_vec()].concat();
        let cases: [(&[u8], Option<F>); 12] = [
            (&tar, Some(F::Tar)),
            (b"PK\x03\x04\x00\x00", Some(F::TorchZip)),
            (b"PK\x05\x06", Some(F::TorchZip)),
            (
                b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                Some(F::Pickle),
            ),
            (b"\x80\x04\x95", Some(F::Pickle)),
            (b"\x80\x09\x95", None),
            (b"GGUF\x03\x00\x00\x00", Some(F::Gguf)),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
                Some(F::LfsPointer),
            ),
            (b"\n <!DOCTYPE html>", Some(F::Html)),
            (b"<HTML>", Some(F::Html)),
            (b"", None),
            (b"{}", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(F::detect(bytes), expected, "{bytes:?}");
        }
    }
}
