//! CMA-ES as the tutorial states it: sample, rank, move the mean, adapt covariance and step size.
//!
//! Start reading at [`CmaEs::tell`], which follows the tutorial's headings; [`Parameters`] is its Table 1. Beside the
//! tutorial stand three things that a search over module weights needs, each in its own file: a box
//! ([`BoundTransform`]), injected points (N. Hansen, *Injecting External Solutions Into CMA-ES*, 2011,
//! arXiv:1110.4181), and a state that can be saved at any moment and resumes bit-identically.
//!
//! Not here, on purpose: restarts, a diagonal mode, uncertainty handling. At the few hundred evaluations this project
//! spends they gain nothing.

mod bounds;
mod covariance;
mod parameters;
mod settings;
mod state;
mod stop;
mod strategy;

pub use bounds::BoundTransform;
pub use covariance::Covariance;
pub use parameters::Parameters;
pub use settings::{MAX_DIMENSION, MAX_LAMBDA, Settings, Tolerances};
pub use stop::StopReason;
pub use strategy::CmaEs;
