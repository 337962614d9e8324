//! Text states, pooled to one vector by attention.

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor};

use crate::error::{ModelError, at_least_one};
use crate::layers::{
    LayerNorm, LayerNormConfig, Linear, LinearConfig, attention_with, join_heads, random, split_heads,
};
use crate::tap::Tap;

/// The text states of a whole prompt as one vector of the width of the time embedding.
#[derive(Module, Debug)]
pub struct TextTimeEmbedding {
    /// Normalization of the states.
    pub norm1: LayerNorm,
    /// Pooling.
    pub pool: AttentionPooling,
    /// Projection of the pooled vector.
    pub proj: Linear,
    /// Normalization of the projected vector.
    pub norm2: LayerNorm,
}

impl TextTimeEmbedding {
    pub(super) fn new(input: usize, output: usize, heads: usize, device: &Device) -> Result<Self, ModelError> {
        Ok(Self {
            norm1: LayerNormConfig::new(input).init(device)?,
            pool: AttentionPooling::new(input, heads, device)?,
            proj: LinearConfig::new(input, output).init(device)?,
            norm2: LayerNormConfig::new(output).init(device)?,
        })
    }

    pub(super) fn forward(&self, states: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<2> {
        let h = self.norm1.forward(states);
        tap.see("norm1", &h);
        let h = tap.scope("pool", |tap| self.pool.forward(h, tap));
        let h = self.proj.forward(h);
        tap.see("proj", &h);
        let y = self.norm2.forward(h);
        tap.see("norm2", &y);
        tap.see("", &y);
        y
    }
}

/// Attention of the mean of all tokens to the tokens and itself.
///
/// # References
///
/// Radford et al. 2021, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020), section 2.4, for images.
#[derive(Module, Debug)]
pub struct AttentionPooling {
    /// Added to the mean `[1, width]`.
    pub positional_embedding: Param<Tensor<2>>,
    /// Projection to keys.
    pub k_proj: Linear,
    /// Projection to the query.
    pub q_proj: Linear,
    /// Projection to values.
    pub v_proj: Linear,
    heads: usize,
}

impl AttentionPooling {
    fn new(width: usize, heads: usize, device: &Device) -> Result<Self, ModelError> {
        at_least_one("width", width)?;
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(ModelError::Config {
                field: "addition",
                given: format!("{heads} heads"),
                expected: format!("a divisor of {width}, the width of the text states"),
            });
        }
        let deviation = 1.0 / (width as f64).sqrt();
        let projection = || LinearConfig::new(width, width).init(device);
        Ok(Self {
            positional_embedding: random([1, width], Distribution::Normal(0.0, deviation), device),
            k_proj: projection()?,
            q_proj: projection()?,
            v_proj: projection()?,
            heads,
        })
    }

    fn forward(&self, tokens: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<2> {
        let [batch, _, width] = tokens.dims();
        let mean = tokens.clone().mean_dim(1) + self.positional_embedding.val().unsqueeze::<3>();
        let all = Tensor::cat(vec![mean.clone(), tokens], 1);
        let mut project = |name: &str, layer: &Linear, x: Tensor<3>| {
            let y = layer.forward(x);
            tap.see(name, &y);
            split_heads(y, self.heads)
        };
        let query = project("q_proj", &self.q_proj, mean);
        let key = project("k_proj", &self.k_proj, all.clone());
        let value = project("v_proj", &self.v_proj, all);
        let [_, _, _, d] = query.dims();
        let y = join_heads(attention_with(query, key, value, None, 1.0 / (d as f64).sqrt())).reshape([batch, width]);
        tap.see("", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    #[test]
    fn equal_tokens_pool_to_their_value() {
        // The mean of equal tokens is the token; without a position all values are the same, whatever the weights.
        let device = flex();
        let mut pool = AttentionPooling::new(6, 2, &device).unwrap();
        pool.positional_embedding = Param::from_tensor(Tensor::zeros([1, 6], &device));
        let token = tensor([1, 1, 6], 0.3, &device);
        let expected = values(&pool.v_proj.forward(token.clone()));
        assert_close(&pool.forward(token.expand([1, 5, 6]), &mut Tap::none()), &expected, 1e-5);
    }

    #[test]
    fn heads_must_divide_the_width() {
        for heads in [0, 4] {
            let error = AttentionPooling::new(6, heads, &flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field: "addition", .. }), "{error}");
        }
    }
}
