//! The kernel: a thread has 8 x 8 sums in its registers.

#![allow(
    clippy::manual_div_ceil,
    clippy::manual_is_multiple_of,
    reason = "kernels compute with the operations that the device has"
)]

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::Turned;
use crate::additions::{Added, Form};
use crate::sums::summed;
use crate::{LARGEST_COUNT, address, has_matrices};

/// Rows and columns that a workgroup computes.
pub(crate) const TILE: usize = 64;

/// Numbers that are summed over at a time.
const DEPTH: usize = 16;

/// Threads of a workgroup, eight by eight.
const THREADS: usize = 64;

/// Numbers of a vector in registers and in shared memory.
pub(crate) const WIDTH: usize = 4;

/// Vectors of a row of a tile.
pub(crate) const LINE: usize = TILE / WIDTH;

/// Vectors of a factor in shared memory that a step multiplies, and of both.
const PART: usize = DEPTH * LINE;
const BOTH: usize = 2 * PART;

/// Blocks of four numbers, along the sum, that a step multiplies.
const BLOCKS: usize = DEPTH / WIDTH;

/// Workgroups at which no sum is shared among several.
const BUSY: usize = 512;

/// Workgroups that are aimed at where sums are shared.
const AIM: usize = 1024;

/// The fewest numbers that a workgroup adds up where sums are shared.
const FEWEST: usize = 8 * DEPTH;

pub(crate) type Four = Const<WIDTH>;

/// What a factor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A matrix in memory.
    Matrix,
    /// For each pixel the numbers of the window around it, which are read from an image: there is no table of them. Of images whose pixels lie
    /// a step apart the others are zeros.
    Windows { stepped: bool },
    /// Weights from the last place of the window to the first: what came to a pixel from the upper left goes back there.
    Flipped,
}

/// How a factor is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reads {
    pub kind: Kind,
    /// Whether what is summed over lies along its rows.
    pub along: bool,
    /// Numbers that are read at once.
    pub vector: usize,
}

impl Reads {
    /// A factor whose rows, or the channels of whose pixels, have `line` numbers.
    pub fn new(kind: Kind, along: bool, line: usize) -> Self {
        Self { kind, along, vector: if line.is_multiple_of(WIDTH) { WIDTH } else { 1 } }
    }
}

/// Around which pixels of an image windows are.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Window {
    /// Sizes of the image that is read.
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Pixels of each image that have a window.
    pub rows: usize,
    pub columns: usize,
    /// Pixels of a window, and of its rows.
    pub places: usize,
    pub across: usize,
    /// Pixels from one window to the next.
    pub stride_down: usize,
    pub stride_across: usize,
    /// Pixels before the image.
    pub above: usize,
    pub left: usize,
    /// From one pixel of the image to the next.
    pub step_down: usize,
    pub step_across: usize,
}

impl Window {
    /// None: factors are matrices.
    pub fn none() -> Self {
        let one = 1;
        Self {
            height: one,
            width: one,
            channels: one,
            rows: one,
            columns: one,
            places: one,
            across: one,
            stride_down: one,
            stride_across: one,
            above: 0,
            left: 0,
            step_down: one,
            step_across: one,
        }
    }

    pub fn launch(self) -> WindowLaunch {
        WindowLaunch::new(
            self.height,
            self.width,
            self.channels,
            self.rows,
            self.columns,
            self.places,
            self.across,
            self.stride_down,
            self.stride_across,
            self.above,
            self.left,
            self.step_down,
            self.step_across,
        )
    }
}

/// A factor: `rows` of one matrix below another, of `line` numbers each. Along its rows is either the axis that is summed over or the other.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Factor {
    /// The first row of the matrix.
    pub above: usize,
    pub rows: usize,
    pub line: usize,
    /// Where the tile begins on the axis that is not summed over.
    pub first: usize,
}

/// Where a number is, and whether it is one.
#[derive(CubeType, Clone, Copy)]
struct Found {
    at: usize,
    inside: bool,
}

/// Where the number of a row and column is. Behind the ends it is the last one: the sums that it would be part of are not written, or it is
/// multiplied by zero.
#[cube]
fn find(factor: &Factor, window: &Window, row: usize, column: usize, #[comptime] reads: Reads) -> Found {
    let row = min(row, factor.rows - 1);
    let column = min(column, factor.line - comptime!(reads.vector));
    let mut inside = true.runtime();
    let mut at = (factor.above + row) * factor.line + column;
    if comptime!(matches!(reads.kind, Kind::Flipped)) {
        let (output, place) = (row % window.channels, row / window.channels);
        at = (output * window.places + window.places - 1 - place) * factor.line + column;
    }
    if comptime!(matches!(reads.kind, Kind::Windows { .. })) {
        let (channel, place) = (column % window.channels, column / window.channels);
        let (x, y) = (row % window.columns, row / window.columns % window.rows);
        let image = row / window.columns / window.rows;
        // Before the image the difference wraps around and is larger than any size.
        let mut down = y * window.stride_down + place / window.across - window.above;
        let mut across = x * window.stride_across + place % window.across - window.left;
        if comptime!(matches!(reads.kind, Kind::Windows { stepped: true })) {
            inside = down % window.step_down == 0 && across % window.step_across == 0;
            down /= window.step_down;
            across /= window.step_across;
        }
        inside = inside && down < window.height && across < window.width;
        let line = image * window.height + min(down, window.height - 1);
        at = (line * window.width + min(across, window.width - 1)) * window.channels + channel;
    }
    Found { at, inside }
}

/// Four numbers of a row.
#[cube]
fn numbers<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    factor: &Factor,
    window: &Window,
    row: usize,
    column: usize,
    #[comptime] reads: Reads,
) -> Vector<f32, Four> {
    let is_there = comptime!(!matches!(reads.kind, Kind::Windows { .. }));
    if comptime!(reads.vector == WIDTH) {
        let found = find(factor, window, row, column, reads);
        let four = Vector::<f32, Four>::cast_from(x[found.at / WIDTH]);
        if comptime!(is_there) { four } else { select(found.inside, four, Vector::new(0.0f32)) }
    } else {
        let mut four = Vector::<f32, Four>::empty();
        #[unroll]
        for i in 0..WIDTH {
            let found = find(factor, window, row, column + i, reads);
            let mut number = f32::cast_from(x[found.at].extract(0usize));
            if comptime!(!is_there) {
                number = select(found.inside, number, 0.0f32);
            }
            four.insert(i, number);
        }
        four
    }
}

/// The part of a tile that a thread brings, of those of `blocks` times 16: four vectors along the axis that is not summed over.
#[cube]
pub(crate) fn bring<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    factor: &Factor,
    window: &Window,
    at: usize,
    until: usize,
    #[comptime] reads: Reads,
    #[comptime] blocks: usize,
    #[comptime] bounded: bool,
) -> Sequence<Vector<f32, Four>> {
    let unit = UNIT_POS as usize;
    let mut brought = Sequence::<Vector<f32, Four>>::new();
    if comptime!(reads.along) {
        // Four rows, four numbers of each, which lie along the sum: turned.
        let (depth, line) = (at + unit % blocks * WIDTH, factor.first + unit / blocks * WIDTH);
        let mut lines = Sequence::<Vector<f32, Four>>::new();
        #[unroll]
        for i in 0..WIDTH {
            lines.push(numbers::<T, N>(x, factor, window, line + i, depth, reads));
        }
        #[unroll]
        for k in 0..WIDTH {
            let mut four = Vector::<f32, Four>::empty();
            #[unroll]
            for i in 0..WIDTH {
                four.insert(i, lines[i].extract(k));
            }
            if comptime!(bounded) {
                four = select(depth + k < until, four, Vector::new(0.0f32));
            }
            brought.push(four);
        }
    } else {
        let (depth, line) = (at + unit / 16 * WIDTH, factor.first + unit % 16 * WIDTH);
        #[unroll]
        for k in 0..WIDTH {
            let mut four = numbers::<T, N>(x, factor, window, depth + k, line, reads);
            if comptime!(bounded) {
                four = select(depth + k < until, four, Vector::new(0.0f32));
            }
            brought.push(four);
        }
    }
    brought
}

/// What the places of a row's vectors are combined with, bit by bit, in each block of four rows of the sum: so that eight threads write to
/// eight banks, whichever way their numbers came.
#[cube]
pub(crate) fn swizzled(block: usize) -> usize {
    2 * block + block / 4
}

/// Puts what a thread brings into shared memory. In each block of rows the vectors stand in another order ([`swizzled`]).
#[cube]
pub(crate) fn put(
    shared: &mut Shared<[Vector<f32, Four>]>,
    from: usize,
    four: &Sequence<Vector<f32, Four>>,
    #[comptime] along: bool,
    #[comptime] blocks: usize,
) {
    let unit = UNIT_POS as usize;
    let (block, vectors) = if comptime!(along) { (unit % blocks, unit / blocks) } else { (unit / 16, unit % 16) };
    #[unroll]
    for k in 0..WIDTH {
        shared[from + (block * WIDTH + k) * LINE + (vectors ^ swizzled(block))] = four[k];
    }
}

/// Adds the products of four numbers of rows and eight of columns to sums, a row of two vectors after the other.
#[cube]
pub(crate) fn add_outer(
    rows: Vector<f32, Four>,
    near: Vector<f32, Four>,
    far: Vector<f32, Four>,
    sums: &mut Array<Vector<f32, Four>>,
    #[comptime] first: usize,
) {
    #[unroll]
    for i in 0..WIDTH {
        let factor = Vector::new(rows.extract(i));
        sums[first + 2 * i] = fma(factor, near, sums[first + 2 * i]);
        sums[first + 2 * i + 1] = fma(factor, far, sums[first + 2 * i + 1]);
    }
}

/// `left·right` of each of a batch, with what is added, or of each of the `parts` of each sum.
#[cube(launch, address_type = "dynamic")]
fn multiply<T: Float, S: Float, L: Size, R: Size, N: Size>(
    left: &Tensor<Vector<T, L>>,
    right: &Tensor<Vector<T, R>>,
    bias: &Tensor<Vector<T, N>>,
    added: &Tensor<Vector<T, N>>,
    y: &mut Tensor<Vector<S, N>>,
    rows: usize,
    input: usize,
    output: usize,
    parts: usize,
    share: usize,
    window: &Window,
    #[comptime] reads: [Reads; 2],
    #[comptime] vector: usize,
    #[comptime] form: Form,
    #[define(T)] _from: ElemType,
    #[define(S)] _to: ElemType,
) {
    let (of_left, of_right) = comptime!((reads[0], reads[1]));
    let (left_along, right_along) = comptime!((of_left.along, of_right.along));
    let mut shared = Shared::<[Vector<f32, Four>]>::new_aligned_slice(comptime!(2 * BOTH), 16usize);
    let batch = CUBE_POS_Z as usize / parts;
    let begin = CUBE_POS_Z as usize % parts * share;
    let until = min(begin + share, input);
    let (first, column) = (CUBE_POS_Y as usize * TILE, CUBE_POS_X as usize * TILE);
    let unit = UNIT_POS as usize;
    let (down, across) = (unit / 8, unit % 8);
    let lefts = if comptime!(left_along) {
        Factor { above: batch * rows, rows, line: input, first }
    } else {
        Factor { above: batch * input, rows: input, line: rows, first }
    };
    let rights = if comptime!(right_along) {
        Factor { above: batch * output, rows: output, line: input, first: column }
    } else {
        Factor { above: batch * input, rows: input, line: output, first: column }
    };

    // Of the two rows of vectors that a thread has, and the two columns, four numbers a row.
    let mut sums = Array::<Vector<f32, Four>>::new(16usize);
    #[unroll]
    for i in 0..16usize {
        sums[i] = Vector::new(0.0f32);
    }
    // One more turn than steps: what a step multiplies is asked for in the turn before.
    for turn in 0..(until - begin + DEPTH - 1) / DEPTH + 1 {
        let at = begin + turn * DEPTH;
        let next_left = bring::<T, L>(left, &lefts, window, at, until, of_left, BLOCKS, true);
        let next_right = bring::<T, R>(right, &rights, window, at, until, of_right, BLOCKS, false);
        if turn > 0 {
            let from = (turn + 1) % 2 * BOTH;
            #[unroll]
            for k in 0..DEPTH {
                let swizzle = comptime!(swizzled(k / WIDTH));
                let at_left = from + k * LINE + (down ^ swizzle);
                let at_right = from + PART + k * LINE + (across ^ swizzle);
                let (upper, lower) = (shared[at_left], shared[at_left + 8]);
                let (near, far) = (shared[at_right], shared[at_right + 8]);
                add_outer(upper, near, far, &mut sums, 0usize);
                add_outer(lower, near, far, &mut sums, 8usize);
            }
        }
        let to = turn % 2 * BOTH;
        put(&mut shared, to, &next_left, left_along, BLOCKS);
        put(&mut shared, to + PART, &next_right, right_along, BLOCKS);
        sync_cube();
    }

    #[unroll]
    for half in 0..2usize {
        #[unroll]
        for i in 0..WIDTH {
            let row = first + half * 32 + down * WIDTH + i;
            if row < rows {
                let line = (CUBE_POS_Z as usize * rows + row) * output;
                #[unroll]
                for side in 0..2usize {
                    let at = column + side * 32 + across * WIDTH;
                    let four = sums[half * 8 + 2 * i + side];
                    if comptime!(vector == WIDTH) {
                        if at < output {
                            let mut four = Vector::<f32, N>::cast_from(four);
                            if comptime!(form.bias) {
                                four += Vector::cast_from(bias[at / WIDTH]);
                            }
                            if comptime!(form.added) {
                                four += Vector::cast_from(added[(line + at) / WIDTH]);
                            }
                            y[(line + at) / WIDTH] = Vector::cast_from(four);
                        }
                    } else {
                        #[unroll]
                        for j in 0..WIDTH {
                            if at + j < output {
                                let mut one = Vector::<f32, N>::cast_from(four.extract(j));
                                if comptime!(form.bias) {
                                    one += Vector::cast_from(bias[at + j]);
                                }
                                if comptime!(form.added) {
                                    one += Vector::cast_from(added[line + at + j]);
                                }
                                y[line + at + j] = Vector::cast_from(one);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Batch, rows and columns of a factor.
pub(crate) fn sides(factor: &CubeTensor, turned: bool) -> [usize; 3] {
    let [batch, rows, columns] = factor.meta.shape().dims();
    if turned { [batch, columns, rows] } else { [batch, rows, columns] }
}

/// Among how many workgroups each sum of `input` numbers is shared, where a batch has `tiles` tiles, and how many numbers each adds up.
fn shares(tiles: usize, input: usize) -> (usize, usize) {
    if tiles >= BUSY || input < 2 * FEWEST {
        return (1, input);
    }
    let parts = AIM.div_ceil(tiles).min(input / FEWEST);
    let share = input.div_ceil(parts).next_multiple_of(DEPTH);
    // Every part has numbers.
    (input.div_ceil(share), share)
}

/// Whether [`product`] reaches all of the result in one launch, and there is one.
pub(crate) fn reaches(left: [usize; 3], output: usize) -> bool {
    let [batch, rows, input] = left;
    if [batch, rows, input, output].contains(&0) {
        return false;
    }
    let (down, across) = (rows.div_ceil(TILE), output.div_ceil(TILE));
    let (parts, _) = shares(batch * down * across, input);
    [batch * parts, down, across].iter().all(|count| *count <= LARGEST_COUNT)
}

/// Whether [`product`] is the product of a device: no hardware there multiplies matrices of this type.
pub(crate) fn is_product_of(client: &Client, dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16) && !has_matrices(client, dtype)
}

/// `left·right` and what is added, for contiguous `[batch, rows, input]` and `[batch, input, output]`, or what these are turned to. The sums
/// are in `f32`.
pub(super) fn product(left: CubeTensor, right: CubeTensor, turned: Turned, more: Added) -> CubeTensor {
    let ([batch, rows, input], [_, _, output]) = (sides(&left, turned.left), sides(&right, turned.right));
    let of_left = Reads::new(Kind::Matrix, !turned.left, if turned.left { rows } else { input });
    let of_right = Reads::new(Kind::Matrix, turned.right, if turned.right { input } else { output });
    product_of([left, right], [batch, rows, input, output], [of_left, of_right], Window::none(), more)
}

/// The product of two factors, each read its way: `[batch, rows, output]`, of sums of `input` numbers.
pub(crate) fn product_of(
    [left, right]: [CubeTensor; 2],
    [batch, rows, input, output]: [usize; 4],
    reads: [Reads; 2],
    window: Window,
    more: Added,
) -> CubeTensor {
    let (down, across) = (rows.div_ceil(TILE), output.div_ceil(TILE));
    let (parts, share) = shares(batch * down * across, input);
    let vector = if output.is_multiple_of(WIDTH) { WIDTH } else { 1 };
    let (client, device, dtype) = (left.client.clone(), left.device.clone(), left.dtype);
    let to = if parts == 1 { dtype } else { DType::F32 };
    let form = if parts == 1 { more.form } else { Form::default() };
    let y = empty_device_contiguous_dtype(client.clone(), device, Shape::new([batch * parts, rows, output]), to);
    multiply::launch(
        &client,
        CubeCount::Static(across as u32, down as u32, (batch * parts) as u32),
        CubeDim::new_1d(THREADS as u32),
        address(&[&left, &right, &more.added, &y]),
        reads[0].vector,
        reads[1].vector,
        vector,
        left.into_tensor_arg(),
        right.into_tensor_arg(),
        more.bias.clone().into_tensor_arg(),
        more.added.clone().into_tensor_arg(),
        y.clone().into_tensor_arg(),
        rows,
        input,
        output,
        parts,
        share,
        window.launch(),
        reads,
        vector,
        form,
        dtype_to_storage_type(dtype),
        dtype_to_storage_type(to),
    );
    if parts == 1 {
        return y;
    }
    let y = CubeBackend::float_reshape(y, Shape::new([batch, parts, rows * output]));
    let mut y = CubeBackend::float_reshape(summed(&y, dtype), Shape::new([batch, rows, output]));
    // The sums are few where they are shared: another pass costs little.
    if more.form.bias {
        y = CubeBackend::float_add(y, CubeBackend::float_reshape(more.bias, Shape::new([1, 1, output])));
    }
    if more.form.added {
        y = CubeBackend::float_add(y, CubeBackend::float_reshape(more.added, Shape::new([batch, rows, output])));
    }
    y
}
