//! Products by matrices of a workgroup: of rows, and of what a gradient of a convolution's weight sums up.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::Turned;
use super::single::sides;
use crate::additions::{Added, Form};
use crate::workgroup::{Fragment, Role, View};
use crate::{ENOUGH, LARGEST_COUNT, THREADS, dividing};

/// Rows that a workgroup computes.
pub(crate) const ROWS: usize = 64;

/// Rows that are summed over at a time for the gradient of a weight.
const SUMMED: usize = 32;

/// What a workgroup computes: sums of some rows and columns, from some numbers at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tile {
    rows: usize,
    columns: usize,
    depth: usize,
}

/// Numbers of columns are multiples of 32, which the driver is told this way: it then reads 16 bytes at a time.
#[cube]
pub(crate) fn aligned(columns: u32) -> u32 {
    columns / 8 * 8
}

/// `left·right` of each of a batch, and what is added.
#[cube(launch)]
fn multiply<T: Float>(
    left: &[T],
    right: &[T],
    bias: &[T],
    added: &[T],
    y: &mut [T],
    rows: u32,
    input: u32,
    output: u32,
    #[comptime] tile: Tile,
    #[comptime] turned: Turned,
    #[comptime] exact: bool,
    #[comptime] form: Form,
    #[define(T)] _dtype: ElemType,
) {
    let (m, n, k) = comptime!((tile.rows, tile.columns, tile.depth));
    let (mm, nn, kk) = comptime!((m as u32, n as u32, k as u32));
    let (input, output) = (aligned(input), aligned(output));
    let batch = CUBE_POS_Z;
    let count = CUBE_COUNT_Z;
    let (first, column) = (CUBE_POS_Y * mm, CUBE_POS_X * nn);
    let bounded = comptime!(!exact);
    // The matrices of a batch are one below the other: views of two dimensions are read faster than those of three.
    let lines = if turned.left { input } else { rows };
    let line = if turned.left { aligned(rows) } else { input };
    let left = View::<T>::new(left, seq![count * lines, line], seq![line, 1], bounded);
    let above = batch * lines;
    let lines = if turned.right { output } else { input };
    let line = if turned.right { input } else { output };
    let right = View::<T>::new(right, seq![count * lines, line], seq![line, 1], false);
    let beside = batch * lines;
    let y = View::<T>::new(&*y, seq![count * rows, output], seq![output, 1], bounded);
    let window = seq![mm, nn];
    let mut sum = Fragment::<f32>::filled(Role::Accumulator, m, n, k, 0.0f32);
    for at in range_stepped(0, input, kk) {
        let a = if turned.left {
            left.part(seq![above + at, first], seq![kk, mm]).transposed()
        } else {
            left.part(seq![above + first, at], seq![mm, kk])
        };
        let b = if turned.right {
            right.part(seq![beside + column, at], seq![nn, kk]).transposed()
        } else {
            right.part(seq![beside + at, column], seq![kk, nn])
        };
        let a = Fragment::<T>::read(Role::A, m, n, k, &a);
        let b = Fragment::<T>::read(Role::B, m, n, k, &b);
        sum.add_product(&a, &b);
    }
    if comptime!(form.bias) {
        // The same row again and again: rows are no distance apart.
        let bias = View::<T>::new(bias, seq![mm, output], seq![0u32, 1], false);
        let row = Fragment::<T>::read(Role::Accumulator, m, n, k, &bias.part(seq![0u32, column], window.clone()));
        sum.map_with(&row.convert::<f32>(Role::Accumulator, m, n, k), |a, b| a + b);
    }
    let at = seq![batch * rows + first, column];
    if comptime!(form.added) {
        let added = View::<T>::new(added, seq![count * rows, output], seq![output, 1], bounded);
        let part = Fragment::<T>::read(Role::Accumulator, m, n, k, &added.part(at.clone(), window.clone()));
        sum.map_with(&part.convert::<f32>(Role::Accumulator, m, n, k), |a, b| a + b);
    }
    sum.convert::<T>(Role::Accumulator, m, n, k).write(&y.part(at, window));
}

/// The gradient of a weight, `gradientᵀ·x`, from every `CUBE_COUNT_Z`-th tile of rows. With several places, as a convolution has them, the
/// rows of x for each are others: three by three, `line` apart, around the row that lies `lead` behind.
#[cube(launch)]
fn weight_gradient<T: Float>(
    x: &[T],
    gradient: &[T],
    y: &mut [f32],
    rows: u32,
    line: u32,
    lead: u32,
    input: u32,
    output: u32,
    places: u32,
    #[comptime] outputs: usize,
    #[comptime] inputs: usize,
    #[comptime] exact: bool,
    #[define(T)] _dtype: ElemType,
) {
    let (input, output) = (aligned(input), aligned(output));
    let all = rows + 2 * lead;
    let x = View::<T>::new(x, seq![all, input], seq![input, 1], comptime!(!exact));
    let gradient = View::<T>::new(gradient, seq![all, output], seq![output, 1], comptime!(!exact));
    let blocks = output / outputs as u32;
    let place = CUBE_POS_Y / blocks;
    let to = CUBE_POS_Y % blocks * outputs as u32;
    let from = CUBE_POS_X * inputs as u32;
    let k = comptime!(SUMMED as u32);
    let mut sum = Fragment::<f32>::filled(Role::Accumulator, outputs, inputs, SUMMED, 0.0f32);
    for at in range_stepped(CUBE_POS_Z * k, rows, CUBE_COUNT_Z * k) {
        let part = gradient.part(seq![at + lead, to], seq![k, outputs as u32]);
        let left = Fragment::<T>::read(Role::A, outputs, inputs, SUMMED, &part.transposed());
        let part = x.part(seq![at + place / 3 * line + place % 3, from], seq![k, inputs as u32]);
        let right = Fragment::<T>::read(Role::B, outputs, inputs, SUMMED, &part);
        sum.add_product(&left, &right);
    }
    let lines = places * output;
    let y = View::<f32>::new(&*y, seq![CUBE_COUNT_Z * lines, input], seq![input, 1], false);
    let line = CUBE_POS_Z * lines + place * output + to;
    sum.write(&y.part(seq![line, from], seq![outputs as u32, inputs as u32]));
}

/// `left·right` and what is added, for `[batch, rows, input]` and `[batch, input, output]`, or what these are turned to.
pub(crate) fn product(left: CubeTensor, right: CubeTensor, turned: Turned, more: Added) -> CubeTensor {
    let [batch, rows, input] = sides(&left, turned.left);
    let [_, _, output] = sides(&right, turned.right);
    let mut tile = Tile { rows: ROWS, columns: dividing(output, &[64, 32]), depth: 32 };
    // A few tiles with much to sum wait for memory: they are faster deep.
    if batch * rows.div_ceil(ROWS) * (output / tile.columns) < ENOUGH {
        tile.depth = dividing(input, &[64]);
    }
    let (client, dtype) = (left.client.clone(), left.dtype);
    let shape = Shape::new([batch, rows, output]);
    let y = empty_device_contiguous_dtype(client.clone(), left.device.clone(), shape, dtype);
    multiply::launch(
        &client,
        CubeCount::Static((output / tile.columns) as u32, rows.div_ceil(ROWS) as u32, batch as u32),
        CubeDim::new_1d(THREADS),
        left.into_buffer_arg(),
        right.into_buffer_arg(),
        more.bias.into_buffer_arg(),
        more.added.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        rows as u32,
        input as u32,
        output as u32,
        tile,
        turned,
        rows.is_multiple_of(ROWS),
        more.form,
        dtype_to_storage_type(dtype),
    );
    y
}

/// Whether [`product`] is for the affine map of so many rows, from `input` to `output` numbers.
pub(super) fn maps_rows(rows: usize, [input, output]: [usize; 2]) -> bool {
    let whole = [input, output].iter().all(|size| *size > 0 && size.is_multiple_of(32));
    // Indices in kernels are of 32 bits.
    let reached = rows.next_multiple_of(ROWS).saturating_mul(input.max(output)) <= i32::MAX as usize
        && input.saturating_mul(output) <= i32::MAX as usize;
    let counts = [rows.div_ceil(ROWS), output / 32].iter().all(|count| *count <= LARGEST_COUNT);
    whole && reached && counts && rows > 0
}

/// Whether [`product`] is for factors of these sizes: nothing is read that is not aligned.
pub(crate) fn multiplies(left: &CubeTensor, right: &CubeTensor, turned: Turned) -> bool {
    let ([batch, rows, input], [_, _, output]) = (sides(left, turned.left), sides(right, turned.right));
    let whole = [input, output].iter().all(|size| *size > 0 && size.is_multiple_of(32));
    let reached = [rows * input, input * output, rows * output].into_iter().all(|n| n * batch <= i32::MAX as usize);
    let counts = [batch, rows.div_ceil(ROWS), output / 32].iter().all(|count| (1..=LARGEST_COUNT).contains(count));
    // Whole tiles, where a row more would be another matrix's.
    let left_whole = (!turned.left || rows.is_multiple_of(8)) && (batch == 1 || rows.is_multiple_of(ROWS));
    whole && reached && counts && left_whole && left.dtype == DType::F16 && right.dtype == DType::F16
}

/// Rows of x around those of a gradient.
#[derive(Clone, Copy)]
pub(crate) struct Around {
    /// Rows of the gradient that are summed over.
    pub rows: usize,
    /// Places around each, nine or one.
    pub places: usize,
    /// Rows from one three of them to the next.
    pub line: usize,
    /// Rows before the first of the gradient.
    pub lead: usize,
}

/// From `[.., input]` and a gradient `[.., output]` parts of the gradient of the weight, `[parts, places, output, input]` in `f32`.
pub(crate) fn gradient_of_weight(x: CubeTensor, gradient: CubeTensor, around: Around) -> CubeTensor {
    let Around { rows, places, line, lead } = around;
    let (input, output) = (x.meta.shape()[1], gradient.meta.shape()[1]);
    let (inputs, outputs) = (dividing(input, &[128, 64, 32]), dividing(output, &[64, 32]));
    let blocks = places * (input / inputs) * (output / outputs);
    let parts = (2 * ENOUGH).div_ceil(blocks).min(rows.div_ceil(SUMMED).div_ceil(4)).max(1);
    let (client, dtype) = (x.client.clone(), x.dtype);
    let shape = Shape::new([parts, places, output, input]);
    let y = empty_device_contiguous_dtype(client.clone(), x.device.clone(), shape, DType::F32);
    weight_gradient::launch(
        &client,
        CubeCount::Static((input / inputs) as u32, (places * output / outputs) as u32, parts as u32),
        CubeDim::new_1d(THREADS),
        x.into_buffer_arg(),
        gradient.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        rows as u32,
        line as u32,
        lead as u32,
        input as u32,
        output as u32,
        places as u32,
        outputs,
        inputs,
        rows.is_multiple_of(SUMMED),
        dtype_to_storage_type(dtype),
    );
    y
}
