//! The forge: trains the bundled demo family from a seed, natively, through the same T5 that the product runs.
//!
//! `words`, `rewrite` and `rules` are the two little worlds and what can be done to them, `data` draws examples, `tokenizer` and `net` make what
//! training starts from, `train` trains, `family` keeps it all on disk, `target` draws the held-out tasks, `evaluate` and
//! `report` measure them, `publish` writes the rest of what is shipped, `miniature` is the whole in small.

pub mod data;
mod error;
pub mod evaluate;
pub mod family;
pub mod miniature;
pub mod net;
mod publish;
pub mod report;
pub mod rewrite;
pub mod rules;
pub mod target;
pub mod tokenizer;
pub mod train;
pub mod words;

pub use error::ForgeError;
