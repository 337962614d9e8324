//! Convolution of any kernel by one product of the weight with a table of patches, whose columns are what the kernel meets.

use std::ops::Range;

use rayon::prelude::*;

use super::ConvolutionSizes;
use super::winograd::spread;
use crate::product::{Matrix, Write, product};
use crate::scratch::Scratch;

/// Entries of the table that is held at once: 8 MiB.
const LARGEST_TABLE: usize = 1 << 21;
/// Entries of the table that a thread makes for itself: 1 MiB, which stays in a core's cache until it is multiplied.
const NEAR_TABLE: usize = 1 << 18;
/// Portions of that size below which threads share a table instead.
const FEWEST_PORTIONS: usize = 4;
/// Outputs, or inputs, that a thread takes at once, at most.
const CHANNELS: usize = 32;

/// So many that there are four shares, and not so few that products get inefficient. By the sizes alone: a product of one row, which may
/// be left, has other last digits than that row has among others.
pub(super) fn channels_of(output: usize) -> usize {
    output.div_ceil(4).clamp(8, CHANNELS)
}

/// Results that are computed together: of several whole images, or a range of the pixels of one.
#[derive(Debug, Clone)]
struct Portion {
    images: Range<usize>,
    pixels: Range<usize>,
}

impl Portion {
    fn count(&self) -> usize {
        self.images.len() * self.pixels.len()
    }
}

impl ConvolutionSizes {
    /// Rows of the table: entries of the kernel of one output.
    fn entries(&self) -> usize {
        self.input * self.kernel[0] * self.kernel[1]
    }

    /// The most pixels of an image in a portion, and the portions, whose tables have at most so many entries.
    fn portions(&self, rows: usize, table: usize) -> (usize, Vec<Portion>) {
        let pixels = self.result_pixels();
        let most = (table / rows).max(16);
        if pixels <= most {
            let images = most / pixels;
            let portion = |from| Portion { images: from..(from + images).min(self.batch), pixels: 0..pixels };
            return (pixels, (0..self.batch).step_by(images).map(portion).collect());
        }
        let some = pixels.div_ceil(pixels.div_ceil(most));
        let of_image = |image| {
            let portion = move |from| Portion { images: image..image + 1, pixels: from..(from + some).min(pixels) };
            (0..pixels).step_by(some).map(portion)
        };
        (some, (0..self.batch).flat_map(of_image).collect())
    }

    /// Copies a portion of `[batch, channels, pixels]` to `[channels, count]`.
    fn gather(&self, from: &[f32], channels: usize, portion: &Portion, to: &mut [f32]) {
        let (pixels, step) = (self.result_pixels(), spread(portion.count()));
        to.par_chunks_mut(step).enumerate().for_each(|(channel, to)| {
            let images = portion.images.clone().zip(to.chunks_mut(portion.pixels.len()));
            images.for_each(|(image, to)| {
                let plane = &from[(image * channels + channel) * pixels..][..pixels];
                to[..portion.pixels.len()].copy_from_slice(&plane[portion.pixels.clone()]);
            });
        });
    }

    /// Calls `f(place in the row of the image, places in the row of results)` for each row of results of a portion, or a part of
    /// it: what entry (p, q) of the kernel meets. Results that meet the border are left out.
    fn meet(&self, [p, q]: [usize; 2], pixels: &Range<usize>, mut f: impl FnMut(usize, Range<usize>)) {
        let [height, width] = self.image;
        let [_, columns] = self.result();
        // The first and last column of results whose value lies in the image.
        let first = self.padding[1].saturating_sub(q).div_ceil(self.stride[1]);
        let Some(last) = (width - 1 + self.padding[1]).checked_sub(q).map(|at| at / self.stride[1]) else { return };
        let mut at = pixels.start;
        while at < pixels.end {
            let (row, column) = (at / columns, at % columns);
            let end = pixels.end.min((row + 1) * columns);
            let from = column.max(first);
            let to = (last + 1).min(column + end - at);
            let y = row * self.stride[0] + p;
            if from < to && y >= self.padding[0] && y - self.padding[0] < height {
                let x = from * self.stride[1] + q - self.padding[1];
                let place = at - pixels.start + from - column;
                f((y - self.padding[0]) * width + x, place..place + to - from);
            }
            at = end;
        }
    }

    /// Writes the table of a portion: `[entries, count]`, with [`spread`] columns.
    fn table(&self, x: &[f32], portion: &Portion, to: &mut [f32]) {
        let rows = to.par_chunks_mut(spread(portion.count())).enumerate();
        rows.for_each(|(row, to)| self.row_of_table(x, portion, row, to));
    }

    fn row_of_table(&self, x: &[f32], portion: &Portion, row: usize, to: &mut [f32]) {
        let [k, l] = self.kernel;
        let pixels = self.image[0] * self.image[1];
        let (channel, entry) = (row / (k * l), [row / l % k, row % l]);
        to.fill(0.0);
        for (image, to) in portion.images.clone().zip(to.chunks_mut(portion.pixels.len())) {
            let plane = &x[(image * self.input + channel) * pixels..][..pixels];
            self.meet(entry, &portion.pixels, |at, places| {
                let to = &mut to[places];
                match self.stride[1] {
                    1 => to.copy_from_slice(&plane[at..at + to.len()]),
                    step => to.iter_mut().zip(plane[at..].iter().step_by(step)).for_each(|(to, x)| *to = *x),
                }
            });
        }
    }

    pub(super) fn forward_by_patches(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let (most, portions) = self.portions(self.entries(), NEAR_TABLE);
        if portions.len() < FEWEST_PORTIONS {
            return self.forward_by_outputs(x, weight, bias, y);
        }
        let (entries, output, pixels) = (self.entries(), self.output, self.result_pixels());
        // Each strip of pixels is written by one thread: strips[portion], in the order of images and outputs.
        let mut strips: Vec<Vec<&mut [f32]>> = portions.iter().map(|_| Vec::new()).collect();
        let (images, parts) = (portions[0].images.len(), pixels.div_ceil(most));
        for (plane, y) in y.chunks_mut(pixels).enumerate() {
            for (part, strip) in y.chunks_mut(most).enumerate() {
                strips[plane / output / images * parts + part].push(strip);
            }
        }
        let room = spread(portions[0].count());
        portions.par_iter().zip(strips).for_each_init(
            || [entries, output].map(|rows| Scratch::new(rows * room)),
            |[table, sums], (portion, strips)| {
                let (count, step) = (portion.count(), spread(portion.count()));
                let rows = table[..entries * step].chunks_exact_mut(step).enumerate();
                rows.for_each(|(row, to)| self.row_of_table(x, portion, row, to));
                let (weight, table) =
                    (Matrix::new(weight, output, entries), Matrix::spaced(table, entries, count, step));
                product(weight, table, 1.0, Write::Over, sums, step);
                for (at, strip) in strips.into_iter().enumerate() {
                    let (image, o) = (at / output, at % output);
                    let sums = &sums[o * step + image * strip.len()..][..strip.len()];
                    let bias = bias.map_or(0.0, |b| b[o]);
                    strip.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum + bias);
                }
            },
        );
    }

    /// The same where results have few pixels: outputs are shared among threads, and the table is one for all of them.
    fn forward_by_outputs(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let (entries, output, pixels) = (self.entries(), self.output, self.result_pixels());
        let (most, portions) = self.portions(entries, LARGEST_TABLE);
        let mut table = Scratch::new(entries * spread(portions[0].count()));
        let together = channels_of(output);
        let blocks = output.div_ceil(together);
        // Each strip of pixels is written by one thread: strips[portion][block], in the order of images and outputs.
        let mut strips: Vec<Vec<Vec<&mut [f32]>>> =
            portions.iter().map(|_| (0..blocks).map(|_| Vec::new()).collect()).collect();
        let (images, parts) = (portions[0].images.len(), pixels.div_ceil(most));
        for (plane, y) in y.chunks_mut(pixels).enumerate() {
            let (image, o) = (plane / output, plane % output);
            for (part, strip) in y.chunks_mut(most).enumerate() {
                strips[image / images * parts + part][o / together].push(strip);
            }
        }
        for (portion, strips) in portions.iter().zip(strips) {
            let (count, step) = (portion.count(), spread(portion.count()));
            let table = &mut table[..entries * step];
            self.table(x, portion, table);
            let table = Matrix::spaced(table, entries, count, step);
            strips.into_par_iter().enumerate().for_each_init(
                || Scratch::new(together * step),
                |sums, (block, strips)| {
                    let first = block * together;
                    let some = together.min(output - first);
                    let weight = Matrix::new(&weight[first * entries..], some, entries);
                    product(weight, table, 1.0, Write::Over, sums, step);
                    for (at, strip) in strips.into_iter().enumerate() {
                        let (image, o) = (at / some, at % some);
                        let sums = &sums[o * step + image * strip.len()..][..strip.len()];
                        let bias = bias.map_or(0.0, |b| b[first + o]);
                        strip.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum + bias);
                    }
                },
            );
        }
    }

    pub(super) fn input_gradient_by_patches(&self, gradient: &[f32], weight: &[f32], of_x: &mut [f32]) {
        let [k, l] = self.kernel;
        let (entries, output, input) = (self.entries(), self.output, self.input);
        let pixels = self.image[0] * self.image[1];
        let (_, portions) = self.portions(entries.max(output), LARGEST_TABLE);
        let most = spread(portions[0].count());
        let mut slopes = Scratch::new(output * most);
        let channels = channels_of(input).div_ceil(k * l);
        // Planes of the images, by blocks of channels: planes[block], in the order of images and channels.
        let mut planes: Vec<Vec<&mut [f32]>> = (0..input.div_ceil(channels)).map(|_| Vec::new()).collect();
        for (plane, x) in of_x.chunks_mut(pixels).enumerate() {
            planes[plane % input / channels].push(x);
        }
        let threads = planes.len().min(rayon::current_num_threads());
        let mut sums: Vec<_> = (0..threads).map(|_| Scratch::new(channels * k * l * most)).collect();
        planes.iter_mut().flatten().for_each(|plane| plane.fill(0.0));
        for portion in &portions {
            let (count, step) = (portion.count(), spread(portion.count()));
            self.gather(gradient, output, portion, &mut slopes[..output * step]);
            let slopes = Matrix::spaced(&slopes, output, count, step);
            let shares = planes.len().div_ceil(sums.len());
            planes.par_chunks_mut(shares).zip(sums.par_iter_mut()).enumerate().for_each(|(share, (blocks, sums))| {
                for (block, planes) in blocks.iter_mut().enumerate() {
                    let first = (share * shares + block) * channels;
                    let some = channels.min(input - first);
                    let rows = some * k * l;
                    let weight = Matrix::spaced(&weight[first * k * l..], output, rows, entries).transposed();
                    product(weight, slopes, 1.0, Write::Over, sums, step);
                    for (row, sums) in sums.chunks_exact(step).take(rows).enumerate() {
                        let (channel, entry) = (row / (k * l), [row / l % k, row % l]);
                        for (image, sums) in portion.images.clone().zip(sums.chunks(portion.pixels.len())) {
                            let plane = &mut planes[image * some + channel];
                            self.meet(entry, &portion.pixels, |at, places| {
                                let to = plane[at..].iter_mut().step_by(self.stride[1]);
                                to.zip(&sums[places]).for_each(|(x, sum)| *x += sum);
                            });
                        }
                    }
                }
            });
        }
    }

    pub(super) fn weight_gradient_by_patches(&self, x: &[f32], gradient: &[f32], of_weight: &mut [f32]) {
        let (entries, output) = (self.entries(), self.output);
        let (_, portions) = self.portions(entries.max(output), LARGEST_TABLE);
        let most = spread(portions[0].count());
        let together = channels_of(output);
        let mut table = Scratch::new(entries * most);
        let mut slopes = Scratch::new(output * most);
        for (at, portion) in portions.iter().enumerate() {
            let (count, step) = (portion.count(), spread(portion.count()));
            self.table(x, portion, &mut table[..entries * step]);
            self.gather(gradient, output, portion, &mut slopes[..output * step]);
            let table = Matrix::spaced(&table, entries, count, step);
            let write = if at == 0 { Write::Over } else { Write::Add };
            of_weight.par_chunks_mut(together * entries).zip(slopes.par_chunks(together * step)).for_each(
                |(of_weight, slopes)| {
                    let slopes = Matrix::spaced(slopes, of_weight.len() / entries, count, step);
                    product(slopes, table.transposed(), 1.0, write, of_weight, entries);
                },
            );
        }
    }
}
