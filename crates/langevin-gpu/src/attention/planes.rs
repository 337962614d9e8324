//! The kernel: each plane (subgroup) of a workgroup has some queries of a head, and keys and values pass by in shared memory.

#![allow(clippy::redundant_closure, reason = "a kernel's closures are expanded where they are passed; names are not")]
#![allow(clippy::manual_div_ceil, reason = "kernels compute with the operations that the device has")]

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma::Plane;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::planes::{BEHIND, ENTRIES, LANES, SHARED, SIDE};
use crate::workgroup::{Fragment, Role, exp2};
use crate::{LARGEST_COUNT, address};

/// Numbers of the widest heads: a plane has all of its queries and sums in registers.
const WIDEST: usize = 256;

/// Numbers of a value up to which a plane has the sums of all in registers, beside its queries.
const WHOLE: usize = 160;

/// The power of two that a weight may be before more is subtracted from its score: far from the end of `f16`.
const ABOVE: f32 = 10.0;

/// Sizes of a kernel's tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tile {
    /// Planes of a workgroup.
    planes: usize,
    /// Keys that are in shared memory at a time.
    keys: usize,
    /// Keys that are looked at together.
    together: usize,
    /// Numbers of a query and of a key.
    width: usize,
    /// Numbers of a value that a workgroup sums up, of `parts` times as many.
    values: usize,
    /// Workgroups that share the numbers of a value: each has the scores of its queries to itself.
    parts: usize,
    /// Whether ones lie behind the numbers of a value, which add up the weights; keys need not fill a tile then.
    ones: bool,
    /// Numbers that are read at once: 4 or 1.
    vector: usize,
}

impl Tile {
    fn queries(self) -> usize {
        self.planes * SIDE
    }

    /// Numbers of a key in shared memory, in whole matrices.
    fn wide(self) -> usize {
        self.width.next_multiple_of(SIDE)
    }

    /// Numbers of a value there.
    fn valued(self) -> usize {
        (self.values + usize::from(self.ones)).next_multiple_of(SIDE)
    }

    /// Vectors of a row there, of keys and of values.
    fn rows(self) -> [usize; 2] {
        [self.wide() + BEHIND, self.valued() + BEHIND].map(|numbers| numbers / self.vector)
    }

    /// Vectors in shared memory: keys and values of two tiles, or the queries before them.
    fn held(self) -> usize {
        let [key, value] = self.rows();
        (self.queries() * key).max(2 * self.keys * (key + value))
    }

    /// Bytes there, with room for scores of each plane.
    fn bytes(self) -> usize {
        2 * self.vector * self.held() + 4 * self.planes * SIDE * SIDE
    }
}

/// Vector `column` behind `from` of row `token` of `[tokens, line]`, where `width` vectors are filled up to `wide`: zeros behind them, and without
/// `exact` the last row behind it.
#[cube]
pub(super) fn part_of<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    first: usize,
    token: usize,
    count: usize,
    from: usize,
    column: usize,
    #[comptime] line: usize,
    #[comptime] width: usize,
    #[comptime] wide: usize,
    #[comptime] exact: bool,
) -> Vector<T, N> {
    let row = if comptime!(exact) { first + token } else { first + min(token, count - 1) };
    // Asked for without a condition: what is behind one is waited for.
    if comptime!(width == wide) {
        x[row * line + from + column]
    } else {
        let numbers = x[row * line + from + min(column, width - 1)];
        select(column < width, numbers, Vector::new(T::from_int(0)))
    }
}

/// `softmax(scale·q·kᵀ)·v` of some queries of a head, by online softmax, and what the scores of each query have to begin with so that
/// `scale` times them, as powers of two, are weights.
#[cube(launch, address_type = "dynamic")]
fn attend<T: Float, N: Size>(
    query: &Tensor<Vector<T, N>>,
    key: &Tensor<Vector<T, N>>,
    value: &Tensor<Vector<T, N>>,
    y: &mut Tensor<T>,
    starts: &mut Tensor<f32>,
    scale: f32,
    #[comptime] tile: Tile,
    #[define(T)] _dtype: ElemType,
) {
    let vector = comptime!(tile.vector);
    let threads = comptime!(tile.planes * LANES);
    let (wide, valued) = comptime!((tile.wide() / vector, tile.valued() / vector));
    let (width, values) = comptime!((tile.width / vector, tile.values / vector));
    let value_width = comptime!(tile.parts * values);
    let [key_row, value_row] = comptime!(tile.rows());
    let (key_line, value_line) = comptime!((key_row as u32, value_row as u32));
    let of_keys = comptime!(tile.keys * key_row);
    let both = comptime!(tile.keys * (key_row + value_row));
    let (held, all_seen) = comptime!((tile.held(), tile.planes * SIDE * SIDE));
    let mut shared = Shared::<[Vector<T, N>]>::new_aligned_slice(held, 16usize);
    let mut seen = Shared::<[f32]>::new_aligned_slice(all_seen, 16usize);
    let side = comptime!(SIDE / vector);
    let (deep, broad, high) = comptime!((tile.wide() / SIDE, tile.valued() / SIDE, tile.together / SIDE));

    let (queries, keys) = (query.shape(1), key.shape(1));
    let unit = UNIT_POS as usize;
    let (plane, lane) = (unit / LANES, unit % LANES);
    let (head, part) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize);
    let zero = 0usize.runtime();
    let first = CUBE_POS_X as usize * comptime!(tile.queries());
    let of_plane = plane * comptime!(SIDE * SIDE);
    // What a thread has of a row of scores in memory: half of it.
    let row = lane / 2;
    let from_row = of_plane + row * SIDE + lane % 2 * ENTRIES;

    // Queries stay with their plane.
    for i in range_stepped(unit, comptime!(tile.queries() * wide), threads) {
        let numbers = part_of::<T, N>(
            query,
            head * queries,
            first + i / wide,
            queries,
            zero,
            i % wide,
            width,
            width,
            wide,
            false,
        );
        shared[i / wide * key_row + i % wide] = numbers;
    }
    sync_cube();
    let mut of_queries = Sequence::<Fragment<T, Plane>>::new();
    #[unroll]
    for k in 0..deep {
        let part = &shared[plane * SIDE * key_row + k * side..held];
        of_queries.push(Fragment::<T, Plane>::fetch(Role::A, SIDE, part, key_line, false));
    }
    sync_cube();

    let mut output = Sequence::<Fragment<f32, Plane>>::new();
    #[unroll]
    for _v in 0..broad {
        output.push(Fragment::<f32, Plane>::filled(Role::Accumulator, SIDE, SIDE, SIDE, 0.0f32));
    }
    let mut sums = Fragment::<f32, Plane>::filled(Role::Accumulator, SIDE, SIDE, SIDE, 0.0f32);
    // Minus what the scores of each query are less.
    let mut below = Fragment::<f32, Plane>::filled(Role::Accumulator, SIDE, SIDE, SIDE, 0.0f32);
    let (key_count, value_count) = comptime!((tile.keys * wide, tile.keys * valued));
    let (key_turns, value_turns) = comptime!((key_count.div_ceil(threads), value_count.div_ceil(threads)));
    // One more turn than tiles: keys and values are asked for in the turn before theirs.
    let exact = comptime!(!tile.ones);
    let tiles = (keys + tile.keys - 1) / tile.keys;
    for turn in 0..tiles + 1 {
        // In the last turn, whose keys nobody looks at, once more the last tile.
        let token = min(turn, tiles - 1) * tile.keys;
        let mut next_keys = Sequence::<Vector<T, N>>::new();
        let mut next_values = Sequence::<Vector<T, N>>::new();
        #[unroll]
        for i in 0..key_turns {
            let at = min(i * threads + unit, key_count - 1);
            next_keys.push(part_of::<T, N>(
                key,
                head * keys,
                token + at / wide,
                keys,
                zero,
                at % wide,
                width,
                width,
                wide,
                exact,
            ));
        }
        #[unroll]
        for i in 0..value_turns {
            let at = min(i * threads + unit, value_count - 1);
            let (key, column) = (token + at / valued, at % valued);
            let mut numbers = part_of::<T, N>(
                value,
                head * keys,
                key,
                keys,
                part * values,
                column,
                value_width,
                values,
                valued,
                exact,
            );
            if comptime!(tile.ones) {
                numbers = select(column == values, Vector::new(T::from_int(1)), numbers);
                numbers = select(key < keys, numbers, Vector::new(T::from_int(0)));
            }
            next_values.push(numbers);
        }
        if turn > 0 {
            let from = (turn + 1) % 2 * both;
            #[unroll]
            for some in 0..comptime!(tile.keys / tile.together) {
                let mut scores = Sequence::<Fragment<f32, Plane>>::new();
                #[unroll]
                for j in 0..high {
                    let at = from + (some * high + j) * SIDE * key_row;
                    let mut of_these = below.copied();
                    #[unroll]
                    for k in 0..deep {
                        let part = &shared[at + k * side..held];
                        let part = Fragment::<T, Plane>::fetch(Role::B, SIDE, part, key_line, true);
                        of_these.add_product(&of_queries[k], &part);
                    }
                    scores.push(of_these);
                }
                // Whichever entries a thread has: is one of the plane's too large?
                let mut largest = f32::new(f32::MIN);
                #[unroll]
                for j in 0..high {
                    #[unroll]
                    for i in 0..ENTRIES {
                        largest = max(largest, scores[j].entry(i));
                    }
                }
                let start = turn == 1 && some == 0;
                if plane_any(start || largest * scale > ABOVE) {
                    let mut most = scores[0].copied();
                    #[unroll]
                    for j in 1..high {
                        most.map_with(&scores[j], |a, b| max(a, b));
                    }
                    most.put(&mut seen[of_plane..all_seen], SIDE as u32);
                    sync_plane();
                    let mut of_row = seen[from_row];
                    #[unroll]
                    for i in 1..ENTRIES {
                        of_row = max(of_row, seen[from_row + i]);
                    }
                    of_row = max(of_row, plane_shuffle_xor(of_row, 1u32));
                    // At first the largest, later no less than before.
                    if !start {
                        of_row = max(of_row, 0.0f32);
                    }
                    sync_plane();
                    #[unroll]
                    for i in 0..ENTRIES {
                        seen[from_row + i] = -of_row;
                    }
                    sync_plane();
                    let less = &seen[of_plane..all_seen];
                    let less = Fragment::<f32, Plane>::fetch(Role::Accumulator, SIDE, less, SIDE as u32, false);
                    below.map_with(&less, |a, b| a + b);
                    #[unroll]
                    for j in 0..high {
                        scores.index_mut(j).map_with(&less, |a, b| a + b);
                    }
                    // Nothing is there at first, and its factor may be beyond all numbers.
                    if !start {
                        #[unroll]
                        for v in 0..broad {
                            output.index_mut(v).map_with(&less, |a, b| a * exp2(b * scale));
                        }
                        if comptime!(!tile.ones) {
                            sums.map_with(&less, |a, b| a * exp2(b * scale));
                        }
                    }
                    sync_plane();
                }
                #[unroll]
                for j in 0..high {
                    scores.index_mut(j).map(|score| exp2(score * scale));
                    if comptime!(!tile.ones) {
                        sums.map_with(&scores[j], |a, b| a + b);
                    }
                    // In two steps: with matrices of a workgroup a change of format and of role at once came out wrong.
                    let narrow = scores[j].convert::<T>(Role::Accumulator, SIDE, SIDE, SIDE);
                    let weights = narrow.convert::<T>(Role::A, SIDE, SIDE, SIDE);
                    let at = from + of_keys + (some * high + j) * SIDE * value_row;
                    #[unroll]
                    for v in 0..broad {
                        let part = &shared[at + v * side..held];
                        let part = Fragment::<T, Plane>::fetch(Role::B, SIDE, part, value_line, false);
                        output.index_mut(v).add_product(&weights, &part);
                    }
                }
            }
        }
        let to = turn % 2 * both;
        #[unroll]
        for i in 0..key_turns {
            let at = i * threads + unit;
            if comptime!(key_count.is_multiple_of(threads)) || at < key_count {
                shared[to + at / wide * key_row + at % wide] = next_keys[i];
            }
        }
        #[unroll]
        for i in 0..value_turns {
            let at = i * threads + unit;
            if comptime!(value_count.is_multiple_of(threads)) || at < value_count {
                shared[to + of_keys + at / valued * value_row + at % valued] = next_values[i];
            }
        }
        sync_cube();
    }

    let mut sum = f32::new(0.0);
    if comptime!(tile.ones) {
        output[comptime!(tile.values / SIDE)].put(&mut seen[of_plane..all_seen], SIDE as u32);
        sync_plane();
        sum = seen[of_plane + row * SIDE + comptime!(tile.values % SIDE)];
    } else {
        sums.put(&mut seen[of_plane..all_seen], SIDE as u32);
        sync_plane();
        #[unroll]
        for i in 0..ENTRIES {
            sum += seen[from_row + i];
        }
        sum += plane_shuffle_xor(sum, 1u32);
    }
    let factor = 1.0f32 / sum;
    let token = first + plane * SIDE + row;
    sync_plane();
    below.put(&mut seen[of_plane..all_seen], SIDE as u32);
    sync_plane();
    if token < queries && lane % 2 == 0 && part == 0 {
        starts[head * queries + token] = seen[from_row] - sum.ln() * f32::new(std::f32::consts::LOG2_E) / scale;
    }
    #[unroll]
    for v in 0..comptime!(tile.values.div_ceil(SIDE)) {
        sync_plane();
        output[v].put(&mut seen[of_plane..all_seen], SIDE as u32);
        sync_plane();
        #[unroll]
        for i in 0..ENTRIES {
            let column = v * SIDE + lane % 2 * ENTRIES + i;
            if token < queries && column < tile.values {
                let of_row = (head * queries + token) * tile.parts + part;
                y[of_row * tile.values + column] = T::cast_from(seen[from_row + i] * factor);
            }
        }
    }
}

/// Planes of a workgroup, keys in shared memory and keys that are looked at together, the fastest first where they fit: more planes read
/// keys and values less often, and with more keys they wait for each other less often. On an H100 [8, 8, 4096, 40] takes 1.23 ms by the first
/// and 1.34 by the second, [8, 8, 4096, 64] 1.31 by the second, 1.38 by the third and 1.65 by the fourth.
const SIZES: [[usize; 3]; 5] = [[16, 64, 16], [12, 64, 16], [8, 64, 32], [8, 32, 32], [4, 16, 16]];

/// The tile for some heads, or none if they are too wide for shared memory.
fn tile(queries: usize, keys: usize, width: usize, values: usize) -> Option<Tile> {
    let vector = if width.is_multiple_of(4) && values.is_multiple_of(4) { 4 } else { 1 };
    let parts = if values > WHOLE && values.is_multiple_of(2 * SIDE) { 2 } else { 1 };
    let values = values / parts;
    let sized = |[planes, at_once, together]: [usize; 3]| {
        let ones = !values.is_multiple_of(SIDE) || !keys.is_multiple_of(at_once);
        Tile { planes, keys: at_once, together, width, values, parts, ones, vector }
    };
    let few = |tile: &Tile| tile.planes <= 4 || queries > tile.queries() / 2;
    let fits = |tile: &Tile| width.max(values * parts) <= WIDEST && tile.bytes() <= SHARED;
    SIZES.map(sized).into_iter().find(|tile| few(tile) && fits(tile))
}

/// Queries and keys `[heads, tokens, width]`, values `[heads, keys, values]`, contiguous, which there is a [`tile`] for: the output, and
/// what the scores of each query begin with.
pub(super) fn attention(query: CubeTensor, key: CubeTensor, value: CubeTensor, scale: f64) -> [CubeTensor; 2] {
    let [heads, queries, width] = query.meta.shape().dims();
    let [_, keys, values] = value.meta.shape().dims();
    let tile = tile(queries, keys, width, values).expect("a tile, as was asked before");
    let (client, dtype) = (query.client.clone(), query.dtype);
    let shape = Shape::new([heads, queries, values]);
    let empty = |shape, dtype| empty_device_contiguous_dtype(client.clone(), query.device.clone(), shape, dtype);
    let (y, starts) = (empty(shape, dtype), empty(Shape::new([heads, queries]), DType::F32));
    attend::launch(
        &client,
        CubeCount::Static(queries.div_ceil(tile.queries()) as u32, heads as u32, tile.parts as u32),
        CubeDim::new_1d((tile.planes * LANES) as u32),
        address(&[&query, &key, &value, &y]),
        tile.vector,
        query.into_tensor_arg(),
        key.into_tensor_arg(),
        value.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        starts.clone().into_tensor_arg(),
        (scale * std::f64::consts::LOG2_E) as f32,
        tile,
        dtype_to_storage_type(dtype),
    );
    [y, starts]
}

/// Whether there is a kernel for heads of these sizes.
pub(super) fn serves([heads, queries, width]: [usize; 3], [_, keys, values]: [usize; 3]) -> bool {
    let tile = tile(queries, keys, width, values);
    let counts = |tile: Tile| heads.max(queries.div_ceil(tile.queries())) <= LARGEST_COUNT;
    [heads, queries, width, keys, values].iter().all(|size| *size > 0) && tile.is_some_and(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_up_to_256_numbers_have_a_tile() {
        for queries in [1, 16, 77, 4096] {
            for keys in [1, 16, 77, 4096] {
                for (width, values) in (1..=WIDEST).flat_map(|width| [(width, width), (width, 40), (40, width)]) {
                    let tile = tile(queries, keys, width, values).expect("a tile");
                    assert!(tile.bytes() <= SHARED && tile.keys.is_multiple_of(tile.together), "{tile:?}");
                    assert!(
                        tile.ones || keys.is_multiple_of(tile.keys) && tile.values.is_multiple_of(SIDE),
                        "{tile:?}"
                    );
                    assert!(tile.valued() >= tile.values + usize::from(tile.ones), "{tile:?}");
                    assert_eq!(tile.values * tile.parts, values, "{tile:?}");
                }
                assert_eq!(tile(queries, keys, WIDEST + 1, 40), None);
            }
        }
    }
}
