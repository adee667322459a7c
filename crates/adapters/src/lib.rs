//! PEFT LoRA modules: strict import, the bank, both composition rules, export and merging.
//!
//! Host `f32` arithmetic only: no tensors, no device, no I/O. The paper's words:
//!
//! | paper | here |
//! |---|---|
//! | LoRA module `m_i = (A_i, B_i)` | [`Module`]: one [`LoraPair`] per target linear, each scaled by `s = alpha / r` |
//! | the modules `m_1 .. m_N` | [`Bank`], stacked by target |
//! | `Compose`, weights `w_i` | [`compose`] under a [`Rule`] |

mod bank;
mod card;
mod compose;
mod error;
mod export;
mod merge;
mod module;
mod peft;
mod scales;

pub use bank::{Bank, BankTarget, ModuleInfo, check_together};
pub use compose::{Rule, compose};
pub use error::AdapterError;
pub use export::{Composition, Export, ModuleShare, Provenance, export, export_as, export_size};
pub use merge::{MergedTensor, delta, merge};
pub use module::{BaseSpec, LoraPair, Module, TargetSpec};
pub use peft::{ConfigError, TensorsError};
