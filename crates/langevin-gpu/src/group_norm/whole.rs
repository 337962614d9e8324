//! The whole normalization in one kernel, for groups that one workgroup reads.

#![allow(clippy::manual_div_ceil, reason = "kernels compute with the operations that the device has")]

use burn::tensor::Shape;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::Normalization;
use super::kernels::{Shares, element, empty, sigmoid};
use crate::{ENOUGH, address};

/// Where the output lies: the pixels of each image as rows, or a sheet with zeros between the rows of the images.
#[derive(CubeType, CubeLaunch, Clone)]
struct Place {
    /// Pixels of a row of an image.
    width: usize,
    /// Rows of an image.
    height: usize,
    /// Pixels and zeros of the whole sheet.
    pixels: usize,
}

/// How the threads of a workgroup share a few groups of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Workers {
    /// Vectors of a pixel.
    lanes: usize,
    /// Vectors of a group.
    of_group: usize,
    /// Pixels at a time.
    rows: usize,
}

/// Sums of a number of each thread over the threads of its group.
#[cube]
fn sum_of_group(value: f32, shared: &mut Shared<[f32]>, #[comptime] workers: Workers) -> f32 {
    let (lanes, rows) = comptime!((workers.lanes, workers.rows));
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut left = rows.runtime();
    while left > 1 {
        let half = (left + 1) / 2;
        if unit / lanes + half < left {
            shared[unit] += shared[unit + half * lanes];
        }
        sync_cube();
        left = half;
    }
    let first = unit % lanes / workers.of_group * workers.of_group;
    let mut sum = 0.0f32;
    for i in 0..workers.of_group {
        sum += shared[first + i];
    }
    sync_cube();
    sum
}

/// All of the normalization in one kernel: a workgroup has a few groups of an image, which it reads three times, and writes once.
#[cube(launch, address_type = "dynamic")]
fn whole<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    weight: &Tensor<Vector<T, N>>,
    bias: &Tensor<Vector<T, N>>,
    y: &mut Tensor<Vector<T, N>>,
    place: &Place,
    epsilon: f32,
    #[comptime] workers: Workers,
    #[comptime] silu: bool,
    #[comptime] on_sheet: bool,
    #[define(T)] _dtype: ElemType,
) {
    let (lanes, rows) = comptime!((workers.lanes, workers.rows));
    let channels = x.shape(2) / x.vector_size();
    let pixels = x.shape(1);
    let image = CUBE_POS_Y as usize;
    let unit = UNIT_POS as usize;
    let channel = CUBE_POS_X as usize * lanes + unit % lanes;
    let first = unit / lanes;
    let of_image = image * pixels * channels + channel;
    let count = f32::cast_from(pixels * workers.of_group * x.vector_size());
    let mut shared = Shared::<[f32]>::new_slice(comptime!(workers.lanes * workers.rows));

    let mut sum = Vector::<f32, N>::new(0.0f32);
    for pixel in range_stepped(first, pixels, rows) {
        sum += Vector::cast_from(x[of_image + pixel * channels]);
    }
    let mean = sum_of_group(sum_of_vector::<N>(sum), &mut shared, workers) / count;
    let mut squares = Vector::<f32, N>::new(0.0f32);
    for pixel in range_stepped(first, pixels, rows) {
        let deviation = Vector::<f32, N>::cast_from(x[of_image + pixel * channels]) - Vector::new(mean);
        squares += deviation * deviation;
    }
    let variance = sum_of_group(sum_of_vector::<N>(squares), &mut shared, workers) / count;
    let inverse = Vector::<f32, N>::new(1.0f32 / f32::sqrt(variance + epsilon));
    let weight = Vector::<f32, N>::cast_from(weight[channel]);
    let bias = Vector::<f32, N>::cast_from(bias[channel]);
    let line = place.width + 1;
    let whole_image = (place.height + 1) * line;
    for pixel in range_stepped(first, pixels, rows) {
        let at = of_image + pixel * channels;
        let hat = (Vector::<f32, N>::cast_from(x[at]) - Vector::new(mean)) * inverse;
        let mut u = hat * weight + bias;
        if comptime!(silu) {
            u *= sigmoid::<N>(u);
        }
        if comptime!(on_sheet) {
            let row = pixel / place.width;
            let on = image * whole_image + (row + 1) * line + pixel % place.width + 1;
            y[on * channels + channel] = Vector::cast_from(u);
        } else {
            y[at] = Vector::cast_from(u);
        }
    }
    if comptime!(on_sheet) {
        let nothing = Vector::<T, N>::new(T::from_int(0));
        // The row before the image, and what is before its rows.
        for i in range_stepped(first, line + place.height, rows) {
            let on = if i < line { i } else { (i - line + 1) * line };
            y[(image * whole_image + on) * channels + channel] = nothing;
        }
        if image + 1 == x.shape(0) {
            for on in range_stepped((image + 1) * whole_image + first, place.pixels, rows) {
                y[on * channels + channel] = nothing;
            }
        }
    }
}

/// Sum over a vector.
#[cube]
fn sum_of_vector<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..vector.vector_size() {
        sum += vector.extract(i);
    }
    sum
}

/// Threads of a workgroup that has groups of its own.
const WORKERS: usize = 256;

/// Values of a group up to which one workgroup has all of it: more are shared among many.
const LARGEST_GROUP: usize = 1 << 16;

/// How [`whole`] is done, if groups are small enough for it.
fn workers(x: &CubeTensor, groups: usize) -> Option<(usize, Workers)> {
    let [batch, pixels, channels] = x.meta.shape().dims();
    let vector = Shares::of(x, groups).vector;
    let of_group = channels / groups / vector;
    if channels / groups * pixels > LARGEST_GROUP || of_group > WORKERS {
        return None;
    }
    // Neighbouring groups together read whole lines of memory, if there are workgroups enough.
    let together =
        |n: &usize| groups.is_multiple_of(*n) && (*n == 1 || n * of_group <= 8 && batch * groups / n >= ENOUGH);
    let lanes = of_group * (1..=groups).rev().find(together)?;
    Some((vector, Workers { lanes, of_group, rows: WORKERS / lanes }))
}

/// The normalized image in one kernel, if groups are small enough: as rows, or as a sheet, by the height of its images and its pixels.
pub(crate) fn at_once(
    x: &CubeTensor,
    weight: CubeTensor,
    bias: CubeTensor,
    normalization: Normalization,
    sheet: Option<[usize; 2]>,
) -> Option<CubeTensor> {
    let [batch, pixels, channels] = x.meta.shape().dims();
    let (vector, workers) = workers(x, normalization.groups)?;
    let shape = match sheet {
        Some([_, pixels]) => Shape::new([pixels, channels]),
        None => x.meta.shape().clone(),
    };
    let y = empty(x, shape, x.dtype);
    let [height, on] = sheet.unwrap_or([1, pixels]);
    whole::launch(
        &x.client,
        CubeCount::Static((channels / vector / workers.lanes) as u32, batch as u32, 1),
        CubeDim::new_1d((workers.lanes * workers.rows) as u32),
        address(&[x, &y]),
        vector,
        x.clone().into_tensor_arg(),
        weight.into_tensor_arg(),
        bias.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        PlaceLaunch::new(pixels / height, height, on),
        normalization.epsilon as f32,
        workers,
        normalization.silu,
        sheet.is_some(),
        element(x),
    );
    Some(y)
}
