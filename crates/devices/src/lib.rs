//! Which device runs a model: asked for, or opened, tested, measured and chosen.
//!
//! [`open`] is the start: it gives a [`Device`] to [load](Device::load) a base on, and a [`DeviceReport`] that says what
//! computes and why. Everything after that goes through [`AnyModel`](lorahub_t5::AnyModel), so a program need not know
//! which device it got, and can load the base again on another one when this one fails.

mod choice;
mod device;
mod open;

pub use choice::{DeviceChoice, DeviceKind, DeviceReport, Reason, is_device_failure};
pub use device::Device;
pub use lorahub_tensor::{Arithmetic, WeightStorage};
pub use lorahub_webgpu::MemoryUse;
pub use open::{Hook, Opened, Request, open};
