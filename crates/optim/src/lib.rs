//! Gradient-free optimisers with an ask / tell / stop interface.
//!
//! The optimiser proposes points ([`CmaEs::ask`]), the caller evaluates them however and wherever it likes, and hands
//! the losses back ([`CmaEs::tell`]). The caller owns the loop, so nothing here is asynchronous, does I/O, reads a
//! clock or finds entropy: two runs with the same [`Settings`] and the same losses are the same run, bit for bit,
//! natively and in WebAssembly. Every transcendental function comes from the `libm` crate for that reason.
//!
//! ```
//! use lorahub_optim::{CmaEs, Settings};
//!
//! let settings = Settings { seed: 7, ..Settings::new(vec![0.5; 4], 0.3) };
//! let mut search = CmaEs::new(settings)?;
//! while search.stop().is_none() {
//!     let candidates = search.ask();
//!     let losses: Vec<f64> = candidates.iter().map(|x| x.iter().map(|v| v * v).sum()).collect();
//!     search.tell(&losses)?;
//! }
//! let (_, loss) = search.best().expect("at least one finite loss was told");
//! assert!(loss < 1e-9);
//! # Ok::<(), lorahub_optim::OptimError>(())
//! ```
//!
//! # Words
//!
//! The symbols are those of N. Hansen, *The CMA Evolution Strategy: A Tutorial* (2016, arXiv:1604.00772), cited here
//! as "tutorial" with its equation numbers.
//!
//! | tutorial | code | meaning |
//! |---|---|---|
//! | `n` | `n`, [`CmaEs::dimension`] | number of coordinates |
//! | `lambda`, `mu` | [`Parameters::lambda`], [`Parameters::mu`] | candidates of a generation; those with positive weight |
//! | `w_i`, `mu_eff` | [`Parameters::weights`], [`Parameters::mu_eff`] | recombination weights, their effective number |
//! | `m`, `sigma`, `C` | `m`, `sigma`, [`Covariance`] | mean, step size and covariance of the sampling distribution |
//! | `p_sigma`, `p_c` | `path_sigma`, `path_c` | evolution paths of step size and covariance |
//! | `c_sigma`, `d_sigma`, `c_c`, `c_1`, `c_mu` | the same | learning rates and damping, [`Parameters`] |
//! | `z`, `y`, `x` | the same | `z ~ N(0, I)`, `y = C^(1/2) z`, `x = m + sigma y` |

pub mod bits;
pub mod cmaes;
pub mod eigen;
mod error;
pub mod replay;
mod rng;

pub use cmaes::{BoundTransform, CmaEs, Covariance, Parameters, Settings, StopReason, Tolerances};
pub use error::OptimError;
pub use replay::{Recording, replay};
pub use rng::Rng;
