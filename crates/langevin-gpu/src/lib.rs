//! Kernels for GPUs, written in CubeCL and called through Burn's backend extensions.
//!
//! Without the feature `cube` the crate is empty.

#![cfg(feature = "cube")]

mod group_norm;
mod winograd;

use burn_cubecl::cubecl::prelude::AddressType;
use burn_cubecl::tensor::CubeTensor;

pub use group_norm::{Normalization, group_norm};
pub use winograd::{Tile, Tiling, image_of, kernel_of, tiles_of};

/// The integers that all of these can be indexed with.
fn address(tensors: &[&CubeTensor]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}
