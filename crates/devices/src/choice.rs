//! What was asked for, what was chosen, and why.

use serde::{Deserialize, Serialize};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// Whichever a measurement shows to be faster for the model; never fails for want of a GPU.
    #[default]
    Auto,
    /// The GPU, or an error.
    WebGpu,
    /// The CPU.
    Cpu,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The GPU, through WebGPU or a native API.
    WebGpu,
    /// The CPU.
    Cpu,
}

/// Why the device is what it is. In JSON these are stable names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The user asked for it.
    Asked,
    /// It was the faster one in the start-up measurement.
    Measured,
    /// The only adapter is a software one, which is slower than the CPU's own code.
    Software,
    /// There is no adapter, or it gave no device.
    NoAdapter,
    /// The adapter's limits are below what the kernels need.
    AdapterTooSmall,
    /// The adapter gave wrong numbers in the start-up test.
    SelfTest,
    /// The device was lost: a driver reset, a suspended machine.
    DeviceLost,
    /// The device's memory did not suffice.
    DeviceMemory,
    /// The device failed in another way.
    Device,
}

impl Reason {
    /// The reason behind a failure's stable code; `None` if it is no failure of a device.
    pub fn of_failure(code: &str) -> Option<Self> {
        Some(match code {
            "no_adapter" => Self::NoAdapter,
            "adapter_too_small" => Self::AdapterTooSmall,
            "self_test" => Self::SelfTest,
            "device_lost" => Self::DeviceLost,
            "device_memory" => Self::DeviceMemory,
            "device" => Self::Device,
            _ => return None,
        })
    }
}

/// Whether a failure with this code is the device's, so that the same work may succeed on another one.
pub fn is_device_failure(code: &str) -> bool {
    Reason::of_failure(code).is_some()
}

/// What computes, for people and for programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceReport {
    /// What computes.
    pub kind: DeviceKind,
    /// Its name in run records.
    pub name: String,
    /// What was asked for.
    pub choice: DeviceChoice,
    /// Why it is this one.
    pub reason: Reason,
    /// The same in one sentence.
    pub detail: String,
    /// Milliseconds per candidate of one block of this model on the CPU; `None` where that was not measured.
    pub cpu_ms: Option<f64>,
    /// The same on the GPU.
    pub gpu_ms: Option<f64>,
    /// What the GPU calls itself; `None` where there is none, or none was looked for.
    pub adapter: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_published_ones() {
        let json = |value: &dyn Fn() -> serde_json::Value| value().as_str().unwrap().to_owned();
        for (choice, name) in [
            (DeviceChoice::Auto, "auto"),
            (DeviceChoice::WebGpu, "webgpu"),
            (DeviceChoice::Cpu, "cpu"),
        ] {
            assert_eq!(json(&|| serde_json::to_value(choice).unwrap()), name);
        }
        assert_eq!(json(&|| serde_json::to_value(DeviceKind::WebGpu).unwrap()), "webgpu");
        // Where a device failed, the reason is the failure's own code.
        for code in [
            "no_adapter",
            "adapter_too_small",
            "self_test",
            "device_lost",
            "device_memory",
            "device",
        ] {
            let reason = Reason::of_failure(code).unwrap();
            assert_eq!(json(&|| serde_json::to_value(reason).unwrap()), code);
        }
        assert!(!is_device_failure("cancelled") && !is_device_failure("memory"));
    }
}
