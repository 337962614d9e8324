//! Multi-head attention, to oneself and to a context.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};

use super::convolution::{compiles_kernels, to_image, to_tokens};
use super::norm::widen;
use super::{GroupNorm, GroupNormConfig, Linear, LinearConfig, SpatialNorm, SpatialNormConfig};
use super::{multiply, swapped};
use crate::condition::each_frame;
use crate::error::{ModelError, at_least_one, positive};
use crate::tap::Tap;

/// Scores that are held at once on devices with kernels of their own: 64 Mi, which is 256 MiB in `f32`. Attention over more
/// of them takes the queries in portions.
const LARGEST_SCORES: usize = 1 << 26;
/// The same on the CPU, where what fits the caches, and need not be asked from the system each time, is faster.
const LARGEST_SCORES_ON_CPU: usize = 1 << 20;

/// `softmax(q·kᵀ/√d)·v` for each head, where d is the size of a head.
///
/// It is differentiable, gives the same numbers whatever the memory layout of its inputs, and takes scores and
/// their softmax in f32 whatever the precision of its inputs. On the CPU it never holds more than a block of scores, also going back (in `f64` at most 1 Mi of
/// them). On devices with a kernel for it (`langevin-gpu`) no score is written, and going back at most 64 Mi at once; elsewhere at most 64 Mi at once, more queries in portions.
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
    attention_with(query, key, value, None, 1.0 / (d as f64).sqrt())
}

/// `softmax(scale·q·kᵀ + bias)·v` for each head: attention with a mask, or with positions told to the scores.
///
/// The bias is added to the scores in f32: 0 where a query may look, a large negative number where not ([`mask_bias`]).
///
/// # Shapes
///
/// - query, key, value and output: those of [`scaled_dot_product_attention`]
/// - bias: `[batch or 1, heads or 1, queries or 1, keys]`
pub fn attention_with(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Option<Tensor<4>>,
    scale: f64,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = crate::cpu::attend(&query, &key, &value, bias.as_ref(), scale) {
        return y;
    }
    #[cfg(feature = "cube")]
    if bias.is_none()
        && let Some(y) = fused(&query, &key, &value, scale)
    {
        return y;
    }
    let [batch, heads, _, _] = query.dims();
    let [_, _, keys, _] = key.dims();
    let largest = if compiles_kernels(&query.device()) { LARGEST_SCORES } else { LARGEST_SCORES_ON_CPU };
    let portion = (largest / (batch * heads * keys).max(1)).max(1);
    in_portions(query, key, value, bias, scale, portion)
}

/// By one kernel that never writes the scores, where there is one.
#[cfg(feature = "cube")]
fn fused(query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>, scale: f64) -> Option<Tensor<4>> {
    let ([batch, heads, queries, d], [_, _, keys, width]) = (query.dims(), value.dims());
    let (few, many) = ([batch * heads, queries, d], [batch * heads, keys, width]);
    let dtype = query.dtype();
    let alike = key.dtype() == dtype && value.dtype() == dtype;
    if !alike || scale <= 0.0 || !langevin_gpu::attends(&query.device(), dtype, few, many) {
        return None;
    }
    let key = key.clone().reshape([batch * heads, keys, d]);
    let (query, value) = (query.clone().reshape(few), value.clone().reshape(many));
    Some(langevin_gpu::attend(query, key, value, scale).reshape([batch, heads, queries, width]))
}

/// The attention of `portion` queries at a time.
fn in_portions(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Option<Tensor<4>>,
    scale: f64,
    portion: usize,
) -> Tensor<4> {
    let [_, _, queries, _] = query.dims();
    let dtype = value.dtype();
    // A score of 40 in half precision is 0.02 off, and its weight 2%: scores are products in f32 of their own.
    let (query, key) = (widen(query), widen(key));
    // Scaling the query instead of the scores is cheaper.
    let query = if scale == 1.0 { query } else { query * scale };
    // Contiguous once, and not in every portion.
    let [batch, heads, keys, width] = value.dims();
    let flat = |x: Tensor<4>| {
        let [_, _, rows, d] = x.dims();
        x.reshape([batch * heads, rows, d])
    };
    let (key, value) = (flat(key), flat(value));
    let some = |query: Tensor<4>, bias: Option<Tensor<4>>| {
        let [_, _, queries, _] = query.dims();
        let scores = multiply(flat(query), key.clone(), true).reshape([batch, heads, queries, keys]);
        let scores = match bias {
            Some(bias) => scores + widen(bias),
            None => scores,
        };
        let weights = activation::softmax(scores, 3).cast(dtype);
        multiply(flat(weights), value.clone(), false).reshape([batch, heads, queries, width])
    };
    if queries <= portion {
        return some(query, bias);
    }
    let parts = (0..queries).step_by(portion).map(|from| {
        let count = portion.min(queries - from);
        let bias = bias.clone().map(|b| if b.dims()[2] == 1 { b } else { b.narrow(2, from, count) });
        some(query.clone().narrow(2, from, count), bias)
    });
    Tensor::cat(parts.collect(), 2)
}

/// The bias that hides the keys whose mask is 0: `(1 - mask)·(-10000)`, as published networks were trained with.
///
/// # Shapes
///
/// - mask: `[batch, keys]`, 1 for keys to see and 0 for keys to hide
/// - output: `[batch, 1, 1, keys]`
pub fn mask_bias(mask: Tensor<2>) -> Tensor<4> {
    let [batch, keys] = mask.dims();
    ((mask - 1.0) * 10_000.0).reshape([batch, 1, 1, keys])
}

/// Splits the last axis into heads: `[batch, tokens, heads·d]` to `[batch, heads, tokens, d]`.
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, tokens, width] = x.dims();
    swapped(x.reshape([batch, tokens, heads, width / heads]), 1)
}

/// The way back: `[batch, heads, tokens, d]` to `[batch, tokens, heads·d]`.
pub(crate) fn join_heads(x: Tensor<4>) -> Tensor<3> {
    swapped(x, 1).flatten::<3>(2, 3)
}

/// Configuration of an [`Attention`] block.
///
/// # Example
///
/// ```
/// use langevin_models::layers::AttentionConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let block = AttentionConfig::new(64, 4, 16).norm(Some(32), 1e-5).init(&device)?;
/// assert_eq!(block.to_q.weight.dims(), [64, 64]);
/// let cross = AttentionConfig::new(64, 4, 16).context(768).bias(false).init(&device)?;
/// assert_eq!(cross.to_k.weight.dims(), [64, 768]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// Channels of the input and the output.
    pub channels: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of each head.
    pub head_dim: usize,
    /// Channels of the context whose keys and values are taken. Default: `None`, the input itself.
    pub context: Option<usize>,
    /// Whether the projections to queries, keys and values have a bias. Default: `true`.
    pub bias: bool,
    /// Whether the last projection has a bias. Default: `true`.
    pub output_bias: bool,
    /// Groups of the normalization before attention, or none. Default: `None`.
    pub norm_groups: Option<usize>,
    /// Channels of the latents that tell a [`SpatialNorm`] before attention, or none. Default: `None`.
    pub spatial: Option<usize>,
    /// Epsilon of that normalization. Default: `1e-5`.
    pub epsilon: f64,
    /// The sum of input and attention is divided by this. Default: `1`.
    pub output_scale: f64,
    /// Whether half-precision queries and keys are multiplied in f32 (`upcast_attention`). Default: `false`.
    pub upcast: bool,
}

impl AttentionConfig {
    /// `heads` heads of `head_dim` channels each, without normalization, to oneself.
    #[must_use]
    pub fn new(channels: usize, heads: usize, head_dim: usize) -> Self {
        Self {
            channels,
            heads,
            head_dim,
            context: None,
            bias: true,
            output_bias: true,
            norm_groups: None,
            spatial: None,
            epsilon: 1e-5,
            output_scale: 1.0,
            upcast: false,
        }
    }

    /// Sets the channels of the context.
    #[must_use]
    pub fn context(mut self, channels: usize) -> Self {
        self.context = Some(channels);
        self
    }

    /// Sets whether queries, keys and values have a bias.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets whether the last projection has a bias.
    #[must_use]
    pub fn output_bias(mut self, bias: bool) -> Self {
        self.output_bias = bias;
        self
    }

    /// Sets the normalization before attention.
    #[must_use]
    pub fn norm(mut self, groups: Option<usize>, epsilon: f64) -> Self {
        self.norm_groups = groups;
        self.epsilon = epsilon;
        self
    }

    /// Sets the channels of the latents that tell the normalization.
    #[must_use]
    pub fn spatial(mut self, latents: Option<usize>) -> Self {
        self.spatial = latents;
        self
    }

    /// Sets what the sum of input and attention is divided by.
    #[must_use]
    pub fn output_scale(mut self, scale: f64) -> Self {
        self.output_scale = scale;
        self
    }

    /// Sets whether half-precision queries and keys are multiplied in f32.
    #[must_use]
    pub fn upcast(mut self, upcast: bool) -> Self {
        self.upcast = upcast;
        self
    }

    /// Makes the block.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the groups do not divide the channels, or the output scale
    /// is not above zero.
    pub fn init(&self, device: &Device) -> Result<Attention, ModelError> {
        at_least_one("channels", self.channels)?;
        at_least_one("heads", self.heads)?;
        at_least_one("head_dim", self.head_dim)?;
        positive("output_scale", self.output_scale)?;
        let inner = self.heads * self.head_dim;
        let context = self.context.unwrap_or(self.channels);
        at_least_one("context", context)?;
        let projection = |input| LinearConfig::new(input, inner).bias(self.bias).init(device);
        let group_norm = match self.norm_groups {
            Some(groups) => Some(GroupNormConfig::new(groups, self.channels).epsilon(self.epsilon).init(device)?),
            None => None,
        };
        let spatial_norm = match self.spatial {
            Some(latents) => Some(SpatialNormConfig::new(self.channels, latents).init(device)?),
            None => None,
        };
        Ok(Attention {
            spatial_norm,
            group_norm,
            to_q: projection(self.channels)?,
            to_k: projection(context)?,
            to_v: projection(context)?,
            to_out: vec![LinearConfig::new(inner, self.channels).bias(self.output_bias).init(device)?],
            heads: self.heads,
            output_scale: self.output_scale,
            upcast: self.upcast,
        })
    }
}

/// Multi-head attention. Made by [`AttentionConfig::init`].
///
/// [`forward`](Self::forward) attends among tokens or from tokens to a context; [`forward_image`](Self::forward_image)
/// is the whole block of a UNet over pixels: `(x + attention(norm(x))) / output_scale`.
///
/// # References
///
/// Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), section 3.2; over pixels: Ho, Jain, Abbeel
/// 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239), appendix B.
#[derive(Module, Debug)]
pub struct Attention {
    /// Normalization of images that is told by latents.
    pub spatial_norm: Option<SpatialNorm>,
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
    upcast: bool,
}

impl Attention {
    /// Attends over all pixels, with normalization and residual.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, channels, height, width]`
    ///
    /// # Panics
    ///
    /// If the block is told by latents ([`SpatialNorm`]): [`forward_image_told`](Self::forward_image_told) takes them.
    pub fn forward_image(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        self.forward_image_told(x, None, tap)
    }

    /// [`forward_image`](Self::forward_image), the normalization told by latents where the block has a
    /// [`SpatialNorm`]. A block without one ignores them.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, channels, height, width]`
    /// - latents: `[batch, latents, any, any]`
    ///
    /// # Panics
    ///
    /// If a block that is told by latents gets none.
    pub fn forward_image_told(&self, x: Tensor<4>, latents: Option<&Tensor<4>>, tap: &mut Tap<'_>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let mut h = x.clone();
        if let Some(norm) = &self.spatial_norm {
            h = tap.scope("spatial_norm", |tap| norm.forward(h, latents.expect("latents"), tap));
        }
        if let Some(norm) = &self.group_norm {
            h = norm.forward(h);
            if tap.is_listening() {
                tap.see("group_norm", &h.clone().reshape([batch, channels, height * width]));
            }
        }
        let attended = self.attend(to_tokens(h), None, None, tap);
        let y = x + to_image(attended, height, width);
        let y = if self.output_scale == 1.0 { y } else { y / self.output_scale };
        tap.see("", &y);
        y
    }

    /// Projects tokens to heads, attends to the context (or to the tokens themselves), and projects back, without
    /// normalization or residual. `bias` is added to the scores, as in [`attention_with`].
    ///
    /// # Shapes
    ///
    /// - tokens and output: `[batch, tokens, channels]`
    /// - context: `[batch, keys, context]`, or fewer rows, each for as many rows of tokens behind one another
    /// - bias: `[batch or 1, heads or 1, tokens or 1, keys]`
    pub fn forward(
        &self,
        tokens: Tensor<3>,
        context: Option<Tensor<3>>,
        bias: Option<Tensor<4>>,
        tap: &mut Tap<'_>,
    ) -> Tensor<3> {
        let y = self.attend(tokens, context, bias, tap);
        tap.see("", &y);
        y
    }

    fn attend(
        &self,
        tokens: Tensor<3>,
        context: Option<Tensor<3>>,
        bias: Option<Tensor<4>>,
        tap: &mut Tap<'_>,
    ) -> Tensor<3> {
        let [rows, count, _] = tokens.dims();
        if count == 0 {
            // Burn takes a zero in a shape for what is there.
            return self.to_out.iter().fold(self.to_q.forward(tokens), |y, layer| layer.forward(y));
        }
        // Flattened once: the projections of pixels then share one copy.
        let flat = |x: Tensor<3>| {
            let [batch, count, channels] = x.dims();
            (x.reshape([batch * count, channels]), [batch, count])
        };
        let mut project = |name: &str, layer: &Linear, (x, [batch, count]): &(Tensor<2>, [usize; 2])| {
            let (batch, count) = (*batch, *count);
            let y = layer.forward(x.clone());
            let inner = y.dims()[1];
            let y = y.reshape([batch, count, inner]);
            // What stands for several rows is projected once.
            let y = if batch == rows { y } else { each_frame(y, rows / batch) };
            tap.see(name, &y);
            split_heads(y, self.heads)
        };
        let tokens = flat(tokens);
        let context = context.map_or_else(|| tokens.clone(), flat);
        let query = project("to_q", &self.to_q, &tokens);
        let key = project("to_k", &self.to_k, &context);
        let value = project("to_v", &self.to_v, &context);
        let [_, _, _, d] = query.dims();
        let (query, key) = if self.upcast { (widen(query), widen(key)) } else { (query, key) };
        let mut y = join_heads(attention_with(query, key, value, bias, 1.0 / (d as f64).sqrt()));
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
    fn scores_beyond_half_precision_are_held_in_f32() {
        let device = flex();
        let mut block =
            AttentionConfig::new(2, 1, 2).bias(false).output_bias(false).upcast(true).init(&device).unwrap();
        let weight =
            |scale: f64| burn::module::Param::from_tensor((Tensor::<2>::eye(2, &device) * scale).cast(DType::F16));
        (block.to_q.weight, block.to_k.weight) = (weight(2000.0), weight(2000.0));
        (block.to_v.weight, block.to_out[0].weight) = (weight(1.0), weight(1.0));
        // Scores of 4e6/sqrt(2), beyond the largest f16: each token sees itself only.
        let x = Tensor::<3>::from_data([[[1.0, 0.0], [0.0, 1.0]]], &device).cast(DType::F16);
        let y = block.forward(x, None, None, &mut Tap::none());
        assert_eq!(y.dtype(), DType::F16);
        assert_close(&y, &[1.0, 0.0, 0.0, 1.0], 1e-3);
    }

    #[test]
    fn equal_values_pass_through_the_block() {
        // With every value projected to the constant b_v, attention returns b_v whatever the scores are.
        let device = flex();
        let mut block = AttentionConfig::new(4, 2, 2).norm(Some(2), 1e-5).output_scale(2.0).init(&device).unwrap();
        block.to_v.weight = burn::module::Param::from_tensor(Tensor::zeros([4, 4], &device));
        block.to_v.bias = Some(burn::module::Param::from_data([1.0, 2.0, 3.0, 4.0], &device));
        block.to_out[0].weight = burn::module::Param::from_tensor(Tensor::eye(4, &device));
        block.to_out[0].bias = Some(burn::module::Param::from_data([0.0; 4], &device));
        let x = tensor([1, 4, 2, 3], 0.4, &device);
        let expected: Vec<f64> = values(&x).iter().enumerate().map(|(i, v)| (v + (i / 6 + 1) as f64) / 2.0).collect();
        assert_close(&block.forward_image(x, &mut Tap::none()), &expected, 1e-5);
    }

    #[test]
    fn heads_see_their_own_channels() {
        // Permuting the pixels permutes the output: attention has no positions.
        let device = flex();
        let block = AttentionConfig::new(6, 3, 2).init(&device).unwrap();
        let x = tensor([1, 5, 6], 0.4, &device);
        let y = values(&block.forward(x.clone(), None, None, &mut Tap::none()));
        let flipped = values(&block.forward(x.flip([1]), None, None, &mut Tap::none()));
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
            (AttentionConfig::new(0, 1, 1), "channels"),
            (AttentionConfig::new(4, 0, 1), "heads"),
            (AttentionConfig::new(4, 1, 0), "head_dim"),
            (AttentionConfig::new(4, 1, 4).norm(Some(3), 1e-5), "groups"),
            (AttentionConfig::new(4, 1, 4).output_scale(0.0), "output_scale"),
        ] {
            let error = config.init(&device).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name));
        }
    }

    #[test]
    fn portions_agree_with_the_whole() {
        let device = flex();
        let [q, k, v] = [0.1, 0.5, 0.9].map(|s| tensor([2, 3, 7, 5], s, &device));
        for bias in [None, Some(tensor([2, 1, 1, 7], 0.3, &device)), Some(tensor([1, 3, 7, 7], 0.6, &device))] {
            let whole = attention_with(q.clone(), k.clone(), v.clone(), bias.clone(), 0.4);
            for portion in [1, 3, 6] {
                let parts = in_portions(q.clone(), k.clone(), v.clone(), bias.clone(), 0.4, portion);
                assert_close(&parts, &values(&whole), 1e-6);
            }
        }
    }

    #[test]
    fn a_hidden_key_is_not_seen() {
        let device = flex();
        let [q, k, v] = [0.1, 0.5, 0.9].map(|s| tensor([1, 2, 4, 5], s, &device));
        let mask = Tensor::<2>::from_data([[1.0, 1.0, 1.0, 0.0]], &device);
        let given = attention_with(q.clone(), k.clone(), v.clone(), Some(mask_bias(mask)), 0.5);
        let expected = attention_with(q, k.narrow(2, 0, 3), v.narrow(2, 0, 3), None, 0.5);
        assert_close(&given, &values(&expected), 1e-6);
    }

    #[test]
    fn a_context_may_have_other_tokens_and_channels() {
        let device = flex();
        let block = AttentionConfig::new(6, 3, 2).context(4).bias(false).output_bias(false).init(&device).unwrap();
        assert!(block.to_q.bias.is_none() && block.to_out[0].bias.is_none());
        let context = tensor([1, 1, 4], 0.4, &device);
        let y = block.forward(tensor([1, 5, 6], 0.2, &device), Some(context.clone()), None, &mut Tap::none());
        // A single key gets all the weight: every token sees its value.
        let value = block.to_out[0].forward(block.to_v.forward(context)).expand([1, 5, 6]);
        assert_close(&y, &values(&value), 1e-5);
    }
}
