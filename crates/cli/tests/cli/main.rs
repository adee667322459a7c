//! The binary from outside: golden numbers, the whole journey, and everything that can be wrong with what it is given.

#[path = "../../../../tests/hostile/adapters.rs"]
mod hostile;
#[path = "../../../../tests/hostile/torch.rs"]
mod torch;

mod commands;
mod devices;
mod forms;
mod golden;
mod hub;
mod journey;
mod malformed;
mod support;
