//! Import of what PEFT's `save_pretrained` writes, and of nothing that it would load wrongly without a word.
//!
//! PEFT loads leniently: missing tensors leave a target unadapted, tensors that the configuration does not select are
//! dropped, another base is not noticed. Here the configuration, the tensors and the base must agree, and whatever
//! changes the meaning of the matrices is an error of its own. Facts and key names are those of PEFT 0.21.2.

mod config;
mod config_error;
mod import;
mod keys;
mod patterns;
mod select;
mod tensors_error;

pub use config_error::ConfigError;
pub use tensors_error::TensorsError;

pub(crate) use import::from_peft;
pub(crate) use keys::{Matrix, key_of};
