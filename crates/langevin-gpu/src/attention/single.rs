//! The kernel by single numbers: a workgroup has 64 queries of a head, and keys and values pass by, 64 at a time.

#![allow(clippy::manual_div_ceil, reason = "kernels compute with the operations that the device has")]

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::product::single::{
    Factor, Four, Kind, LINE, Reads, TILE, WIDTH, Window, add_outer, bring, is_product_of, put, swizzled,
};
use crate::{LARGEST_COUNT, address};

/// Numbers of the widest values: a workgroup sums up 64 of each, and has the scores to itself.
const WIDEST: usize = 128;

/// Threads of a workgroup: sixteen times four rows, eight times eight columns.
const THREADS: usize = 128;

/// Numbers of queries and keys that are multiplied at a time, and blocks of four of them.
const DEPTH: usize = 32;
const BLOCKS: usize = DEPTH / WIDTH;

/// Vectors of these in shared memory.
const PART: usize = DEPTH * LINE;

/// Where values lie there: behind queries and keys, whose place the weights of 64 keys for 64 queries take in turn.
const VALUES: usize = 2 * PART;

/// Vectors there, and bytes.
const HELD: usize = VALUES + TILE * LINE;
const SHARED: usize = HELD * 16;

/// A score that leaves no weight, in the place of none.
const NONE: f32 = -1e30;

/// Adds the products of four rows and eight columns, of so many pairs of four numbers, to a thread's sums.
#[cube]
fn add_rows(
    shared: &Shared<[Vector<f32, Four>]>,
    left: usize,
    right: usize,
    pairs: usize,
    sums: &mut Array<Vector<f32, Four>>,
    #[comptime] weighed: bool,
) {
    let unit = UNIT_POS as usize;
    let (down, across) = (unit / 8, unit % 8);
    for pair in 0..pairs {
        #[unroll]
        for k in 0..2 * WIDTH {
            let block = 2 * pair + comptime!(k / WIDTH);
            let row = (2 * WIDTH * pair + k) * LINE;
            // Values come in two parts of eight blocks.
            let swizzle = swizzled(block % BLOCKS);
            let at = if comptime!(weighed) { down ^ (block % 8) } else { down ^ swizzle };
            let beside = across ^ swizzle;
            add_outer(
                shared[left + row + at],
                shared[right + row + beside],
                shared[right + row + (beside ^ 8)],
                sums,
                0usize,
            );
        }
    }
}

/// `softmax(scale·q·kᵀ)·v` of 64 queries of a head, by online softmax, and what their scores have to begin with so that the exponentials of
/// `scale` times them are weights.
#[cube(launch, address_type = "dynamic")]
fn attend<T: Float, D: Size, V: Size>(
    query: &Tensor<Vector<T, D>>,
    key: &Tensor<Vector<T, D>>,
    value: &Tensor<Vector<T, V>>,
    y: &mut Tensor<Vector<T, V>>,
    starts: &mut Tensor<f32>,
    scale: f32,
    queries: usize,
    keys: usize,
    width: usize,
    values: usize,
    window: &Window,
    #[comptime] reads: [Reads; 2],
    #[comptime] ragged: bool,
    #[define(T)] _dtype: ElemType,
) {
    let (of_width, of_value) = comptime!((reads[0], reads[1]));
    let mut shared = Shared::<[Vector<f32, Four>]>::new_aligned_slice(HELD, 16usize);
    let unit = UNIT_POS as usize;
    let (down, across) = (unit / 8, unit % 8);
    let head = CUBE_POS_Y as usize;
    let (first, column) = (CUBE_POS_X as usize * TILE, CUBE_POS_Z as usize * TILE);
    let zero = 0usize.runtime();
    let of_queries = Factor { above: head * queries, rows: queries, line: width, first };
    let of_values = Factor { above: head * keys, rows: keys, line: values, first: column };

    let mut output = Array::<Vector<f32, Four>>::new(8usize);
    #[unroll]
    for i in 0..8usize {
        output[i] = Vector::new(0.0f32);
    }
    // Of a thread's four rows: the largest scores so far, and the sums of the weights that it has computed.
    let mut most = Vector::<f32, Four>::new(NONE);
    let mut sum = Vector::<f32, Four>::new(0.0f32);
    let factor = Vector::new(scale);
    let steps = (width + DEPTH - 1) / DEPTH;
    let of_keys = Factor { above: head * keys, rows: keys, line: width, first: zero };
    let next = bring::<T, D>(query, &of_queries, window, zero, width, of_width, BLOCKS, true);
    put(&mut shared, 0, &next, true, BLOCKS);
    let next = bring::<T, D>(key, &of_keys, window, zero, width, of_width, BLOCKS, false);
    put(&mut shared, PART, &next, true, BLOCKS);
    sync_cube();
    for turn in 0..(keys + TILE - 1) / TILE {
        let token = turn * TILE;
        let of_keys = Factor { above: head * keys, rows: keys, line: width, first: token };
        let mut scores = Array::<Vector<f32, Four>>::new(8usize);
        #[unroll]
        for i in 0..8usize {
            scores[i] = Vector::new(0.0f32);
        }
        // What comes next is asked for before what is there is multiplied.
        for step in 1..steps {
            let at = step * DEPTH;
            let next_queries = bring::<T, D>(query, &of_queries, window, at, width, of_width, BLOCKS, true);
            let next_keys = bring::<T, D>(key, &of_keys, window, at, width, of_width, BLOCKS, false);
            add_rows(&shared, 0, PART, comptime!(BLOCKS / 2).runtime(), &mut scores, false);
            sync_cube();
            put(&mut shared, 0, &next_queries, true, BLOCKS);
            put(&mut shared, PART, &next_keys, true, BLOCKS);
            sync_cube();
        }
        let near_values = bring::<T, V>(value, &of_values, window, token, keys, of_value, BLOCKS, false);
        let far_values = bring::<T, V>(value, &of_values, window, token + DEPTH, keys, of_value, BLOCKS, false);
        let rest = width - (steps - 1) * DEPTH;
        add_rows(&shared, 0, PART, (rest + 2 * WIDTH - 1) / (2 * WIDTH), &mut scores, false);
        sync_cube();
        put(&mut shared, VALUES, &near_values, false, BLOCKS);
        put(&mut shared, comptime!(VALUES + PART), &far_values, false, BLOCKS);
        if comptime!(ragged) {
            #[unroll]
            for j in 0..WIDTH {
                let (near, far) = (token + across * WIDTH + j, token + 32 + across * WIDTH + j);
                #[unroll]
                for i in 0..WIDTH {
                    let (mut left, mut right) = (scores[2 * i], scores[2 * i + 1]);
                    left.insert(j, select(near < keys, left.extract(j), NONE));
                    right.insert(j, select(far < keys, right.extract(j), NONE));
                    scores[2 * i] = left;
                    scores[2 * i + 1] = right;
                }
            }
        }

        // The largest score of each row: of what a thread has, and of what the eight threads of a row have.
        let mut largest = Vector::<f32, Four>::empty();
        #[unroll]
        for i in 0..WIDTH {
            largest.insert(i, largest_of(scores[2 * i], scores[2 * i + 1]));
        }
        shared[across * LINE + down] = largest;
        sync_cube();
        largest = most;
        #[unroll]
        for other in 0..8usize {
            largest = max(largest, shared[other * LINE + down]);
        }
        sync_cube();
        // What has been summed up is scaled to it.
        let before = ((most - largest) * factor).exp();
        most = largest;
        sum *= before;
        #[unroll]
        for i in 0..WIDTH {
            output[2 * i] *= Vector::new(before.extract(i));
            output[2 * i + 1] *= Vector::new(before.extract(i));
        }

        // Weights go to shared memory by keys, in another order in each block of four.
        #[unroll]
        for side in 0..2usize {
            #[unroll]
            for j in 0..WIDTH {
                let mut weights = Vector::<f32, Four>::empty();
                #[unroll]
                for i in 0..WIDTH {
                    weights.insert(i, scores[2 * i + side].extract(j));
                }
                weights = ((weights - most) * factor).exp();
                sum += weights;
                shared[(side * 32 + across * WIDTH + j) * LINE + (down ^ across)] = weights;
            }
        }
        sync_cube();
        let of_keys = Factor { above: head * keys, rows: keys, line: width, first: token + TILE };
        let next_queries = bring::<T, D>(query, &of_queries, window, zero, width, of_width, BLOCKS, true);
        let next_keys = bring::<T, D>(key, &of_keys, window, zero, width, of_width, BLOCKS, false);
        add_rows(&shared, 0, VALUES, comptime!(TILE / (2 * WIDTH)).runtime(), &mut output, true);
        sync_cube();
        put(&mut shared, 0, &next_queries, true, BLOCKS);
        put(&mut shared, PART, &next_keys, true, BLOCKS);
        sync_cube();
    }

    shared[across * LINE + down] = sum;
    sync_cube();
    sum = Vector::new(0.0f32);
    #[unroll]
    for other in 0..8usize {
        sum += shared[other * LINE + down];
    }
    #[unroll]
    for i in 0..WIDTH {
        let row = first + down * WIDTH + i;
        if row < queries {
            let sum = sum.extract(i);
            if across == 0 && column == 0 {
                starts[head * queries + row] = -most.extract(i) - sum.ln() / scale;
            }
            let line = (head * queries + row) * values;
            #[unroll]
            for side in 0..2usize {
                let at = column + side * 32 + across * WIDTH;
                let four = output[2 * i + side] * Vector::new(1.0f32 / sum);
                if comptime!(of_value.vector == WIDTH) {
                    if at < values {
                        y[(line + at) / WIDTH] = Vector::cast_from(four);
                    }
                } else {
                    #[unroll]
                    for j in 0..WIDTH {
                        if at + j < values {
                            y[line + at + j] = Vector::cast_from(four.extract(j));
                        }
                    }
                }
            }
        }
    }
}

/// The largest of eight numbers.
#[cube]
fn largest_of(near: Vector<f32, Four>, far: Vector<f32, Four>) -> f32 {
    let four = max(near, far);
    max(max(four.extract(0usize), four.extract(1usize)), max(four.extract(2usize), four.extract(3usize)))
}

/// Queries and keys `[heads, tokens, width]`, values `[heads, keys, values]`, contiguous, which the kernel [serves]: the output, and what the
/// scores of each query begin with.
pub(super) fn attention(query: CubeTensor, key: CubeTensor, value: CubeTensor, scale: f64) -> [CubeTensor; 2] {
    let [heads, queries, width] = query.meta.shape().dims();
    let [_, keys, values] = value.meta.shape().dims();
    let (client, dtype) = (query.client.clone(), query.dtype);
    let empty = |shape, dtype| empty_device_contiguous_dtype(client.clone(), query.device.clone(), shape, dtype);
    let y = empty(Shape::new([heads, queries, values]), dtype);
    let starts = empty(Shape::new([heads, queries]), DType::F32);
    let reads = [Reads::new(Kind::Matrix, true, width), Reads::new(Kind::Matrix, false, values)];
    attend::launch(
        &client,
        CubeCount::Static(queries.div_ceil(TILE) as u32, heads as u32, values.div_ceil(TILE) as u32),
        CubeDim::new_1d(THREADS as u32),
        address(&[&query, &key, &value, &y]),
        reads[0].vector,
        reads[1].vector,
        query.into_tensor_arg(),
        key.into_tensor_arg(),
        value.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        starts.clone().into_tensor_arg(),
        scale as f32,
        queries,
        keys,
        width,
        values,
        Window::none().launch(),
        reads,
        !keys.is_multiple_of(TILE),
        dtype_to_storage_type(dtype),
    );
    [y, starts]
}

/// Whether a device has the kernel, and it has a use for heads of these sizes: no hardware multiplies matrices of the type, and values are
/// at most 128 numbers wide, so that scores are computed twice at most.
pub(super) fn serves(
    client: &Client,
    dtype: DType,
    [heads, queries, width]: [usize; 3],
    [_, keys, values]: [usize; 3],
) -> bool {
    [heads, queries, width, keys, values].iter().all(|size| *size > 0)
        && values <= WIDEST
        && heads.max(queries.div_ceil(TILE)) <= LARGEST_COUNT
        && is_product_of(client, dtype)
        && client.properties().hardware.max_shared_memory_size >= SHARED
}
