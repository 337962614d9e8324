//! The kernel: a thread has some numbers side by side.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::tensor::CubeTensor;

use crate::address;

#[cube(launch, address_type = "dynamic")]
fn blend<T: Float, V: Float, N: Size>(
    average: &mut Tensor<Vector<T, N>>,
    value: &Tensor<Vector<V, N>>,
    count: usize,
    decay: f32,
    #[define(T)] _to: ElemType,
    #[define(V)] _from: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let kept = Vector::<f32, N>::cast_from(average[ABSOLUTE_POS]) * Vector::new(decay);
    let new = Vector::<f32, N>::cast_from(value[ABSOLUTE_POS]) * Vector::new(f32::new(1.0) - decay);
    average[ABSOLUTE_POS] = Vector::cast_from(kept + new);
}

/// Overwrites the average, which lies in memory as what is averaged does, without gaps.
pub(super) fn overwrite(average: &CubeTensor, value: &CubeTensor, decay: f32) {
    let numbers = average.meta.shape().num_elements();
    let vector = crate::memory::vector_of(numbers);
    let (client, count) = (average.client.clone(), numbers / vector);
    let cube_dim = CubeDim::new(&client, count);
    blend::launch(
        &client,
        calculate_cube_count_elemwise(&client, count, cube_dim),
        cube_dim,
        address(&[average, value]),
        vector,
        average.clone().into_tensor_arg(),
        value.clone().into_tensor_arg(),
        count,
        decay,
        dtype_to_storage_type(average.dtype),
        dtype_to_storage_type(value.dtype),
    );
}
