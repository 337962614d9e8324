//! Devices by name, for command lines and configuration files.

use burn::BurnConfig;
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal", feature = "webgpu"))]
use burn::tensor::DeviceKind;
use burn::tensor::{Device, Tensor};
use burn_std::config::RuntimeConfig;

/// The names that [`device`] knows, each with the feature that compiles it in.
pub const DEVICES: [(&str, &str); 9] = [
    ("cpu", "flex"),
    ("flex", "flex"),
    ("wgpu", "wgpu"),
    ("vulkan", "vulkan"),
    ("metal", "metal"),
    ("webgpu", "webgpu"),
    ("cuda", "cuda"),
    ("rocm", "rocm"),
    ("ndarray", "ndarray"),
];

/// Why a device name does not give a device.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// The name is not one of [`DEVICES`].
    #[error("unknown device '{name}': expected one of {known}, with an optional index as in 'vulkan:1'")]
    Unknown {
        /// The name given.
        name: String,
        /// The names known.
        known: String,
    },
    /// The backend exists, but was not compiled in.
    #[error("device '{name}' was not compiled in: build with `--features {feature}`")]
    NotCompiled {
        /// The name given.
        name: String,
        /// The feature that compiles it in.
        feature: &'static str,
    },
    /// The part behind the colon is not a device number, or the device takes none.
    #[error("'{index}' is not a device number of '{name}': {expected}")]
    Index {
        /// The device.
        name: String,
        /// The index given.
        index: String,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// The device is compiled in, but this machine cannot use it.
    #[error("device '{name}' cannot be used on this machine: {reason}")]
    Unavailable {
        /// The name given.
        name: String,
        /// What the backend said.
        reason: String,
    },
}

/// The device of this name: `"cpu"`, `"flex"`, `"wgpu"`, `"vulkan"`, `"metal"`, `"webgpu"`, `"cuda"`, `"rocm"` or
/// `"ndarray"`; GPUs also by number, as in `"vulkan:1"`.
///
/// # Errors
/// [`DeviceError::Unknown`] for other names, [`DeviceError::NotCompiled`] naming the missing feature,
/// [`DeviceError::Index`] for a bad number, [`DeviceError::Unavailable`] if the machine has no such device.
///
/// A GPU is asked for after [`fuse_in_short_runs`].
///
/// ```
/// use langevin::device::{device, DeviceError};
/// assert!(device("cpu").is_ok());
/// assert!(matches!(device("tpu"), Err(DeviceError::Unknown { .. })));
/// ```
pub fn device(name: &str) -> Result<Device, DeviceError> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => (kind, Some(index)),
        None => (name, None),
    };
    let Some((kind, feature)) = DEVICES.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<_> = DEVICES.iter().map(|(known, _)| *known).collect();
        return Err(DeviceError::Unknown { name: name.to_owned(), known: known.join(", ") });
    };
    let bad_index =
        |index: &str, expected| DeviceError::Index { name: (*kind).to_owned(), index: index.to_owned(), expected };
    let number = match index {
        Some(index) if matches!(*feature, "flex" | "ndarray") => {
            return Err(bad_index(index, "a CPU device has no number"));
        }
        Some(index) => {
            Some(index.parse::<usize>().map_err(|_| bad_index(index, "give a number from 0, as in 'vulkan:0'"))?)
        }
        None => None,
    };
    if !matches!(*feature, "flex" | "ndarray") {
        fuse_in_short_runs();
    }
    let device = construct(kind, number).ok_or_else(|| DeviceError::NotCompiled { name: name.to_owned(), feature })?;
    probe(name, device)
}

/// Lets Burn's queue of operations on GPUs fuse what follows directly on each other, and look no further; returns whether it does.
///
/// By default Burn looks for up to five groups of operations that can be fused apart from each other (`fusion.beam_search.max_blocks`), and holds back all
/// operations while it looks. On the way back through a network, followed by updates, that is hundreds, and each of its plans goes over all that
/// wait behind it: on an H200 `Trainer` takes 2.6 times as long for a small network in `f32`, four times for DDPM's
/// in mixed precision, and no longer for DDPM's in `f32`. Kernels of this library are operations of their own, between which
/// there is little to fuse.
///
/// This is configuration of Burn's for the whole process, which can be given once, before the first tensor on a GPU. A number of groups in a `burn.toml`, another than five, stays, and so does
/// all else in it; what was given before, or has been read by then, stays altogether. Programs that make a `Device` by Burn's functions call this first;
/// [`device`] does it for GPUs. Nothing changes on the CPU. Where it returns false, look for a `burn.toml` with another number, or for tensors on a GPU before this call.
///
/// ```
/// assert!(langevin::device::fuse_in_short_runs());
/// assert!(langevin::device::fuse_in_short_runs()); // It is so already.
/// ```
pub fn fuse_in_short_runs() -> bool {
    BurnConfig::try_set(with_short_runs(configured()));
    burn::runtime_config().fusion().beam_search.max_blocks == 1
}

/// What Burn would read: `burn.toml` and the environment, where there are files.
fn configured() -> BurnConfig {
    #[cfg(any(target_os = "windows", target_os = "linux", target_os = "macos", target_os = "android"))]
    return BurnConfig::from_current_dir().override_from_env();
    #[cfg(not(any(target_os = "windows", target_os = "linux", target_os = "macos", target_os = "android")))]
    BurnConfig::default()
}

/// A configuration with one group in place of Burn's default. Its fields are private to Burn, and go through JSON.
fn with_short_runs(config: BurnConfig) -> BurnConfig {
    if config.fusion().beam_search.max_blocks != BurnConfig::default().fusion().beam_search.max_blocks {
        return config;
    }
    let mut fields = serde_json::to_value(&config).expect("plain fields");
    fields["fusion"]["beam_search"]["max_blocks"] = 1.into();
    serde_json::from_value(fields).expect("the same fields")
}

/// The device, if its backend is compiled in.
fn construct(kind: &str, number: Option<usize>) -> Option<Device> {
    let _ = number; // read by GPU backends only
    match kind {
        #[cfg(feature = "flex")]
        "cpu" | "flex" => Some(Device::flex()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Some(Device::wgpu(gpu(number))),
        #[cfg(feature = "vulkan")]
        "vulkan" => Some(Device::vulkan(gpu(number))),
        #[cfg(feature = "metal")]
        "metal" => Some(Device::metal(gpu(number))),
        #[cfg(feature = "webgpu")]
        "webgpu" => Some(Device::webgpu(gpu(number))),
        #[cfg(feature = "cuda")]
        "cuda" => Some(Device::cuda(number.unwrap_or(0))),
        #[cfg(feature = "rocm")]
        "rocm" => Some(Device::rocm(number.unwrap_or(0))),
        #[cfg(feature = "ndarray")]
        "ndarray" =>
        {
            #[expect(deprecated, reason = "kept while Burn ships it")]
            Some(Device::ndarray())
        }
        _ => None,
    }
}

#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal", feature = "webgpu"))]
fn gpu(number: Option<usize>) -> DeviceKind {
    number.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu)
}

/// Computes one number on the device: backends report a missing driver or GPU only when they are used, by a panic.
fn probe(name: &str, device: Device) -> Result<Device, DeviceError> {
    let unavailable = |reason: String| DeviceError::Unavailable { name: name.to_owned(), reason };
    let probed = device.clone();
    let computed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        Tensor::<1>::ones([2], &probed).sum().try_into_scalar::<f32>()
    }));
    match computed {
        Ok(Ok(2.0)) => Ok(device),
        Ok(Ok(sum)) => Err(unavailable(format!("1 + 1 gave {sum}"))),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(unavailable(text.unwrap_or_else(|| "the backend panicked".to_owned())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_compiled_devices_work() {
        for name in ["cpu", "flex"] {
            assert!(device(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = device("gpu").unwrap_err().to_string();
        assert!(message.contains("'gpu'") && message.contains("vulkan") && message.contains("flex"), "{message}");
    }

    #[test]
    #[cfg(not(feature = "rocm"))]
    fn a_device_that_is_not_compiled_in_names_its_feature() {
        let error = device("rocm").unwrap_err();
        assert_eq!(error, DeviceError::NotCompiled { name: "rocm".into(), feature: "rocm" });
        assert!(error.to_string().contains("--features rocm"));
    }

    #[test]
    fn short_runs_change_burns_default_alone() {
        let given = |json: &str| serde_json::from_str::<BurnConfig>(json).expect("a configuration");
        let blocks = |config: BurnConfig| with_short_runs(config).fusion().beam_search.max_blocks;
        assert_eq!(blocks(BurnConfig::default()), 1);
        assert_eq!(blocks(given(r#"{"fusion": {"beam_search": {"max_blocks": 3}}}"#)), 3);
        let other =
            with_short_runs(given(r#"{"fusion": {"growth_patience": 7, "beam_search": {"max_explorations": 9}}}"#));
        assert_eq!((other.fusion().growth_patience, other.fusion().beam_search.max_explorations), (7, Some(9)));
        assert_eq!(other.fusion().beam_search.max_blocks, 1);
    }

    #[test]
    fn a_bad_index_is_an_error() {
        assert!(matches!(device("cpu:0"), Err(DeviceError::Index { .. })));
        assert!(matches!(device("vulkan:first"), Err(DeviceError::Index { .. })));
    }
}
