//! One file per command: arguments in, files read and written, results printed.

pub(crate) mod adapt;
pub(crate) mod download;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod manifest;
pub(crate) mod score;
pub(crate) mod store;
