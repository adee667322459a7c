//! The weights of a base model in whatever form they are there: safetensors in one file or several, what `torch.save`
//! wrote, or GGUF. Folders on disk and files in a browser are opened by this one code.

use std::collections::BTreeMap;

use crate::tensors::{FileTensors, ReadAt, ShardedTensors, Tensors};
use crate::{GgufTensors, Limits, ShardIndex, TorchArchive, WeightsError, sha256_hex, shown};

/// One safetensors file.
const SAFETENSORS: &str = "model.safetensors";
/// The index of several.
const INDEX: &str = "model.safetensors.index.json";
/// What `torch.save` wrote.
const TORCH: &str = "pytorch_model.bin";
/// The GGUF file that is taken where there are several.
const GGUF: &str = "model.gguf";

/// The form in which a base's weights are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseForm {
    /// `model.safetensors`.
    SafeTensors,
    /// Several safetensors files; this is `model.safetensors.index.json`.
    Shards(ShardIndex),
    /// `pytorch_model.bin`.
    Torch,
    /// A GGUF file of this name.
    Gguf(String),
}

impl BaseForm {
    /// The form by the names of the files that are there. Of several it is the one that transformers would take, and
    /// GGUF last; where there is none it is one safetensors file, which is then missing. `index` reads the index.
    ///
    /// # Errors
    /// Those of `index`, as [`ShardIndex::parse`], and [`WeightsError::SeveralGguf`].
    pub fn find<E: From<WeightsError>>(
        names: &[&str],
        index: impl FnOnce(&str) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        if names.contains(&SAFETENSORS) {
            return Ok(Self::SafeTensors);
        }
        if names.contains(&INDEX) {
            return Ok(Self::Shards(ShardIndex::parse(&index(INDEX)?, &Limits::BASE)?));
        }
        if names.contains(&TORCH) {
            return Ok(Self::Torch);
        }
        if names.contains(&GGUF) {
            return Ok(Self::Gguf(GGUF.to_owned()));
        }
        let gguf = |name: &&&str| name.ends_with(".gguf");
        match names.iter().filter(gguf).collect::<Vec<_>>()[..] {
            [] => Ok(Self::SafeTensors),
            [one] => Ok(Self::Gguf((*one).to_owned())),
            [first, second, ..] => {
                let [first, second] = [first, second].map(|name| shown(name));
                Err(WeightsError::SeveralGguf { first, second }.into())
            }
        }
    }

    /// The files that hold the weights, in the order of their names.
    pub fn files(&self) -> Vec<&str> {
        match self {
            Self::SafeTensors => vec![SAFETENSORS],
            Self::Shards(index) => index.files().collect(),
            Self::Torch => vec![TORCH],
            Self::Gguf(name) => vec![name],
        }
    }

    /// What the weights are called in records, by the SHA-256 of each of [`files`](Self::files) in hexadecimal: of one
    /// file its own, of several the hash of theirs, one a line.
    pub fn sha256(hashes: &[String]) -> String {
        match hashes {
            [one] => one.clone(),
            several => {
                let lines: String = several.iter().map(|hash| format!("{hash}\n")).collect();
                sha256_hex(lines.as_bytes())
            }
        }
    }

    /// Opens the weights, each file checked but for its values. A PyTorch archive is read whole, if it has at most
    /// `whole` bytes; of any other form one tensor at a time is in memory.
    ///
    /// # Errors
    /// [`WeightsError::Read`] if `files` lacks one, [`WeightsError::WholeFile`], and what the form's reader says.
    pub fn open<R: ReadAt>(self, mut files: BTreeMap<String, R>, whole: u64) -> Result<BaseWeights<R>, WeightsError> {
        let mut take = |name: &str| {
            files.remove(name).ok_or_else(|| WeightsError::Read {
                reason: format!("`{}` is not there", shown(name)),
            })
        };
        let limits = &Limits::BASE;
        let form = match self {
            Self::SafeTensors => Form::One(FileTensors::open(take(SAFETENSORS)?, limits)?),
            Self::Shards(index) => Form::Several(ShardedTensors::open(index, limits, take)?),
            Self::Gguf(name) => Form::Gguf(GgufTensors::open(take(&name)?, limits)?),
            Self::Torch => {
                let file = take(TORCH)?;
                let bytes = file.size();
                if bytes > whole {
                    let (file, limit) = (TORCH, whole);
                    return Err(WeightsError::WholeFile { file, bytes, limit });
                }
                let bytes = file.read_at(0..bytes)?;
                TorchArchive::parse(&bytes, limits)?;
                Form::Torch(bytes)
            }
        };
        Ok(BaseWeights(form))
    }
}

/// The opened weights of a base.
#[derive(Clone, Debug)]
pub struct BaseWeights<R>(Form<R>);

#[derive(Clone, Debug)]
enum Form<R> {
    One(FileTensors<R>),
    Several(ShardedTensors<R>),
    Gguf(GgufTensors<R>),
    Torch(Vec<u8>),
}

impl<R: ReadAt> BaseWeights<R> {
    /// The tensors, each read when it is asked for.
    ///
    /// # Errors
    /// As [`TorchArchive::parse`], which passed when the weights were opened.
    pub fn tensors(&self) -> Result<Box<dyn Tensors + '_>, WeightsError> {
        Ok(match &self.0 {
            Form::One(tensors) => Box::new(tensors),
            Form::Several(tensors) => Box::new(tensors),
            Form::Gguf(tensors) => Box::new(tensors),
            Form::Torch(bytes) => Box::new(TorchArchive::parse(bytes, &Limits::BASE)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(names: &[&str]) -> Result<BaseForm, WeightsError> {
        BaseForm::find(names, |_| {
            Ok(br#"{"weight_map":{"b":"2.safetensors","a":"1.safetensors"}}"#.to_vec())
        })
    }

    #[test]
    fn the_form_is_what_is_there() {
        let gguf = |name: &str| Ok(BaseForm::Gguf(name.to_owned()));
        assert_eq!(find(&[]), Ok(BaseForm::SafeTensors));
        assert_eq!(find(&[TORCH, INDEX, SAFETENSORS, GGUF]), Ok(BaseForm::SafeTensors));
        assert_eq!(find(&[TORCH, "a.gguf", "b.gguf"]), Ok(BaseForm::Torch));
        assert_eq!(
            find(&["config.json", "flan-t5-small-q8_0.gguf"]),
            gguf("flan-t5-small-q8_0.gguf")
        );
        assert_eq!(find(&["a.gguf", GGUF]), gguf(GGUF));
        let error = find(&["a.gguf", "b.gguf"]).unwrap_err();
        assert_eq!(error.code(), "weights-several-gguf");
        assert!(error.to_string().contains("`a.gguf` and `b.gguf`"), "{error}");
        let shards = find(&[INDEX, TORCH]).unwrap();
        assert_eq!(shards.files(), ["1.safetensors", "2.safetensors"]);
    }

    #[test]
    fn a_file_that_is_read_whole_has_a_limit() {
        struct Long;
        impl ReadAt for Long {
            fn size(&self) -> u64 {
                1 << 40
            }

            fn read_at(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>, WeightsError> {
                panic!("nobody reads {range:?}");
            }
        }
        let files = BTreeMap::from([(TORCH.to_owned(), Long)]);
        let error = BaseForm::Torch.open(files, 1 << 30).err().unwrap();
        assert_eq!(error.code(), "weights-whole-file");
        assert!(error.to_string().contains("1099511627776") && error.to_string().contains("1073741824"));
    }

    #[test]
    fn several_files_have_one_name() {
        let (one, other) = ("ab".to_owned(), "cd".to_owned());
        assert_eq!(BaseForm::sha256(std::slice::from_ref(&one)), "ab");
        assert_eq!(BaseForm::sha256(&[one, other]), sha256_hex(b"ab\ncd\n"));
    }
}
