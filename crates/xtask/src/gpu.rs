//! A GPU adapter for the native WebGPU tests, which fail where there is none.

use std::path::Path;

use crate::browser::apt_install;
use crate::error::Error;

/// Where a Vulkan loader looks for drivers.
const DRIVERS: [&str; 3] = [
    "/usr/share/vulkan/icd.d",
    "/etc/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
];

/// Sees to it that Linux has a Vulkan driver; macOS and Windows bring an API of their own. A software driver will do.
///
/// # Errors
/// [`Error::Missing`] says what to install.
pub(crate) fn adapter() -> Result<(), Error> {
    if !cfg!(target_os = "linux") || has_driver() {
        return Ok(());
    }
    println!("  no Vulkan driver on this machine; getting Mesa's");
    if apt_install("mesa-vulkan-drivers") && has_driver() {
        return Ok(());
    }
    Err(Error::Missing {
        what: "no Vulkan driver was found or could be installed".into(),
        remedy: "install one, such as Mesa's (mesa-vulkan-drivers on Debian and Ubuntu)".into(),
    })
}

fn has_driver() -> bool {
    DRIVERS.iter().any(|folder| {
        Path::new(folder)
            .read_dir()
            .is_ok_and(|mut files| files.next().is_some())
    })
}
