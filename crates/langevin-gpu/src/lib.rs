//! Kernels for GPUs, written in CubeCL and called through Burn's backend extensions.
//!
//! Without the feature `cube` the crate is empty.

#![cfg(feature = "cube")]

mod adam;
mod additions;
mod attention;
mod average;
#[cfg(feature = "vulkan")]
mod convolution;
mod group_norm;
mod memory;
#[cfg(feature = "vulkan")]
mod planes;
mod product;
mod row_norm;
#[cfg(feature = "vulkan")]
mod sheet;
mod squares;
mod sums;
mod windows;
mod winograd;
#[cfg(feature = "vulkan")]
mod workgroup;

use burn::backend::Cube;
use burn::backend::DispatchDevice;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Device, Tensor};
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::AddressType;
use burn_cubecl::tensor::CubeTensor;

pub use adam::{AdamStep, adam};
pub use additions::Additions;
pub use attention::{attend, attends};
pub use average::average;
#[cfg(feature = "vulkan")]
pub use convolution::{arranged, convolve, convolve_normalized, convolves};
pub use group_norm::{Normalization, group_norm, normalizes};
pub use product::{Turned, map_rows, maps_rows, multiplies, multiply};
pub use row_norm::{RowNormalization, row_norm};
pub use squares::Squares;
pub use windows::{Windows, convolve_windows, convolves_windows};
pub use winograd::{Kernel, Tile, Tiling, convolve_in_tiles, kernel_of};

/// Workgroups that a launch may count along an axis.
const LARGEST_COUNT: usize = 65_535;

/// Threads of a workgroup that multiplies matrices.
#[cfg(feature = "vulkan")]
const THREADS: u32 = 128;

/// Workgroups that fill a large GPU.
const ENOUGH: usize = 256;

/// The largest of some sizes that divides a number of channels, which is a multiple of 32.
#[cfg(feature = "vulkan")]
fn dividing(channels: usize, sizes: &[usize]) -> usize {
    sizes.iter().copied().find(|size| channels.is_multiple_of(*size)).unwrap_or(32)
}

/// Whether a device computes by compiled kernels (wgpu, CUDA, ROCm …) and not on the host.
#[must_use]
pub fn compiles_kernels(device: &Device) -> bool {
    // Asked for every layer of a pass, which needs no client.
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Cube(_))
}

/// Who compiles and runs the kernels of a device, if any.
fn client(device: &Device) -> Option<Client> {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Cube(device) => Some(device.client()),
        _ => None,
    }
}

/// Whether a device has matrix products of a number format in hardware that add up in `f32`.
#[must_use]
pub fn has_tensor_cores(device: &Device, dtype: DType) -> bool {
    client(device).is_some_and(|client| has_matrices(&client, dtype))
}

/// The same of the device of a client.
fn has_matrices(client: &Client, dtype: DType) -> bool {
    let (factor, sum) = (dtype_to_storage_type(dtype), dtype_to_storage_type(DType::F32));
    let matmul = &client.features().matmul;
    let offered = matmul.cmma.iter().chain(&matmul.mma);
    offered.into_iter().any(|size| [size.a_type, size.b_type, size.cd_type] == [factor, factor, sum])
}

/// The integers that all of these can be indexed with.
fn address(tensors: &[&CubeTensor]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}

/// Whether two tensors are the same numbers in the same memory of a GPU. Not those with a place in a graph of gradients, nor those that
/// were made in another stream of operations: threads have their own.
#[must_use]
pub fn is_same<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> bool {
    let id = |tensor: &Tensor<D>| tensor.clone().try_into_primitive::<Cube>().ok().map(|tensor| tensor.id);
    id(a).is_some_and(|a| id(b) == Some(a))
}
