//! The kernel: a thread has some numbers side by side.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::tensor::CubeTensor;

use super::AdamStep;
use crate::address;

#[cube(launch, address_type = "dynamic")]
fn update<T: Float, G: Float, F: Float, N: Size>(
    parameter: &mut Tensor<Vector<T, N>>,
    gradient: &Tensor<Vector<G, N>>,
    mean: &mut Tensor<Vector<T, N>>,
    square: &mut Tensor<Vector<T, N>>,
    factor: &Tensor<F>,
    count: usize,
    beta_1: f32,
    beta_2: f32,
    rate: f32,
    correction: f32,
    epsilon: f32,
    decay: f32,
    #[comptime] scaled: bool,
    #[define(T)] _dtype: ElemType,
    #[define(G)] _of_gradient: ElemType,
    #[define(F)] _of_factor: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let one = f32::new(1.0);
    let mut g = Vector::<f32, N>::cast_from(gradient[ABSOLUTE_POS]);
    if comptime!(scaled) {
        g *= Vector::new(f32::cast_from(factor[0]));
    }
    let m = Vector::<f32, N>::cast_from(mean[ABSOLUTE_POS]) * Vector::new(beta_1) + g * Vector::new(one - beta_1);
    let v = Vector::<f32, N>::cast_from(square[ABSOLUTE_POS]) * Vector::new(beta_2) + g * g * Vector::new(one - beta_2);
    let root = Vector::sqrt(v * Vector::new(correction)) + Vector::new(epsilon);
    let p = Vector::<f32, N>::cast_from(parameter[ABSOLUTE_POS]) * Vector::new(decay) - m * Vector::new(rate) / root;
    parameter[ABSOLUTE_POS] = Vector::cast_from(p);
    mean[ABSOLUTE_POS] = Vector::cast_from(m);
    square[ABSOLUTE_POS] = Vector::cast_from(v);
}

/// Overwrites the parameter and its moments, which with the gradient lie in memory in one order, without gaps. If it is to be
/// scaled, the gradient is multiplied by `factor`, one number, which is not read otherwise.
pub(super) fn overwrite(
    parameter: &CubeTensor,
    gradient: CubeTensor,
    [mean, square]: [&CubeTensor; 2],
    factor: CubeTensor,
    step: AdamStep,
    scaled: bool,
) {
    let (of_gradient, of_factor) = (gradient.dtype, factor.dtype);
    let numbers = parameter.meta.shape().num_elements();
    let vector = crate::memory::vector_of(numbers);
    let (client, count) = (parameter.client.clone(), numbers / vector);
    let cube_dim = CubeDim::new(&client, count);
    update::launch(
        &client,
        calculate_cube_count_elemwise(&client, count, cube_dim),
        cube_dim,
        address(&[parameter, &gradient]),
        vector,
        parameter.clone().into_tensor_arg(),
        gradient.into_tensor_arg(),
        mean.clone().into_tensor_arg(),
        square.clone().into_tensor_arg(),
        factor.into_tensor_arg(),
        count,
        step.beta_1,
        step.beta_2,
        step.rate,
        step.correction,
        step.epsilon,
        step.decay,
        scaled,
        dtype_to_storage_type(parameter.dtype),
        dtype_to_storage_type(of_gradient),
        dtype_to_storage_type(of_factor),
    );
}
