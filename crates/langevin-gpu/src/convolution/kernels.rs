//! The kernels.

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::tile::{Tile, dividing};
use crate::address;
use crate::workgroup::{Fragment, Role, View};

/// Pixels that a workgroup computes.
pub(super) const PIXELS: usize = 64;

/// Pixels that are summed over at a time for the gradient of the weight.
pub(super) const SUMMED: usize = 32;

/// Workgroups that fill a large GPU.
const ENOUGH: usize = 256;

/// An image with zeros around it.
#[cube(launch, address_type = "dynamic")]
fn enclose<T: Float, N: Size>(
    image: &Tensor<Vector<T, N>>,
    enclosed: &mut Tensor<Vector<T, N>>,
    #[define(T)] _dtype: ElemType,
) {
    let channels = image.shape(3) / image.vector_size();
    let (rows, columns) = (enclosed.shape(1), enclosed.shape(2));
    if ABSOLUTE_POS >= enclosed.shape(0) * rows * columns * channels {
        terminate!();
    }
    let column = ABSOLUTE_POS / channels % columns;
    let row = ABSOLUTE_POS / channels / columns % rows;
    let batch = ABSOLUTE_POS / channels / columns / rows;
    let mut pixel = Vector::<T, N>::new(T::from_int(0));
    if batch < image.shape(0) && row > 0 && row <= image.shape(1) && column > 0 && column <= image.shape(2) {
        let at = ((batch * image.shape(1) + row - 1) * image.shape(2) + column - 1) * channels;
        pixel = image[at + ABSOLUTE_POS % channels];
    }
    enclosed[ABSOLUTE_POS] = pixel;
}

/// Sizes that a kernel is told when it runs: images as far as tiles reach, height and width with the border, channels, and tiles down and across.
#[derive(CubeType, CubeLaunch, Clone)]
struct Sizes {
    images: u32,
    height: u32,
    width: u32,
    input: u32,
    output: u32,
    down: u32,
    across: u32,
}

/// Numbers of channels are multiples of 32, which the driver is told this way: it then reads 16 bytes at a time.
#[cube]
fn aligned(channels: u32) -> u32 {
    channels / 8 * 8
}

/// How the weights of a convolution lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Weights {
    /// `[9, input, output]`: read fastest.
    InputFirst,
    /// `[9, output, input]`: made fastest from `[output, input, 3, 3]`.
    OutputFirst,
    /// `[9, input, output]` from the last place to the first: what reached a pixel from the upper left goes back there.
    Turned,
}

/// The sums of a tile over some of the nine places.
#[cube]
fn convolved<T: Float>(
    image: &[T],
    weight: &[T],
    sizes: &Sizes,
    from: u32,
    to: u32,
    #[comptime] tile: Tile,
    #[comptime] weights: Weights,
) -> Fragment<f32> {
    let (pixels, channels, depth) = comptime!((tile.pixels(), tile.channels, tile.depth));
    let (input, output) = (aligned(sizes.input), aligned(sizes.output));
    let line = sizes.width * input;
    let shape = seq![sizes.images, sizes.height, sizes.width, input];
    // The border lies in the image and nothing is read outside: no bounds.
    let image = View::<T>::new(image, shape, seq![sizes.height * line, line, input, 1], false);
    let transposed = comptime!(weights == Weights::OutputFirst);
    let rows = if transposed { output } else { input };
    let columns = if transposed { input } else { output };
    let weight = View::<T>::new(weight, seq![9u32, rows, columns], seq![input * output, columns, 1], false);
    let (first, row, column) = place(sizes, tile);
    let channel = CUBE_POS_X * channels as u32;
    let window = seq![tile.images as u32, tile.rows as u32, tile.columns as u32, depth as u32];
    let mut sum = Fragment::<f32>::filled(Role::Accumulator, pixels, channels, depth, 0.0f32);
    for tap in from..to {
        for at in range_stepped(0, input, depth as u32) {
            let part = image.part(seq![first, row + tap / 3, column + tap % 3, at], window.clone());
            let left = Fragment::<T>::read(Role::A, pixels, channels, depth, &part);
            let of = if comptime!(weights == Weights::Turned) { 8 - tap } else { tap };
            if transposed {
                let part = weight.part(seq![of, channel, at], seq![1u32, channels as u32, depth as u32]);
                let right = Fragment::<T>::read(Role::B, pixels, channels, depth, &part.transposed());
                sum.add_product(&left, &right);
            } else {
                let part = weight.part(seq![of, at, channel], seq![1u32, depth as u32, channels as u32]);
                let right = Fragment::<T>::read(Role::B, pixels, channels, depth, &part);
                sum.add_product(&left, &right);
            }
        }
    }
    sum
}

/// The first image, row and column of a tile.
#[cube]
fn place(sizes: &Sizes, #[comptime] tile: Tile) -> (u32, u32, u32) {
    let column = CUBE_POS_Y % sizes.across * tile.columns as u32;
    let row = CUBE_POS_Y / sizes.across % sizes.down * tile.rows as u32;
    (CUBE_POS_Y / sizes.across / sizes.down * tile.images as u32, row, column)
}

#[cube(launch)]
fn convolve_whole<T: Float>(
    image: &[T],
    weight: &[T],
    y: &mut [T],
    sizes: &Sizes,
    batch: u32,
    height: u32,
    width: u32,
    #[comptime] tile: Tile,
    #[comptime] exact: bool,
    #[comptime] weights: Weights,
    #[define(T)] _dtype: ElemType,
) {
    let (pixels, channels, depth) = comptime!((tile.pixels(), tile.channels, tile.depth));
    let sum = convolved::<T>(image, weight, sizes, 0, 9, tile, weights);
    let output = aligned(sizes.output);
    let strides = seq![height * width * output, width * output, output, 1];
    let y = View::<T>::new(&*y, seq![batch, height, width, output], strides, comptime!(!exact));
    let (first, row, column) = place(sizes, tile);
    let window = seq![tile.images as u32, tile.rows as u32, tile.columns as u32, channels as u32];
    let narrow = sum.convert::<T>(Role::Accumulator, pixels, channels, depth);
    narrow.write(&y.part(seq![first, row, column, CUBE_POS_X * channels as u32], window));
}

/// A part of the nine places for each `CUBE_POS_Z`.
#[cube(launch)]
fn convolve_parts<T: Float>(
    image: &[T],
    weight: &[T],
    y: &mut [f32],
    sizes: &Sizes,
    batch: u32,
    height: u32,
    width: u32,
    #[comptime] tile: Tile,
    #[comptime] taps: u32,
    #[comptime] exact: bool,
    #[comptime] weights: Weights,
    #[define(T)] _dtype: ElemType,
) {
    let sum = convolved::<T>(image, weight, sizes, CUBE_POS_Z * taps, (CUBE_POS_Z + 1) * taps, tile, weights);
    let output = aligned(sizes.output);
    let strides = seq![batch * height * width * output, height * width * output, width * output, output, 1];
    let shape = seq![9u32 / taps, batch, height, width, output];
    let y = View::<f32>::new(&*y, shape, strides, comptime!(!exact));
    let (first, row, column) = place(sizes, tile);
    let window = seq![1u32, tile.images as u32, tile.rows as u32, tile.columns as u32, tile.channels as u32];
    sum.write(&y.part(seq![CUBE_POS_Z, first, row, column, CUBE_POS_X * tile.channels as u32], window));
}

/// The gradient of the weight at one of the nine places, from every `CUBE_COUNT_Z`-th tile of pixels.
#[cube(launch)]
fn weight_gradient<T: Float>(
    image: &[T],
    gradient: &[T],
    y: &mut [f32],
    sizes: &Sizes,
    batch: u32,
    height: u32,
    width: u32,
    tiles: u32,
    #[comptime] tile: Tile,
    #[comptime] exact: bool,
    #[define(T)] _dtype: ElemType,
) {
    // The pixels of the tile are what is summed over.
    let (outputs, inputs, depth) = comptime!((tile.channels, tile.depth, tile.pixels()));
    let (input, output) = (aligned(sizes.input), aligned(sizes.output));
    let line = sizes.width * input;
    let shape = seq![sizes.images, sizes.height, sizes.width, input];
    let image = View::<T>::new(image, shape, seq![sizes.height * line, line, input, 1], false);
    let strides = seq![height * width * output, width * output, output, 1];
    let gradient = View::<T>::new(gradient, seq![batch, height, width, output], strides, comptime!(!exact));
    let blocks = output / outputs as u32;
    let tap = CUBE_POS_Y / blocks;
    let to = CUBE_POS_Y % blocks * outputs as u32;
    let from = CUBE_POS_X * inputs as u32;
    let of_image = seq![tile.images as u32, tile.rows as u32, tile.columns as u32, inputs as u32];
    let of_gradient = seq![tile.images as u32, tile.rows as u32, tile.columns as u32, outputs as u32];
    let mut sum = Fragment::<f32>::filled(Role::Accumulator, outputs, inputs, depth, 0.0f32);
    for at in range_stepped(CUBE_POS_Z, tiles, CUBE_COUNT_Z) {
        let column = at % sizes.across * tile.columns as u32;
        let row = at / sizes.across % sizes.down * tile.rows as u32;
        let first = at / sizes.across / sizes.down * tile.images as u32;
        let part = gradient.part(seq![first, row, column, to], of_gradient.clone());
        let left = Fragment::<T>::read(Role::A, outputs, inputs, depth, &part.last_first());
        let part = image.part(seq![first, row + tap / 3, column + tap % 3, from], of_image.clone());
        let right = Fragment::<T>::read(Role::B, outputs, inputs, depth, &part);
        sum.add_product(&left, &right);
    }
    let strides = seq![9 * input * output, input, 1];
    let y = View::<f32>::new(&*y, seq![CUBE_COUNT_Z, 9 * output, input], strides, false);
    sum.write(&y.part(seq![CUBE_POS_Z, tap * output + to, from], seq![1u32, outputs as u32, inputs as u32]));
}

/// An image `[batch, height, width, channels]` with zeros around it, as far as tiles reach.
fn enclosed(image: &CubeTensor, tile: Tile) -> CubeTensor {
    let [batch, height, width, channels] = image.meta.shape().dims();
    let [batch, height, width] = tile.padded([batch, height, width]);
    let shape = Shape::new([batch, height + 2, width + 2, channels]);
    let enclosed = empty_device_contiguous_dtype(image.client.clone(), image.device.clone(), shape, image.dtype);
    let threads = enclosed.meta.shape().num_elements() / 4;
    let cube_dim = CubeDim::new(&image.client, threads);
    enclose::launch(
        &image.client,
        calculate_cube_count_elemwise(&image.client, threads, cube_dim),
        cube_dim,
        address(&[image, &enclosed]),
        4,
        image.clone().into_tensor_arg(),
        enclosed.clone().into_tensor_arg(),
        burn::backend::cubecl::dtype_to_storage_type(image.dtype),
    );
    enclosed
}

fn sizes(enclosed: &CubeTensor, output: usize, counts: [usize; 3]) -> SizesLaunch {
    let [images, height, width, input] = enclosed.meta.shape().dims();
    let [images, height, width, input, output] = [images, height, width, input, output].map(|size| size as u32);
    SizesLaunch::new(images, height, width, input, output, counts[1] as u32, counts[2] as u32)
}

/// From an image `[batch, height, width, input]` and weights the image `[batch, height, width, output]`, or parts of it
/// `[parts, batch, height, width, output]` in `f32` whose sum it is.
pub(super) fn image_of(image: &CubeTensor, weight: CubeTensor, weights: Weights) -> CubeTensor {
    let [batch, height, width, input] = image.meta.shape().dims();
    let output = weight.meta.shape()[if weights == Weights::OutputFirst { 1 } else { 2 }];
    let places = [batch, height, width];
    let depth = dividing(input, &[32]);
    let tile = Tile::covering(PIXELS, places, dividing(output, &[128, 64, 32]), depth);
    let count = |tile: Tile| tile.counts(places).iter().product::<usize>() * (output / tile.channels);
    // Small images leave a large GPU idle: first narrower tiles, then the nine places one by three.
    let tile = if count(tile) < ENOUGH {
        Tile::covering(PIXELS, places, dividing(output, &[64, 32]), dividing(input, &[64, 32]))
    } else {
        tile
    };
    let parts = if count(tile) < ENOUGH { 3 } else { 1 };
    let exact = tile.padded(places) == places;
    let counts = tile.counts(places);
    let enclosed = enclosed(image, tile);
    let sizes = sizes(&enclosed, output, counts);
    let (client, dtype) = (image.client.clone(), image.dtype);
    let cubes =
        CubeCount::Static((output / tile.channels) as u32, counts.iter().product::<usize>() as u32, parts as u32);
    let new = |shape: Shape, dtype: DType| {
        empty_device_contiguous_dtype(image.client.clone(), image.device.clone(), shape, dtype)
    };
    let [batch, height, width] = places.map(|size| size as u32);
    let storage = burn::backend::cubecl::dtype_to_storage_type(dtype);
    if parts == 1 {
        let y = new(Shape::new([places[0], places[1], places[2], output]), dtype);
        let (image, weight, out) = (enclosed.into_buffer_arg(), weight.into_buffer_arg(), y.clone().into_buffer_arg());
        convolve_whole::launch(
            &client,
            cubes,
            CubeDim::new_1d(128),
            image,
            weight,
            out,
            sizes,
            batch,
            height,
            width,
            tile,
            exact,
            weights,
            storage,
        );
        return y;
    }
    let y = new(Shape::new([parts, places[0], places[1], places[2], output]), DType::F32);
    let (image, weight, out) = (enclosed.into_buffer_arg(), weight.into_buffer_arg(), y.clone().into_buffer_arg());
    convolve_parts::launch(
        &client,
        cubes,
        CubeDim::new_1d(128),
        image,
        weight,
        out,
        sizes,
        batch,
        height,
        width,
        tile,
        9 / parts as u32,
        exact,
        weights,
        storage,
    );
    y
}

/// From an image `[batch, height, width, input]` and a gradient `[batch, height, width, output]` parts of the gradient of the
/// weight, `[parts, 9, output, input]` in `f32`.
pub(super) fn gradient_of_weight(image: &CubeTensor, gradient: CubeTensor) -> CubeTensor {
    let [batch, height, width, input] = image.meta.shape().dims();
    let [_, _, _, output] = gradient.meta.shape().dims();
    let places = [batch, height, width];
    let (inputs, outputs) = (dividing(input, &[128, 64, 32]), dividing(output, &[64, 32]));
    let tile = Tile::covering(SUMMED, places, outputs, inputs);
    let exact = tile.padded(places) == places;
    let counts = tile.counts(places);
    let tiles = counts.iter().product::<usize>();
    let blocks = 9 * (input / inputs) * (output / outputs);
    let parts = (2 * ENOUGH).div_ceil(blocks).min(tiles.div_ceil(4)).max(1);
    let enclosed = enclosed(image, tile);
    let sizes = sizes(&enclosed, output, counts);
    let (client, dtype) = (image.client.clone(), image.dtype);
    let shape = Shape::new([parts, 9, output, input]);
    let y = empty_device_contiguous_dtype(image.client.clone(), image.device.clone(), shape, DType::F32);
    let cubes = CubeCount::Static((input / inputs) as u32, (9 * output / outputs) as u32, parts as u32);
    let [batch, height, width, tiles] = [batch, height, width, tiles].map(|size| size as u32);
    let storage = burn::backend::cubecl::dtype_to_storage_type(dtype);
    let (image, gradient, out) = (enclosed.into_buffer_arg(), gradient.into_buffer_arg(), y.clone().into_buffer_arg());
    weight_gradient::launch(
        &client,
        cubes,
        CubeDim::new_1d(128),
        image,
        gradient,
        out,
        sizes,
        batch,
        height,
        width,
        tiles,
        tile,
        exact,
        storage,
    );
    y
}
