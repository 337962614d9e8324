//! Kernels of one pixel: products of the weight with the images as they lie, without a table.

use rayon::prelude::*;

use super::ConvolutionSizes;
use super::patches::channels_of;
use crate::product::{Matrix, Write, product};

impl ConvolutionSizes {
    /// Whether each pixel is mapped by itself.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    pub(super) fn forward_by_pixels(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let (input, output, pixels) = (self.input, self.output, self.result_pixels());
        let together = self.rows_of_a_product(output);
        let images = y.par_chunks_mut(output * pixels).zip(x.par_chunks(input * pixels));
        images
            .flat_map(|(y, x)| {
                y.par_chunks_mut(together * pixels).enumerate().map(move |(block, y)| (x, block * together, y))
            })
            .for_each(|(x, first, y)| {
                let weight = Matrix::new(&weight[first * input..], y.len() / pixels, input);
                let write = match bias {
                    Some(bias) => {
                        y.chunks_exact_mut(pixels).zip(&bias[first..]).for_each(|(y, bias)| y.fill(*bias));
                        Write::Add
                    }
                    None => Write::Over,
                };
                product(weight, Matrix::new(x, input, pixels), 1.0, write, y, pixels);
            });
    }

    pub(super) fn input_gradient_by_pixels(&self, gradient: &[f32], weight: &[f32], of_x: &mut [f32]) {
        let (input, output, pixels) = (self.input, self.output, self.result_pixels());
        let together = self.rows_of_a_product(input);
        let images = of_x.par_chunks_mut(input * pixels).zip(gradient.par_chunks(output * pixels));
        images
            .flat_map(|(of_x, slopes)| {
                of_x.par_chunks_mut(together * pixels).enumerate().map(move |(block, x)| (slopes, block * together, x))
            })
            .for_each(|(slopes, first, of_x)| {
                let weight = Matrix::spaced(&weight[first..], output, of_x.len() / pixels, input).transposed();
                product(weight, Matrix::new(slopes, output, pixels), 1.0, Write::Over, of_x, pixels);
            });
    }

    pub(super) fn weight_gradient_by_pixels(&self, x: &[f32], gradient: &[f32], of_weight: &mut [f32]) {
        let (input, output, pixels) = (self.input, self.output, self.result_pixels());
        let together = channels_of(output);
        of_weight.par_chunks_mut(together * input).enumerate().for_each(|(block, of_weight)| {
            let (first, some) = (block * together, of_weight.len() / input);
            let images = gradient.chunks_exact(output * pixels).zip(x.chunks_exact(input * pixels));
            for (image, (slopes, x)) in images.enumerate() {
                let slopes = Matrix::new(&slopes[first * pixels..], some, pixels);
                let write = if image == 0 { Write::Over } else { Write::Add };
                product(slopes, Matrix::new(x, input, pixels).transposed(), 1.0, write, of_weight, input);
            }
        });
    }

    /// Rows of the results of a product: all of an image where there are images to share.
    fn rows_of_a_product(&self, rows: usize) -> usize {
        if self.batch >= 4 { rows } else { channels_of(rows) }
    }
}
