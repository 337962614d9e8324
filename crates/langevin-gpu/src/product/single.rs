//! The kernel: a thread has 8 x 8 sums in its registers.

#![allow(clippy::manual_div_ceil, reason = "kernels compute with the operations that the device has")]

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
const TILE: usize = 64;

/// Numbers that are summed over at a time.
const DEPTH: usize = 16;

/// Threads of a workgroup, eight by eight.
const THREADS: usize = 64;

/// Numbers of a vector in registers and in shared memory.
const WIDTH: usize = 4;

/// Vectors of a row of a tile.
const LINE: usize = TILE / WIDTH;

/// Workgroups at which no sum is shared among several.
const BUSY: usize = 512;

/// Workgroups that are aimed at where sums are shared.
const AIM: usize = 1024;

/// The fewest numbers that a workgroup adds up where sums are shared.
const FEWEST: usize = 8 * DEPTH;

type Four = Const<WIDTH>;

/// A factor as it lies in memory: `rows` of one matrix below another, of `line` numbers each. Along its rows is either the axis that is
/// summed over or the other.
#[derive(CubeType, Clone, Copy)]
struct Factor {
    /// The first row of the matrix.
    above: usize,
    rows: usize,
    line: usize,
    /// Where the tile begins on the axis that is not summed over.
    first: usize,
}

/// The number at a place, or the last one before the end: the sums that it would be part of are not written, or it is multiplied by zero.
#[cube]
fn number<T: Float, N: Size>(x: &Tensor<Vector<T, N>>, factor: &Factor, row: usize, column: usize) -> f32 {
    let at = (factor.above + min(row, factor.rows - 1)) * factor.line + min(column, factor.line - 1);
    f32::cast_from(x[at].extract(0usize))
}

/// Four numbers of a row.
#[cube]
fn numbers<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    factor: &Factor,
    row: usize,
    column: usize,
    #[comptime] vector: usize,
) -> Vector<f32, Four> {
    if comptime!(vector == WIDTH) {
        let at = (factor.above + min(row, factor.rows - 1)) * factor.line + min(column, factor.line - WIDTH);
        Vector::<f32, Four>::cast_from(x[at / WIDTH])
    } else {
        let mut four = Vector::<f32, Four>::empty();
        #[unroll]
        for i in 0..WIDTH {
            four.insert(i, number::<T, N>(x, factor, row, column + i));
        }
        four
    }
}

/// The part of a tile that a thread brings: four vectors along the axis that is not summed over.
#[cube]
fn bring<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    factor: &Factor,
    at: usize,
    until: usize,
    #[comptime] along: bool,
    #[comptime] bounded: bool,
    #[comptime] vector: usize,
) -> Sequence<Vector<f32, Four>> {
    let unit = UNIT_POS as usize;
    let mut brought = Sequence::<Vector<f32, Four>>::new();
    if comptime!(along) {
        // Four rows, four numbers of each, which lie along the sum: turned.
        let (depth, line) = (at + unit % 4 * WIDTH, factor.first + unit / 4 * WIDTH);
        let mut lines = Sequence::<Vector<f32, Four>>::new();
        #[unroll]
        for i in 0..WIDTH {
            lines.push(numbers::<T, N>(x, factor, line + i, depth, vector));
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
            let mut four = numbers::<T, N>(x, factor, depth + k, line, vector);
            if comptime!(bounded) {
                four = select(depth + k < until, four, Vector::new(0.0f32));
            }
            brought.push(four);
        }
    }
    brought
}

/// Puts what a thread brings into shared memory. Of every four rows of the sum the vectors stand in another order, so that eight threads
/// write to eight banks, whichever way they came.
#[cube]
fn put(
    shared: &mut Shared<[Vector<f32, Four>]>,
    from: usize,
    four: &Sequence<Vector<f32, Four>>,
    #[comptime] along: bool,
) {
    let unit = UNIT_POS as usize;
    let (block, vectors) = if comptime!(along) { (unit % 4, unit / 4) } else { (unit / 16, unit % 16) };
    #[unroll]
    for k in 0..WIDTH {
        shared[from + (block * WIDTH + k) * LINE + (vectors ^ (2 * block))] = four[k];
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
    #[comptime] turned: Turned,
    #[comptime] vectors: [usize; 3],
    #[comptime] form: Form,
    #[define(T)] _from: ElemType,
    #[define(S)] _to: ElemType,
) {
    let (left_along, right_along) = comptime!((!turned.left, turned.right));
    let tile = comptime!(DEPTH * LINE);
    let mut shared = Shared::<[Vector<f32, Four>]>::new_aligned_slice(comptime!(4 * tile), 16usize);
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
        let next_left = bring::<T, L>(left, &lefts, at, until, left_along, true, comptime!(vectors[0]));
        let next_right = bring::<T, R>(right, &rights, at, until, right_along, false, comptime!(vectors[1]));
        if turn > 0 {
            let from = (turn + 1) % 2 * comptime!(2 * tile);
            #[unroll]
            for k in 0..DEPTH {
                let swizzle = comptime!(2 * (k / WIDTH));
                let of_left = from + k * LINE + (down ^ swizzle);
                let of_right = from + tile + k * LINE + (across ^ swizzle);
                let (upper, lower) = (shared[of_left], shared[of_left + 8]);
                let (near, far) = (shared[of_right], shared[of_right + 8]);
                #[unroll]
                for i in 0..WIDTH {
                    let factor = Vector::new(upper.extract(i));
                    sums[2 * i] = fma(factor, near, sums[2 * i]);
                    sums[2 * i + 1] = fma(factor, far, sums[2 * i + 1]);
                    let factor = Vector::new(lower.extract(i));
                    sums[8 + 2 * i] = fma(factor, near, sums[8 + 2 * i]);
                    sums[8 + 2 * i + 1] = fma(factor, far, sums[8 + 2 * i + 1]);
                }
            }
        }
        let to = turn % 2 * comptime!(2 * tile);
        put(&mut shared, to, &next_left, left_along);
        put(&mut shared, to + tile, &next_right, right_along);
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
                    if comptime!(vectors[2] == WIDTH) {
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

/// Whether [`product`] reaches all of the result in one launch.
pub(super) fn reaches(left: [usize; 3], output: usize) -> bool {
    let [batch, rows, input] = left;
    let (down, across) = (rows.div_ceil(TILE), output.div_ceil(TILE));
    let (parts, _) = shares(batch * down * across, input);
    input > 0 && [batch * parts, down, across].iter().all(|count| (1..=LARGEST_COUNT).contains(count))
}

/// Whether [`product`] is the product of a device: no hardware there multiplies matrices of this type.
pub(super) fn is_product_of(client: &Client, dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16) && !has_matrices(client, dtype)
}

/// `left·right` and what is added, for contiguous `[batch, rows, input]` and `[batch, input, output]`, or what these are turned to. The sums
/// are in `f32`.
pub(super) fn product(left: CubeTensor, right: CubeTensor, turned: Turned, more: Added) -> CubeTensor {
    let ([batch, rows, input], [_, _, output]) = (sides(&left, turned.left), sides(&right, turned.right));
    let (down, across) = (rows.div_ceil(TILE), output.div_ceil(TILE));
    let (parts, share) = shares(batch * down * across, input);
    let lines = [if turned.left { rows } else { input }, if turned.right { input } else { output }, output];
    let vectors = lines.map(|line| if line.is_multiple_of(WIDTH) { WIDTH } else { 1 });
    let (client, device, dtype) = (left.client.clone(), left.device.clone(), left.dtype);
    let to = if parts == 1 { dtype } else { DType::F32 };
    let form = if parts == 1 { more.form } else { Form::default() };
    let y = empty_device_contiguous_dtype(client.clone(), device, Shape::new([batch * parts, rows, output]), to);
    multiply::launch(
        &client,
        CubeCount::Static(across as u32, down as u32, (batch * parts) as u32),
        CubeDim::new_1d(THREADS as u32),
        address(&[&left, &right, &more.added, &y]),
        vectors[0],
        vectors[1],
        vectors[2],
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
        turned,
        vectors,
        form,
        dtype_to_storage_type(dtype),
        dtype_to_storage_type(to),
    );
    if parts == 1 {
        return y;
    }
    let y = CubeBackend::float_reshape(y, Shape::new([batch, parts, rows * output]));
    let mut y = CubeBackend::float_reshape(summed(&y, dtype), Shape::new([batch, rows, output]));
    // The sums are small where they are shared: another pass costs little.
    if more.form.bias {
        y = CubeBackend::float_add(y, CubeBackend::float_reshape(more.bias, Shape::new([1, 1, output])));
    }
    if more.form.added {
        y = CubeBackend::float_add(y, CubeBackend::float_reshape(more.added, Shape::new([batch, rows, output])));
    }
    y
}
