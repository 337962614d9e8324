//! Convolution of 3x3 kernels by tiles: which are transformed when, and by whom.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::ConvolutionSizes;
use super::winograd::{
    Kernels, KernelsBack, Lines, OfValues, Row, TransformKernels, TransformResultsBack, TransformValues, Transforms,
    TransformsBack, WriteResults, spread,
};
use crate::product::{Matrix, Write, product};
use crate::scratch::Scratch;
use crate::vectors::{Kernel, on_vectors};

/// Transformed values that are held at once: what a processor keeps near, 12 MiB.
const LARGEST_VALUES: usize = 3 << 20;
/// Outputs whose kernels a thread transforms and applies at once.
const OUTPUTS: usize = 32;
/// The same where there are [`FEW_TILES`], and the kernels take most of the memory.
const OUTPUTS_OF_FEW_TILES: usize = 8;
/// See [`OUTPUTS_OF_FEW_TILES`].
const FEW_TILES: usize = 64;

/// Rows of tiles, counted through all images.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    /// Rows of tiles of an image.
    high: usize,
    /// Tiles of a row.
    wide: usize,
}

/// Kernels of 3x3, as they are applied to tiles.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Kernels(Kernels<'a>),
    /// `[outputs, products, inputs]`, with [`spread`] inputs.
    Transformed(&'a [f32]),
}

/// A convolution whose results are as large as its images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiled<T, const STEP: usize, const SIDE: usize> {
    transforms: PhantomData<T>,
    batch: usize,
    input: usize,
    output: usize,
    height: usize,
    width: usize,
}

impl<T: Transforms<STEP, SIDE>, const STEP: usize, const SIDE: usize> Tiled<T, STEP, SIDE> {
    /// Products of a tile.
    const PRODUCTS: usize = SIDE * SIDE;

    /// If the kernel is 3x3 with one zero on each side, and moves by one.
    pub(super) fn of(sizes: &ConvolutionSizes) -> Option<Self> {
        let ConvolutionSizes { batch, input, output, image: [height, width], .. } = *sizes;
        let fits = sizes.kernel == [3, 3] && sizes.stride == [1, 1] && sizes.padding == [1, 1];
        fits.then_some(Self { transforms: PhantomData, batch, input, output, height, width })
    }

    /// Tiles of an image.
    pub(super) fn count(&self) -> usize {
        let Tiles { high, wide } = self.tiles();
        high * wide
    }

    pub(super) fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        self.convolve(x, Source::Kernels(Kernels::of(weight, self.output, self.input)), bias, y);
    }

    /// The same, with kernels that [`transform`](Self::transform) made.
    pub(super) fn forward_transformed(&self, x: &[f32], kernels: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        self.convolve(x, Source::Transformed(kernels), bias, y);
    }

    /// The kernels of a weight, transformed: [`PRODUCTS`](Self::PRODUCTS) numbers of nine.
    pub(super) fn transform(&self, weight: &[f32]) -> Vec<f32> {
        let row = self.row();
        let mut to = vec![0.0; self.output * row];
        self.transform_all(Kernels::of(weight, self.output, self.input), OUTPUTS, &mut to);
        to
    }

    /// Numbers of the transformed kernels of an output.
    fn row(&self) -> usize {
        Self::PRODUCTS * spread(self.input)
    }

    /// Transforms all kernels, so many outputs at a time.
    fn transform_all(&self, kernels: Kernels<'_>, together: usize, to: &mut [f32]) {
        let row = self.row();
        to.par_chunks_mut(row * together).enumerate().for_each(|(block, to)| {
            let first = block * together;
            on_vectors(TransformKernels::<T, STEP, SIDE>(PhantomData), (kernels, first..first + to.len() / row, to));
        });
    }

    pub(super) fn input_gradient(&self, gradient: &[f32], weight: &[f32], of_x: &mut [f32]) {
        let back = Self { input: self.output, output: self.input, ..*self };
        let kernels = Kernels::of(weight, self.output, self.input).back();
        back.convolve(gradient, Source::Kernels(kernels), None, of_x);
    }

    fn tiles(&self) -> Tiles {
        Tiles { high: self.height.div_ceil(STEP), wide: self.width.div_ceil(STEP) }
    }

    /// Rows of tiles whose transformed values of so many channels are held at once.
    fn portions(&self, channels: usize) -> Vec<Range<usize>> {
        let tiles = self.tiles();
        let total = self.batch * tiles.high;
        let most = (LARGEST_VALUES / (Self::PRODUCTS * channels * tiles.wide)).clamp(1, total);
        // As even as can be.
        let portions = total.div_ceil(most);
        let rows = total.div_ceil(portions);
        (0..total).step_by(rows).map(|from| from..(from + rows).min(total)).collect()
    }

    /// Transforms images by one function, or gradients of results by another, to `[channels, products, tiles]`, with [`spread`]
    /// tiles.
    fn transform_values<F>(&self, x: &[f32], channels: usize, rows: &Range<usize>, to: &mut [f32], transform: F)
    where
        F: for<'a> Kernel<OfValues<'a, T, STEP, SIDE>> + Copy + Sync,
    {
        let Tiles { high, wide } = self.tiles();
        let (pixels, step) = (self.height * self.width, spread(rows.len() * wide));
        to.par_chunks_mut(Self::PRODUCTS * step).enumerate().for_each_init(
            || Lines::<T, STEP, SIDE>::new(self.width, rows.len()),
            |lines, (channel, to)| {
                let rows = rows.clone().map(|row| {
                    let image = &x[(row / high * channels + channel) * pixels..][..pixels];
                    Row { image, number: row % high }
                });
                let rows: Vec<_> = rows.collect();
                on_vectors(transform, (lines, &rows[..], to, step));
            },
        );
    }

    fn convolve(&self, x: &[f32], source: Source<'_>, bias: Option<&[f32]>, y: &mut [f32]) {
        let Tiles { high, wide } = self.tiles();
        let (input, output) = (self.input, self.output);
        let portions = self.portions(input);
        let most = spread(portions[0].len() * wide);
        let mut values = Scratch::new(Self::PRODUCTS * input * most);
        let together = if most > FEW_TILES { OUTPUTS } else { OUTPUTS_OF_FEW_TILES };
        let blocks: Vec<_> = (0..output).step_by(together).map(|o| o..(o + together).min(output)).collect();
        // Kernels that serve several portions are transformed once, those of one portion where they are applied.
        let row = self.row();
        let mut own = Scratch::new(if portions.len() > 1 { output * row } else { 0 });
        let source = match source {
            Source::Kernels(kernels) if portions.len() > 1 => {
                self.transform_all(kernels, together, &mut own);
                Source::Transformed(&own)
            }
            source => source,
        };
        let of_block = if matches!(source, Source::Kernels(_)) { together * row } else { 0 };
        // Each strip of rows is written by one thread: strips[portion][output], in the order of tiles.
        let mut strips: Vec<Vec<Vec<&mut [f32]>>> =
            portions.iter().map(|_| (0..output).map(|_| Vec::new()).collect()).collect();
        let rows_of_portion = portions[0].len();
        for (plane, y) in y.chunks_mut(self.height * self.width).enumerate() {
            let (image, o) = (plane / output, plane % output);
            for (i, strip) in y.chunks_mut(STEP * self.width).enumerate() {
                strips[(image * high + i) / rows_of_portion][o].push(strip);
            }
        }
        for (rows, mut strips) in portions.into_iter().zip(strips) {
            let count = rows.len() * wide;
            let step = spread(count);
            let values = &mut values[..Self::PRODUCTS * input * step];
            self.transform_values(x, input, &rows, values, TransformValues);
            let values = &*values;
            strips.par_chunks_mut(together).zip(&blocks).for_each_init(
                || {
                    (
                        Scratch::new(of_block),
                        Scratch::new(Self::PRODUCTS * together * step),
                        Lines::<T, STEP, SIDE>::new(self.width, rows.len()),
                    )
                },
                |(own, sums, lines), (strips, outputs)| {
                    let some = outputs.len();
                    let kernels = match source {
                        Source::Kernels(kernels) => {
                            on_vectors(TransformKernels::<T, STEP, SIDE>(PhantomData), (kernels, outputs.clone(), own));
                            &own[..]
                        }
                        Source::Transformed(kernels) => &kernels[outputs.start * row..],
                    };
                    for p in 0..Self::PRODUCTS {
                        let kernels = Matrix::spaced(&kernels[p * spread(input)..], some, input, row);
                        let values = Matrix::spaced(&values[p * step..], input, count, Self::PRODUCTS * step);
                        product(kernels, values, 1.0, Write::Over, &mut sums[p * step..], Self::PRODUCTS * step);
                    }
                    for (at, (o, strips)) in outputs.clone().zip(strips).enumerate() {
                        let sums = &sums[at * Self::PRODUCTS * step..];
                        on_vectors(WriteResults, (lines, sums, step, bias.map_or(0.0, |b| b[o]), strips));
                    }
                },
            );
        }
    }
}

impl<T: TransformsBack<STEP, SIDE>, const STEP: usize, const SIDE: usize> Tiled<T, STEP, SIDE> {
    pub(super) fn weight_gradient(&self, x: &[f32], gradient: &[f32], of_weight: &mut [f32]) {
        let wide = self.tiles().wide;
        let (input, output) = (self.input, self.output);
        let portions = self.portions(input + output);
        let most = spread(portions[0].len() * wide);
        let mut values = Scratch::new(Self::PRODUCTS * input * most);
        let mut slopes = Scratch::new(Self::PRODUCTS * output * most);
        let row = Self::PRODUCTS * spread(input);
        // What several portions add to is kept for all outputs.
        let mut sums = Scratch::new(if portions.len() > 1 { output * row } else { 0 });
        let add = |sums: &mut [f32], slopes: &[f32], values: &[f32], count: usize, write: Write| {
            let (some, step) = (sums.len() / row, spread(count));
            for p in 0..Self::PRODUCTS {
                let slopes = Matrix::spaced(&slopes[p * step..], some, count, Self::PRODUCTS * step);
                let values = Matrix::spaced(&values[p * step..], input, count, Self::PRODUCTS * step);
                product(slopes, values.transposed(), 1.0, write, &mut sums[p * spread(input)..], row);
            }
        };
        let finish = |sums: &[f32], to: &mut [f32]| {
            for (sums, to) in sums.chunks_exact(row).zip(to.chunks_exact_mut(9 * input)) {
                on_vectors(KernelsBack::<T, STEP, SIDE>(PhantomData), (sums, spread(input), to));
            }
        };
        let single = portions.len() == 1;
        for (at, rows) in portions.into_iter().enumerate() {
            let count = rows.len() * wide;
            let step = Self::PRODUCTS * spread(count);
            self.transform_values(x, input, &rows, &mut values[..input * step], TransformValues);
            self.transform_values(gradient, output, &rows, &mut slopes[..output * step], TransformResultsBack);
            let (values, slopes) = (&values[..], &slopes[..output * step]);
            if single {
                of_weight.par_chunks_mut(9 * input * OUTPUTS).zip(slopes.par_chunks(step * OUTPUTS)).for_each_init(
                    || Scratch::new(OUTPUTS * row),
                    |sums, (to, slopes)| {
                        let sums = &mut sums[..to.len() / (9 * input) * row];
                        add(sums, slopes, values, count, Write::Over);
                        finish(sums, to);
                    },
                );
            } else {
                let write = if at == 0 { Write::Over } else { Write::Add };
                sums.par_chunks_mut(row * OUTPUTS)
                    .zip(slopes.par_chunks(step * OUTPUTS))
                    .for_each(|(sums, slopes)| add(sums, slopes, values, count, write));
            }
        }
        if !single {
            of_weight
                .par_chunks_mut(9 * input * OUTPUTS)
                .zip(sums.par_chunks(row * OUTPUTS))
                .for_each(|(to, sums)| finish(sums, to));
        }
    }
}
