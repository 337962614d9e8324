//! The kernels: a row has some neighbouring threads.

#![allow(clippy::manual_div_ceil, reason = "kernels compute with the operations that the device has")]

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::{Affine, RowNormalization};
use crate::address;

/// Threads of a workgroup.
const THREADS: usize = 64;

/// The sum of a number of each of the `lanes` threads of a row.
#[cube]
fn total(value: f32, shared: &mut Shared<[f32]>, #[comptime] lanes: usize) -> f32 {
    let unit = UNIT_POS as usize;
    let lane = unit % lanes;
    shared[unit] = value;
    sync_cube();
    #[unroll]
    for halving in 0..comptime!(lanes.ilog2() as usize) {
        let half = comptime!(lanes >> (halving + 1));
        if lane < half {
            shared[unit] += shared[unit + half];
        }
        sync_cube();
    }
    let sum = shared[unit - lane];
    sync_cube();
    sum
}

#[cube]
fn of_vector<N: Size>(vector: Vector<f32, N>, #[comptime] size: usize) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..size {
        sum += vector.extract(i);
    }
    sum
}

/// What a row is scaled by, and what is taken away before.
#[derive(CubeType, Clone, Copy)]
struct Moments {
    mean: f32,
    inverse: f32,
}

#[cube]
fn moments<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    from: usize,
    epsilon: f32,
    shared: &mut Shared<[f32]>,
    #[comptime] lanes: usize,
    #[comptime] centered: bool,
    #[comptime] vector: usize,
) -> Moments {
    let vectors = x.shape(1) / vector;
    let lane = UNIT_POS as usize % lanes;
    let count = f32::cast_from(x.shape(1));
    let mut mean = 0.0f32;
    if comptime!(centered) {
        let mut sum = Vector::<f32, N>::new(0.0f32);
        for v in range_stepped(lane, vectors, lanes) {
            sum += Vector::cast_from(x[from + v]);
        }
        mean = total(of_vector::<N>(sum, vector), shared, lanes) / count;
    }
    let mut squares = Vector::<f32, N>::new(0.0f32);
    for v in range_stepped(lane, vectors, lanes) {
        let deviation = Vector::<f32, N>::cast_from(x[from + v]) - Vector::new(mean);
        squares += deviation * deviation;
    }
    let variance = total(of_vector::<N>(squares, vector), shared, lanes) / count;
    Moments { mean, inverse: 1.0f32 / f32::sqrt(variance + epsilon) }
}

#[cube(launch, address_type = "dynamic")]
fn normalize<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    weight: &Tensor<Vector<T, N>>,
    bias: &Tensor<Vector<T, N>>,
    y: &mut Tensor<Vector<T, N>>,
    epsilon: f32,
    #[comptime] lanes: usize,
    #[comptime] centered: bool,
    #[comptime] affine: Affine,
    #[comptime] vector: usize,
    #[define(T)] _dtype: ElemType,
) {
    let (rows, vectors) = (x.shape(0), x.shape(1) / vector);
    let lane = UNIT_POS as usize % lanes;
    let nth = ABSOLUTE_POS / lanes;
    // Threads behind the last row wait with the others.
    let from = min(nth, rows - 1) * vectors;
    let mut shared = Shared::<[f32]>::new_slice(THREADS);
    let of_row = moments::<T, N>(x, from, epsilon, &mut shared, lanes, centered, vector);
    if nth < rows {
        for v in range_stepped(lane, vectors, lanes) {
            let deviation = Vector::<f32, N>::cast_from(x[from + v]) - Vector::new(of_row.mean);
            let mut value = deviation * Vector::new(of_row.inverse);
            if comptime!(affine.weight) {
                value *= Vector::cast_from(weight[v]);
            }
            if comptime!(affine.bias) {
                value += Vector::cast_from(bias[v]);
            }
            y[from + v] = Vector::cast_from(value);
        }
    }
}

/// The gradient of the rows, and what the gradient of the weight is the sum over all rows of.
#[cube(launch, address_type = "dynamic")]
fn go_back<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    weight: &Tensor<Vector<T, N>>,
    gradient: &Tensor<Vector<T, N>>,
    of_x: &mut Tensor<Vector<T, N>>,
    of_weight: &mut Tensor<Vector<f32, N>>,
    epsilon: f32,
    #[comptime] lanes: usize,
    #[comptime] centered: bool,
    #[comptime] affine: Affine,
    #[comptime] asked: bool,
    #[comptime] vector: usize,
    #[define(T)] _dtype: ElemType,
) {
    let (rows, vectors) = (x.shape(0), x.shape(1) / vector);
    let lane = UNIT_POS as usize % lanes;
    let nth = ABSOLUTE_POS / lanes;
    let from = min(nth, rows - 1) * vectors;
    let count = f32::cast_from(x.shape(1));
    let mut shared = Shared::<[f32]>::new_slice(THREADS);
    let of_row = moments::<T, N>(x, from, epsilon, &mut shared, lanes, centered, vector);
    let (mean, inverse) = (Vector::<f32, N>::new(of_row.mean), Vector::<f32, N>::new(of_row.inverse));
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut along = Vector::<f32, N>::new(0.0f32);
    for v in range_stepped(lane, vectors, lanes) {
        let mut g = Vector::<f32, N>::cast_from(gradient[from + v]);
        if comptime!(affine.weight) {
            g *= Vector::cast_from(weight[v]);
        }
        sum += g;
        along += g * (Vector::<f32, N>::cast_from(x[from + v]) - mean) * inverse;
    }
    let mut level = 0.0f32;
    if comptime!(centered) {
        level = total(of_vector::<N>(sum, vector), &mut shared, lanes) / count;
    }
    let along = Vector::<f32, N>::new(total(of_vector::<N>(along, vector), &mut shared, lanes) / count);
    if nth < rows {
        for v in range_stepped(lane, vectors, lanes) {
            let plain = Vector::<f32, N>::cast_from(gradient[from + v]);
            let hat = (Vector::<f32, N>::cast_from(x[from + v]) - mean) * inverse;
            let mut g = plain;
            if comptime!(affine.weight) {
                g *= Vector::cast_from(weight[v]);
            }
            if comptime!(asked) {
                of_weight[from + v] = plain * hat;
            }
            of_x[from + v] = Vector::cast_from((g - Vector::new(level) - hat * along) * inverse);
        }
    }
}

/// Threads of a row of some vectors: a power of two.
fn lanes(vectors: usize) -> usize {
    vectors.next_power_of_two().min(THREADS)
}

fn vector(width: usize) -> usize {
    crate::memory::vector_of(width)
}

fn empty(like: &CubeTensor, dtype: DType) -> CubeTensor {
    let shape = Shape::new(like.meta.shape().dims::<2>());
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

fn cubes(x: &CubeTensor, lanes: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(THREADS as u32);
    (calculate_cube_count_elemwise(&x.client, x.meta.shape()[0] * lanes, dim), dim)
}

/// The rows, normalized. All tensors that are read are contiguous.
pub(super) fn normalized(
    x: CubeTensor,
    [weight, bias]: [CubeTensor; 2],
    normalization: RowNormalization,
    affine: Affine,
) -> CubeTensor {
    let width = x.meta.shape()[1];
    let vector = vector(width);
    let lanes = lanes(width / vector);
    let (y, (count, dim)) = (empty(&x, x.dtype), cubes(&x, lanes));
    let (client, dtype) = (x.client.clone(), x.dtype);
    normalize::launch(
        &client,
        count,
        dim,
        address(&[&x, &y]),
        vector,
        x.into_tensor_arg(),
        weight.into_tensor_arg(),
        bias.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        normalization.epsilon as f32,
        lanes,
        normalization.centered,
        affine,
        vector,
        dtype_to_storage_type(dtype),
    );
    y
}

/// The gradient of the rows, and `[rows, width]` in `f32` of which that of the weight is the sum, if that is asked for. All tensors that are
/// read are contiguous.
pub(super) fn gradients(
    x: CubeTensor,
    weight: CubeTensor,
    gradient: CubeTensor,
    normalization: RowNormalization,
    affine: Affine,
    asked: bool,
) -> (CubeTensor, CubeTensor) {
    let width = x.meta.shape()[1];
    let vector = vector(width);
    let lanes = lanes(width / vector);
    let (of_x, (count, dim)) = (empty(&x, x.dtype), cubes(&x, lanes));
    let of_weight = if asked {
        empty(&x, DType::F32)
    } else {
        // Not written.
        let shape = Shape::new([1, width]);
        empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, DType::F32)
    };
    let (client, dtype) = (x.client.clone(), x.dtype);
    go_back::launch(
        &client,
        count,
        dim,
        address(&[&x, &of_x, &of_weight]),
        vector,
        x.into_tensor_arg(),
        weight.into_tensor_arg(),
        gradient.into_tensor_arg(),
        of_x.clone().into_tensor_arg(),
        of_weight.clone().into_tensor_arg(),
        normalization.epsilon as f32,
        lanes,
        normalization.centered,
        affine,
        asked,
        vector,
        dtype_to_storage_type(dtype),
    );
    (of_x, of_weight)
}
