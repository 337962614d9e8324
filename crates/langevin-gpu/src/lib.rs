//! Kernels for GPUs, written in CubeCL and called through Burn's backend extensions.
//!
//! Without the feature `cube` the crate is empty.

#![cfg(feature = "cube")]

#[cfg(feature = "vulkan")]
mod attention;
#[cfg(feature = "vulkan")]
mod convolution;
mod group_norm;
mod winograd;
#[cfg(feature = "vulkan")]
mod workgroup;

use burn_cubecl::cubecl::prelude::AddressType;
use burn_cubecl::tensor::CubeTensor;

#[cfg(feature = "vulkan")]
pub use attention::{attend, attends};
#[cfg(feature = "vulkan")]
pub use convolution::{convolve, convolves};
pub use group_norm::{Normalization, group_norm};
pub use winograd::{Tile, Tiling, image_of, kernel_of, tiles_of};

/// Workgroups that a launch may count along an axis.
#[cfg(feature = "vulkan")]
const LARGEST_COUNT: usize = 65_535;

/// The integers that all of these can be indexed with.
fn address(tensors: &[&CubeTensor]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}
