//! Products of batches of matrices of any sizes, by matrices of a plane (subgroup): what [`workgroup`](super::workgroup) cannot be asked for.

#![allow(clippy::manual_div_ceil, reason = "kernels compute with the operations that the device has")]

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma::Plane;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::Turned;
use super::single::sides;
use crate::planes::{BEHIND, ENTRIES, LANES, LINE, SIDE};
use crate::workgroup::{Fragment, Role};
use crate::{LARGEST_COUNT, address};

/// Rows and columns that a workgroup computes, two by two planes.
const TILE: usize = 64;

/// Numbers that are summed over at a time.
const DEPTH: usize = 32;

/// Threads of a workgroup.
const THREADS: usize = 4 * LANES;

/// Matrices of a plane below, and beside, each other.
const MATRICES: usize = TILE / 2 / SIDE;

/// A factor as it lies in memory.
#[derive(CubeType, Clone, Copy)]
struct Factor {
    /// The first row of the tile, and where the rows of its matrix end.
    row: usize,
    rows: usize,
    /// The first vector of the tile in a row, and the vectors of a row.
    column: usize,
    columns: usize,
}

/// A vector of a factor, `at` further where the sum goes on; zeros outside.
#[cube]
fn read<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    factor: &Factor,
    at: usize,
    row: usize,
    column: usize,
    #[comptime] down: bool,
    #[comptime] vector: usize,
) -> Vector<T, N> {
    let mut row = factor.row + row;
    let mut column = factor.column + column;
    if comptime!(down) {
        row += at;
    } else {
        column += at / vector;
    }
    // Asked for without a condition: what is behind one is waited for.
    let numbers = x[min(row, factor.rows - 1) * factor.columns + min(column, factor.columns - 1)];
    select(row < factor.rows && column < factor.columns, numbers, Vector::new(T::from_int(0)))
}

/// `left·right` of each of a batch.
#[cube(launch, address_type = "dynamic")]
fn multiply<T: Float, S: Float, N: Size>(
    left: &Tensor<Vector<T, N>>,
    right: &Tensor<Vector<T, N>>,
    y: &mut Tensor<Vector<S, N>>,
    rows: usize,
    input: usize,
    output: usize,
    #[comptime] turned: Turned,
    #[comptime] vector: usize,
    #[define(T)] _from: ElemType,
    #[define(S)] _to: ElemType,
) {
    // Rows of a tile of a factor in memory, and vectors of a row: with what is behind them in shared memory, and without.
    let (left_rows, left_line) = comptime!(if turned.left { (DEPTH, TILE) } else { (TILE, DEPTH) });
    let (right_rows, right_line) = comptime!(if turned.right { (TILE, DEPTH) } else { (DEPTH, TILE) });
    let (left_vectors, right_vectors) = comptime!((left_line / vector, right_line / vector));
    let (left_stride, right_stride) = comptime!(((left_line + BEHIND) / vector, (right_line + BEHIND) / vector));
    let (of_left, of_right) = comptime!((left_rows * left_stride, right_rows * right_stride));
    let (both, end) = comptime!((of_left + of_right, 2 * (of_left + of_right)));
    let turns = comptime!(TILE * DEPTH / vector / THREADS);
    let mut shared = Shared::<[Vector<T, N>]>::new_aligned_slice(end, 16usize);
    let all_seen = comptime!(4 * SIDE * LINE / vector);
    let mut seen = Shared::<[Vector<f32, N>]>::new_aligned_slice(all_seen, 16usize);

    let batch = CUBE_POS_Z as usize;
    let (first, column) = (CUBE_POS_Y as usize * TILE, CUBE_POS_X as usize * TILE);
    let unit = UNIT_POS as usize;
    let (plane, lane) = (unit / LANES, unit % LANES);
    let (below, beside) = (plane / 2, plane % 2);
    let nothing = 0usize.runtime();
    let lefts = if comptime!(turned.left) {
        Factor { row: batch * input, rows: (batch + 1) * input, column: first / vector, columns: rows / vector }
    } else {
        Factor { row: batch * rows + first, rows: (batch + 1) * rows, column: nothing, columns: input / vector }
    };
    let rights = if comptime!(turned.right) {
        Factor { row: batch * output + column, rows: (batch + 1) * output, column: nothing, columns: input / vector }
    } else {
        Factor { row: batch * input, rows: (batch + 1) * input, column: column / vector, columns: output / vector }
    };

    let mut sums = Sequence::<Fragment<f32, Plane>>::new();
    #[unroll]
    for _i in 0..comptime!(MATRICES * MATRICES) {
        sums.push(Fragment::<f32, Plane>::filled(Role::Accumulator, SIDE, SIDE, SIDE, 0.0f32));
    }
    // One more turn than steps: what a step multiplies is asked for in the turn before.
    for turn in 0..(input + DEPTH - 1) / DEPTH + 1 {
        let mut next_left = Sequence::<Vector<T, N>>::new();
        let mut next_right = Sequence::<Vector<T, N>>::new();
        #[unroll]
        for i in 0..turns {
            let at = i * THREADS + unit;
            let (row, vectors) = (at / left_vectors, at % left_vectors);
            next_left.push(read::<T, N>(left, &lefts, turn * DEPTH, row, vectors, turned.left, vector));
            let (row, vectors) = (at / right_vectors, at % right_vectors);
            next_right.push(read::<T, N>(right, &rights, turn * DEPTH, row, vectors, comptime!(!turned.right), vector));
        }
        if turn > 0 {
            let from = (turn + 1) % 2 * both;
            #[unroll]
            for k in 0..comptime!(DEPTH / SIDE) {
                let mut of_rows = Sequence::<Fragment<T, Plane>>::new();
                #[unroll]
                for i in 0..MATRICES {
                    let row = (below * MATRICES + i) * SIDE;
                    let at = if comptime!(turned.left) {
                        from + k * SIDE * left_stride + row / vector
                    } else {
                        from + row * left_stride + k * SIDE / vector
                    };
                    let part = &shared[at..end];
                    of_rows.push(Fragment::<T, Plane>::fetch(Role::A, SIDE, part, left_stride as u32, turned.left));
                }
                #[unroll]
                for j in 0..MATRICES {
                    let column = (beside * MATRICES + j) * SIDE;
                    let at = if comptime!(turned.right) {
                        from + of_left + column * right_stride + k * SIDE / vector
                    } else {
                        from + of_left + k * SIDE * right_stride + column / vector
                    };
                    let part = &shared[at..end];
                    let part = Fragment::<T, Plane>::fetch(Role::B, SIDE, part, right_stride as u32, turned.right);
                    #[unroll]
                    for i in 0..MATRICES {
                        sums.index_mut(i * MATRICES + j).add_product(&of_rows[i], &part);
                    }
                }
            }
        }
        let to = turn % 2 * both;
        #[unroll]
        for i in 0..turns {
            let at = i * THREADS + unit;
            shared[to + at / left_vectors * left_stride + at % left_vectors] = next_left[i];
            shared[to + of_left + at / right_vectors * right_stride + at % right_vectors] = next_right[i];
        }
        sync_cube();
    }

    let of_plane = plane * comptime!(SIDE * LINE / vector);
    // Each thread has half a row of a matrix.
    let from = of_plane + lane / 2 * comptime!(LINE / vector) + lane % 2 * comptime!(ENTRIES / vector);
    #[unroll]
    for i in 0..MATRICES {
        #[unroll]
        for j in 0..MATRICES {
            sync_plane();
            sums[i * MATRICES + j].put(&mut seen[of_plane..all_seen], LINE as u32);
            sync_plane();
            let row = first + (below * MATRICES + i) * SIDE + lane / 2;
            let to = (column + (beside * MATRICES + j) * SIDE + lane % 2 * ENTRIES) / vector;
            #[unroll]
            for v in 0..comptime!(ENTRIES / vector) {
                if row < rows && to + v < output / vector {
                    y[(batch * rows + row) * (output / vector) + to + v] = Vector::cast_from(seen[from + v]);
                }
            }
        }
    }
}

/// Whether [`product_of_any`] reaches all of the result in one launch.
pub(crate) fn reaches(left: &CubeTensor, right: &CubeTensor, turned: Turned) -> bool {
    let ([batch, rows, input], [_, _, output]) = (sides(left, turned.left), sides(right, turned.right));
    let counts = [batch, rows.div_ceil(TILE), output.div_ceil(TILE)];
    input > 0 && counts.iter().all(|count| (1..=LARGEST_COUNT).contains(count))
}

/// `left·right` for contiguous `[batch, rows, input]` and `[batch, input, output]`, or what these are turned to, in a
/// type of its own.
pub(crate) fn product_of_any(left: CubeTensor, right: CubeTensor, turned: Turned, to: DType) -> CubeTensor {
    let ([batch, rows, input], [_, _, output]) = (sides(&left, turned.left), sides(&right, turned.right));
    let lines = [if turned.left { rows } else { input }, if turned.right { input } else { output }, output];
    let vector = if lines.iter().all(|line| line.is_multiple_of(4)) { 4 } else { 1 };
    let (client, dtype) = (left.client.clone(), left.dtype);
    let shape = Shape::new([batch, rows, output]);
    let y = empty_device_contiguous_dtype(client.clone(), left.device.clone(), shape, to);
    multiply::launch(
        &client,
        CubeCount::Static(output.div_ceil(TILE) as u32, rows.div_ceil(TILE) as u32, batch as u32),
        CubeDim::new_1d(THREADS as u32),
        address(&[&left, &right, &y]),
        vector,
        left.into_tensor_arg(),
        right.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        rows,
        input,
        output,
        turned,
        vector,
        dtype_to_storage_type(dtype),
        dtype_to_storage_type(to),
    );
    y
}
