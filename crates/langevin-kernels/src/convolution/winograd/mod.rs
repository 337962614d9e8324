//! Winograd's F(m×m, 3×3): tiles of m×m results from tiles of (m+2)×(m+2) values, with as many products as those values.
//!
//! In one dimension the results of three kernel entries come from the values by `Aᵀ[(G·g) ⊙ (Bᵀ·d)]`; the matrices are in
//! `transforms`. All functions work on lines, many tiles side by side, so that the compiler makes them instructions on vectors.
//!
//! Lavin, Gray 2016, [arXiv:1509.09308](https://arxiv.org/abs/1509.09308).

mod transforms;

use std::marker::PhantomData;

use crate::vectors::Kernel;

pub(super) use transforms::{Four, Transforms, TransformsBack, Two};

/// Numbers that are computed side by side.
const LANES: usize = 16;

/// Room for `count` numbers: an odd number of cache lines, so that many rows of such length do not fall on the same places of
/// a cache.
pub(super) fn spread(count: usize) -> usize {
    (count.div_ceil(LANES) | 1) * LANES
}

/// Kernels that lie nine entries after nine, each `step` after the one before it from `from`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernels<'a> {
    pub(super) weight: &'a [f32],
    pub(super) output: usize,
    pub(super) input: usize,
    /// Distances between the kernels of two outputs, and of two inputs.
    pub(super) steps: [usize; 2],
    /// Whether the entries are read from the last to the first.
    pub(super) turned: bool,
}

impl<'a> Kernels<'a> {
    /// Those of a weight `[output, input, 3, 3]`.
    pub(super) fn of(weight: &'a [f32], output: usize, input: usize) -> Self {
        Self { weight, output, input, steps: [9 * input, 9], turned: false }
    }

    /// Those that take the gradient back: outputs for inputs, entries turned by half a turn.
    pub(super) fn back(self) -> Self {
        let [down, across] = self.steps;
        Self { output: self.input, input: self.output, steps: [across, down], turned: !self.turned, ..self }
    }

    /// Transforms those of some outputs to `[outputs, products, input]`, with [`spread`] inputs.
    #[inline(always)]
    fn transform<T: Transforms<STEP, SIDE>, const STEP: usize, const SIDE: usize>(
        &self,
        outputs: std::ops::Range<usize>,
        to: &mut [f32],
    ) {
        let step = spread(self.input);
        for (output, to) in outputs.zip(to.chunks_exact_mut(SIDE * SIDE * step)) {
            for first in (0..self.input).step_by(LANES) {
                let some = LANES.min(self.input - first);
                let mut g = [[0.0f32; LANES]; 9];
                for lane in 0..some {
                    let at = output * self.steps[0] + (first + lane) * self.steps[1];
                    let from = &self.weight[at..at + 9];
                    for (entry, lanes) in g.iter_mut().enumerate() {
                        lanes[lane] = from[if self.turned { 8 - entry } else { entry }];
                    }
                }
                let mut half = [[[0.0f32; LANES]; 3]; SIDE];
                for column in 0..3 {
                    for lane in 0..LANES {
                        let k = T::kernel([g[column][lane], g[3 + column][lane], g[6 + column][lane]]);
                        for (i, k) in k.into_iter().enumerate() {
                            half[i][column][lane] = k;
                        }
                    }
                }
                for (i, [a, b, c]) in half.iter().enumerate() {
                    let mut whole = [[0.0f32; LANES]; SIDE];
                    for lane in 0..LANES {
                        let k = T::kernel([a[lane], b[lane], c[lane]]);
                        for (j, k) in k.into_iter().enumerate() {
                            whole[j][lane] = k;
                        }
                    }
                    for (j, line) in whole.iter().enumerate() {
                        to[(i * SIDE + j) * step + first..][..LANES].copy_from_slice(line);
                    }
                }
            }
        }
    }
}

/// Takes the gradient of transformed kernels back to the kernels of one output: entry (product, input) of `from` lies at
/// `product·step + input`.
pub(super) struct KernelsBack<T, const STEP: usize, const SIDE: usize>(pub(super) PhantomData<T>);

impl<T: TransformsBack<STEP, SIDE>, const STEP: usize, const SIDE: usize> Kernel<(&[f32], usize, &mut [f32])>
    for KernelsBack<T, STEP, SIDE>
{
    type Output = ();

    #[inline(always)]
    fn compute(self, (from, step, to): (&[f32], usize, &mut [f32])) {
        kernels_back::<T, STEP, SIDE>(from, step, to);
    }
}

#[inline(always)]
fn kernels_back<T: TransformsBack<STEP, SIDE>, const STEP: usize, const SIDE: usize>(
    from: &[f32],
    step: usize,
    to: &mut [f32],
) {
    for (input, to) in to.chunks_exact_mut(9).enumerate() {
        let mut half = [[0.0f32; SIDE]; 3];
        for j in 0..SIDE {
            let k = T::kernel_back(std::array::from_fn(|i| from[(i * SIDE + j) * step + input]));
            for i in 0..3 {
                half[i][j] = k[i];
            }
        }
        for i in 0..3 {
            to[3 * i..3 * i + 3].copy_from_slice(&T::kernel_back(half[i]));
        }
    }
}

/// `N` lines of numbers side by side.
type Lanes<const N: usize> = [[f32; LANES]; N];

/// Applies `f` to `N` lines at each of their places, [`LANES`] places at a time, and what is left by halves and then by copies.
#[inline(always)]
fn map_lines<const N: usize, const M: usize>(
    from: [&[f32]; N],
    to: &mut [f32],
    step: usize,
    f: impl Fn([f32; N]) -> [f32; M],
) {
    let length = from[0].len();
    let mut at = 0;
    while at + LANES <= length {
        map_some::<N, M, LANES>(from, to, step, at, &f);
        at += LANES;
    }
    if at + LANES / 2 <= length {
        map_some::<N, M, { LANES / 2 }>(from, to, step, at, &f);
        at += LANES / 2;
    }
    if at < length {
        let rest = length - at;
        let mut values = [[0.0; LANES]; N];
        for i in 0..N {
            values[i][..rest].copy_from_slice(&from[i][at..length]);
        }
        let results = map_lanes(&values, &f);
        for i in 0..M {
            to[i * step + at..][..rest].copy_from_slice(&results[i][..rest]);
        }
    }
}

/// [`map_lines`] for `WIDE` places from one on.
#[inline(always)]
fn map_some<const N: usize, const M: usize, const WIDE: usize>(
    from: [&[f32]; N],
    to: &mut [f32],
    step: usize,
    at: usize,
    f: &impl Fn([f32; N]) -> [f32; M],
) {
    let mut values = [[0.0; WIDE]; N];
    for i in 0..N {
        values[i].copy_from_slice(&from[i][at..at + WIDE]);
    }
    let results = map_lanes(&values, f);
    for i in 0..M {
        to[i * step + at..][..WIDE].copy_from_slice(&results[i]);
    }
}

#[inline(always)]
fn map_lanes<const N: usize, const M: usize, const WIDE: usize>(
    values: &[[f32; WIDE]; N],
    f: &impl Fn([f32; N]) -> [f32; M],
) -> [[f32; WIDE]; M] {
    let mut results = [[0.0; WIDE]; M];
    for lane in 0..WIDE {
        let result = f(std::array::from_fn(|i| values[i][lane]));
        for i in 0..M {
            results[i][lane] = result[i];
        }
    }
    results
}

/// `length` entries of `N` lines that lie `step` apart, and what is behind them up to a whole vector: there must be room.
#[inline(always)]
fn lines<const N: usize>(from: &[f32], step: usize, length: usize) -> [&[f32]; N] {
    std::array::from_fn(|i| &from[i * step..][..length.next_multiple_of(LANES)])
}

/// Takes a line apart: entry `STEP·t + i` of so many tiles becomes entry `t` of line `i`, for the first `PHASES` lines. Whole vectors
/// are read and written, so that behind the line and each of the others there must be room for [`LANES`] tiles; what is there is
/// overwritten.
#[inline(always)]
fn split<const STEP: usize, const PHASES: usize>(line: &[f32], tiles: usize, to: &mut [f32], step: usize) {
    for first in (0..tiles).step_by(LANES) {
        let mut apart: Lanes<PHASES> = [[0.0; LANES]; PHASES];
        let (from, _) = line[STEP * first..][..STEP * LANES].as_chunks::<STEP>();
        for lane in 0..LANES {
            for i in 0..PHASES {
                apart[i][lane] = from[lane][i];
            }
        }
        for i in 0..PHASES {
            to[i * step + first..][..LANES].copy_from_slice(&apart[i]);
        }
    }
}

/// A row of tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// The image.
    pub(super) image: &'a [f32],
    /// Which of its rows.
    pub(super) number: usize,
}

/// [`Kernels::transform`], to be compiled for the widest vectors.
pub(super) struct TransformKernels<T, const STEP: usize, const SIDE: usize>(pub(super) PhantomData<T>);

impl<T: Transforms<STEP, SIDE>, const STEP: usize, const SIDE: usize>
    Kernel<(Kernels<'_>, std::ops::Range<usize>, &mut [f32])> for TransformKernels<T, STEP, SIDE>
{
    type Output = ();

    #[inline(always)]
    fn compute(self, (kernels, outputs, to): (Kernels<'_>, std::ops::Range<usize>, &mut [f32])) {
        kernels.transform::<T, STEP, SIDE>(outputs, to);
    }
}

/// Room for lines, rows to transform, and where to, with the distance between lines.
pub(super) type OfValues<'a, T, const STEP: usize, const SIDE: usize> =
    (&'a mut Lines<T, STEP, SIDE>, &'a [Row<'a>], &'a mut [f32], usize);

/// [`Lines::values`], in the same way.
#[derive(Clone, Copy)]
pub(super) struct TransformValues;

impl<T: Transforms<STEP, SIDE>, const STEP: usize, const SIDE: usize> Kernel<OfValues<'_, T, STEP, SIDE>>
    for TransformValues
{
    type Output = ();

    #[inline(always)]
    fn compute(self, (lines, rows, to, step): OfValues<'_, T, STEP, SIDE>) {
        lines.values(rows, to, step);
    }
}

/// [`Lines::results_back`], in the same way.
#[derive(Clone, Copy)]
pub(super) struct TransformResultsBack;

impl<T: TransformsBack<STEP, SIDE>, const STEP: usize, const SIDE: usize> Kernel<OfValues<'_, T, STEP, SIDE>>
    for TransformResultsBack
{
    type Output = ();

    #[inline(always)]
    fn compute(self, (lines, rows, to, step): OfValues<'_, T, STEP, SIDE>) {
        lines.results_back(rows, to, step);
    }
}

/// Room for lines, the sums of products and the distance between their lines, the bias, and the strips to write.
pub(super) type OfResults<'a, 'b, T, const STEP: usize, const SIDE: usize> =
    (&'a mut Lines<T, STEP, SIDE>, &'a [f32], usize, f32, &'a mut [&'b mut [f32]]);

/// [`Lines::results`], in the same way.
pub(super) struct WriteResults;

impl<T: Transforms<STEP, SIDE>, const STEP: usize, const SIDE: usize> Kernel<OfResults<'_, '_, T, STEP, SIDE>>
    for WriteResults
{
    type Output = ();

    #[inline(always)]
    fn compute(self, (lines, from, step, bias, strips): OfResults<'_, '_, T, STEP, SIDE>) {
        lines.results(from, step, bias, strips);
    }
}

/// Room for the lines of rows of tiles, for one of the transforms: each leaves the zeros of its own around the rows.
#[derive(Debug)]
pub(super) struct Lines<T, const STEP: usize, const SIDE: usize> {
    transforms: PhantomData<T>,
    /// Lines after the transform across rows.
    half: Vec<f32>,
    /// Of a line, the numbers of each place in a tile.
    phases: Vec<f32>,
    /// Distance between lines of [`phases`](Self::phases).
    place: usize,
    /// A row beyond the image.
    zeros: Vec<f32>,
    width: usize,
    wide: usize,
    rows: usize,
}

impl<T: Transforms<STEP, SIDE>, const STEP: usize, const SIDE: usize> Lines<T, STEP, SIDE> {
    /// For `rows` rows of tiles of images of that width.
    pub(super) fn new(width: usize, rows: usize) -> Self {
        let wide = width.div_ceil(STEP);
        // Lines are taken apart by whole vectors.
        let place = spread(rows * wide + LANES);
        Self {
            transforms: PhantomData,
            half: vec![0.0; SIDE * STEP * (rows * (wide + 1) + LANES).max(place)],
            phases: vec![0.0; SIDE * place],
            place,
            zeros: vec![0.0; width],
            width,
            wide,
            rows,
        }
    }

    /// The rows of an image from `first`, where row 0 is the one before it.
    #[inline(always)]
    fn rows_of<'a, const N: usize>(image: &'a [f32], zeros: &'a [f32], first: usize) -> [&'a [f32]; N] {
        let width = zeros.len();
        let height = image.len() / width;
        std::array::from_fn(|i| match (first + i).checked_sub(1) {
            Some(row) if row < height => &image[row * width..][..width],
            _ => zeros,
        })
    }

    /// Transforms the values of rows of tiles: of each, the image and the row's number. Tile `t` of all has its product `p` at
    /// `p·step + t` of `to`.
    #[inline(always)]
    fn values(&mut self, rows: &[Row<'_>], to: &mut [f32], step: usize) {
        let (wide, place) = (self.wide, self.place);
        let length = STEP * (wide + 1);
        let whole = self.rows * length;
        for (at, row) in rows.iter().enumerate() {
            let pixels = Self::rows_of::<SIDE>(row.image, &self.zeros, STEP * row.number);
            // A tile's first value lies before its first result: the line begins with a zero.
            map_lines(pixels, &mut self.half[at * length + 1..], whole, T::values);
        }
        for (i, to) in to.chunks_mut(SIDE * step).enumerate() {
            for row in 0..rows.len() {
                let line = &self.half[i * whole + row * length..];
                split::<STEP, STEP>(line, wide, &mut self.phases[row * wide..], place);
                // The last two places of a tile are the first two of the next.
                split::<STEP, 2>(&line[STEP..], wide, &mut self.phases[STEP * place + row * wide..], place);
            }
            map_lines(lines::<SIDE>(&self.phases, place, rows.len() * wide), to, step, T::values);
        }
    }

    /// Writes the results of rows of tiles, whose product `p` of tile `t` lies at `p·step + t`, plus `bias` to the strips: the
    /// rows of pixels of each row of tiles, fewer at the lower edge.
    #[inline(always)]
    fn results(&mut self, from: &[f32], step: usize, bias: f32, strips: &mut [&mut [f32]]) {
        let (width, wide, place) = (self.width, self.wide, self.place);
        let count = strips.len() * wide;
        for column in 0..SIDE {
            let of_column = lines::<SIDE>(&from[column * step..], SIDE * step, count);
            map_lines(of_column, &mut self.half[column * place..], SIDE * place, T::results);
        }
        for row in 0..STEP {
            let of_row = lines::<SIDE>(&self.half[row * SIDE * place..], place, count);
            map_lines(of_row, &mut self.phases, place, T::results);
            for (at, strip) in strips.iter_mut().enumerate() {
                let Some(pixels) = strip.chunks_exact_mut(width).nth(row) else { continue };
                let phases: [_; STEP] = std::array::from_fn(|i| &self.phases[i * place + at * wide..][..wide]);
                let (whole, rest) = pixels.as_chunks_mut::<STEP>();
                for (t, some) in whole.iter_mut().enumerate() {
                    *some = std::array::from_fn(|i| phases[i][t] + bias);
                }
                for (value, line) in rest.iter_mut().zip(phases) {
                    *value = line[wide - 1] + bias;
                }
            }
        }
    }
}

impl<T: TransformsBack<STEP, SIDE>, const STEP: usize, const SIDE: usize> Lines<T, STEP, SIDE> {
    /// Transforms gradients of the results, as [`values`](Self::values) does with values.
    #[inline(always)]
    fn results_back(&mut self, rows: &[Row<'_>], to: &mut [f32], step: usize) {
        let (wide, place) = (self.wide, self.place);
        let length = STEP * wide;
        let whole = self.rows * length;
        for (at, row) in rows.iter().enumerate() {
            let pixels = Self::rows_of::<STEP>(row.image, &self.zeros, STEP * row.number + 1);
            map_lines(pixels, &mut self.half[at * length..], whole, T::results_back);
        }
        for (i, to) in to.chunks_mut(SIDE * step).enumerate() {
            split::<STEP, STEP>(&self.half[i * whole..], rows.len() * wide, &mut self.phases, place);
            map_lines(lines::<STEP>(&self.phases, place, rows.len() * wide), to, step, T::results_back);
        }
    }
}
