//! The block of transformers over tokens: attention, attention to a context, and a feed-forward layer.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Shape, Tensor};

use super::{
    Activation, Attention, AttentionConfig, Dropout, DropoutConfig, FeedForward, FeedForwardConfig, Gate, LayerNorm,
    LayerNormConfig,
};
use crate::error::{ModelError, at_least_one};
use crate::tap::Tap;

/// Configuration of a [`BasicTransformerBlock`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::BasicTransformerBlockConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let block = BasicTransformerBlockConfig::new(64, 4, 16).context(768).init(&device)?;
/// assert!(block.attn2.is_some());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BasicTransformerBlockConfig {
    /// Size of the last axis of the input and the output.
    pub width: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of each head.
    pub head_dim: usize,
    /// Size of the last axis of the context. Default: `None`, no attention to a context.
    pub context: Option<usize>,
    /// What stands between the layers of the feed-forward layer. Default: GEGLU.
    pub gate: Gate,
    /// Probability of dropout after attention and in the feed-forward layer. Default: `0`.
    pub dropout: f64,
    /// Whether queries, keys and values have a bias. Default: `false`.
    pub attention_bias: bool,
    /// Whether the first attention looks at the context, too. Default: `false`.
    pub only_cross_attention: bool,
    /// Whether the second attention looks at the tokens themselves. Default: `false`.
    pub double_self_attention: bool,
    /// Whether half-precision scores are computed in f32. Default: `false`.
    pub upcast: bool,
    /// Whether the normalizations scale and shift. Default: `true`.
    pub affine: bool,
    /// Epsilon of the normalizations. Default: `1e-5`.
    pub epsilon: f64,
    /// Length of the table of positions that are told to both attentions. Default: `None`, no positions.
    pub positions: Option<usize>,
}

impl BasicTransformerBlockConfig {
    /// A block with self-attention by `heads` heads of `head_dim` channels each, and GEGLU.
    #[must_use]
    pub fn new(width: usize, heads: usize, head_dim: usize) -> Self {
        Self {
            width,
            heads,
            head_dim,
            context: None,
            gate: Gate::Gated(Activation::Gelu),
            dropout: 0.0,
            attention_bias: false,
            only_cross_attention: false,
            double_self_attention: false,
            upcast: false,
            affine: true,
            epsilon: 1e-5,
            positions: None,
        }
    }

    /// Sets the size of the context.
    #[must_use]
    pub fn context(mut self, width: usize) -> Self {
        self.context = Some(width);
        self
    }

    /// Sets what stands between the layers of the feed-forward layer.
    #[must_use]
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// Sets the probability of dropout.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    /// Sets whether queries, keys and values have a bias.
    #[must_use]
    pub fn attention_bias(mut self, bias: bool) -> Self {
        self.attention_bias = bias;
        self
    }

    /// Sets whether the first attention looks at the context, too.
    #[must_use]
    pub fn only_cross_attention(mut self, yes: bool) -> Self {
        self.only_cross_attention = yes;
        self
    }

    /// Sets whether the second attention looks at the tokens themselves.
    #[must_use]
    pub fn double_self_attention(mut self, yes: bool) -> Self {
        self.double_self_attention = yes;
        self
    }

    /// Sets whether half-precision scores are computed in f32.
    #[must_use]
    pub fn upcast(mut self, upcast: bool) -> Self {
        self.upcast = upcast;
        self
    }

    /// Tells both attentions positions, up to `count` of them.
    #[must_use]
    pub fn positions(mut self, count: usize) -> Self {
        self.positions = Some(count);
        self
    }

    /// Makes the block.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the dropout is no probability, or a context is to be looked at that is
    /// not told.
    pub fn init(&self, device: &Device) -> Result<BasicTransformerBlock, ModelError> {
        if self.only_cross_attention && self.context.is_none() {
            return Err(ModelError::Config {
                field: "only_cross_attention",
                given: "true".into(),
                expected: "false where `context` is none".into(),
            });
        }
        let norm = || {
            let config = LayerNormConfig::new(self.width).epsilon(self.epsilon);
            if self.affine { config.init(device) } else { config.plain().init(device) }
        };
        let attention = |context: Option<usize>| {
            AttentionConfig { context, ..AttentionConfig::new(self.width, self.heads, self.head_dim) }
                .bias(self.attention_bias)
                .upcast(self.upcast)
                .init(device)
        };
        let second = self.context.is_some() || self.double_self_attention;
        let own = |yes: bool| if yes { self.context } else { None };
        Ok(BasicTransformerBlock {
            norm1: norm()?,
            attn1: attention(own(self.only_cross_attention))?,
            norm2: if second { Some(norm()?) } else { None },
            attn2: if second { Some(attention(own(!self.double_self_attention))?) } else { None },
            norm3: norm()?,
            ff: FeedForwardConfig::new(self.width).gate(self.gate).dropout(self.dropout).init(device)?,
            pos_embed: match self.positions {
                Some(count) => Some(SinusoidalPositions::new(count, self.width, device)?),
                None => None,
            },
            dropout: DropoutConfig::new(self.dropout).init()?,
            only_cross_attention: self.only_cross_attention,
            double_self_attention: self.double_self_attention,
        })
    }
}

/// Attention among tokens, attention to a context, and a feed-forward layer, each after a normalization and added to its
/// input. Made by [`BasicTransformerBlockConfig::init`].
///
/// # References
///
/// Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), section 3; for images: Rombach et al. 2022,
/// [arXiv:2112.10752](https://arxiv.org/abs/2112.10752), appendix E.2.1.
#[derive(Module, Debug)]
pub struct BasicTransformerBlock {
    /// Positions, told to both attentions.
    pub pos_embed: Option<SinusoidalPositions>,
    /// Normalization before the first attention.
    pub norm1: LayerNorm,
    /// Attention among the tokens.
    pub attn1: Attention,
    /// Normalization before the second attention.
    pub norm2: Option<LayerNorm>,
    /// Attention to the context.
    pub attn2: Option<Attention>,
    /// Normalization before the feed-forward layer.
    pub norm3: LayerNorm,
    /// Feed-forward layer.
    pub ff: FeedForward,
    dropout: Dropout,
    only_cross_attention: bool,
    double_self_attention: bool,
}

impl BasicTransformerBlock {
    /// Applies the block. `bias` is added to the scores of the second attention: what a mask of the context becomes
    /// ([`mask_bias`](super::mask_bias)). Without a context, everything is attention among the tokens.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, tokens, width]`
    /// - context: `[batch, keys, context]`
    /// - bias: `[batch or 1, heads or 1, tokens or 1, keys]`
    pub fn forward(
        &self,
        x: Tensor<3>,
        context: Option<&Tensor<3>>,
        bias: Option<&Tensor<4>>,
        tap: &mut Tap<'_>,
    ) -> Tensor<3> {
        self.run(x, None, context, bias, tap)
    }

    /// Applies a block without a context. `bias` is added to the scores among the tokens: what hides some tokens, or
    /// those behind a token.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, tokens, width]`
    /// - bias: `[batch or 1, heads or 1, tokens or 1, tokens]`
    pub fn forward_self(&self, x: Tensor<3>, bias: Option<&Tensor<4>>, tap: &mut Tap<'_>) -> Tensor<3> {
        self.run(x, bias, None, None, tap)
    }

    fn run(
        &self,
        x: Tensor<3>,
        own: Option<&Tensor<4>>,
        context: Option<&Tensor<3>>,
        bias: Option<&Tensor<4>>,
        tap: &mut Tap<'_>,
    ) -> Tensor<3> {
        let place = |h: Tensor<3>| match &self.pos_embed {
            Some(positions) => positions.forward(h),
            None => h,
        };
        let h = self.norm1.forward(x.clone());
        tap.see("norm1", &h);
        let seen = if self.only_cross_attention { context.cloned() } else { None };
        let h = tap.scope("attn1", |tap| self.attn1.forward(place(h), seen, own.cloned(), tap));
        let mut x = x + self.dropout.forward(h);
        if let (Some(norm), Some(attention)) = (&self.norm2, &self.attn2) {
            let h = norm.forward(x.clone());
            tap.see("norm2", &h);
            let (seen, bias) =
                if self.double_self_attention { (None, None) } else { (context.cloned(), bias.cloned()) };
            let h = tap.scope("attn2", |tap| attention.forward(place(h), seen, bias, tap));
            x = x + self.dropout.forward(h);
        }
        let h = self.norm3.forward(x.clone());
        tap.see("norm3", &h);
        let y = x + tap.scope("ff", |tap| self.ff.forward(h, tap));
        tap.see("", &y);
        y
    }
}

/// A table of positions that is added to tokens, kept with the weights but not trained: entries `2i` and `2i + 1` of
/// position `p` are the sine and the cosine of `p / 10000^(2i / width)`.
///
/// # References
///
/// Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), section 3.5.
#[derive(Module, Debug)]
pub struct SinusoidalPositions {
    /// `[1, positions, width]`; not trained.
    pub pe: Param<Tensor<3>>,
}

/// The table of positions of [`SinusoidalPositions`], as a stored tensor of the given shape.
pub(crate) fn positions(shape: [usize; 3], device: &Device) -> Param<Tensor<3>> {
    let width = shape[2];
    let entry = move |p: usize, i: usize| {
        let angle = p as f64 * 10_000f64.powf(-((i / 2 * 2) as f64) / width as f64);
        if i.is_multiple_of(2) { angle.sin() } else { angle.cos() }
    };
    let table = move |device: &Device, _: bool| {
        let rows = 0..shape[0] * shape[1];
        let entries: Vec<f64> = rows.flat_map(|p| (0..width).map(move |i| entry(p, i))).collect();
        Tensor::<1>::from_data(entries.as_slice(), device).reshape(shape)
    };
    Param::uninitialized(ParamId::new(), table, device.clone(), false, Shape::from(shape))
}

impl SinusoidalPositions {
    /// A table of `count` positions.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if there are none, or the width is odd.
    pub fn new(count: usize, width: usize, device: &Device) -> Result<Self, ModelError> {
        at_least_one("positions", count)?;
        if width == 0 || !width.is_multiple_of(2) {
            return Err(ModelError::Config {
                field: "width",
                given: width.to_string(),
                expected: "an even number: a sine and a cosine for each frequency".into(),
            });
        }
        Ok(Self { pe: positions([1, count, width], device) })
    }

    /// Number of positions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pe.lazy_shape()[1]
    }

    /// Adds the position of each token.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, tokens, width]`, at most [`count`](Self::count) tokens
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, tokens, _] = x.dims();
        let positions = self.pe.val().cast(x.dtype());
        x + positions.narrow(1, 0, tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};
    use crate::weights::parameters;

    fn run(block: &BasicTransformerBlock, x: &Tensor<3>, context: Option<&Tensor<3>>) -> Tensor<3> {
        block.forward(x.clone(), context, None, &mut Tap::none())
    }

    #[test]
    fn parameters_have_their_published_names() {
        let block = BasicTransformerBlockConfig::new(4, 2, 3).context(5).positions(7).init(&flex()).unwrap();
        let names: Vec<_> = parameters(&block).into_iter().map(|p| (p.name, p.shape)).collect();
        let expected: [(&str, &[usize]); 21] = [
            ("pos_embed.pe", &[1, 7, 4]),
            ("norm1.weight", &[4]),
            ("norm1.bias", &[4]),
            ("attn1.to_q.weight", &[6, 4]),
            ("attn1.to_k.weight", &[6, 4]),
            ("attn1.to_v.weight", &[6, 4]),
            ("attn1.to_out.0.weight", &[4, 6]),
            ("attn1.to_out.0.bias", &[4]),
            ("norm2.weight", &[4]),
            ("norm2.bias", &[4]),
            ("attn2.to_q.weight", &[6, 4]),
            ("attn2.to_k.weight", &[6, 5]),
            ("attn2.to_v.weight", &[6, 5]),
            ("attn2.to_out.0.weight", &[4, 6]),
            ("attn2.to_out.0.bias", &[4]),
            ("norm3.weight", &[4]),
            ("norm3.bias", &[4]),
            ("ff.net.0.proj.weight", &[32, 4]),
            ("ff.net.0.proj.bias", &[32]),
            ("ff.net.2.weight", &[4, 16]),
            ("ff.net.2.bias", &[4]),
        ];
        assert_eq!(names, expected.map(|(name, shape)| (name.to_owned(), shape.to_vec())));
    }

    #[test]
    fn the_parts_are_added_one_after_the_other() {
        let device = flex();
        let block = BasicTransformerBlockConfig::new(4, 2, 2).context(3).init(&device).unwrap();
        let (x, context) = (tensor([2, 5, 4], 0.3, &device), tensor([2, 6, 3], 0.8, &device));
        let bias = tensor([2, 1, 1, 6], 0.5, &device);
        let tap = &mut Tap::none();
        let mut y = x.clone() + block.attn1.forward(block.norm1.forward(x.clone()), None, None, tap);
        let h = block.norm2.as_ref().unwrap().forward(y.clone());
        y = y + block.attn2.as_ref().unwrap().forward(h, Some(context.clone()), Some(bias.clone()), tap);
        let expected = y.clone() + block.ff.forward(block.norm3.forward(y), tap);
        let given = block.forward(x, Some(&context), Some(&bias), tap);
        assert_close(&given, &values(&expected), 1e-6);
    }

    #[test]
    fn both_attentions_look_where_they_are_told() {
        let device = flex();
        let x = tensor([1, 5, 4], 0.3, &device);
        let contexts = [0.1, 0.6].map(|seed| tensor([1, 6, 3], seed, &device));
        let base = BasicTransformerBlockConfig::new(4, 2, 2).context(3);
        let differs = |block: &BasicTransformerBlock| {
            let [a, b] = contexts.each_ref().map(|c| values(&run(block, &x, Some(c))));
            a != b
        };
        let cross = base.only_cross_attention(true).init(&device).unwrap();
        assert_eq!(cross.attn1.to_k.weight.dims(), [4, 3]);
        assert!(differs(&cross) && differs(&base.init(&device).unwrap()));
        let twice = base.double_self_attention(true).init(&device).unwrap();
        assert_eq!(twice.attn2.as_ref().unwrap().to_k.weight.dims(), [4, 4]);
        assert!(!differs(&twice));
        let alone = BasicTransformerBlockConfig::new(4, 2, 2).init(&device).unwrap();
        assert!(alone.attn2.is_none() && alone.norm2.is_none());
        assert_eq!(run(&alone, &x, None).dims(), [1, 5, 4]);
        let error = BasicTransformerBlockConfig::new(4, 2, 2).only_cross_attention(true).init(&device).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "only_cross_attention", .. }), "{error}");
    }

    #[test]
    fn positions_are_sines_and_cosines() {
        let device = flex();
        let positions = SinusoidalPositions::new(40, 6, &device).unwrap();
        assert_eq!(positions.count(), 40);
        let y = values(&positions.forward(Tensor::zeros([1, 3, 6], &device)));
        for p in 0..3 {
            for i in 0..3 {
                let angle = p as f64 / 10_000f64.powf(2.0 * i as f64 / 6.0);
                assert!((y[p * 6 + 2 * i] - angle.sin()).abs() < 1e-6);
                assert!((y[p * 6 + 2 * i + 1] - angle.cos()).abs() < 1e-6);
            }
        }
        assert!(matches!(SinusoidalPositions::new(0, 6, &device), Err(ModelError::Config { field: "positions", .. })));
        assert!(matches!(SinusoidalPositions::new(4, 5, &device), Err(ModelError::Config { field: "width", .. })));
    }

    #[test]
    fn positions_make_the_order_of_tokens_count() {
        let device = flex();
        let x = tensor([1, 5, 4], 0.3, &device);
        let order_counts = |block: &BasicTransformerBlock| {
            let flipped = run(block, &x.clone().flip([1]), None).flip([1]);
            let straight = run(block, &x, None);
            values(&straight).iter().zip(values(&flipped)).any(|(a, b)| (a - b).abs() > 1e-4)
        };
        let base = BasicTransformerBlockConfig::new(4, 2, 2);
        assert!(!order_counts(&base.init(&device).unwrap()));
        assert!(order_counts(&base.positions(5).init(&device).unwrap()));
    }

    #[test]
    fn tokens_that_are_hidden_from_each_other_are_not_seen() {
        let device = flex();
        let block = BasicTransformerBlockConfig::new(8, 2, 4).init(&device).unwrap();
        let x = tensor([1, 3, 8], 0.3, &device);
        let bias = super::super::mask_bias(Tensor::from_data([[1.0, 1.0, 0.0]], &device));
        let ask = |x: Tensor<3>, bias| values(&block.forward_self(x, bias, &mut Tap::none()).narrow(1, 0, 2));
        let first = ask(x.clone(), Some(&bias));
        let alone = values(&block.forward_self(x.clone().narrow(1, 0, 2), None, &mut Tap::none()));
        assert!(first.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-6), "{first:?} {alone:?}");
        let all = ask(x.clone(), None);
        assert!(first.iter().zip(&all).any(|(a, b)| (a - b).abs() > 1e-4));
        assert_eq!(all, values(&block.forward(x, None, None, &mut Tap::none()).narrow(1, 0, 2)));
    }
}
