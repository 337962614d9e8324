//! Kernels for what the gradient of attention does with single scores, and with rows of its output.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::address;
use crate::memory::{owned, vector_of};

/// Overwrites each score with its weight, `exp(scale·(score + start of its row))`.
#[cube(launch, address_type = "dynamic")]
fn weigh<N: Size>(scores: &mut Tensor<Vector<f32, N>>, starts: &Tensor<f32>, line: usize, count: usize, scale: f32) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let start = starts[ABSOLUTE_POS / line];
    scores[ABSOLUTE_POS] = ((scores[ABSOLUTE_POS] + Vector::new(start)) * Vector::new(scale)).exp();
}

/// Overwrites the gradient of each weight with that of its score, `scale·weight·(gradient - mean of its row)`.
#[cube(launch, address_type = "dynamic")]
fn through<N: Size>(
    gradients: &mut Tensor<Vector<f32, N>>,
    weights: &Tensor<Vector<f32, N>>,
    means: &Tensor<f32>,
    line: usize,
    count: usize,
    scale: f32,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let mean = means[ABSOLUTE_POS / line];
    let centered = gradients[ABSOLUTE_POS] - Vector::new(mean);
    gradients[ABSOLUTE_POS] = centered * weights[ABSOLUTE_POS] * Vector::new(scale);
}

/// The sum of the products of two rows for each of `rows`, of `line` vectors.
#[cube(launch, address_type = "dynamic")]
fn multiply_rows<T: Float, N: Size>(
    a: &Tensor<Vector<T, N>>,
    b: &Tensor<Vector<T, N>>,
    sums: &mut Tensor<f32>,
    line: usize,
    rows: usize,
    #[comptime] vector: usize,
    #[define(T)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= rows {
        terminate!();
    }
    let from = ABSOLUTE_POS * line;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for i in 0..line {
        sum += Vector::cast_from(a[from + i]) * Vector::cast_from(b[from + i]);
    }
    let mut of_row = 0.0f32;
    #[unroll]
    for i in 0..vector {
        of_row += sum.extract(i);
    }
    sums[ABSOLUTE_POS] = of_row;
}

/// The weights of contiguous scores `[heads, queries, keys]` in `f32`, from the start of each query.
pub(super) fn weights(scores: CubeTensor, starts: &CubeTensor, scale: f64) -> CubeTensor {
    let scores = owned(scores);
    let [_, _, keys] = scores.meta.shape().dims();
    let vector = vector_of(keys);
    let (client, count) = (scores.client.clone(), scores.meta.shape().num_elements() / vector);
    let cube_dim = CubeDim::new(&client, count);
    weigh::launch(
        &client,
        calculate_cube_count_elemwise(&client, count, cube_dim),
        cube_dim,
        address(&[&scores, starts]),
        vector,
        scores.clone().into_tensor_arg(),
        starts.clone().into_tensor_arg(),
        keys / vector,
        count,
        scale as f32,
    );
    scores
}

/// The gradients of these scores, from those of their weights, the weights and the mean of each row, all in `f32`.
pub(super) fn gradients_of_scores(
    gradients: CubeTensor,
    weights: &CubeTensor,
    means: &CubeTensor,
    scale: f64,
) -> CubeTensor {
    let gradients = owned(gradients);
    let [_, _, keys] = gradients.meta.shape().dims();
    let vector = vector_of(keys);
    let (client, count) = (gradients.client.clone(), gradients.meta.shape().num_elements() / vector);
    let cube_dim = CubeDim::new(&client, count);
    through::launch(
        &client,
        calculate_cube_count_elemwise(&client, count, cube_dim),
        cube_dim,
        address(&[&gradients, weights, means]),
        vector,
        gradients.clone().into_tensor_arg(),
        weights.clone().into_tensor_arg(),
        means.clone().into_tensor_arg(),
        keys / vector,
        count,
        scale as f32,
    );
    gradients
}

/// The sums of the products of the rows of two contiguous tensors `[heads, queries, width]`: `[heads, queries]` in `f32`.
pub(super) fn products_of_rows(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    let [heads, queries, width] = a.meta.shape().dims();
    let vector = vector_of(width);
    let (client, rows) = (a.client.clone(), heads * queries);
    let shape = Shape::new([heads, queries]);
    let sums = empty_device_contiguous_dtype(client.clone(), a.device.clone(), shape, DType::F32);
    let cube_dim = CubeDim::new(&client, rows);
    multiply_rows::launch(
        &client,
        calculate_cube_count_elemwise(&client, rows, cube_dim),
        cube_dim,
        address(&[a, b]),
        vector,
        a.clone().into_tensor_arg(),
        b.clone().into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        width / vector,
        rows,
        vector,
        dtype_to_storage_type(a.dtype),
    );
    sums
}
