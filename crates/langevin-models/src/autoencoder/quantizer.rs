//! The nearest entry of a codebook.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use crate::error::{ModelError, at_least_one};
use crate::layers::{Embedding, EmbeddingConfig, permuted, widen};
use crate::tap::Tap;

/// Weight of the second term of the loss.
const BETA: f64 = 0.25;

/// Distances that are held at once: 64 Mi, which is 256 MiB in `f32`. Latents are taken in portions beyond that.
const LARGEST_TABLE: usize = 1 << 26;

/// A codebook. Made with a [`VqModel`](super::VqModel).
///
/// # References
///
/// van den Oord, Vinyals, Kavukcuoglu 2017, [arXiv:1711.00937](https://arxiv.org/abs/1711.00937), section 3.
#[derive(Module, Debug)]
pub struct VectorQuantizer {
    /// The codes, `[count, width]`.
    pub embedding: Embedding,
}

/// Latents replaced by the nearest entries of a codebook.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The entries, `[batch, width, height, width]` as the latents. Their gradient passes to the latents unchanged.
    pub latents: Tensor<4>,
    /// The loss that moves latents and codebook towards each other, one number: `[1]`.
    ///
    /// `mean (sg(e) - z)² + 0.25 · mean (e - sg(z))²`, where sg stops the gradient. The paper weighs the first term
    /// instead; the published networks were trained with this form.
    pub loss: Tensor<1>,
    /// Row of the codebook for each pixel, samples one after the other, row by row: `[batch·height·width]`.
    pub indices: Tensor<1, Int>,
}

impl VectorQuantizer {
    pub(super) fn new(count: usize, width: usize, device: &Device) -> Result<Self, ModelError> {
        at_least_one("codes", count)?;
        let mut embedding = EmbeddingConfig::new(count, width).init(device)?;
        // Entries start uniform on ±1/count.
        let bound = 1.0 / count as f64;
        let start = burn::tensor::Distribution::Uniform(-bound, bound);
        embedding.weight = crate::layers::random([count, width], start, device);
        Ok(Self { embedding })
    }

    /// Replaces every pixel by the nearest entry; of several equally near ones, by the first.
    ///
    /// # Shapes
    ///
    /// - z: `[batch, width, height, width]`, channels as wide as the entries
    pub fn forward(&self, z: Tensor<4>, tap: &mut Tap<'_>) -> Quantized {
        let [batch, channels, height, width] = z.dims();
        let pixels = permuted(z.clone(), [0, 2, 3, 1]).reshape([batch * height * width, channels]);
        let indices = self.nearest(pixels);
        let rows = self.embedding.forward(indices.clone());
        tap.see("embedding", &rows);
        let entries = permuted(rows.reshape([batch, height, width, channels]), [0, 3, 1, 2]);
        let square = |a: Tensor<4>, b: Tensor<4>| widen(a - b).square().mean();
        let loss = square(entries.clone().detach(), z.clone()) + square(entries.clone(), z.clone().detach()) * BETA;
        let latents = z.clone() + (entries - z).detach();
        tap.see("0", &latents);
        Quantized { latents, loss, indices }
    }

    /// The entries of the given rows.
    pub(super) fn lookup(&self, indices: Tensor<3, Int>) -> Tensor<4> {
        let [batch, height, width] = indices.dims();
        let rows = self.embedding.forward(indices.reshape([batch * height * width]));
        let channels = rows.dims()[1];
        permuted(rows.reshape([batch, height, width, channels]), [0, 3, 1, 2])
    }

    /// The nearest entry to each row. Of |z - e|² only what depends on e is computed.
    fn nearest(&self, rows: Tensor<2>) -> Tensor<1, Int> {
        let codes = widen(self.embedding.weight.val().detach());
        let [count, _] = codes.dims();
        let lengths = codes.clone().square().sum_dim(1).reshape([1, count]);
        let codes = codes.transpose() * 2.0;
        let total = rows.dims()[0];
        let portion = (LARGEST_TABLE / count).max(1);
        let nearest = |first: usize| {
            let rows = widen(rows.clone().detach().narrow(0, first, portion.min(total - first)));
            let distances = lengths.clone() - rows.matmul(codes.clone());
            distances.argmin(1).flatten::<1>(0, 1)
        };
        Tensor::cat((0..total).step_by(portion).map(nearest).collect(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};
    use burn::module::Param;

    fn codebook(device: &Device) -> VectorQuantizer {
        let mut quantizer = VectorQuantizer::new(7, 2, device).unwrap();
        quantizer.embedding.weight = Param::from_tensor(tensor([7, 2], 0.3, device));
        quantizer
    }

    #[test]
    fn every_pixel_becomes_the_nearest_entry() {
        let device = flex();
        let quantizer = codebook(&device);
        let codes = values(&quantizer.embedding.weight.val());
        let z = tensor([2, 2, 3, 4], 0.8, &device);
        let hz = values(&z);
        let (mut indices, mut latents, mut square) = (Vec::new(), vec![0.0; 48], 0.0);
        for sample in 0..2 {
            for pixel in 0..12 {
                let at = [sample * 24 + pixel, sample * 24 + 12 + pixel];
                let distance = |e: &[f64]| (hz[at[0]] - e[0]).powi(2) + (hz[at[1]] - e[1]).powi(2);
                let near = (0..7)
                    .min_by(|a, b| distance(&codes[2 * a..2 * a + 2]).total_cmp(&distance(&codes[2 * b..2 * b + 2])))
                    .unwrap();
                indices.push(near as f64);
                square += distance(&codes[2 * near..2 * near + 2]);
                latents[at[0]] = codes[2 * near];
                latents[at[1]] = codes[2 * near + 1];
            }
        }
        let given = quantizer.forward(z, &mut Tap::none());
        assert_close(&given.latents, &latents, 1e-6);
        let rows: Vec<f64> = given.indices.to_data().iter::<f64>().collect();
        assert_eq!(rows, indices);
        assert_close(&given.loss, &[1.25 * square / 48.0], 1e-6);
        let looked_up = quantizer.lookup(given.indices.reshape([2, 3, 4]));
        assert_close(&looked_up, &latents, 1e-6);
    }

    #[test]
    fn gradients_pass_to_the_latents_and_the_loss_pulls_both() {
        let device = flex().autodiff();
        let quantizer = codebook(&device);
        let z = tensor([1, 2, 2, 2], 0.8, &device).require_grad();
        let factors = tensor([1, 2, 2, 2], 0.5, &device);
        let given = quantizer.forward(z.clone(), &mut Tap::none());
        let gradients = (given.latents * factors.clone()).sum().backward();
        assert_close(&z.grad(&gradients).unwrap(), &values(&factors), 1e-6);
        assert!(quantizer.embedding.weight.grad(&gradients).is_none());
        let given = quantizer.forward(z.clone(), &mut Tap::none());
        let difference = values(&(given.latents.clone() - z.clone()));
        let expected: Vec<f64> = difference.iter().map(|d| -2.0 * d / 8.0).collect();
        let gradients = given.loss.backward();
        assert_close(&z.grad(&gradients).unwrap(), &expected, 1e-6);
        let pull = values(&quantizer.embedding.weight.grad(&gradients).unwrap());
        let total: f64 = difference.iter().map(|d| BETA * 2.0 * d / 8.0).sum();
        assert!((pull.iter().sum::<f64>() - total).abs() < 1e-6);
    }

    #[test]
    fn a_codebook_is_not_empty() {
        let error = VectorQuantizer::new(0, 2, &flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "codes", .. }), "{error}");
    }
}
