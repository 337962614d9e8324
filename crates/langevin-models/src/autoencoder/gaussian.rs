//! What an encoder says about the latents of an image.

use burn::tensor::Tensor;
use langevin_core::noise::{Domain, Key, NoiseError, NoiseSource, like};

use crate::error::ModelError;
use crate::layers::widen;

/// Bounds of the logarithm of the variance: outside them its exponential or the reciprocal of it is lost in `f32`.
const LOG_VARIANCE: (f64, f64) = (-30.0, 20.0);

/// A normal distribution over latents in which every entry is independent of the others.
///
/// # References
///
/// Kingma, Welling 2013, [arXiv:1312.6114](https://arxiv.org/abs/1312.6114), appendix B (the divergence) and C.2.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::noise::Seeded;
/// use langevin_models::autoencoder::DiagonalGaussian;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// // The first half of the channels is the mean, the second the logarithm of the variance.
/// let posterior = DiagonalGaussian::from_moments(Tensor::zeros([1, 8, 2, 2], &device));
/// let z = posterior.sample(&Seeded::new(1), 0, DiagonalGaussian::KEY)?;
/// assert_eq!(z.dims(), [1, 4, 2, 2]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct DiagonalGaussian {
    mean: Tensor<4>,
    log_variance: Tensor<4>,
}

impl DiagonalGaussian {
    /// The draw of a run that samples latents once.
    pub const KEY: Key = Key { domain: Domain::Autoencoder, index: 0, lane: 0 };

    /// Splits what an encoder returns; the logarithm of the variance is limited to [-30, 20].
    ///
    /// # Shapes
    ///
    /// - moments: `[batch, 2·channels, height, width]`
    ///
    /// # Panics
    ///
    /// If the number of channels is odd.
    #[must_use]
    pub fn from_moments(moments: Tensor<4>) -> Self {
        let channels = moments.dims()[1];
        assert!(channels.is_multiple_of(2), "{channels} channels are not a mean and a variance");
        let half = channels / 2;
        Self {
            mean: moments.clone().narrow(1, 0, half),
            log_variance: moments.narrow(1, half, half).clamp(LOG_VARIANCE.0, LOG_VARIANCE.1),
        }
    }

    /// The mean, `[batch, channels, height, width]`.
    #[must_use]
    pub fn mean(&self) -> Tensor<4> {
        self.mean.clone()
    }

    /// The most likely latents, which are the mean.
    #[must_use]
    pub fn mode(&self) -> Tensor<4> {
        self.mean.clone()
    }

    /// The natural logarithm of the variance, in [-30, 20].
    #[must_use]
    pub fn log_variance(&self) -> Tensor<4> {
        self.log_variance.clone()
    }

    /// The standard deviation.
    #[must_use]
    pub fn std(&self) -> Tensor<4> {
        (self.log_variance.clone() * 0.5).exp()
    }

    /// Draws latents with `noise`: sample `i` of the batch gets the draw `key` of sample `first + i`.
    ///
    /// # Errors
    ///
    /// Those of the noise source.
    pub fn sample(&self, noise: &dyn NoiseSource, first: u64, key: Key) -> Result<Tensor<4>, NoiseError> {
        let noise = like(noise, &self.mean, first, key)?;
        Ok(self.mean.clone() + self.std() * noise)
    }

    /// Latents for given standard normal noise: `mean + std · noise`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] if the noise does not have the shape of the mean.
    pub fn sample_with(&self, noise: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        if noise.dims() != self.mean.dims() {
            return Err(ModelError::Shape {
                what: "noise",
                given: noise.dims().to_vec(),
                expected: format!("{:?}, the shape of the mean", self.mean.dims()),
            });
        }
        Ok(self.mean.clone() + self.std() * noise.cast(self.mean.dtype()))
    }

    /// The Kullback-Leibler divergence from the standard normal distribution, in nats, for each sample: `[batch]`. It is
    /// computed in `f32` for latents in half precision.
    #[must_use]
    pub fn divergence(&self) -> Tensor<1> {
        let (mean, log_variance) = (widen(self.mean.clone()), widen(self.log_variance.clone()));
        let batch = mean.dims()[0];
        let terms = mean.square() + log_variance.clone().exp() - log_variance - 1.0;
        terms.reshape([batch as isize, -1]).sum_dim(1).mul_scalar(0.5).reshape([batch])
    }

    pub(super) fn cast(self, dtype: burn::tensor::DType) -> Self {
        Self { mean: self.mean.cast(dtype), log_variance: self.log_variance.cast(dtype) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};
    use burn::tensor::DType;
    use langevin_core::noise::Seeded;

    fn moments() -> Tensor<4> {
        tensor([2, 6, 2, 3], 0.4, &flex()) * 2.0
    }

    #[test]
    fn channels_are_split_and_the_variance_limited() {
        let device = flex();
        let x = Tensor::<4>::from_data([[[[1.0]], [[2.0]], [[-50.0]], [[50.0]]]], &device);
        let gaussian = DiagonalGaussian::from_moments(x);
        assert_close(&gaussian.mean(), &[1.0, 2.0], 0.0);
        assert_close(&gaussian.mode(), &[1.0, 2.0], 0.0);
        assert_close(&gaussian.log_variance(), &[-30.0, 20.0], 0.0);
        assert_close(&gaussian.std(), &[(-15.0f64).exp(), 10f64.exp()], 1e-6);
    }

    #[test]
    fn samples_are_the_mean_and_scaled_noise() {
        let gaussian = DiagonalGaussian::from_moments(moments());
        let noise = tensor([2, 3, 2, 3], 0.9, &flex());
        let (mean, log_variance) = (values(&gaussian.mean()), values(&gaussian.log_variance()));
        let expected: Vec<f64> = values(&noise)
            .iter()
            .zip(mean.iter().zip(&log_variance))
            .map(|(e, (m, l))| m + (l / 2.0).exp() * e)
            .collect();
        assert_close(&gaussian.sample_with(noise.clone()).unwrap(), &expected, 1e-6);
        let error = gaussian.sample_with(noise.narrow(1, 0, 2)).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "noise", .. }), "{error}");
    }

    #[test]
    fn a_sample_of_the_batch_has_noise_of_its_own() {
        let gaussian = DiagonalGaussian::from_moments(moments());
        let noise = Seeded::new(3);
        let both = gaussian.sample(&noise, 5, DiagonalGaussian::KEY).unwrap();
        let second = DiagonalGaussian::from_moments(moments().narrow(0, 1, 1));
        let alone = second.sample(&noise, 6, DiagonalGaussian::KEY).unwrap();
        assert_eq!(values(&both)[18..], values(&alone));
        let other = gaussian.sample(&noise, 6, DiagonalGaussian::KEY).unwrap();
        assert_ne!(values(&both), values(&other));
    }

    #[test]
    fn the_divergence_is_that_of_the_definition() {
        let gaussian = DiagonalGaussian::from_moments(moments());
        let (mean, log_variance) = (values(&gaussian.mean()), values(&gaussian.log_variance()));
        let expected: Vec<f64> = (0..2)
            .map(|row| {
                let r = row * 18..(row + 1) * 18;
                let sum: f64 =
                    mean[r.clone()].iter().zip(&log_variance[r]).map(|(m, l)| m * m + l.exp() - 1.0 - l).sum();
                sum / 2.0
            })
            .collect();
        assert_close(&gaussian.divergence(), &expected, 1e-5);
        let normal = DiagonalGaussian::from_moments(Tensor::zeros([1, 4, 2, 2], &flex()));
        assert_close(&normal.divergence(), &[0.0], 1e-7);
    }

    #[test]
    fn a_large_variance_has_a_finite_divergence_in_half_precision() {
        // exp(20) is beyond the largest f16.
        let x = Tensor::<4>::from_data([[[[0.0]], [[20.0]]]], &flex()).cast(DType::F16);
        let gaussian = DiagonalGaussian::from_moments(x);
        let expected = (20f64.exp() - 21.0) / 2.0;
        assert_close(&gaussian.divergence(), &[expected], 1e-5);
    }
}
