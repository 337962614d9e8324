//! The kernel: a workgroup has some queries of a head.

#![allow(clippy::redundant_closure, reason = "a kernel's closures are expanded where they are passed; names are not")]

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::workgroup::{Fragment, Role, View};
use crate::{THREADS, address};

/// Keys that are looked at together.
pub(super) const KEYS: usize = 32;

/// Queries that a workgroup has, at most.
pub(super) const QUERIES: usize = 128;

/// Threads of a workgroup: wide heads need the registers of more.
pub(super) fn threads(width: usize) -> u32 {
    if width <= 128 { THREADS } else { 2 * THREADS }
}

/// What widths are rounded up to: what matrices of a workgroup are made of.
fn multiple(width: usize) -> usize {
    if width <= 128 { 16 } else { 32 }
}

/// Sizes of a kernel's tiles: queries and keys of a tile, and numbers of a head, of its values, and of a row of scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tile {
    queries: usize,
    keys: usize,
    width: usize,
    values: usize,
    row: usize,
}

/// `width` and `values` are [`multiple`]s, `queries` of a workgroup may reach behind the last.
#[cube(launch)]
fn attend_tiles<T: Float>(
    query: &[T],
    key: &[T],
    value: &[T],
    y: &mut [T],
    scratch: &mut [f32],
    heads: u32,
    queries: u32,
    keys: u32,
    scale: f32,
    #[comptime] tile: Tile,
    #[comptime] exact: bool,
    #[define(T)] _dtype: ElemType,
) {
    let (m, n, width, values) = comptime!((tile.queries, tile.keys, tile.width, tile.values));
    let (w, e, row) = comptime!((tile.width as u32, tile.values as u32, tile.row as u32));
    let head = CUBE_POS_Y;
    let first = CUBE_POS_X * m as u32;
    // Views of two dimensions are read faster than those of three, which end with the queries of a head.
    let (of_query, of_value) = (seq![m as u32, w], seq![m as u32, e]);
    let query = if exact {
        let view = View::<T>::new(query, seq![heads * queries, w], seq![w, 1], false);
        view.part(seq![head * queries + first, 0], of_query)
    } else {
        let view = View::<T>::new(query, seq![heads, queries, w], seq![queries * w, w, 1], true);
        view.part(seq![head, first, 0], seq![1, m as u32, w])
    };
    let y = if exact {
        let view = View::<T>::new(&*y, seq![heads * queries, e], seq![e, 1], false);
        view.part(seq![head * queries + first, 0], of_value)
    } else {
        let view = View::<T>::new(&*y, seq![heads, queries, e], seq![queries * e, e, 1], true);
        view.part(seq![head, first, 0], seq![1, m as u32, e])
    };
    let key = View::<T>::new(key, seq![heads * keys, w], seq![w, 1], false);
    let value = View::<T>::new(value, seq![heads * keys, e], seq![e, 1], false);
    let of_head = head * keys;
    let lines = CUBE_COUNT_X * m as u32;
    let line = head * lines + first;
    let rows = View::<f32>::new(&*scratch, seq![heads * lines, row], seq![row, 1], false);
    let of_scores = rows.part(seq![line, 0], seq![m as u32, n as u32]);
    let of_y = rows.part(seq![line, 0], seq![m as u32, e]);
    let of_queries = Fragment::<T>::read(Role::A, m, n, width, &query);
    let mut most = Fragment::<f32>::filled(Role::Accumulator, m, n, width, f32::MIN);
    for at in range_stepped(0, keys, n as u32) {
        let part = key.part(seq![of_head + at, 0], seq![n as u32, w]).transposed();
        let of_keys = Fragment::<T>::read(Role::B, m, n, width, &part);
        let mut scores = Fragment::<f32>::filled(Role::Accumulator, m, n, width, 0.0f32);
        scores.add_product(&of_queries, &of_keys);
        most.map_with(&scores, |a, b| max(a, b));
    }
    most.write(&of_scores);
    sync_storage();
    sync_cube();
    if UNIT_POS < m as u32 {
        let from = ((line + UNIT_POS) * row) as usize;
        let mut found = f32::new(f32::MIN);
        for i in 0..n {
            found = max(found, scratch[from + i]);
        }
        for i in 0..n {
            scratch[from + i] = -found;
        }
    }
    sync_storage();
    sync_cube();
    let start = Fragment::<f32>::read(Role::Accumulator, m, n, width, &of_scores);
    let mut sums = Fragment::<f32>::filled(Role::Accumulator, m, n, width, 0.0f32);
    let mut output = Fragment::<f32>::filled(Role::Accumulator, m, values, n, 0.0f32);
    for at in range_stepped(0, keys, n as u32) {
        let part = key.part(seq![of_head + at, 0], seq![n as u32, w]).transposed();
        let of_keys = Fragment::<T>::read(Role::B, m, n, width, &part);
        let mut scores = start.copied();
        scores.add_product(&of_queries, &of_keys);
        scores.map(|score| f32::exp(score * scale));
        sums.map_with(&scores, |a, b| a + b);
        // In two steps: a change of format and of role at once came out wrong in workgroups of 256.
        let weights = scores.convert::<T>(Role::Accumulator, m, n, width).convert::<T>(Role::A, m, values, n);
        let part = value.part(seq![of_head + at, 0], seq![n as u32, e]);
        let of_values = Fragment::<T>::read(Role::B, m, values, n, &part);
        output.add_product(&weights, &of_values);
    }
    // Where every thread has read what the sums now replace.
    sync_cube();
    sums.write(&of_scores);
    sync_storage();
    sync_cube();
    if UNIT_POS < m as u32 {
        let from = ((line + UNIT_POS) * row) as usize;
        let mut sum = f32::new(0.0);
        for i in 0..n {
            sum += scratch[from + i];
        }
        for i in 0..values {
            scratch[from + i] = 1.0 / sum;
        }
    }
    sync_storage();
    sync_cube();
    let factors = Fragment::<f32>::read(Role::Accumulator, m, values, n, &of_y);
    output.map_with(&factors, |a, b| a * b);
    let narrow = output.convert::<T>(Role::Accumulator, m, values, n);
    narrow.write(&y);
}

/// Queries and keys `[heads, tokens, width]`, values `[heads, keys, values]`, contiguous, with widths that are [`widened`].
pub(super) fn attention(query: CubeTensor, key: CubeTensor, value: CubeTensor, scale: f64) -> CubeTensor {
    let [heads, queries, width] = query.meta.shape().dims();
    let [_, keys, values] = value.meta.shape().dims();
    let tile = Tile {
        queries: if width.max(values) <= 64 { QUERIES } else { QUERIES / 2 },
        keys: KEYS,
        width,
        values,
        row: values.max(KEYS),
    };
    let cubes = queries.div_ceil(tile.queries);
    let (client, dtype) = (query.client.clone(), query.dtype);
    let new = |shape: Shape, dtype: DType| {
        empty_device_contiguous_dtype(query.client.clone(), query.device.clone(), shape, dtype)
    };
    let scratch = new(Shape::new([heads * cubes * tile.queries, tile.row]), DType::F32);
    let y = new(Shape::new([heads, queries, values]), dtype);
    attend_tiles::launch(
        &client,
        CubeCount::Static(cubes as u32, heads as u32, 1),
        CubeDim::new_1d(threads(width.max(values))),
        query.into_buffer_arg(),
        key.into_buffer_arg(),
        value.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        scratch.into_buffer_arg(),
        heads as u32,
        queries as u32,
        keys as u32,
        scale as f32,
        tile,
        queries.is_multiple_of(tile.queries),
        burn::backend::cubecl::dtype_to_storage_type(dtype),
    );
    y
}

/// Zeros behind the numbers of each token.
#[cube(launch, address_type = "dynamic")]
fn widen<T: Float, N: Size>(x: &Tensor<Vector<T, N>>, y: &mut Tensor<Vector<T, N>>, #[define(T)] _dtype: ElemType) {
    let (from, to) = (x.shape(2) / x.vector_size(), y.shape(2) / y.vector_size());
    if ABSOLUTE_POS >= y.shape(0) * y.shape(1) * to {
        terminate!();
    }
    let column = ABSOLUTE_POS % to;
    let mut numbers = Vector::<T, N>::new(T::from_int(0));
    if column < from {
        numbers = x[ABSOLUTE_POS / to * from + column];
    }
    y[ABSOLUTE_POS] = numbers;
}

/// The same `[heads, tokens, width]` with the width rounded up to a [`multiple`] of the widest one's.
pub(super) fn widened(x: CubeTensor, widest: usize) -> CubeTensor {
    let [heads, tokens, width] = x.meta.shape().dims();
    let multiple = multiple(widest);
    if width.is_multiple_of(multiple) {
        return x;
    }
    let shape = Shape::new([heads, tokens, width.next_multiple_of(multiple)]);
    let y = empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, x.dtype);
    let vector = if width.is_multiple_of(4) { 4 } else { 1 };
    let threads = y.meta.shape().num_elements() / vector;
    let (client, dtype) = (x.client.clone(), x.dtype);
    let cube_dim = CubeDim::new(&client, threads);
    widen::launch(
        &client,
        calculate_cube_count_elemwise(&client, threads, cube_dim),
        cube_dim,
        address(&[&x, &y]),
        vector,
        x.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        burn::backend::cubecl::dtype_to_storage_type(dtype),
    );
    y
}
