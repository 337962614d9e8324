//! The kernels. A thread has a few neighbouring channels of one group.

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::Normalization;
use crate::address;

/// Pixels that a thread adds up.
const STRIP: usize = 32;
/// Threads that join the sums of a group.
const JOIN: usize = 64;

/// Mean and squared deviations of each channel in each strip of pixels.
#[cube(launch, address_type = "dynamic")]
fn moments<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    sums: &mut Tensor<Vector<f32, N>>,
    strips: usize,
    strip: usize,
    #[define(T)] _dtype: ElemType,
) {
    let channels = x.shape(2) / x.vector_size();
    let total = x.shape(0) * strips * channels;
    if ABSOLUTE_POS >= total {
        terminate!();
    }
    // The pixels of a sample are its strips, one after the other.
    let first = (ABSOLUTE_POS / channels) * strip * channels + ABSOLUTE_POS % channels;
    // Near the values, so that the difference of squares loses no digits.
    let pivot = Vector::<f32, N>::cast_from(x[first]);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut squares = Vector::<f32, N>::new(0.0f32);
    for i in 0..strip {
        let deviation = Vector::<f32, N>::cast_from(x[first + i * channels]) - pivot;
        sum += deviation;
        squares += deviation * deviation;
    }
    let mean = sum / Vector::new(f32::cast_from(strip));
    sums[ABSOLUTE_POS] = pivot + mean;
    sums[total + ABSOLUTE_POS] = squares - sum * mean;
}

/// Sum over the threads of a cube.
#[cube]
fn sum_of_cube(value: f32, shared: &mut Shared<[f32]>, #[comptime] threads: usize) -> f32 {
    shared[UNIT_POS as usize] = value;
    sync_cube();
    // Few threads: each adds all values, which needs no further waiting.
    let mut sum = 0.0f32;
    for i in 0..threads {
        sum += shared[i];
    }
    sync_cube();
    sum
}

/// Mean and 1/√(variance + ε) of each group, from the moments of its channels and strips.
#[cube(launch, address_type = "dynamic")]
fn join(
    sums: &Tensor<f32>,
    statistics: &mut Tensor<f32>,
    groups: usize,
    strip: usize,
    epsilon: f32,
    #[comptime] threads: usize,
) {
    let strips = sums.shape(2);
    let channels = sums.shape(3);
    let width = channels / groups;
    let batch = CUBE_POS / groups;
    let group = CUBE_POS % groups;
    let count = strips * width;
    let total = sums.shape(1) * strips * channels;
    let first = batch * strips * channels + group * width;
    let mut shared = Shared::<[f32]>::new_slice(threads);

    let mut sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < count {
        sum += sums[first + (i / width) * channels + i % width];
        i += threads;
    }
    let mean = sum_of_cube(sum, &mut shared, threads) / f32::cast_from(count);

    let mut squares = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < count {
        let at = first + (i / width) * channels + i % width;
        let deviation = sums[at] - mean;
        squares += sums[total + at] + f32::cast_from(strip) * deviation * deviation;
        i += threads;
    }
    let variance = sum_of_cube(squares, &mut shared, threads) / f32::cast_from(count * strip);
    if UNIT_POS == 0 {
        statistics[CUBE_POS] = mean;
        statistics[sums.shape(1) * groups + CUBE_POS] = 1.0f32 / f32::sqrt(variance + epsilon);
    }
}

/// `1/(1 + exp(-u))`
#[cube]
pub(super) fn sigmoid<N: Size>(u: Vector<f32, N>) -> Vector<f32, N> {
    Vector::new(1.0f32) / (Vector::new(1.0f32) + (-u).exp())
}

/// Normalizes, scales, shifts, and applies the activation.
#[cube(launch, address_type = "dynamic")]
fn normalize<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    statistics: &Tensor<f32>,
    weight: &Tensor<Vector<T, N>>,
    bias: &Tensor<Vector<T, N>>,
    y: &mut Tensor<Vector<T, N>>,
    #[comptime] silu: bool,
    #[define(T)] _dtype: ElemType,
) {
    let channels = x.shape(2) / x.vector_size();
    let groups = statistics.shape(2);
    if ABSOLUTE_POS >= x.shape(0) * x.shape(1) * channels {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let batch = ABSOLUTE_POS / channels / x.shape(1);
    let group = batch * groups + channel * groups / channels;
    let mean = statistics[group];
    let inverse = statistics[x.shape(0) * groups + group];
    let hat = (Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]) - Vector::new(mean)) * Vector::new(inverse);
    let mut u = hat * Vector::cast_from(weight[channel]) + Vector::cast_from(bias[channel]);
    if comptime!(silu) {
        u *= sigmoid::<N>(u);
    }
    y[ABSOLUTE_POS] = Vector::cast_from(u);
}

/// The gradient before the activation, from the one after it.
#[cube]
fn before<N: Size>(gradient: Vector<f32, N>, u: Vector<f32, N>, #[comptime] silu: bool) -> Vector<f32, N> {
    let mut z = gradient;
    if comptime!(silu) {
        let s = sigmoid::<N>(u);
        z *= s * (Vector::new(1.0f32) + u * (Vector::new(1.0f32) - s));
    }
    z
}

/// Sums over each strip of pixels of the gradient of the affine map, and of that times the normalized value.
#[cube(launch, address_type = "dynamic")]
fn gradient_sums<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    gradient: &Tensor<Vector<T, N>>,
    statistics: &Tensor<f32>,
    weight: &Tensor<Vector<T, N>>,
    bias: &Tensor<Vector<T, N>>,
    sums: &mut Tensor<Vector<f32, N>>,
    strips: usize,
    strip: usize,
    #[comptime] silu: bool,
    #[define(T)] _dtype: ElemType,
) {
    let channels = x.shape(2) / x.vector_size();
    let groups = statistics.shape(2);
    let total = x.shape(0) * strips * channels;
    if ABSOLUTE_POS >= total {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let batch = ABSOLUTE_POS / channels / strips;
    let group = batch * groups + channel * groups / channels;
    let mean = Vector::<f32, N>::new(statistics[group]);
    let inverse = Vector::<f32, N>::new(statistics[x.shape(0) * groups + group]);
    let weight = Vector::<f32, N>::cast_from(weight[channel]);
    let bias = Vector::<f32, N>::cast_from(bias[channel]);
    let first = (ABSOLUTE_POS / channels) * strip * channels + channel;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut product = Vector::<f32, N>::new(0.0f32);
    for i in 0..strip {
        let at = first + i * channels;
        let hat = (Vector::<f32, N>::cast_from(x[at]) - mean) * inverse;
        let z = before::<N>(Vector::cast_from(gradient[at]), hat * weight + bias, silu);
        sum += z;
        product += z * hat;
    }
    sums[ABSOLUTE_POS] = sum;
    sums[total + ABSOLUTE_POS] = product;
}

/// The sums of each group, weighted by channel, as means over its values.
#[cube(launch, address_type = "dynamic")]
fn group_sums<T: Float>(
    sums: &Tensor<f32>,
    weight: &Tensor<T>,
    joined: &mut Tensor<f32>,
    pixels: usize,
    #[define(T)] _dtype: ElemType,
) {
    let groups = joined.shape(2);
    let channels = sums.shape(3);
    let width = channels / groups;
    if ABSOLUTE_POS >= 2 * sums.shape(1) * groups {
        terminate!();
    }
    // Both planes, each sample: [2, batch] as one.
    let first = ABSOLUTE_POS / groups * channels;
    let group = ABSOLUTE_POS % groups;
    let mut sum = 0.0f32;
    for c in group * width..(group + 1) * width {
        sum += f32::cast_from(weight[c]) * sums[first + c];
    }
    joined[ABSOLUTE_POS] = sum / f32::cast_from(pixels * width);
}

/// The gradient of the input.
#[cube(launch, address_type = "dynamic")]
fn input_gradient<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    gradient: &Tensor<Vector<T, N>>,
    statistics: &Tensor<f32>,
    joined: &Tensor<f32>,
    weight: &Tensor<Vector<T, N>>,
    bias: &Tensor<Vector<T, N>>,
    output: &mut Tensor<Vector<T, N>>,
    #[comptime] silu: bool,
    #[define(T)] _dtype: ElemType,
) {
    let channels = x.shape(2) / x.vector_size();
    let groups = statistics.shape(2);
    if ABSOLUTE_POS >= x.shape(0) * x.shape(1) * channels {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let batch = ABSOLUTE_POS / channels / x.shape(1);
    let group = batch * groups + channel * groups / channels;
    let second = x.shape(0) * groups + group;
    let inverse = Vector::<f32, N>::new(statistics[second]);
    let hat = (Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]) - Vector::new(statistics[group])) * inverse;
    let weight = Vector::<f32, N>::cast_from(weight[channel]);
    let u = hat * weight + Vector::cast_from(bias[channel]);
    let z = before::<N>(Vector::cast_from(gradient[ABSOLUTE_POS]), u, silu) * weight;
    let centered = z - Vector::new(joined[group]) - hat * Vector::new(joined[second]);
    output[ABSOLUTE_POS] = Vector::cast_from(centered * inverse);
}

/// How a normalization is shared among threads.
pub(super) struct Shares {
    pub vector: usize,
    strips: usize,
    strip: usize,
}

impl Shares {
    pub fn of(x: &CubeTensor, groups: usize) -> Self {
        let [_, pixels, channels] = x.meta.shape().dims();
        let width = channels / groups;
        let largest: usize = 16 / x.dtype.size();
        let vector = (1..=largest.min(4)).rev().find(|n| n.is_power_of_two() && width.is_multiple_of(*n));
        let strips = (1..=pixels / STRIP).rev().find(|n| pixels.is_multiple_of(*n)).unwrap_or(1);
        Self { vector: vector.unwrap_or(1), strips, strip: pixels / strips }
    }
}

pub(super) fn empty(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

pub(super) fn element(x: &CubeTensor) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(x.dtype)
}

fn cubes(x: &CubeTensor, threads: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&x.client, threads);
    (calculate_cube_count_elemwise(&x.client, threads, dim), dim)
}

/// `[2, batch, groups]`: means and inverse deviations. `x` is contiguous.
pub(super) fn statistics(x: &CubeTensor, normalization: Normalization) -> CubeTensor {
    let [batch, _, channels] = x.meta.shape().dims();
    let Normalization { groups, epsilon, .. } = normalization;
    let Shares { vector, strips, strip } = Shares::of(x, groups);
    let sums = empty(x, Shape::new([2, batch, strips, channels]), DType::F32);
    let (count, dim) = cubes(x, batch * strips * channels / vector);
    moments::launch(
        &x.client,
        count,
        dim,
        address(&[x, &sums]),
        vector,
        x.clone().into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        strips,
        strip,
        element(x),
    );
    let statistics = empty(x, Shape::new([2, batch, groups]), DType::F32);
    join::launch(
        &x.client,
        CubeCount::new_1d((batch * groups) as u32),
        CubeDim::new_1d(JOIN as u32),
        address(&[&sums]),
        sums.into_tensor_arg(),
        statistics.clone().into_tensor_arg(),
        groups,
        strip,
        epsilon as f32,
        JOIN,
    );
    statistics
}

/// The output.
pub(super) fn output(
    x: &CubeTensor,
    statistics: &CubeTensor,
    weight: CubeTensor,
    bias: CubeTensor,
    normalization: Normalization,
) -> CubeTensor {
    let y = empty(x, x.meta.shape().clone(), x.dtype);
    let vector = Shares::of(x, normalization.groups).vector;
    let (count, dim) = cubes(x, x.meta.shape().num_elements() / vector);
    normalize::launch(
        &x.client,
        count,
        dim,
        address(&[x, &y]),
        vector,
        x.clone().into_tensor_arg(),
        statistics.clone().into_tensor_arg(),
        weight.into_tensor_arg(),
        bias.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        normalization.silu,
        element(x),
    );
    y
}

/// `[2, batch, strips, channels]`: what [`gradient_sums`] says.
pub(super) fn sums_of_gradient(
    x: &CubeTensor,
    gradient: &CubeTensor,
    statistics: &CubeTensor,
    [weight, bias]: [&CubeTensor; 2],
    normalization: Normalization,
) -> CubeTensor {
    let [batch, _, channels] = x.meta.shape().dims();
    let Shares { vector, strips, strip } = Shares::of(x, normalization.groups);
    let sums = empty(x, Shape::new([2, batch, strips, channels]), DType::F32);
    let (count, dim) = cubes(x, batch * strips * channels / vector);
    gradient_sums::launch(
        &x.client,
        count,
        dim,
        address(&[x, &sums]),
        vector,
        x.clone().into_tensor_arg(),
        gradient.clone().into_tensor_arg(),
        statistics.clone().into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        bias.clone().into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        strips,
        strip,
        normalization.silu,
        element(x),
    );
    sums
}

/// The gradient of the input, from `sums` over all pixels: `[2, batch, 1, channels]`.
pub(super) fn gradient_of_input(
    x: &CubeTensor,
    gradient: &CubeTensor,
    statistics: &CubeTensor,
    sums: CubeTensor,
    [weight, bias]: [&CubeTensor; 2],
    normalization: Normalization,
) -> CubeTensor {
    let [batch, pixels, _] = x.meta.shape().dims();
    let Normalization { groups, silu, .. } = normalization;
    let joined = empty(x, Shape::new([2, batch, groups]), DType::F32);
    let (count, dim) = cubes(x, 2 * batch * groups);
    group_sums::launch(
        &x.client,
        count,
        dim,
        address(&[&sums]),
        sums.into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        joined.clone().into_tensor_arg(),
        pixels,
        element(x),
    );
    let output = empty(x, x.meta.shape().clone(), x.dtype);
    let vector = Shares::of(x, groups).vector;
    let (count, dim) = cubes(x, x.meta.shape().num_elements() / vector);
    input_gradient::launch(
        &x.client,
        count,
        dim,
        address(&[x, &output]),
        vector,
        x.clone().into_tensor_arg(),
        gradient.clone().into_tensor_arg(),
        statistics.clone().into_tensor_arg(),
        joined.into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        bias.clone().into_tensor_arg(),
        output.clone().into_tensor_arg(),
        silu,
        element(x),
    );
    output
}
