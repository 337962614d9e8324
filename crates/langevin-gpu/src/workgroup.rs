//! Matrices that belong to a whole workgroup, or to a plane of one, for Vulkan drivers with `VK_NV_cooperative_matrix2`.
//!
//! CubeCL has them as `cmma::Matrix<_, Cube>`, but tells the driver that a tensor in memory is aligned to one number only, so that
//! it reads number by number, and has no way to combine two matrices entry by entry or to look at single ones. These are here, as operations of our own in
//! CubeCL's intermediate representation; the rest is CubeCL's.

mod frontend;
mod ops;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Device};

pub(crate) use frontend::{Fragment, Role, View, exp2};

/// Whether a device multiplies such matrices of a number format in workgroups of some threads: up to as many rows and columns, in
/// multiples of an eighth of that, of a quarter for the rows of the result.
pub(crate) fn multiplies(device: &Device, dtype: DType, threads: u32) -> bool {
    // Not `bf16`: an attention by them came out wrong in it, with driver 580.159.04.
    if dtype != DType::F16 {
        return false;
    }
    let Some(client) = crate::client(device) else {
        return false;
    };
    let matmul = &client.features().matmul;
    let (kind, sum) = (dtype_to_storage_type(dtype), dtype_to_storage_type(DType::F32));
    matmul.cmma_tensor_addressing
        && matmul.cube_mma.iter().any(|offered| {
            let steps = [offered.m_granularity, offered.n_granularity, offered.k_granularity];
            let sizes = [offered.m_max, offered.n_max, offered.k_max];
            [offered.a_type, offered.b_type, offered.cd_type] == [kind, kind, sum]
                && offered.units_per_block == Some(threads)
                && steps[0] <= threads / 4
                && steps[1].max(steps[2]) <= threads / 8
                && sizes.into_iter().all(|size| size >= threads)
        })
}
