//! Processes on finitely many states: tokens that are masked or replaced.
//!
//! Nothing here is Gaussian: a sample is a row of tokens, each one of K classes or masked, and noise is a Markov chain over
//! them. The rest is as for continuous processes: the chain is a value in `f64`, a [`TokenDenoiser`] says what it takes the
//! clean tokens for, Bayes' rule makes a reverse step of it, and every random draw comes from a
//! [`NoiseSource`](crate::NoiseSource) under its own key.
//!
//! * [`MaskAndReplace`] is the chain of VQ-diffusion (Gu et al. 2022). Without replacement it is the absorbing chain of
//!   masked diffusion, without masks the uniform one (Austin et al. 2021).
//! * [`MaskAndReplace::posterior`] are the log-probabilities of a reverse step.
//! * [`MaskAndReplace::conditional`] are those of a token given the others at the same step.
//! * [`gumbel_max`] draws from log-probabilities.

mod error;
mod mask_and_replace;
mod posterior;

pub use error::DiscreteError;
pub use mask_and_replace::{Cumulative, MaskAndReplace, Rates};
pub use posterior::{gumbel, gumbel_max};

use crate::denoiser::DenoiseError;
use burn::tensor::{Int, Tensor};

/// Says what the clean tokens are.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use langevin_core::discrete::{TokenDenoiser, tokens_fn};
/// // Knows nothing: all three classes are equally likely.
/// let denoiser = tokens_fn(|tokens: Tensor<2, Int>, _step| {
///     let [batch, positions] = tokens.dims();
///     Ok(Tensor::full([batch, 3, positions], (1f64 / 3.0).ln(), &tokens.device()))
/// });
/// let log_p = denoiser.log_clean(Tensor::zeros([2, 5], &Device::flex()), 7)?;
/// assert_eq!(log_p.dims(), [2, 3, 5]);
/// # Ok::<(), langevin_core::DenoiseError>(())
/// ```
pub trait TokenDenoiser: Send + Sync {
    /// Log-probabilities of the K clean classes, `[batch, classes, positions]`, for tokens `[batch, positions]` in `0..=K`
    /// (K is masked) at a step of the chain. They need not be normalized.
    ///
    /// # Errors
    /// Whatever the denoiser cannot do.
    fn log_clean(&self, tokens: Tensor<2, Int>, step: usize) -> Result<Tensor<3>, DenoiseError>;
}

impl<T: TokenDenoiser + ?Sized> TokenDenoiser for &T {
    fn log_clean(&self, tokens: Tensor<2, Int>, step: usize) -> Result<Tensor<3>, DenoiseError> {
        (**self).log_clean(tokens, step)
    }
}

impl<T: TokenDenoiser + ?Sized> TokenDenoiser for Box<T> {
    fn log_clean(&self, tokens: Tensor<2, Int>, step: usize) -> Result<Tensor<3>, DenoiseError> {
        (**self).log_clean(tokens, step)
    }
}

/// A closure of (tokens, step) as a denoiser.
pub fn tokens_fn<F>(f: F) -> TokensFn<F>
where
    F: Fn(Tensor<2, Int>, usize) -> Result<Tensor<3>, DenoiseError> + Send + Sync,
{
    TokensFn { f }
}

/// Made by [`tokens_fn`].
#[derive(Clone, Debug)]
pub struct TokensFn<F> {
    f: F,
}

impl<F> TokenDenoiser for TokensFn<F>
where
    F: Fn(Tensor<2, Int>, usize) -> Result<Tensor<3>, DenoiseError> + Send + Sync,
{
    fn log_clean(&self, tokens: Tensor<2, Int>, step: usize) -> Result<Tensor<3>, DenoiseError> {
        (self.f)(tokens, step)
    }
}
