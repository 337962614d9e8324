//! The kernels: matrices of a whole workgroup, read by tensor addressing.

use burn_cubecl::cubecl;
use cubecl::cmma::{self, Cube, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;
use half::f16;

type Matrix<T> = cmma::Matrix<T, Cube>;

/// Outputs that a workgroup computes: pixels of a few images by channels, from `depth` numbers at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    pub images: usize,
    pub rows: usize,
    pub columns: usize,
    pub channels: usize,
    pub depth: usize,
}

impl Tile {
    pub fn pixels(self) -> usize {
        self.images * self.rows * self.columns
    }
}

/// `a·b`, `[m, k]` by `[k, n]`.
#[cube(launch)]
pub fn product(a: &[f16], b: &[f16], y: &mut [f16], m: u32, n: u32, k: u32, #[comptime] size: (usize, usize, usize)) {
    let (down, across, depth) = size;
    let a = TensorView::new(a, seq![m, k]).finish();
    let b = TensorView::new(b, seq![k, n]).finish();
    let y = TensorView::new(&*y, seq![m, n]).finish();
    let row = CUBE_POS_Y * down as u32;
    let column = CUBE_POS_X * across as u32;
    let mut left = empty(MatrixIdent::A, down, across, depth);
    let mut right = empty(MatrixIdent::B, down, across, depth);
    let sum = zeros(down, across, depth);
    for at in range_stepped(0, k, depth as u32) {
        cmma::load_tensor(&mut left, &a.slice(seq![row, at], seq![down as u32, depth as u32]));
        cmma::load_tensor(&mut right, &b.slice(seq![at, column], seq![depth as u32, across as u32]));
        cmma::execute(&left, &right, &sum, &sum);
    }
    let narrow: Matrix<f16> = cmma::cast(&sum);
    let mut out = y.slice(seq![row, column], seq![down as u32, across as u32]);
    cmma::store_tensor(&mut out, &narrow);
}

/// A convolution of `[batch, height, width, input]` with `[9·input, output]`, 3 x 3, stride 1, one pixel of padding: nine
/// products with shifted images. What is read outside the image is zero.
#[cube(launch)]
pub fn convolution(
    x: &[f16],
    weight: &[f16],
    y: &mut [f16],
    batch: u32,
    side: u32,
    input: u32,
    output: u32,
    #[comptime] tile: Tile,
) {
    let (pixels, channels, depth) = comptime!((tile.pixels(), tile.channels, tile.depth));
    let x = TensorView::new(x, seq![batch, side, side, input]).finish();
    let weight = TensorView::new(weight, seq![9 * input, output]).finish();
    let y = TensorView::new(&*y, seq![batch, side, side, output]).finish();
    let down = side.div_ceil(tile.rows as u32);
    let across = side.div_ceil(tile.columns as u32);
    let channel = CUBE_POS_X * channels as u32;
    let column = (CUBE_POS_Y % across) * tile.columns as u32;
    let row = (CUBE_POS_Y / across % down) * tile.rows as u32;
    let image = (CUBE_POS_Y / across / down) * tile.images as u32;
    let mut left = empty(MatrixIdent::A, pixels, channels, depth);
    let mut right = empty(MatrixIdent::B, pixels, channels, depth);
    let sum = zeros(pixels, channels, depth);
    for tap in 0..9u32 {
        // One before the first wraps around, which is outside as well.
        let (from_row, from_column) = (row + tap / 3 - 1, column + tap % 3 - 1);
        for at in range_stepped(0, input, depth as u32) {
            let part = x.slice(
                seq![image, from_row, from_column, at],
                seq![tile.images as u32, tile.rows as u32, tile.columns as u32, depth as u32],
            );
            cmma::load_tensor(&mut left, &part);
            let part = weight.slice(seq![tap * input + at, channel], seq![depth as u32, channels as u32]);
            cmma::load_tensor(&mut right, &part);
            cmma::execute(&left, &right, &sum, &sum);
        }
    }
    let narrow: Matrix<f16> = cmma::cast(&sum);
    let mut out = y.slice(
        seq![image, row, column, channel],
        seq![tile.images as u32, tile.rows as u32, tile.columns as u32, channels as u32],
    );
    cmma::store_tensor(&mut out, &narrow);
}

/// `e^(q·kᵀ)·v` for each head, without a maximum: a shift of the scores goes into one more number of queries and keys, and
/// their sum comes from one more number of the values.
#[cube(launch)]
pub fn attention(
    q: &[f16],
    k: &[f16],
    v: &[f16],
    y: &mut [f32],
    tokens: u32,
    heads: u32,
    #[comptime] width: usize,
    #[comptime] size: (usize, usize),
) {
    let (queries, keys) = size;
    let head = CUBE_POS_Y;
    let shape = seq![heads, tokens, width as u32];
    let q = TensorView::new(q, shape.clone()).finish();
    let k = TensorView::new(k, shape.clone()).finish();
    let v = TensorView::new(v, shape.clone()).finish();
    let y = TensorView::new(&*y, shape).finish();
    let query = CUBE_POS_X * queries as u32;
    let mut of_queries = empty(MatrixIdent::A, queries, keys, width);
    let mut of_keys = empty(MatrixIdent::B, queries, keys, width);
    let mut of_values = empty(MatrixIdent::B, queries, width, keys);
    let sum = zeros(queries, width, keys);
    cmma::load_tensor(&mut of_queries, &q.slice(seq![head, query, 0], seq![1, queries as u32, width as u32]));
    for key in range_stepped(0, tokens, keys as u32) {
        let part = k.slice(seq![head, key, 0], seq![1, keys as u32, width as u32]);
        cmma::load_tensor(&mut of_keys, &part.permuted(seq![0, 2, 1]));
        let scores = zeros(queries, keys, width);
        cmma::execute(&of_queries, &of_keys, &scores, &scores);
        cmma::execute_elementwise_op(&scores, &scores, |_row, _column, score| f32::exp(score));
        let weights = to_left(&scores);
        cmma::load_tensor(&mut of_values, &v.slice(seq![head, key, 0], seq![1, keys as u32, width as u32]));
        cmma::execute(&weights, &of_values, &sum, &sum);
    }
    let mut out = y.slice(seq![head, query, 0], seq![1, queries as u32, width as u32]);
    cmma::store_tensor(&mut out, &sum);
}

#[cube]
fn empty(
    #[comptime] ident: MatrixIdent,
    #[comptime] m: usize,
    #[comptime] n: usize,
    #[comptime] k: usize,
) -> Matrix<f16> {
    // SAFETY: every matrix is loaded before it is multiplied.
    #[allow(unsafe_code, reason = "the only way to make a matrix that is loaded later")]
    unsafe {
        Matrix::<f16>::uninitialized(ident, m, n, k, MatrixLayout::Undefined)
    }
}

#[cube]
fn zeros(#[comptime] m: usize, #[comptime] n: usize, #[comptime] k: usize) -> Matrix<f32> {
    Matrix::<f32>::from_value(MatrixIdent::Accumulator, m, n, k, MatrixLayout::Undefined, 0.0)
}

/// A sum as a left factor. CubeCL's function of the name `cast_with_ident` can be called in its expanded form only.
fn to_left(_sum: &Matrix<f32>) -> Matrix<f16> {
    unreachable!("kernels are expanded")
}

mod to_left {
    use super::{Cube, MatrixIdent, Scope, cmma, f16};

    pub fn expand(scope: &Scope, sum: &cmma::MatrixExpand<f32, Cube>) -> cmma::MatrixExpand<f16, Cube> {
        cmma::cast_with_ident::expand(scope, sum.clone(), MatrixIdent::A)
    }
}
