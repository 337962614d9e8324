//! A denoiser of tokens whose answers depend on the tokens, their positions and the step.

use burn::tensor::{Int, Tensor};
use langevin::core::discrete::{TokenDenoiser, tokens_fn};

/// Log-probabilities of three classes.
pub fn leaning() -> impl TokenDenoiser {
    tokens_fn(|tokens: Tensor<2, Int>, step: usize| {
        let [batch, positions] = tokens.dims();
        let at = Tensor::<1, Int>::arange(0..positions as i64, &tokens.device()).float().reshape([1, positions]);
        let x = tokens.float().mul_scalar(0.7).add(at.expand([batch, positions])).add_scalar(0.1 * step as f64);
        let x = x.unsqueeze_dim::<3>(1);
        let parts = vec![x.clone().sin(), x.clone().cos(), x.mul_scalar(0.6).sin()];
        Ok(Tensor::cat(parts, 1).mul_scalar(1.5))
    })
}
