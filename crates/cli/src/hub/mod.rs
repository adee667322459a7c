//! Models and modules from a hub, natively: the network, the clock, the store's place, and what a name stands for.
//!
//! How a download goes is `lorahub-hub`'s; the commands are `commands::{download, manifest, store}`.

pub(crate) mod args;
mod clock;
mod http;
mod names;
mod place;
mod store;

pub(crate) use clock::SystemClock;
pub(crate) use http::Http;
pub(crate) use names::{read_manifest, select};
pub(crate) use place::{Held, Place, again, download_command, store_command};
pub(crate) use store::{StoreArgs, catalogue};
