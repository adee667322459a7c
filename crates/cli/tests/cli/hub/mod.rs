//! Bases and modules from a hub: `download`, `store` and `manifest`, and their names in place of folders.

mod cdn;
mod faults;
mod interrupted;
mod names;
mod own;
