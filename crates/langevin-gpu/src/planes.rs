//! Sizes of matrices of a plane (subgroup).

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Device};

/// Rows and columns of such a matrix.
pub(crate) const SIDE: usize = 16;

/// Threads of a plane.
pub(crate) const LANES: usize = 32;

/// Entries of a matrix that a thread has.
pub(crate) const ENTRIES: usize = SIDE * SIDE / LANES;

/// Numbers from a row to the next where threads look at single entries in shared memory: rows lie in other banks.
pub(crate) const LINE: usize = SIDE + 4;

/// Numbers behind a row of a factor in shared memory, for the same reason.
pub(crate) const BEHIND: usize = 8;

/// Bytes of shared memory that a workgroup can have.
pub(crate) const SHARED: usize = 48 << 10;

/// Whether a device multiplies such matrices of a number format, and changes their entries and roles: a Vulkan driver with
/// `VK_NV_cooperative_matrix2`.
pub(crate) fn multiplies(device: &Device, dtype: DType) -> bool {
    if dtype != DType::F16 {
        return false;
    }
    let Some(client) = crate::client(device) else {
        return false;
    };
    let (kind, sum) = (dtype_to_storage_type(dtype), dtype_to_storage_type(DType::F32));
    let hardware = &client.properties().hardware;
    let lanes = [hardware.plane_size_min, hardware.plane_size_max] == [LANES as u32; 2];
    let matmul = &client.features().matmul;
    lanes
        && hardware.max_shared_memory_size >= SHARED
        && matmul.cmma_tensor_addressing
        && matmul.cmma.iter().any(|offered| {
            [offered.a_type, offered.b_type, offered.cd_type] == [kind, kind, sum]
                && [offered.m, offered.n, offered.k] == [SIDE as u32; 3]
        })
}
