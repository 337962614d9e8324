//! Static and dynamic thresholding of the estimated clean sample.

use super::{DenoiseError, Denoiser, Estimate, Query};
use burn::tensor::Tensor;

/// How x̂_0 is kept in range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// Clamp to `[-range, range]`.
    Static {
        /// Half-width of the allowed interval, > 0; 1 for images in [-1, 1].
        range: f64,
    },
    /// Clamp each sample to its `ratio` quantile of |x̂_0|, kept in `[1, max]`, and divide by that
    /// (Saharia et al. 2022, Imagen, section 2.3).
    Dynamic {
        /// Quantile in [0, 1], 0.995 in the paper.
        ratio: f64,
        /// Largest threshold, >= 1.
        max: f64,
    },
}

/// A denoiser whose x̂_0 is thresholded; made by [`DenoiserExt::thresholded`](super::DenoiserExt::thresholded).
#[derive(Clone, Debug)]
pub struct Thresholded<T> {
    inner: T,
    threshold: Threshold,
    rederive: bool,
}

impl<T> Thresholded<T> {
    pub(super) fn new(inner: T, threshold: Threshold) -> Result<Self, DenoiseError> {
        let bad = |setting, given, expected| Err(DenoiseError::Setting { setting, given, expected });
        match threshold {
            Threshold::Static { range } if !(range > 0.0) => {
                return bad("threshold range", range, "a positive number");
            }
            Threshold::Dynamic { ratio, .. } if !(0.0..=1.0).contains(&ratio) => {
                return bad("quantile of dynamic thresholding", ratio, "a number in [0, 1]");
            }
            Threshold::Dynamic { max, .. } if !(max >= 1.0) => {
                return bad("largest dynamic threshold", max, "at least 1");
            }
            _ => {}
        }
        Ok(Self { inner, threshold, rederive: false })
    }

    /// Derives ε̂ again from the thresholded x̂_0, instead of keeping the network's.
    pub fn rederive_eps(mut self) -> Self {
        self.rederive = true;
        self
    }
}

impl<const D: usize, T: Denoiser<D>> Denoiser<D> for Thresholded<T> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let estimate = self.inner.denoise(query)?;
        let x0 = estimate.x0()?;
        let x0 = match self.threshold {
            Threshold::Static { range } => x0.clamp(-range, range),
            Threshold::Dynamic { ratio, max } => dynamic(x0, ratio, max),
        };
        Ok(if self.rederive { estimate.rederive(x0)? } else { estimate.with_x0(x0)? })
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }
}

fn dynamic<const D: usize>(x0: Tensor<D>, ratio: f64, max: f64) -> Tensor<D> {
    let dims = x0.dims();
    let numel: usize = dims[1..].iter().product();
    // Linear interpolation between the two order statistics next to the quantile, as torch and numpy do.
    let position = ratio * (numel - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(numel - 1);
    let sorted = x0.clone().abs().reshape([dims[0], numel]).sort(1);
    let low = sorted.clone().narrow(1, below, 1);
    let high = sorted.narrow(1, above, 1);
    let quantile = low.clone().add(high.sub(low).mul_scalar(position - below as f64));
    let mut column = [1; D];
    column[0] = dims[0];
    let s = quantile.clamp(1.0, max).reshape(column).expand(dims);
    x0.max_pair(s.clone().neg()).min_pair(s.clone()).div(s)
}
