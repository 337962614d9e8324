//! Multi-head self-attention.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};

use super::norm::widen;
use super::{GroupNorm, GroupNormConfig, Linear, LinearConfig};
use crate::error::{ModelError, at_least_one, positive};
use crate::tap::Tap;

/// `softmax(q·kᵀ/√d)·v` for each head, where d is the size of a head.
///
/// Written with products and a softmax, so it is differentiable, gives the same numbers whatever the memory
/// layout of its inputs, and takes the softmax of half-precision scores in f32. Its memory grows with the
/// product of the numbers of queries and keys.
///
/// # Shapes
///
/// - query: `[batch, heads, queries, d]`
/// - key: `[batch, heads, keys, d]`
/// - value: `[batch, heads, keys, width]`
/// - output: `[batch, heads, queries, width]`
///
/// # References
///
/// Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), eq. 1.
pub fn scaled_dot_product_attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let [_, _, _, d] = query.dims();
    let dtype = query.dtype();
    // Scaling the query instead of the scores is cheaper, and keeps half-precision scores in range.
    let scores = (query / (d as f64).sqrt()).matmul(key.swap_dims(2, 3));
    activation::softmax(widen(scores), 3).cast(dtype).matmul(value)
}

/// Configuration of a [`SelfAttention`] block.
///
/// # Example
///
/// ```
/// use langevin_models::layers::SelfAttentionConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let block = SelfAttentionConfig::new(64, 4, 16).norm(Some(32), 1e-5).init(&device)?;
/// assert_eq!(block.to_q.weight.dims(), [64, 64]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelfAttentionConfig {
    /// Channels of the input and the output.
    pub channels: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of each head.
    pub head_dim: usize,
    /// Groups of the normalization before attention, or none. Default: `None`.
    pub norm_groups: Option<usize>,
    /// Epsilon of that normalization. Default: `1e-5`.
    pub epsilon: f64,
    /// The sum of input and attention is divided by this. Default: `1`.
    pub output_scale: f64,
}

impl SelfAttentionConfig {
    /// `heads` heads of `head_dim` channels each, without normalization.
    #[must_use]
    pub fn new(channels: usize, heads: usize, head_dim: usize) -> Self {
        Self { channels, heads, head_dim, norm_groups: None, epsilon: 1e-5, output_scale: 1.0 }
    }

    /// Sets the normalization before attention.
    #[must_use]
    pub fn norm(mut self, groups: Option<usize>, epsilon: f64) -> Self {
        self.norm_groups = groups;
        self.epsilon = epsilon;
        self
    }

    /// Sets what the sum of input and attention is divided by.
    #[must_use]
    pub fn output_scale(mut self, scale: f64) -> Self {
        self.output_scale = scale;
        self
    }

    /// Makes the block.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the groups do not divide the channels, or the output scale
    /// is not above zero.
    pub fn init(&self, device: &Device) -> Result<SelfAttention, ModelError> {
        at_least_one("channels", self.channels)?;
        at_least_one("heads", self.heads)?;
        at_least_one("head_dim", self.head_dim)?;
        positive("output_scale", self.output_scale)?;
        let inner = self.heads * self.head_dim;
        let projection = || LinearConfig::new(self.channels, inner).init(device);
        let group_norm = match self.norm_groups {
            Some(groups) => Some(GroupNormConfig::new(groups, self.channels).epsilon(self.epsilon).init(device)?),
            None => None,
        };
        Ok(SelfAttention {
            group_norm,
            to_q: projection()?,
            to_k: projection()?,
            to_v: projection()?,
            to_out: vec![LinearConfig::new(inner, self.channels).init(device)?],
            heads: self.heads,
            output_scale: self.output_scale,
        })
    }
}

/// Multi-head self-attention over the pixels of an image, added to its input:
/// `(x + attention(norm(x))) / output_scale`. Made by [`SelfAttentionConfig::init`].
///
/// # References
///
/// Ho, Jain, Abbeel 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239), appendix B.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// Normalization before attention.
    pub group_norm: Option<GroupNorm>,
    /// Projection to queries.
    pub to_q: Linear,
    /// Projection to keys.
    pub to_k: Linear,
    /// Projection to values.
    pub to_v: Linear,
    /// Projection of the heads to channels, the only entry of a list as in published weights.
    pub to_out: Vec<Linear>,
    heads: usize,
    output_scale: f64,
}

impl SelfAttention {
    /// Attends over all pixels.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let pixels = height * width;
        let mut h = x.clone().reshape([batch, channels, pixels]);
        if let Some(norm) = &self.group_norm {
            h = norm.forward(h);
            tap.see("group_norm", &h);
        }
        // One contiguous copy serves the three projections: they read rows of pixels.
        let tokens = h.swap_dims(1, 2);
        let attended = self.attend(tokens, tap);
        let y = attended.swap_dims(1, 2).reshape([batch, channels, height, width]);
        let y = x + y;
        let y = if self.output_scale == 1.0 { y } else { y / self.output_scale };
        tap.see("", &y);
        y
    }

    /// Projects tokens to heads, attends, and projects back, without normalization or residual.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, tokens, channels]`
    pub fn attend(&self, tokens: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let [batch, count, channels] = tokens.dims();
        let tokens = tokens.reshape([batch * count, channels]);
        let mut project = |name: &str, layer: &Linear| {
            let y = layer.forward(tokens.clone());
            let inner = y.dims()[1];
            let y = y.reshape([batch, count, inner]);
            tap.see(name, &y);
            y.reshape([batch, count, self.heads, inner / self.heads]).swap_dims(1, 2)
        };
        let query = project("to_q", &self.to_q);
        let key = project("to_k", &self.to_k);
        let value = project("to_v", &self.to_v);
        let mut y = scaled_dot_product_attention(query, key, value).swap_dims(1, 2).flatten::<3>(2, 3);
        for (i, layer) in self.to_out.iter().enumerate() {
            y = layer.forward(y);
            tap.see(format_args!("to_out.{i}"), &y);
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};
    use burn::tensor::DType;

    /// The definition, with loops, for one head: rows of `d` entries.
    fn by_hand(q: &[f64], k: &[f64], v: &[f64], d: usize) -> Vec<f64> {
        let mut y = Vec::new();
        for q in q.chunks(d) {
            let scores: Vec<f64> = k
                .chunks(d)
                .map(|k| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / (d as f64).sqrt())
                .map(f64::exp)
                .collect();
            let total: f64 = scores.iter().sum();
            for c in 0..d {
                let sum: f64 = v.chunks(d).zip(&scores).map(|(v, s)| v[c] * s).sum();
                y.push(sum / total);
            }
        }
        y
    }

    #[test]
    fn agrees_with_the_definition() {
        let device = flex();
        let [q, k, v] = [0.1, 0.5, 0.9].map(|s| tensor([2, 3, 4, 5], s, &device) * 2.0);
        let mut expected = Vec::new();
        let (hq, hk, hv) = (values(&q), values(&k), values(&v));
        for head in 0..6 {
            let r = head * 20..(head + 1) * 20;
            expected.extend(by_hand(&hq[r.clone()], &hk[r.clone()], &hv[r], 5));
        }
        assert_close(&scaled_dot_product_attention(q, k, v), &expected, 1e-5);
    }

    #[test]
    fn does_not_depend_on_the_memory_layout() {
        // This shape, given as a transposed view, is the one for which a fused kernel returned wrong values.
        let device = flex();
        let view = tensor([2, 64, 256], 0.37, &device).reshape([2, 1, 64, 256]).swap_dims(2, 3);
        let contiguous = Tensor::<4>::from_data(view.to_data(), &device);
        let given = scaled_dot_product_attention(view.clone(), view.clone(), view);
        let copies = (contiguous.clone(), contiguous.clone(), contiguous);
        let expected = scaled_dot_product_attention(copies.0, copies.1, copies.2);
        assert_close(&given, &values(&expected), 1e-6);
        let data = values(&expected);
        let rows = by_hand(
            &values(&tensor([64, 256], 0.37, &device).swap_dims(0, 1)),
            &values(&tensor([64, 256], 0.37, &device).swap_dims(0, 1)),
            &values(&tensor([64, 256], 0.37, &device).swap_dims(0, 1)),
            64,
        );
        for (g, e) in data.iter().zip(&rows) {
            assert!((g - e).abs() < 1e-5, "{g} {e}");
        }
    }

    #[test]
    fn large_scores_do_not_overflow_in_half_precision() {
        let device = flex();
        let q = Tensor::<4>::full([1, 1, 2, 4], 200.0, &device).cast(DType::F16);
        let v = Tensor::<4>::from_data([[[[1.0], [3.0]]]], &device).cast(DType::F16);
        let y = scaled_dot_product_attention(q.clone() * 0.5, q * 0.5, v);
        assert_close(&y, &[2.0, 2.0], 1e-3);
    }

    #[test]
    fn equal_values_pass_through_the_block() {
        // With every value projected to the constant b_v, attention returns b_v whatever the scores are.
        let device = flex();
        let mut block = SelfAttentionConfig::new(4, 2, 2).norm(Some(2), 1e-5).output_scale(2.0).init(&device).unwrap();
        block.to_v.weight = burn::module::Param::from_tensor(Tensor::zeros([4, 4], &device));
        block.to_v.bias = Some(burn::module::Param::from_data([1.0, 2.0, 3.0, 4.0], &device));
        block.to_out[0].weight = burn::module::Param::from_tensor(Tensor::eye(4, &device));
        block.to_out[0].bias = Some(burn::module::Param::from_data([0.0; 4], &device));
        let x = tensor([1, 4, 2, 3], 0.4, &device);
        let expected: Vec<f64> = values(&x).iter().enumerate().map(|(i, v)| (v + (i / 6 + 1) as f64) / 2.0).collect();
        assert_close(&block.forward(x, &mut Tap::none()), &expected, 1e-5);
    }

    #[test]
    fn heads_see_their_own_channels() {
        // Permuting the pixels permutes the output: attention has no positions.
        let device = flex();
        let block = SelfAttentionConfig::new(6, 3, 2).init(&device).unwrap();
        let x = tensor([1, 5, 6], 0.4, &device);
        let y = values(&block.attend(x.clone(), &mut Tap::none()));
        let flipped = values(&block.attend(x.flip([1]), &mut Tap::none()));
        for token in 0..5 {
            for c in 0..6 {
                assert!((y[token * 6 + c] - flipped[(4 - token) * 6 + c]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn refuses_impossible_sizes() {
        let device = flex();
        for (config, name) in [
            (SelfAttentionConfig::new(0, 1, 1), "channels"),
            (SelfAttentionConfig::new(4, 0, 1), "heads"),
            (SelfAttentionConfig::new(4, 1, 0), "head_dim"),
            (SelfAttentionConfig::new(4, 1, 4).norm(Some(3), 1e-5), "groups"),
            (SelfAttentionConfig::new(4, 1, 4).output_scale(0.0), "output_scale"),
        ] {
            let error = config.init(&device).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name));
        }
    }
}
