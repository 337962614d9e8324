//! The kernels.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::additions::{Added, Form};
use crate::product::workgroup::aligned;
use crate::sheet::{PIXELS, Sheet};
use crate::workgroup::{Fragment, Role, View};
use crate::{ENOUGH, THREADS, address, dividing};

/// Channels are filled up to multiples of this.
pub(super) const MULTIPLE: usize = 32;

/// Neighbouring channels that a thread moves, if it can.
const NEIGHBOURS: usize = 4;

/// What a workgroup computes: sums of some pixels and channels, from some input channels at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tile {
    pixels: usize,
    channels: usize,
    depth: usize,
}

impl Tile {
    /// Tiles of 64 by 64, 32 deep, were the fastest or within a tenth of it for images of 8 to 64 pixels a side with 128 to 512 channels:
    /// larger ones leave parts of the device idle at the end. A few tiles with much to sum are faster 64 deep.
    fn of(sheet: Sheet, input: usize, output: usize) -> Self {
        let tile = Self { pixels: PIXELS, channels: dividing(output, &[64, 32]), depth: 32 };
        let deep = tile.count(sheet, output) < ENOUGH && input.is_multiple_of(64);
        Self { depth: if deep { 64 } else { 32 }, ..tile }
    }

    fn count(self, sheet: Sheet, output: usize) -> usize {
        sheet.sums() / self.pixels * (output / self.channels)
    }
}

/// Images to a [`Sheet`], `step` pixels apart, with zeros behind their channels.
#[cube(launch, address_type = "dynamic")]
fn lay<T: Float, N: Size>(
    image: &Tensor<Vector<T, N>>,
    sheet: &mut Tensor<Vector<T, N>>,
    height: usize,
    width: usize,
    step: usize,
    #[define(T)] _dtype: ElemType,
) {
    let (from, to) = (image.shape(3) / image.vector_size(), sheet.shape(1) / image.vector_size());
    if ABSOLUTE_POS >= sheet.shape(0) * to {
        terminate!();
    }
    let channel = ABSOLUTE_POS % to;
    let pixel = ABSOLUTE_POS / to;
    let column = pixel % (width + 1);
    let row = pixel / (width + 1) % (height + 1);
    let batch = pixel / (width + 1) / (height + 1);
    let mut value = Vector::<T, N>::new(T::from_int(0));
    if batch < image.shape(0) && row > 0 && column > 0 && channel < from {
        let (row, column) = (row - 1, column - 1);
        if row % step == 0 && column % step == 0 {
            let at = (batch * image.shape(1) + row / step) * image.shape(2) + column / step;
            value = image[at * from + channel];
        }
    }
    sheet[ABSOLUTE_POS] = value;
}

/// Parts of sums to images, every `step`-th pixel, with what is added to them.
#[cube(launch, address_type = "dynamic")]
fn gather<S: Float, T: Float, N: Size>(
    sums: &Tensor<Vector<S, N>>,
    bias: &Tensor<Vector<T, N>>,
    added: &Tensor<Vector<T, N>>,
    image: &mut Tensor<Vector<T, N>>,
    height: usize,
    width: usize,
    step: usize,
    #[comptime] form: Form,
    #[define(S)] _sum: ElemType,
    #[define(T)] _dtype: ElemType,
) {
    let (channels, of_sums) = (image.shape(3) / image.vector_size(), sums.shape(2) / image.vector_size());
    if ABSOLUTE_POS >= image.shape(0) * image.shape(1) * image.shape(2) * channels {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let pixel = ABSOLUTE_POS / channels;
    let column = pixel % image.shape(2) * step;
    let row = pixel / image.shape(2) % image.shape(1) * step;
    let batch = pixel / image.shape(2) / image.shape(1);
    // The first sum is that of the first pixel.
    let from = ((batch * (height + 1) + row) * (width + 1) + column) * of_sums + channel;
    let mut value = Vector::<f32, N>::cast_from(sums[from]);
    let part = sums.shape(1) * of_sums;
    for i in 1..sums.shape(0) {
        value += Vector::<f32, N>::cast_from(sums[i * part + from]);
    }
    if comptime!(form.bias) {
        value += Vector::<f32, N>::cast_from(bias[channel]);
    }
    if comptime!(form.added) {
        value += Vector::<f32, N>::cast_from(added[ABSOLUTE_POS]);
    }
    if comptime!(form.shift) {
        value += Vector::<f32, N>::cast_from(added[batch * channels + channel]);
    }
    image[ABSOLUTE_POS] = Vector::cast_from(value);
}

/// Weights `[output, input, 3, 3]`, wherever they lie, by place, with zeros behind their channels: `[9, input, output]`, or for the way
/// back `[9, output, input]` from the last place to the first: what reached a pixel from the upper left goes back there.
#[cube(launch, address_type = "dynamic")]
fn order<T: Float>(weight: &Tensor<T>, y: &mut Tensor<T>, #[comptime] back: bool, #[define(T)] _dtype: ElemType) {
    let (lines, line) = (y.shape(1), y.shape(2));
    if ABSOLUTE_POS >= 9 * lines * line {
        terminate!();
    }
    let (first, second) = (ABSOLUTE_POS / line % lines, ABSOLUTE_POS % line);
    let (output, input) = if back { (first, second) } else { (second, first) };
    let nth = ABSOLUTE_POS / line / lines;
    let place = if back { 8 - nth } else { nth };
    let mut value = T::from_int(0);
    if output < weight.shape(0) && input < weight.shape(1) {
        let at = output * weight.stride(0) + input * weight.stride(1);
        value = weight[at + place / 3 * weight.stride(2) + place % 3 * weight.stride(3)];
    }
    y[ABSOLUTE_POS] = value;
}

/// Sums over the neighbours of pixels, in some of the three rows of neighbours for each `CUBE_POS_Z`.
#[cube(launch)]
fn convolve_rows<T: Float, S: Float>(
    sheet: &[T],
    weight: &[T],
    y: &mut [S],
    pixels: u32,
    line: u32,
    input: u32,
    output: u32,
    rows: u32,
    #[comptime] tile: Tile,
    #[define(T)] _dtype: ElemType,
    #[define(S)] _sum: ElemType,
) {
    let (m, n, k) = comptime!((tile.pixels, tile.channels, tile.depth));
    let (input, output) = (aligned(input), aligned(output));
    // Three neighbours in a row lie side by side and are one row of a matrix. All lie in the sheet: no bounds.
    let three = 3 * input;
    let sheet = View::<T>::new(sheet, seq![pixels + 2 * line + 2, three], seq![input, 1], false);
    let weight = View::<T>::new(weight, seq![3 * three, output], seq![output, 1], false);
    let first = CUBE_POS_Y * m as u32;
    let channel = CUBE_POS_X * n as u32;
    let mut sum = Fragment::<f32>::filled(Role::Accumulator, m, n, k, 0.0f32);
    for row in CUBE_POS_Z * rows..(CUBE_POS_Z + 1) * rows {
        for at in range_stepped(0, three, k as u32) {
            let part = sheet.part(seq![first + row * line, at], seq![m as u32, k as u32]);
            let left = Fragment::<T>::read(Role::A, m, n, k, &part);
            let part = weight.part(seq![row * three + at, channel], seq![k as u32, n as u32]);
            let right = Fragment::<T>::read(Role::B, m, n, k, &part);
            sum.add_product(&left, &right);
        }
    }
    let y = View::<S>::new(&*y, seq![CUBE_COUNT_Z * pixels, output], seq![output, 1], false);
    let narrow = sum.convert::<S>(Role::Accumulator, m, n, k);
    narrow.write(&y.part(seq![CUBE_POS_Z * pixels + first, channel], seq![m as u32, n as u32]));
}

fn new(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

/// Neighbouring channels that a thread moves, and the threads for it.
fn movers(tensor: &CubeTensor, channels: usize) -> (usize, CubeCount, CubeDim) {
    let neighbours = if channels.is_multiple_of(NEIGHBOURS) { NEIGHBOURS } else { 1 };
    let threads = tensor.meta.shape().num_elements() / neighbours;
    let cube_dim = CubeDim::new(&tensor.client, threads);
    (neighbours, calculate_cube_count_elemwise(&tensor.client, threads, cube_dim), cube_dim)
}

/// An image `[batch, height, width, channels]`, or every `step`-th pixel of one, as a sheet `[pixels, channels]`, channels in whole
/// multiples.
pub(super) fn laid(image: &CubeTensor, of: Sheet, step: usize) -> CubeTensor {
    let channels = image.meta.shape()[3];
    let sheet = new(image, Shape::new([of.pixels(), channels.next_multiple_of(MULTIPLE)]), image.dtype);
    let (neighbours, cubes, cube_dim) = movers(&sheet, channels);
    lay::launch(
        &image.client,
        cubes,
        cube_dim,
        address(&[image, &sheet]),
        neighbours,
        image.clone().into_tensor_arg(),
        sheet.clone().into_tensor_arg(),
        of.height,
        of.width,
        step,
        dtype_to_storage_type(image.dtype),
    );
    sheet
}

/// Weights `[output, input, 3, 3]` as `[9, input, output]`, or `[9, output, input]` for the way back, in whole multiples.
pub(super) fn ordered(weight: CubeTensor, back: bool) -> CubeTensor {
    let [output, input, ..] = weight.meta.shape().dims::<4>();
    let [lines, line] = if back { [output, input] } else { [input, output] };
    let shape = Shape::new([9, lines.next_multiple_of(MULTIPLE), line.next_multiple_of(MULTIPLE)]);
    let (client, threads) = (weight.client.clone(), shape.num_elements());
    let y = new(&weight, shape, weight.dtype);
    let cube_dim = CubeDim::new(&client, threads);
    order::launch(
        &client,
        calculate_cube_count_elemwise(&client, threads, cube_dim),
        cube_dim,
        address(&[&weight, &y]),
        weight.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        back,
        dtype_to_storage_type(y.dtype),
    );
    y
}

/// From a sheet `[pixels, input]` and weights `[9, input, output]` the image of some of these channels, every `step`-th pixel.
pub(super) fn image_of(
    sheet: CubeTensor,
    of: Sheet,
    weight: CubeTensor,
    channels: usize,
    step: usize,
    more: Added,
) -> CubeTensor {
    let [_, input, output] = weight.meta.shape().dims();
    let tile = Tile::of(of, input, output);
    // Too few to fill a large GPU: each row of neighbours alone.
    let parts = if tile.count(of, output) < ENOUGH { 3 } else { 1 };
    let (client, dtype) = (sheet.client.clone(), sheet.dtype);
    let kind = if parts == 1 { dtype } else { DType::F32 };
    let sums = new(&sheet, Shape::new([parts, of.sums(), output]), kind);
    let shape = Shape::new([of.batch, of.height.div_ceil(step), of.width.div_ceil(step), channels]);
    let image = new(&sheet, shape, dtype);
    convolve_rows::launch(
        &client,
        CubeCount::Static((output / tile.channels) as u32, (of.sums() / tile.pixels) as u32, parts as u32),
        CubeDim::new_1d(THREADS),
        sheet.into_buffer_arg(),
        weight.into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        of.sums() as u32,
        of.line() as u32,
        input as u32,
        output as u32,
        3 / parts as u32,
        tile,
        dtype_to_storage_type(dtype),
        dtype_to_storage_type(kind),
    );
    let (neighbours, cubes, cube_dim) = movers(&image, channels);
    gather::launch(
        &client,
        cubes,
        cube_dim,
        address(&[&sums, &image, &more.added]),
        neighbours,
        sums.into_tensor_arg(),
        more.bias.into_tensor_arg(),
        more.added.into_tensor_arg(),
        image.clone().into_tensor_arg(),
        of.height,
        of.width,
        step,
        more.form,
        dtype_to_storage_type(kind),
        dtype_to_storage_type(dtype),
    );
    image
}
