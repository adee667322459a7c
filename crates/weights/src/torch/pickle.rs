//! A reader for the one kind of pickle that `torch.save` makes of a dict of tensors.
//!
//! Pickle is a stack machine that can call anything. This one knows the operations that a dict of tensors needs,
//! three functions and ten storage classes, and calls nothing. It does not recurse, its values are copied in constant
//! time, and every operation costs time and memory in proportion to the bytes of its own arguments.

use std::collections::BTreeMap;

use super::TorchError;
use super::storage::{Kind, Storage};
use crate::shown;

/// The largest pickle that is read: ten thousand tensors need about 3 MB.
pub(super) const PICKLE_BYTES: usize = 16 << 20;
const OPERATIONS: usize = 5_000_000;
const MEMO: usize = 1 << 16;
/// Values on the stack. Python's pickler puts at most 1000 pairs before each SETITEMS.
const STACK: usize = 1 << 14;
/// Values in all tuples and dicts together.
const VALUES: usize = 1 << 20;
const TEXT: usize = 4096;

/// A tensor as `_rebuild_tensor_v2` is asked for it; nothing of it is checked against its storage yet.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The index of its storage.
    pub(super) storage: usize,
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// What a pickle says: tensors by name, in the file's order and with repeats, and the storages they look at.
#[derive(Debug)]
pub(super) struct StateDict<'a> {
    pub(super) tensors: Vec<(&'a str, View)>,
    pub(super) storages: Vec<Storage<'a>>,
}

/// Reads a pickle.
pub(super) fn read(bytes: &[u8]) -> Result<StateDict<'_>, TorchError> {
    if bytes.len() > PICKLE_BYTES {
        return Err(limit("bytes", PICKLE_BYTES));
    }
    let mut machine = Machine::new(bytes);
    let top = machine.run()?;
    let Value::Dict(dict) = top else {
        return Err(TorchError::NotStateDict { found: top.name() });
    };
    let Machine {
        mut dicts,
        views,
        storages,
        ..
    } = machine;
    let mut tensors = Vec::new();
    for (key, value) in std::mem::take(&mut dicts[dict]) {
        let Value::Text(name) = key else {
            return Err(TorchError::NotStateDict {
                found: "a dict with keys that are not text",
            });
        };
        let Value::Tensor(view) = value else {
            let (name, found) = (shown(name), value.name());
            return Err(TorchError::NotTensor { name, found });
        };
        tensors.push((name, views[view].clone()));
    }
    Ok(StateDict { tensors, storages })
}

fn limit(what: &'static str, limit: usize) -> TorchError {
    TorchError::Limit { what, limit }
}

/// A value of Python. Indexes are into the machine's own lists, so that copies cost nothing and nothing nests.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Nothing,
    /// `requires_grad` and attributes; which of the two it is changes no tensor.
    Bool,
    Int(i64),
    Text(&'a str),
    /// Start and length in `Machine::items`.
    Tuple(usize, usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "None",
            Self::Bool => "a bool",
            Self::Int(_) => "a number",
            Self::Text(_) => "text",
            Self::Tuple(..) => "a tuple",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class or function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// The names of Python that are allowed.
#[derive(Clone, Copy, Debug)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", class) => Kind::of_class(class).map(Self::Storage),
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    /// The next byte to read, and the operation being carried out.
    next: usize,
    at: usize,
    stack: Vec<Value<'a>>,
    /// Stack heights at each MARK.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value<'a>>,
    items: Vec<Value<'a>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    /// Values in `items` and `dicts`, and the dicts themselves.
    values: usize,
    views: Vec<View>,
    storages: Vec<Storage<'a>>,
    by_key: BTreeMap<&'a str, usize>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            next: 0,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
            items: Vec::new(),
            dicts: Vec::new(),
            values: 0,
            views: Vec::new(),
            storages: Vec::new(),
            by_key: BTreeMap::new(),
        }
    }

    /// Runs to STOP. Returns the one value left.
    fn run(&mut self) -> Result<Value<'a>, TorchError> {
        let protocol = u16::from_be_bytes(self.array()?);
        if protocol != 0x8002 {
            return Err(TorchError::Protocol { found: protocol });
        }
        for _ in 0..OPERATIONS {
            self.at = self.next;
            let [operation] = self.array()?;
            if operation == b'.' {
                return self.stop();
            }
            self.step(operation)?;
        }
        Err(limit("operations", OPERATIONS))
    }

    fn stop(&mut self) -> Result<Value<'a>, TorchError> {
        if self.next != self.bytes.len() {
            return Err(TorchError::PickleTrailing {
                expected: self.next,
                found: self.bytes.len(),
            });
        }
        let top = self.pop()?;
        if self.stack.is_empty() && self.marks.is_empty() {
            Ok(top)
        } else {
            Err(self.operand("one value at the end", "several"))
        }
    }

    fn step(&mut self, operation: u8) -> Result<(), TorchError> {
        match operation {
            b'N' => self.push(Value::Nothing),
            0x88 | 0x89 => self.push(Value::Bool),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            0x8a => {
                let value = self.long()?;
                self.push(Value::Int(value))
            }
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                let text = self.text(length as usize)?;
                self.push(Value::Text(text))
            }
            b'}' => self.push_dict(),
            b')' => self.push_tuple(0),
            0x85 => self.push_tuple(1),
            0x86 => self.push_tuple(2),
            0x87 => self.push_tuple(3),
            b'(' => {
                if self.marks.len() >= STACK {
                    return Err(limit("marks", STACK));
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            b't' => {
                let count = self.since_mark()?;
                self.push_tuple(count)
            }
            b's' => self.set_items(2),
            b'u' => {
                let count = self.since_mark()?;
                self.set_items(count)
            }
            b'q' => {
                let [index] = self.array()?;
                self.remember(index.into())
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)
            }
            b'h' => {
                let [index] = self.array()?;
                self.recall(index.into())
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)
            }
            b'c' => self.global(),
            b'Q' => self.storage(),
            b'R' => self.call(),
            b'b' => self.build(),
            found => Err(TorchError::Opcode { found, at: self.at }),
        }
    }

    fn operand(&self, expected: &'static str, found: &'static str) -> TorchError {
        TorchError::Operand {
            at: self.at,
            expected,
            found,
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], TorchError> {
        let bytes = self.bytes.get(self.next..).and_then(|rest| rest.get(..length));
        let bytes = bytes.ok_or(TorchError::PickleCut {
            found: self.bytes.len(),
        })?;
        self.next += length;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TorchError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A number of up to eight bytes, in two's complement; Python's may have more, but no size or offset does.
    fn long(&mut self) -> Result<i64, TorchError> {
        let [length] = self.array()?;
        let digits = self.take(length.into())?;
        let mut bytes = match digits.last() {
            Some(last) if *last >= 0x80 => [0xff; 8],
            _ => [0; 8],
        };
        match bytes.get_mut(..digits.len()) {
            Some(low) => low.copy_from_slice(digits),
            None => return Err(self.operand("a number of at most 8 bytes", "a longer one")),
        }
        Ok(i64::from_le_bytes(bytes))
    }

    fn text(&mut self, length: usize) -> Result<&'a str, TorchError> {
        if length > TEXT {
            return Err(limit("bytes in one text", TEXT));
        }
        let text = self.take(length)?;
        str::from_utf8(text).map_err(|_| self.operand("text in UTF-8", "other bytes"))
    }

    fn line(&mut self) -> Result<&'a str, TorchError> {
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        let length = rest.iter().take(TEXT + 1).position(|byte| *byte == b'\n');
        let Some(length) = length else {
            let cut = TorchError::PickleCut {
                found: self.bytes.len(),
            };
            return Err(if rest.len() > TEXT {
                limit("bytes in one text", TEXT)
            } else {
                cut
            });
        };
        let line = self.text(length)?;
        self.next += 1;
        Ok(line)
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), TorchError> {
        if self.stack.len() >= STACK {
            return Err(limit("values on its stack", STACK));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The height below which values belong to an enclosing MARK.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>, TorchError> {
        if self.stack.len() <= self.floor() {
            return Err(self.operand("a value", "nothing"));
        }
        self.stack.pop().ok_or_else(|| self.operand("a value", "nothing"))
    }

    /// Takes the last MARK away. Returns how many values are above it.
    fn since_mark(&mut self) -> Result<usize, TorchError> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.len().saturating_sub(mark)),
            None => Err(self.operand("a mark", "none")),
        }
    }

    fn count_values(&mut self, count: usize) -> Result<(), TorchError> {
        self.values += count;
        if self.values > VALUES {
            return Err(limit("values in tuples and dicts", VALUES));
        }
        Ok(())
    }

    fn push_dict(&mut self) -> Result<(), TorchError> {
        self.count_values(1)?;
        self.dicts.push(Vec::new());
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    /// Moves the topmost `count` values into a tuple.
    fn push_tuple(&mut self, count: usize) -> Result<(), TorchError> {
        self.count_values(count)?;
        let start = self
            .stack
            .len()
            .checked_sub(count)
            .filter(|start| *start >= self.floor())
            .ok_or_else(|| self.operand("the values of a tuple", "too few"))?;
        let first = self.items.len();
        self.items.extend(self.stack.drain(start..));
        self.push(Value::Tuple(first, count))
    }

    /// Moves the topmost `count` values, keys and values in turn, into the dict below them.
    fn set_items(&mut self, count: usize) -> Result<(), TorchError> {
        self.count_values(count)?;
        if !count.is_multiple_of(2) {
            return Err(self.operand("pairs of a dict", "an odd number of values"));
        }
        let start = self
            .stack
            .len()
            .checked_sub(count)
            .filter(|start| *start > self.floor())
            .ok_or_else(|| self.operand("a dict and its pairs", "too few values"))?;
        // Not below 1: `start` is above the floor.
        let Value::Dict(dict) = self.stack[start - 1] else {
            return Err(self.operand("a dict", self.stack[start - 1].name()));
        };
        let pairs = self.stack.drain(start..).collect::<Vec<_>>();
        self.dicts[dict].extend(pairs.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<(), TorchError> {
        let top = self.pop()?;
        self.stack.push(top);
        self.memo.insert(index, top);
        if self.memo.len() > MEMO {
            return Err(limit("values in its memo", MEMO));
        }
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), TorchError> {
        match self.memo.get(&index) {
            Some(value) => self.push(*value),
            None => Err(self.operand("a remembered value", "none of that number")),
        }
    }

    fn global(&mut self) -> Result<(), TorchError> {
        let (module, name) = (self.line()?, self.line()?);
        match Global::named(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(TorchError::Global {
                name: shown(&format!("{module}.{name}")),
            }),
        }
    }

    fn tuple(&self, value: Value<'a>, expected: &'static str) -> Result<&[Value<'a>], TorchError> {
        match value {
            Value::Tuple(start, count) => Ok(self.items.get(start..start + count).unwrap_or_default()),
            other => Err(self.operand(expected, other.name())),
        }
    }

    /// BINPERSID: a storage, named by its entry in the archive.
    fn storage(&mut self) -> Result<(), TorchError> {
        let id = self.pop()?;
        let expected = "a storage's (\"storage\", class, key, location, length)";
        let &[
            Value::Text("storage"),
            Value::Global(Global::Storage(kind)),
            Value::Text(key),
            Value::Text(_),
            Value::Int(numel),
        ] = self.tuple(id, expected)?
        else {
            return Err(self.operand(expected, "another tuple"));
        };
        let numel = u64::try_from(numel).map_err(|_| self.operand("a storage's length", "a negative number"))?;
        let index = match self.by_key.get(key) {
            None => {
                self.storages.push(Storage { kind, key, numel });
                self.by_key.insert(key, self.storages.len() - 1);
                self.storages.len() - 1
            }
            Some(&index) => {
                let known = self.storages[index];
                if (known.kind, known.numel) != (kind, numel) {
                    return Err(TorchError::StorageConflict {
                        key: shown(key),
                        first: known.kind.name,
                        second: kind.name,
                    });
                }
                index
            }
        };
        self.push(Value::Storage(index))
    }

    fn call(&mut self) -> Result<(), TorchError> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let values = self.tuple(arguments, "a tuple of arguments")?;
        match function {
            Value::Global(Global::OrderedDict) => match values {
                [] => self.push_dict(),
                _ => Err(self.operand("OrderedDict without arguments", "some")),
            },
            Value::Global(Global::RebuildTensor) => {
                let view = self.view(values)?;
                // One tuple may be the size of many tensors; each has a copy of its own.
                self.count_values(view.shape.len() + view.strides.len())?;
                self.views.push(view);
                self.push(Value::Tensor(self.views.len() - 1))
            }
            Value::Global(Global::RebuildParameter) => match *values {
                [Value::Tensor(tensor), Value::Bool, Value::Dict(hooks)] if self.dicts[hooks].is_empty() => {
                    self.push(Value::Tensor(tensor))
                }
                _ => Err(self.operand("_rebuild_parameter's tensor, bool and no hooks", "others")),
            },
            other => Err(self.operand("a function that rebuilds tensors", other.name())),
        }
    }

    fn view(&self, arguments: &[Value<'a>]) -> Result<View, TorchError> {
        let expected = "_rebuild_tensor_v2's storage, offset, size, strides, bool and no hooks";
        let (&[storage, offset, size, strides, requires_grad, hooks], metadata) = arguments
            .split_first_chunk::<6>()
            .ok_or_else(|| self.operand(expected, "too few"))?;
        let (
            Value::Storage(storage),
            Value::Int(offset),
            Value::Tuple(..),
            Value::Tuple(..),
            Value::Bool,
            Value::Dict(hooks),
        ) = (storage, offset, size, strides, requires_grad, hooks)
        else {
            return Err(self.operand(expected, "others"));
        };
        let empty = |dict: usize| self.dicts.get(dict).is_none_or(Vec::is_empty);
        if !empty(hooks) {
            return Err(self.operand(expected, "hooks"));
        }
        match *metadata {
            [] | [Value::Nothing] => {}
            [Value::Dict(dict)] if empty(dict) => {}
            [Value::Dict(_)] => return Err(TorchError::LazyView),
            _ => return Err(self.operand(expected, "more")),
        }
        let whole = |value: &Value<'a>| match value {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        let numbers = |value, expected| {
            let numbers = self.tuple(value, expected)?.iter().map(whole);
            numbers
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| self.operand(expected, "others"))
        };
        Ok(View {
            storage,
            offset: whole(&Value::Int(offset))
                .ok_or_else(|| self.operand("an offset of at least 0", "a negative number"))?,
            shape: numbers(size, "sizes of at least 0")?,
            strides: numbers(strides, "strides of at least 0")?,
        })
    }

    /// BUILD: attributes of an ordered dict, such as `_metadata`, which say nothing about its tensors.
    fn build(&mut self) -> Result<(), TorchError> {
        let state = self.pop()?;
        let object = self.pop()?;
        match (object, state) {
            (Value::Dict(_), Value::Dict(_)) => self.push(object),
            (Value::Dict(_), other) => Err(self.operand("a dict of attributes", other.name())),
            (other, _) => Err(self.operand("a dict with attributes", other.name())),
        }
    }
}
