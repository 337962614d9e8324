//! Matrices that belong to a whole workgroup, for Vulkan drivers with `VK_NV_cooperative_matrix2`.
//!
//! CubeCL has them as `cmma::Matrix<_, Cube>`, but tells the driver that a tensor in memory is aligned to one number only, so that
//! it reads number by number, and has no way to combine two matrices entry by entry. Both are here, as operations of our own in
//! CubeCL's intermediate representation; the rest is CubeCL's.

mod frontend;
mod ops;

use burn::backend::DispatchDevice;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Device};

pub(crate) use frontend::{Fragment, Grid, Role};

/// Whether a device multiplies such matrices of a number format.
pub(crate) fn multiplies(device: &Device, dtype: DType) -> bool {
    // Not `bf16`: attention came out wrong in it on the one driver that was at hand.
    if dtype != DType::F16 {
        return false;
    }
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Cube(device) => {
            let client = device.client();
            let matmul = &client.features().matmul;
            let (kind, sum) = (dtype_to_storage_type(dtype), dtype_to_storage_type(DType::F32));
            matmul.cmma_tensor_addressing
                && matmul.cube_mma.iter().any(|offered| {
                    let tiles = offered.units_per_block == Some(128) && offered.m_granularity <= 32;
                    offered.a_type == kind && offered.cd_type == sum && tiles
                })
        }
        _ => false,
    }
}
