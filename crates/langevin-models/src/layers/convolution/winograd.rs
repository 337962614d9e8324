//! The minimal filtering algorithms of Winograd, by tensor operations or, on devices that compile kernels, as one operation of `langevin-gpu`.

use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor, TensorData};

#[cfg(feature = "cube")]
use super::kept::{Kept, Transform};
use super::{channels_first, channels_last, output_size};

/// Convolves with a 3 x 3 kernel and stride 1 in tiles of `M` x `M` outputs, which take `(M + 2)²` products for each pair
/// of channels instead of `9·M²`: 2.25 times fewer for tiles of 2, 4 times fewer for tiles of 4.
///
/// With matrices A, B and G of [`Tile`] and a tile d of the input, a kernel g contributes Aᵀ[(G·g·Gᵀ) ∘ (Bᵀ·d·B)]A to the
/// output; the sum over input channels between the brackets is a matrix product for each of the `(M + 2)²` entries.
///
/// The larger the tile, the larger the rounding error: in `f32` 4e-6 of the result for tiles of 4, in `f16` 6e-4 for tiles
/// of 2 and 4e-3 for tiles of 4.
///
/// # References
///
/// Lavin, Gray 2016, [arXiv:1509.09308](https://arxiv.org/abs/1509.09308), section 4.
pub(super) fn winograd<const M: usize>(x: Tensor<4>, weight: Tensor<4>, padding: [usize; 2]) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if super::has_kernels(&x.device()) {
        return adding::<M>(x, weight, None, None, padding, None);
    }
    let tile = Tile::of(M);
    let n = M + 2;
    let [batch, input, height, width] = x.dims();
    let [output, ..] = weight.dims();
    let [rows, columns] = output_size([height, width], [3, 3], [1, 1], padding);
    let [down, across] = [rows.div_ceil(M), columns.div_ceil(M)];
    let x = channels_last(x);
    // One more block of M pixels each way: a tile reaches two pixels into the next block.
    let [below, right] = [(down + 1) * M - height - padding[0], (across + 1) * M - width - padding[1]];
    let x = x.pad([(0, 0), (padding[0], below), (padding[1], right), (0, 0)], PadMode::Constant(0.0));

    // Bᵀ down each tile, then across it.
    let blocks = x.reshape([batch, down + 1, M, (across + 1) * M * input]);
    let line = |i: usize| {
        let block = i / M;
        blocks.clone().slice([0..batch, block..block + down, i % M..i % M + 1, 0..(across + 1) * M * input])
    };
    let lines = combine(tile.input, (0..n).map(line).collect());
    let lines = lines.map(|line| line.reshape([1, batch * down, across + 1, M * input]));
    let blocks = Tensor::cat(lines.collect(), 0).reshape([n * batch * down, across + 1, M, input]);
    let line = |j: usize| {
        let block = j / M;
        blocks.clone().slice([0..n * batch * down, block..block + across, j % M..j % M + 1, 0..input])
    };
    let tiles = batch * down * across;
    let lines = combine(tile.input, (0..n).map(line).collect());
    let lines = lines.map(|line| line.reshape([1, n * tiles, input]));
    // [across, down, tiles, input], the first two of them as one.
    let x = Tensor::cat(lines.collect(), 0).reshape([n * n, tiles, input]);

    let y = x.matmul(transformed::<M>(weight));

    // Aᵀ across each tile, then down.
    let y = y.reshape([n, n * tiles * output]);
    let lines = combine(tile.output, (0..n).map(|j| y.clone().narrow(0, j, 1)).collect());
    let y = Tensor::cat(lines.collect(), 0).reshape([M, n, tiles * output]);
    let lines = combine(tile.output, (0..n).map(|i| y.clone().narrow(1, i, 1)).collect());
    let y = Tensor::cat(lines.collect(), 1).reshape([M, M, batch * down, across, output]);
    let y = y.permute([2, 1, 3, 0, 4]).reshape([batch, down * M, across * M, output]);
    channels_first(y.slice([0..batch, 0..rows, 0..columns, 0..output]))
}

/// The convolution with kernels for all of it.
#[cfg(feature = "cube")]
fn by_kernels(
    x: Tensor<4>,
    kernel: langevin_gpu::Kernel,
    additions: langevin_gpu::Additions,
    tile: langevin_gpu::Tile,
    padding: [usize; 2],
) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let tiling = langevin_gpu::Tiling::new(tile, [height, width], padding);
    channels_first(langevin_gpu::convolve_in_tiles(channels_last(x), kernel, additions, tiling))
}

#[cfg(feature = "cube")]
fn tile_of<const M: usize>() -> langevin_gpu::Tile {
    if M == 2 { langevin_gpu::Tile::Two } else { langevin_gpu::Tile::Four }
}

/// Does what [`winograd`] does with bias and image added in the same pass, on a device that compiles kernels, and with the transform of the weight that is kept, if
/// it is to be.
#[cfg(feature = "cube")]
pub(super) fn adding<const M: usize>(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    added: Option<Tensor<4>>,
    padding: [usize; 2],
    kept: Option<&Kept>,
) -> Tensor<4> {
    let tile = tile_of::<M>();
    let entries = tile.inputs() * tile.inputs();
    let fits = |transform: &Transform| match transform {
        Transform::Gpu(kernel) => kernel.dims()[0] == entries,
        #[cfg(feature = "flex")]
        Transform::Cpu(_) => false,
    };
    let make = || Some(Transform::Gpu(Box::new(langevin_gpu::kernel_of(weight.clone(), tile))));
    let kernel = match kept.and_then(|kept| kept.transform(&weight, fits, make)) {
        Some(Transform::Gpu(kernel)) => langevin_gpu::Kernel::Transformed(*kernel),
        _ => langevin_gpu::Kernel::Plain(weight),
    };
    let additions = langevin_gpu::Additions { bias, added: added.map(channels_last) };
    by_kernels(x, kernel, additions, tile, padding)
}

/// G·g·Gᵀ of every pair of channels: `[output, input, 3, 3]` to `[(M + 2)², input, output]`, across before down.
fn transformed<const M: usize>(weight: Tensor<4>) -> Tensor<3> {
    let [output, input, _, _] = weight.dims();
    let both = Tile::of(M).both(&weight.device()).cast(weight.dtype());
    let entries = weight.reshape([output * input, 9]);
    // [pairs, (M + 2)²] as its transpose, which is a view.
    let transformed = entries.matmul(both.transpose()).transpose();
    transformed.reshape([(M + 2) * (M + 2), output, input]).swap_dims(1, 2)
}

/// The sums of tensors that the rows of a matrix say; entries of 0 and 1 cost nothing.
fn combine<'a, const D: usize>(
    rows: &'a [&'a [f32]],
    parts: Vec<Tensor<D>>,
) -> impl Iterator<Item = Tensor<D>> + use<'a, D> {
    rows.iter().map(move |row| {
        let terms = row.iter().zip(&parts).filter(|(factor, _)| **factor != 0.0);
        let sum = terms.fold(None, |sum: Option<Tensor<D>>, (&factor, part)| {
            let part = part.clone();
            Some(match (sum, factor) {
                (None, 1.0) => part,
                (None, factor) => part * factor,
                (Some(sum), 1.0) => sum + part,
                (Some(sum), -1.0) => sum - part,
                (Some(sum), factor) => sum + part * factor,
            })
        });
        sum.expect("a row that is not zero")
    })
}

/// The matrices of a tile size, by rows.
struct Tile {
    /// Bᵀ
    input: &'static [&'static [f32]],
    /// G
    kernel: &'static [[f64; 3]],
    /// Aᵀ
    output: &'static [&'static [f32]],
}

impl Tile {
    /// For tiles of 2 or 4, from the interpolation points 0, ±1 (and ±2), ∞.
    const fn of(m: usize) -> Self {
        match m {
            2 => Self {
                input: &[&[1., 0., -1., 0.], &[0., 1., 1., 0.], &[0., -1., 1., 0.], &[0., 1., 0., -1.]],
                kernel: &[[1., 0., 0.], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0., 0., 1.]],
                output: &[&[1., 1., 1., 0.], &[0., 1., -1., -1.]],
            },
            4 => Self {
                input: &[
                    &[4., 0., -5., 0., 1., 0.],
                    &[0., -4., -4., 1., 1., 0.],
                    &[0., 4., -4., -1., 1., 0.],
                    &[0., -2., -1., 2., 1., 0.],
                    &[0., 2., -1., -2., 1., 0.],
                    &[0., 4., 0., -5., 0., 1.],
                ],
                kernel: &[
                    [0.25, 0., 0.],
                    [-1. / 6., -1. / 6., -1. / 6.],
                    [-1. / 6., 1. / 6., -1. / 6.],
                    [1. / 24., 1. / 12., 1. / 6.],
                    [1. / 24., -1. / 12., 1. / 6.],
                    [0., 0., 1.],
                ],
                output: &[
                    &[1., 1., 1., 1., 1., 0.],
                    &[0., 1., -1., 2., -2., 0.],
                    &[0., 1., 1., 4., 4., 0.],
                    &[0., 1., -1., 8., -8., 1.],
                ],
            },
            _ => panic!("tiles have 2 or 4 outputs a side"),
        }
    }

    /// G ⊗ G, the first factor across: `[(M + 2)², 9]`.
    fn both(&self, device: &Device) -> Tensor<2> {
        let pairs = self.kernel.iter().flat_map(|across| self.kernel.iter().map(move |down| (across, down)));
        let entries = |(across, down): (&[f64; 3], &[f64; 3])| -> Vec<f32> {
            (0..9).map(|at| (down[at / 3] * across[at % 3]) as f32).collect()
        };
        let values: Vec<f32> = pairs.flat_map(entries).collect();
        let count = values.len() / 9;
        Tensor::from_data(TensorData::new(values, [count, 9]), device)
    }
}
