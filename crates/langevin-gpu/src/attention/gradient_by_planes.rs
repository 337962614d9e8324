//! The gradient, whose scores are computed again: each plane (subgroup) of a workgroup has some queries, or some keys, and the others pass by
//! in shared memory.

#![allow(clippy::redundant_closure, reason = "a kernel's closures are expanded where they are passed; names are not")]
#![allow(clippy::manual_div_ceil, reason = "kernels compute with the operations that the device has")]

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma::Plane;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::planes::part_of;
use crate::planes::{BEHIND, ENTRIES, LANES, SHARED, SIDE};
use crate::workgroup::{Fragment, Role, exp2};
use crate::{LARGEST_COUNT, address};

/// Numbers of the widest heads: a plane has its tokens and the sums of two gradients in registers.
const WIDEST: usize = 128;

/// A start of scores that leaves no weight.
const NONE: f32 = -1e30;

/// Sizes of a kernel's tiles, and what it sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pass {
    /// Planes of a workgroup.
    planes: usize,
    /// Tokens that are in shared memory at a time.
    passing: usize,
    /// Numbers of a query and of a key.
    width: usize,
    /// Numbers of a value.
    values: usize,
    /// Numbers that are read at once: 4 or 1.
    vector: usize,
    /// Whether planes have keys and values, and queries pass by.
    of_keys: bool,
    /// Whether those that pass by do not fill their tiles.
    ragged: bool,
}

impl Pass {
    fn tokens(self) -> usize {
        self.planes * SIDE
    }

    /// Numbers of a key and of a value in shared memory, in whole matrices.
    fn filled(self) -> [usize; 2] {
        [self.width, self.values].map(|numbers| numbers.next_multiple_of(SIDE))
    }

    /// Vectors of a row there.
    fn rows(self) -> [usize; 2] {
        self.filled().map(|numbers| (numbers + BEHIND) / self.vector)
    }

    /// Vectors there: two tiles of those that pass by, or before them one half of a plane's tokens.
    fn held(self) -> usize {
        let [first, second] = self.rows();
        (self.tokens() * first.max(second)).max(2 * self.passing * (first + second))
    }

    /// What begins scores and their gradients there: of two tiles that pass by, or of the planes' tokens.
    fn starts(self) -> usize {
        2 * if self.of_keys { 2 * self.passing } else { self.tokens() }
    }

    fn bytes(self) -> usize {
        2 * self.vector * self.held() + 4 * self.starts() + 4 * self.planes * SIDE * SIDE
    }
}

/// A matrix of numbers of the queries: with keys in its rows each row has all of them, with queries there each row has one, all along.
#[cube]
fn repeated(numbers: &Shared<[f32]>, at: usize, #[comptime] pass: Pass) -> Fragment<f32, Plane> {
    let part = &numbers[at..comptime!(pass.starts())];
    // A row, or a column, every 0 numbers.
    Fragment::<f32, Plane>::fetch(Role::Accumulator, SIDE, part, 0u32, comptime!(!pass.of_keys))
}

/// Brings a plane's tokens into its registers.
#[cube]
fn own<T: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    above: usize,
    first: usize,
    count: usize,
    shared: &mut Shared<[Vector<T, N>]>,
    #[comptime] pass: Pass,
    #[comptime] numbers: usize,
) -> Sequence<Fragment<T, Plane>> {
    let wide = comptime!(numbers.next_multiple_of(SIDE));
    let (row, filled, width) = comptime!(((wide + BEHIND) / pass.vector, wide / pass.vector, numbers / pass.vector));
    let (line, side, held) = comptime!((row as u32, SIDE / pass.vector, pass.held()));
    let (unit, zero) = (UNIT_POS as usize, 0usize.runtime());
    for i in range_stepped(unit, comptime!(pass.tokens() * filled), comptime!(pass.planes * LANES)) {
        let part = part_of::<T, N>(x, above, first + i / filled, count, zero, i % filled, width, width, filled, false);
        shared[i / filled * row + i % filled] = part;
    }
    sync_cube();
    let mut found = Sequence::<Fragment<T, Plane>>::new();
    #[unroll]
    for k in 0..comptime!(wide / SIDE) {
        let part = &shared[unit / LANES * SIDE * row + k * side..held];
        found.push(Fragment::<T, Plane>::fetch(Role::A, SIDE, part, line, false));
    }
    sync_cube();
    found
}

/// Writes the sums of a plane's tokens.
#[cube]
fn give<T: Float>(
    sums: &Sequence<Fragment<f32, Plane>>,
    y: &mut Tensor<T>,
    above: usize,
    first: usize,
    count: usize,
    factor: f32,
    seen: &mut Shared<[f32]>,
    #[comptime] pass: Pass,
    #[comptime] numbers: usize,
) {
    let all = comptime!(pass.planes * SIDE * SIDE);
    let unit = UNIT_POS as usize;
    let (plane, lane) = (unit / LANES, unit % LANES);
    let of_plane = plane * comptime!(SIDE * SIDE);
    let row = lane / 2;
    let token = first + plane * SIDE + row;
    #[unroll]
    for v in 0..comptime!(numbers.div_ceil(SIDE)) {
        sync_plane();
        sums[v].put(&mut seen[of_plane..all], SIDE as u32);
        sync_plane();
        #[unroll]
        for i in 0..ENTRIES {
            let at = lane % 2 * ENTRIES + i;
            let column = v * SIDE + at;
            if token < count && column < numbers {
                y[(above + token) * numbers + column] = T::cast_from(seen[of_plane + row * SIDE + at] * factor);
            }
        }
    }
}

/// With P = softmax(scale·Q·Kᵀ), the gradient G of P·V and S = P ∘ (G·Vᵀ − its mean under P): planes that have queries (Q and G) sum
/// up S·K, those that have keys (K and V) Sᵀ·Q and Pᵀ·G. `starts` is what scores begin with, so that their powers are weights, and `means` the mean.
#[cube(launch, address_type = "dynamic")]
fn go_back<T: Float, N: Size>(
    own_first: &Tensor<Vector<T, N>>,
    own_second: &Tensor<Vector<T, N>>,
    other_first: &Tensor<Vector<T, N>>,
    other_second: &Tensor<Vector<T, N>>,
    starts: &Tensor<f32>,
    means: &Tensor<f32>,
    of_first: &mut Tensor<T>,
    of_second: &mut Tensor<T>,
    scale: f32,
    factor: f32,
    #[comptime] pass: Pass,
    #[define(T)] _dtype: ElemType,
) {
    let vector = comptime!(pass.vector);
    let threads = comptime!(pass.planes * LANES);
    let (first_row, second_row) = comptime!((pass.rows()[0], pass.rows()[1]));
    let (first_filled, second_filled) = comptime!((pass.filled()[0] / vector, pass.filled()[1] / vector));
    let (width, values) = comptime!((pass.width / vector, pass.values / vector));
    let (first_line, second_line) = comptime!((first_row as u32, second_row as u32));
    let passing = comptime!(pass.passing);
    let of_firsts = comptime!(passing * first_row);
    let both = comptime!(passing * (first_row + second_row));
    let (held, all_starts, all_seen) = comptime!((pass.held(), pass.starts(), pass.planes * SIDE * SIDE));
    let (deep, broad) = comptime!((pass.filled()[0] / SIDE, pass.filled()[1] / SIDE));
    let side = comptime!(SIDE / vector);
    let mut shared = Shared::<[Vector<T, N>]>::new_aligned_slice(held, 16usize);
    let mut begins = Shared::<[f32]>::new_aligned_slice(all_starts, 16usize);
    let mut seen = Shared::<[f32]>::new_aligned_slice(all_seen, 16usize);

    let (tokens, others) = (own_first.shape(1), other_first.shape(1));
    let unit = UNIT_POS as usize;
    let plane = unit / LANES;
    let head = CUBE_POS_Y as usize;
    let first = CUBE_POS_X as usize * comptime!(pass.tokens());
    let (above, above_others) = (head * tokens, head * others);

    let firsts = own::<T, N>(own_first, above, first, tokens, &mut shared, pass, comptime!(pass.width));
    let seconds = own::<T, N>(own_second, above, first, tokens, &mut shared, pass, comptime!(pass.values));
    let mut of_own = Sequence::<Fragment<f32, Plane>>::new();
    if comptime!(!pass.of_keys) {
        let count = comptime!(pass.tokens());
        if unit < count {
            let at = above + min(first + unit, tokens - 1);
            begins[unit] = starts[at];
            begins[count + unit] = -means[at];
        }
        sync_cube();
        of_own.push(repeated(&begins, plane * SIDE, pass));
        of_own.push(repeated(&begins, count + plane * SIDE, pass));
    }

    let mut sums = Sequence::<Fragment<f32, Plane>>::new();
    #[unroll]
    for _k in 0..deep {
        sums.push(Fragment::<f32, Plane>::filled(Role::Accumulator, SIDE, SIDE, SIDE, 0.0f32));
    }
    let mut others_sums = Sequence::<Fragment<f32, Plane>>::new();
    if comptime!(pass.of_keys) {
        #[unroll]
        for _v in 0..broad {
            others_sums.push(Fragment::<f32, Plane>::filled(Role::Accumulator, SIDE, SIDE, SIDE, 0.0f32));
        }
    }

    let (first_count, second_count) = comptime!((passing * first_filled, passing * second_filled));
    let (first_turns, second_turns) = comptime!((first_count.div_ceil(threads), second_count.div_ceil(threads)));
    let exact = comptime!(!pass.ragged);
    let zero = Vector::<T, N>::new(T::from_int(0));
    let nothing = 0usize.runtime();
    // One more turn than tiles: tokens are asked for in the turn before theirs.
    let tiles = (others + passing - 1) / passing;
    for turn in 0..tiles + 1 {
        // In the last turn, whose tokens nobody looks at, once more the last tile.
        let token = min(turn, tiles - 1) * passing;
        let mut next_firsts = Sequence::<Vector<T, N>>::new();
        let mut next_seconds = Sequence::<Vector<T, N>>::new();
        #[unroll]
        for i in 0..first_turns {
            let at = min(i * threads + unit, first_count - 1);
            let (row, column) = (token + at / first_filled, at % first_filled);
            let part = part_of::<T, N>(
                other_first,
                above_others,
                row,
                others,
                nothing,
                column,
                width,
                width,
                first_filled,
                exact,
            );
            if comptime!(exact) {
                next_firsts.push(part);
            } else {
                next_firsts.push(select(row < others, part, zero));
            }
        }
        #[unroll]
        for i in 0..second_turns {
            let at = min(i * threads + unit, second_count - 1);
            let (row, column) = (token + at / second_filled, at % second_filled);
            let part = part_of::<T, N>(
                other_second,
                above_others,
                row,
                others,
                nothing,
                column,
                values,
                values,
                second_filled,
                exact,
            );
            if comptime!(exact) {
                next_seconds.push(part);
            } else {
                next_seconds.push(select(row < others, part, zero));
            }
        }
        let mut next_start = f32::new(0.0);
        let mut next_less = f32::new(0.0);
        if comptime!(pass.of_keys) {
            let row = token + min(unit, passing - 1);
            let at = above_others + min(row, others - 1);
            next_start = select(row < others, starts[at], f32::new(NONE));
            next_less = select(row < others, -means[at], 0.0f32);
        }
        if turn > 0 {
            let from = (turn + 1) % 2 * both;
            #[unroll]
            for j in 0..comptime!(passing / SIDE) {
                let of_first = from + j * SIDE * first_row;
                let of_second = from + of_firsts + j * SIDE * second_row;
                let at = (turn + 1) % 2 * comptime!(2 * passing) + j * SIDE;
                let mut scores = if comptime!(pass.of_keys) { repeated(&begins, at, pass) } else { of_own[0].copied() };
                let mut changes =
                    if comptime!(pass.of_keys) { repeated(&begins, at + passing, pass) } else { of_own[1].copied() };
                #[unroll]
                for k in 0..deep {
                    let part = &shared[of_first + k * side..held];
                    let part = Fragment::<T, Plane>::fetch(Role::B, SIDE, part, first_line, true);
                    scores.add_product(&firsts[k], &part);
                }
                #[unroll]
                for v in 0..broad {
                    let part = &shared[of_second + v * side..held];
                    let part = Fragment::<T, Plane>::fetch(Role::B, SIDE, part, second_line, true);
                    changes.add_product(&seconds[v], &part);
                }
                // No weight is more than one; behind the end of the others the power could be beyond all numbers.
                scores.map(|score| min(exp2(score * scale), 1.0f32));
                if comptime!(pass.of_keys) {
                    let weights = scores.convert::<T>(Role::Accumulator, SIDE, SIDE, SIDE);
                    let weights = weights.convert::<T>(Role::A, SIDE, SIDE, SIDE);
                    #[unroll]
                    for v in 0..broad {
                        let part = &shared[of_second + v * side..held];
                        let part = Fragment::<T, Plane>::fetch(Role::B, SIDE, part, second_line, false);
                        others_sums.index_mut(v).add_product(&weights, &part);
                    }
                }
                changes.map_with(&scores, |change, weight| change * weight);
                let changes = changes.convert::<T>(Role::Accumulator, SIDE, SIDE, SIDE);
                let changes = changes.convert::<T>(Role::A, SIDE, SIDE, SIDE);
                #[unroll]
                for k in 0..deep {
                    let part = &shared[of_first + k * side..held];
                    let part = Fragment::<T, Plane>::fetch(Role::B, SIDE, part, first_line, false);
                    sums.index_mut(k).add_product(&changes, &part);
                }
            }
        }
        let to = turn % 2 * both;
        #[unroll]
        for i in 0..first_turns {
            let at = i * threads + unit;
            if comptime!(first_count.is_multiple_of(threads)) || at < first_count {
                shared[to + at / first_filled * first_row + at % first_filled] = next_firsts[i];
            }
        }
        #[unroll]
        for i in 0..second_turns {
            let at = i * threads + unit;
            if comptime!(second_count.is_multiple_of(threads)) || at < second_count {
                shared[to + of_firsts + at / second_filled * second_row + at % second_filled] = next_seconds[i];
            }
        }
        if comptime!(pass.of_keys) && unit < passing {
            let at = turn % 2 * comptime!(2 * passing) + unit;
            begins[at] = next_start;
            begins[at + passing] = next_less;
        }
        sync_cube();
    }

    give::<T>(&sums, of_first, above, first, tokens, factor, &mut seen, pass, comptime!(pass.width));
    if comptime!(pass.of_keys) {
        give::<T>(&others_sums, of_second, above, first, tokens, 1.0f32, &mut seen, pass, comptime!(pass.values));
    }
}

/// Planes of a workgroup and tokens that pass by together, the fastest first where they fit.
const SIZES: [[usize; 2]; 3] = [[8, 32], [4, 32], [4, 16]];

/// The tiles for some heads, or none if they are too wide for registers.
fn pass(of_keys: bool, [queries, keys]: [usize; 2], width: usize, values: usize) -> Option<Pass> {
    let (own, others) = if of_keys { (keys, queries) } else { (queries, keys) };
    let vector = if width.is_multiple_of(4) && values.is_multiple_of(4) { 4 } else { 1 };
    let sized = |[planes, passing]: [usize; 2]| {
        let ragged = !others.is_multiple_of(passing);
        Pass { planes, passing, width, values, vector, of_keys, ragged }
    };
    let few = |pass: &Pass| pass.planes <= 4 || own > pass.tokens() / 2;
    let fits = |pass: &Pass| width.max(values) <= WIDEST && pass.bytes() <= SHARED;
    SIZES.map(sized).into_iter().find(|pass| few(pass) && fits(pass))
}

/// Whether there is a kernel for queries and values of these sizes.
pub(super) fn serves([heads, queries, width]: [usize; 3], [_, keys, values]: [usize; 3]) -> bool {
    let reaches = |of_keys: bool, own: usize| {
        let pass = pass(of_keys, [queries, keys], width, values);
        pass.is_some_and(|pass| heads.max(own.div_ceil(pass.tokens())) <= LARGEST_COUNT)
    };
    [heads, queries, width, keys, values].iter().all(|size| *size > 0) && reaches(false, queries) && reaches(true, keys)
}

/// The gradients of queries, keys and values from that of the output, all contiguous, which this [`serves`]; with what the scores of each
/// query begin with, and the mean of each row.
pub(super) fn gradients(
    [query, key, value, gradient]: [CubeTensor; 4],
    [starts, means]: [CubeTensor; 2],
    scale: f64,
) -> [CubeTensor; 3] {
    let empty = |like: &CubeTensor| {
        empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), like.meta.shape().clone(), like.dtype)
    };
    let [of_query, of_key, of_value] = [&query, &key, &value].map(empty);
    let [heads, queries, width] = query.meta.shape().dims();
    let [_, keys, values] = value.meta.shape().dims();
    for of_keys in [false, true] {
        let pass = pass(of_keys, [queries, keys], width, values).expect("tiles, as was asked before");
        let of_queries = ([&query, &gradient], queries, [&of_query, &of_value]);
        let of_others = ([&key, &value], keys, [&of_key, &of_value]);
        let ((own, tokens, found), (others, _, _)) =
            if of_keys { (of_others, of_queries) } else { (of_queries, of_others) };
        let client = query.client.clone();
        go_back::launch(
            &client,
            CubeCount::Static(tokens.div_ceil(pass.tokens()) as u32, heads as u32, 1),
            CubeDim::new_1d((pass.planes * LANES) as u32),
            address(&[own[0], own[1], others[0], others[1]]),
            pass.vector,
            own[0].clone().into_tensor_arg(),
            own[1].clone().into_tensor_arg(),
            others[0].clone().into_tensor_arg(),
            others[1].clone().into_tensor_arg(),
            starts.clone().into_tensor_arg(),
            means.clone().into_tensor_arg(),
            found[0].clone().into_tensor_arg(),
            found[1].clone().into_tensor_arg(),
            (scale * std::f64::consts::LOG2_E) as f32,
            scale as f32,
            pass,
            dtype_to_storage_type(query.dtype),
        );
    }
    [of_query, of_key, of_value]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_up_to_128_numbers_have_tiles() {
        for (own, others) in [(1, 1), (77, 4096), (4096, 77), (4096, 4096), (1, 4096)] {
            for (width, values) in (1..=WIDEST).flat_map(|width| [(width, width), (width, 40), (40, width)]) {
                for of_keys in [false, true] {
                    let pass = pass(of_keys, [own, others], width, values).expect("tiles");
                    assert!(pass.bytes() <= SHARED && pass.passing.is_multiple_of(SIDE), "{pass:?}");
                    assert!(pass.passing <= pass.planes * LANES, "{pass:?}: one thread for each start");
                    let passing = if of_keys { own } else { others };
                    assert_eq!(pass.ragged, !passing.is_multiple_of(pass.passing), "{pass:?}");
                }
            }
        }
        assert_eq!(pass(true, [64, 64], WIDEST + 1, 40), None);
    }
}
