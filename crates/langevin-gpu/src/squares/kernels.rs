//! The kernel: a workgroup adds the squares of its share to its number.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::SLOTS;
use crate::address;

/// Threads of a workgroup.
const THREADS: usize = 256;

#[cube(launch, address_type = "dynamic")]
fn add<T: Float, N: Size>(
    total: &mut Tensor<f32>,
    x: &Tensor<Vector<T, N>>,
    count: usize,
    #[comptime] vector: usize,
    #[define(T)] _dtype: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(THREADS);
    let unit = UNIT_POS as usize;
    let mut squares = Vector::<f32, N>::new(0.0f32);
    for at in range_stepped(ABSOLUTE_POS, count, CUBE_COUNT * THREADS) {
        let numbers = Vector::<f32, N>::cast_from(x[at]);
        squares += numbers * numbers;
    }
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..vector {
        sum += squares.extract(i);
    }
    shared[unit] = sum;
    sync_cube();
    #[unroll]
    for halving in 0..comptime!(THREADS.ilog2() as usize) {
        let half = comptime!(THREADS >> (halving + 1));
        if unit < half {
            shared[unit] += shared[unit + half];
        }
        sync_cube();
    }
    if unit == 0 {
        total[CUBE_POS] += shared[0];
    }
}

/// Adds the squares of a tensor, whose numbers lie in memory without gaps, to `total`, which is overwritten.
pub(super) fn overwrite(total: &CubeTensor, x: CubeTensor) {
    let numbers = x.meta.shape().num_elements();
    let vector = crate::memory::vector_of(numbers);
    let count = numbers / vector;
    let client = x.client.clone();
    add::launch(
        &client,
        CubeCount::Static(count.div_ceil(THREADS).min(SLOTS) as u32, 1, 1),
        CubeDim::new_1d(THREADS as u32),
        address(&[&x]),
        vector,
        total.clone().into_tensor_arg(),
        x.clone().into_tensor_arg(),
        count,
        vector,
        dtype_to_storage_type(x.dtype),
    );
}
