//! The layers of torch's `TransformerEncoder`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor, activation, module};

use super::MdmConfig;
use crate::error::ModelError;
use crate::layers::{
    Activation, Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, constant, join_heads, random,
    scaled_dot_product_attention, split_heads, swapped, widen,
};
use crate::tap::Tap;

/// Attention whose projections to queries, keys and values are one matrix.
#[derive(Module, Debug)]
pub struct PackedAttention {
    /// Rows for queries, keys and values `[3·width, width]`.
    pub in_proj_weight: Param<Tensor<2>>,
    /// Their biases `[3·width]`.
    pub in_proj_bias: Param<Tensor<1>>,
    /// Projection of the heads to channels.
    pub out_proj: Linear,
    dropout: Dropout,
    heads: usize,
}

impl PackedAttention {
    fn new(config: &MdmConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.latent_dim;
        // Glorot's uniform initialization of the whole matrix, as torch has it.
        let bound = (6.0 / (4 * width) as f64).sqrt();
        Ok(Self {
            in_proj_weight: random([3 * width, width], Distribution::Uniform(-bound, bound), device),
            in_proj_bias: constant([3 * width], 0.0, device),
            out_proj: LinearConfig::new(width, width).init(device)?,
            dropout: DropoutConfig::new(config.dropout).init()?,
            heads: config.num_heads,
        })
    }

    /// Attention, in training with dropout of its weights.
    fn attend(&self, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
        if !self.dropout.acts_on(&query.device()) {
            return scaled_dot_product_attention(query, key, value);
        }
        let [_, _, _, d] = query.dims();
        let scores = widen((query / (d as f64).sqrt()).matmul(swapped(key, 2)));
        self.dropout.forward(activation::softmax(scores, 3).cast(value.dtype())).matmul(value)
    }

    /// Attends among tokens.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let [_, _, width] = x.dims();
        let all = module::linear(x, self.in_proj_weight.val().transpose(), Some(self.in_proj_bias.val()));
        let part = |i: usize| split_heads(all.clone().narrow(2, i * width, width), self.heads);
        let y = self.out_proj.forward(join_heads(self.attend(part(0), part(1), part(2))));
        tap.see("out_proj", &y);
        tap.see("", &y);
        y
    }
}

/// Attention and feed-forward layers, each added to its input and then normalized.
///
/// # References
///
/// Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), section 3.1.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Attention of the tokens to each other.
    pub self_attn: PackedAttention,
    /// First feed-forward layer.
    pub linear1: Linear,
    /// Second feed-forward layer.
    pub linear2: Linear,
    /// Normalization after attention.
    pub norm1: LayerNorm,
    /// Normalization after the feed-forward layers.
    pub norm2: LayerNorm,
    dropout: Dropout,
    #[module(skip)]
    activation: Activation,
}

impl EncoderLayer {
    pub(super) fn new(config: &MdmConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.latent_dim;
        Ok(Self {
            self_attn: PackedAttention::new(config, device)?,
            linear1: LinearConfig::new(width, config.ff_size).init(device)?,
            linear2: LinearConfig::new(config.ff_size, width).init(device)?,
            norm1: LayerNormConfig::new(width).init(device)?,
            norm2: LayerNormConfig::new(width).init(device)?,
            dropout: DropoutConfig::new(config.dropout).init()?,
            activation: config.activation,
        })
    }

    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let h = tap.scope("self_attn", |tap| self.self_attn.forward(x.clone(), tap));
        let x = self.norm1.forward(x + self.dropout.forward(h));
        tap.see("norm1", &x);
        let h = self.linear1.forward(x.clone());
        tap.see("linear1", &h);
        let h = self.linear2.forward(self.dropout.forward(self.activation.forward(h)));
        tap.see("linear2", &h);
        let y = self.norm2.forward(x + self.dropout.forward(h));
        tap.see("norm2", &y);
        tap.see("", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{flex, values};

    #[test]
    fn weights_are_dropped_while_training() {
        // Without an input all weights are 1/8. Values of 1 that are passed on sum them up.
        let config = MdmConfig { latent_dim: 4, num_heads: 2, dropout: 0.5, ..MdmConfig::default() };
        let sums = |device: Device| {
            let mut layer = PackedAttention::new(&config, &device).unwrap();
            layer.in_proj_bias =
                Param::from_tensor(Tensor::from_data([0., 0., 0., 0., 0., 0., 0., 0., 1., 1., 1., 1.], &device));
            layer.out_proj.weight = Param::from_tensor(Tensor::eye(4, &device));
            layer.out_proj.bias = None;
            values(&layer.forward(Tensor::zeros([50, 8, 4], &device), &mut Tap::none()))
        };
        assert!(sums(flex()).iter().all(|sum| (sum - 1.0).abs() < 1e-6));
        let dropped = sums(flex().autodiff());
        // Each is the count of the weights that are left, a quarter apiece, and 1 in the mean.
        assert!(dropped.iter().all(|sum| ((sum * 4.0).round() - sum * 4.0).abs() < 1e-5));
        assert!(dropped.iter().any(|sum| (sum - 1.0).abs() > 0.2));
        let mean = dropped.iter().sum::<f64>() / dropped.len() as f64;
        assert!((mean - 1.0).abs() < 0.06, "{mean}");
    }
}
