//! Transformers over the frames of a video.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::temporal::{AlphaBlender, to_frames, to_video};
use super::{
    Activation, Attention, AttentionConfig, BasicTransformerBlock, BasicTransformerBlockConfig, FeedForward,
    FeedForwardConfig, Gate, GroupNorm, GroupNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
    SinusoidalEmbedding, TimestepEmbedding, TimestepEmbeddingConfig,
};
use crate::error::{ModelError, at_least_one, layer_count, whole_heads};
use crate::layers::{permuted, swapped};
use crate::tap::Tap;

/// Configuration of a [`TransformerTemporal`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::TransformerTemporalConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let block = TransformerTemporalConfig::new(64, 4, 16).positions(32).init(&device)?;
/// assert_eq!(block.transformer_blocks.len(), 1);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerTemporalConfig {
    /// Channels of the frames.
    pub channels: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of each head.
    pub head_dim: usize,
    /// Number of blocks. Default: `1`.
    pub layers: usize,
    /// Groups of the normalization. Default: `32`.
    pub groups: usize,
    /// Length of the table of positions of frames. Default: `None`, frames are not told apart.
    pub positions: Option<usize>,
}

impl TransformerTemporalConfig {
    /// One block of `heads` heads with `head_dim` channels each.
    #[must_use]
    pub fn new(channels: usize, heads: usize, head_dim: usize) -> Self {
        Self { channels, heads, head_dim, layers: 1, groups: 32, positions: None }
    }

    /// Sets the number of blocks.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets the groups of the normalization.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Tells frames their positions, up to `count` of them.
    #[must_use]
    pub fn positions(mut self, count: usize) -> Self {
        self.positions = Some(count);
        self
    }

    /// Makes the transformer.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero or the groups do not divide the channels.
    pub fn init(&self, device: &Device) -> Result<TransformerTemporal, ModelError> {
        layer_count("layers", self.layers)?;
        at_least_one("heads", self.heads)?;
        at_least_one("head_dim", self.head_dim)?;
        let inner = self.heads * self.head_dim;
        let block = BasicTransformerBlockConfig {
            positions: self.positions,
            ..BasicTransformerBlockConfig::new(inner, self.heads, self.head_dim).double_self_attention(true)
        };
        Ok(TransformerTemporal {
            norm: GroupNormConfig::new(self.groups, self.channels).epsilon(1e-6).init(device)?,
            proj_in: LinearConfig::new(self.channels, inner).init(device)?,
            transformer_blocks: (0..self.layers).map(|_| block.init(device)).collect::<Result<_, _>>()?,
            proj_out: LinearConfig::new(inner, self.channels).init(device)?,
        })
    }
}

/// Transformer blocks whose tokens are the frames of one pixel, each with two attentions among the frames, added to the
/// video. With positions it is the motion module of AnimateDiff. Made by [`TransformerTemporalConfig::init`].
///
/// # References
///
/// Wang et al. 2023, [arXiv:2308.06571](https://arxiv.org/abs/2308.06571), section 3.3; Guo et al. 2024, AnimateDiff,
/// [arXiv:2307.04725](https://arxiv.org/abs/2307.04725), section 4.2.
#[derive(Module, Debug)]
pub struct TransformerTemporal {
    /// Normalization over the frames and pixels of a video.
    pub norm: GroupNorm,
    /// Projection of the channels to the width of the blocks.
    pub proj_in: Linear,
    /// The blocks.
    pub transformer_blocks: Vec<BasicTransformerBlock>,
    /// Projection back to channels.
    pub proj_out: Linear,
}

impl TransformerTemporal {
    /// Applies the blocks. The whole is shown as `output` of the tap's path: published networks return it in a tuple, `0`,
    /// or as it is, an empty name.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch·frames, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>, frames: usize, output: &str, tap: &mut Tap<'_>) -> Tensor<4> {
        let [rows, channels, height, width] = x.dims();
        let batch = rows / frames;
        let h = self.norm.forward(to_video(x.clone(), frames));
        tap.see("norm", &h);
        let tokens = permuted(h, [0, 3, 4, 2, 1]).reshape([batch * height * width, frames, channels]);
        let mut tokens = self.proj_in.forward(tokens);
        tap.see("proj_in", &tokens);
        for (i, block) in self.transformer_blocks.iter().enumerate() {
            tokens = tap.scope(format_args!("transformer_blocks.{i}"), |tap| block.forward(tokens, None, None, tap));
        }
        let tokens = self.proj_out.forward(tokens);
        tap.see("proj_out", &tokens);
        let h = permuted(tokens.reshape([batch, height, width, frames, channels]), [0, 4, 3, 1, 2]);
        let y = to_frames(h) + x;
        tap.see(output, &y);
        y
    }
}

/// The block of a [`TransformerSpatioTemporal`] over frames: a feed-forward layer, attention among the frames, attention
/// to a context, and a feed-forward layer, each after a normalization and added to its input.
#[derive(Module, Debug)]
pub struct TemporalBlock {
    /// Normalization before the first feed-forward layer.
    pub norm_in: LayerNorm,
    /// First feed-forward layer.
    pub ff_in: FeedForward,
    /// Normalization before attention among the frames.
    pub norm1: LayerNorm,
    /// Attention among the frames.
    pub attn1: Attention,
    /// Normalization before attention to the context.
    pub norm2: LayerNorm,
    /// Attention to the context.
    pub attn2: Attention,
    /// Normalization before the second feed-forward layer.
    pub norm3: LayerNorm,
    /// Second feed-forward layer.
    pub ff: FeedForward,
}

impl TemporalBlock {
    fn new(config: &TransformerSpatioTemporalConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.channels;
        let norm = || LayerNormConfig::new(width).init(device);
        let feed_forward = || FeedForwardConfig::new(width).gate(Gate::Gated(Activation::Gelu)).init(device);
        let attention = AttentionConfig::new(width, config.heads, width / config.heads).bias(false);
        Ok(Self {
            norm_in: norm()?,
            ff_in: feed_forward()?,
            norm1: norm()?,
            attn1: attention.init(device)?,
            norm2: norm()?,
            attn2: attention.context(config.context).init(device)?,
            norm3: norm()?,
            ff: feed_forward()?,
        })
    }

    /// Pixels of frames in, pixels of frames out: `[batch·frames, pixels, width]`. The context has a row for each video.
    fn forward(&self, x: Tensor<3>, context: Tensor<3>, frames: usize, tap: &mut Tap<'_>) -> Tensor<3> {
        let [rows, pixels, width] = x.dims();
        let batch = rows / frames;
        let x = swapped(x.reshape([batch, frames, pixels, width]), 1).reshape([batch * pixels, frames, width]);
        let h = self.norm_in.forward(x.clone());
        tap.see("norm_in", &h);
        let x = x + tap.scope("ff_in", |tap| self.ff_in.forward(h, tap));
        let h = self.norm1.forward(x.clone());
        tap.see("norm1", &h);
        let x = x + tap.scope("attn1", |tap| self.attn1.forward(h, None, None, tap));
        let h = self.norm2.forward(x.clone());
        tap.see("norm2", &h);
        let x = x + tap.scope("attn2", |tap| self.attn2.forward(h, Some(context), None, tap));
        let h = self.norm3.forward(x.clone());
        tap.see("norm3", &h);
        let x = x + tap.scope("ff", |tap| self.ff.forward(h, tap));
        let y = swapped(x.reshape([batch, pixels, frames, width]), 1).reshape([rows, pixels, width]);
        tap.see("", &y);
        y
    }
}

/// Configuration of a [`TransformerSpatioTemporal`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::TransformerSpatioTemporalConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let block = TransformerSpatioTemporalConfig::new(64, 4, 1024).init(&device)?;
/// assert_eq!(block.temporal_transformer_blocks.len(), 1);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerSpatioTemporalConfig {
    /// Channels of the frames.
    pub channels: usize,
    /// Number of heads, a divisor of the channels.
    pub heads: usize,
    /// Size of the last axis of the context.
    pub context: usize,
    /// Number of blocks over pixels, and of those over frames. Default: `1`.
    pub layers: usize,
}

impl TransformerSpatioTemporalConfig {
    /// One block of each kind.
    #[must_use]
    pub fn new(channels: usize, heads: usize, context: usize) -> Self {
        Self { channels, heads, context, layers: 1 }
    }

    /// Sets the number of blocks of each kind.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Makes the transformer.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the heads do not divide the channels, or those are no multiple of 32.
    pub fn init(&self, device: &Device) -> Result<TransformerSpatioTemporal, ModelError> {
        layer_count("layers", self.layers)?;
        at_least_one("channels", self.channels)?;
        whole_heads("heads", self.heads, self.channels)?;
        let width = self.channels;
        let block = BasicTransformerBlockConfig::new(width, self.heads, width / self.heads).context(self.context);
        let positions = TimestepEmbeddingConfig { inner: 4 * width, ..TimestepEmbeddingConfig::new(width, width) };
        Ok(TransformerSpatioTemporal {
            norm: GroupNormConfig::new(32, width).epsilon(1e-6).init(device)?,
            proj_in: LinearConfig::new(width, width).init(device)?,
            transformer_blocks: (0..self.layers).map(|_| block.init(device)).collect::<Result<_, _>>()?,
            temporal_transformer_blocks: (0..self.layers)
                .map(|_| TemporalBlock::new(self, device))
                .collect::<Result<_, _>>()?,
            time_pos_embed: positions.init(device)?,
            time_mixer: AlphaBlender::new(0.5, false, device),
            proj_out: LinearConfig::new(width, width).init(device)?,
        })
    }
}

/// Transformer blocks over the pixels of each frame, each followed by one over the frames of each pixel that is told the
/// numbers of the frames, and a learned mixture of the results of the two. Made by
/// [`TransformerSpatioTemporalConfig::init`].
///
/// # References
///
/// Blattmann et al. 2023, Stable Video Diffusion, [arXiv:2311.15127](https://arxiv.org/abs/2311.15127), appendix D.
#[derive(Module, Debug)]
pub struct TransformerSpatioTemporal {
    /// Normalization of the frames.
    pub norm: GroupNorm,
    /// Projection of the channels.
    pub proj_in: Linear,
    /// Blocks over pixels.
    pub transformer_blocks: Vec<BasicTransformerBlock>,
    /// Blocks over frames.
    pub temporal_transformer_blocks: Vec<TemporalBlock>,
    /// Layers that embed the numbers of the frames.
    pub time_pos_embed: TimestepEmbedding,
    /// The mixture.
    pub time_mixer: AlphaBlender,
    /// Projection back.
    pub proj_out: Linear,
}

impl TransformerSpatioTemporal {
    /// Applies the blocks; frames look at the context of the first frame of their video.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch·frames, channels, height, width]`
    /// - context: `[batch·frames, keys, context]`, or `[batch, keys, context]` with one for all frames of a video
    pub fn forward(&self, x: Tensor<4>, context: &Tensor<3>, frames: usize, tap: &mut Tap<'_>) -> Tensor<4> {
        let [rows, channels, height, width] = x.dims();
        let batch = rows / frames;
        let [given, keys, features] = context.dims();
        let first = context.clone().reshape([batch, given / batch, keys, features]).narrow(1, 0, 1);
        let first = first.reshape([batch, keys, features]);

        let h = self.norm.forward(x.clone());
        tap.see("norm", &h);
        let h = swapped(h.flatten::<3>(2, 3), 1);
        let mut h = self.proj_in.forward(h);
        tap.see("proj_in", &h);

        let numbers = Tensor::<1, Int>::arange(0..frames as i64, &x.device()).float();
        let numbers = SinusoidalEmbedding::new(channels).cosine_first(true).forward(numbers).repeat_dim(0, batch);
        tap.see("time_proj", &numbers);
        let numbers = numbers.cast(h.dtype());
        let numbers = tap.scope("time_pos_embed", |tap| self.time_pos_embed.forward(numbers, tap));
        let numbers = numbers.reshape([rows, 1, channels]);

        for (i, (block, temporal)) in self.transformer_blocks.iter().zip(&self.temporal_transformer_blocks).enumerate()
        {
            h = tap.scope(format_args!("transformer_blocks.{i}"), |tap| block.forward(h, Some(context), None, tap));
            let told = h.clone() + numbers.clone();
            let together = tap.scope(format_args!("temporal_transformer_blocks.{i}"), |tap| {
                temporal.forward(told, first.clone(), frames, tap)
            });
            h = self.time_mixer.forward(h, together);
            tap.see("time_mixer", &h);
        }
        let h = self.proj_out.forward(h);
        tap.see("proj_out", &h);
        let y = swapped(h, 1).reshape([rows, channels, height, width]) + x;
        tap.see("0", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};
    use crate::weights::parameters;

    #[test]
    fn frames_of_a_pixel_are_the_tokens() {
        // Permuting pixels permutes the output; without positions, so does permuting frames, and with them not.
        let device = flex();
        let x = tensor([6, 8, 2, 3], 0.4, &device);
        let flip_frames = |x: Tensor<4>| to_frames(to_video(x, 3).flip([2]));
        for positions in [None, Some(4)] {
            let config = TransformerTemporalConfig { positions, ..TransformerTemporalConfig::new(8, 2, 4).groups(4) };
            let block = config.layers(2).init(&device).unwrap();
            let run = |x: Tensor<4>| block.forward(x, 3, "", &mut Tap::none());
            let y = run(x.clone());
            assert_close(&run(x.clone().flip([3])).flip([3]), &values(&y), 1e-5);
            let turned = values(&flip_frames(run(flip_frames(x.clone()))));
            let apart = turned.iter().zip(values(&y)).any(|(a, b)| (a - b).abs() > 1e-3);
            assert_eq!(apart, positions.is_some());
        }
    }

    #[test]
    fn a_frame_sees_its_pixel_in_other_frames() {
        let device = flex();
        let block = TransformerTemporalConfig::new(8, 2, 4).groups(8).init(&device).unwrap();
        // A batch of two videos: the second does not see the first.
        let x = tensor([4, 8, 2, 2], 0.4, &device);
        let other = Tensor::cat(vec![tensor([2, 8, 2, 2], 0.9, &device), x.clone().narrow(0, 2, 2)], 0);
        let run = |x: Tensor<4>| values(&block.forward(x, 2, "", &mut Tap::none()));
        let (a, b) = (run(x), run(other));
        assert_eq!(a[64..], b[64..]);
        assert!(a[..64].iter().zip(&b[..64]).any(|(a, b)| (a - b).abs() > 1e-3));
    }

    #[test]
    fn a_full_share_leaves_the_blocks_over_pixels() {
        let device = flex();
        let mut block = TransformerSpatioTemporalConfig::new(32, 2, 5).init(&device).unwrap();
        block.time_mixer = AlphaBlender::new(60.0, false, &device);
        let (x, context) = (tensor([4, 32, 2, 3], 0.4, &device), tensor([4, 3, 5], 0.7, &device));
        let h = block.norm.forward(x.clone()).flatten::<3>(2, 3).swap_dims(1, 2);
        let h = block.transformer_blocks[0].forward(block.proj_in.forward(h), Some(&context), None, &mut Tap::none());
        let expected = block.proj_out.forward(h).swap_dims(1, 2).reshape([4, 32, 2, 3]) + x.clone();
        assert_close(&block.forward(x, &context, 2, &mut Tap::none()), &values(&expected), 1e-5);
    }

    #[test]
    fn parameters_have_their_published_names() {
        let block = TransformerSpatioTemporalConfig::new(32, 2, 5).init(&flex()).unwrap();
        let names: Vec<_> = parameters(&block).into_iter().map(|p| (p.name, p.shape)).collect();
        for (name, shape) in [
            ("temporal_transformer_blocks.0.ff_in.net.0.proj.weight", vec![256, 32]),
            ("temporal_transformer_blocks.0.attn2.to_k.weight", vec![32, 5]),
            ("time_pos_embed.linear_1.weight", vec![128, 32]),
            ("time_mixer.mix_factor", vec![1]),
        ] {
            assert!(names.contains(&(name.to_owned(), shape)), "{name}");
        }
    }

    #[test]
    fn refuses_impossible_sizes() {
        let device = flex();
        for (error, name) in [
            (TransformerTemporalConfig::new(8, 2, 4).groups(3).init(&device).map(drop), "groups"),
            (TransformerTemporalConfig::new(8, 0, 4).groups(4).init(&device).map(drop), "heads"),
            (TransformerTemporalConfig::new(8, 2, 4).groups(4).layers(0).init(&device).map(drop), "layers"),
            (TransformerSpatioTemporalConfig::new(32, 3, 5).init(&device).map(drop), "heads"),
            (TransformerSpatioTemporalConfig::new(16, 2, 5).init(&device).map(drop), "groups"),
            (TransformerSpatioTemporalConfig::new(32, 2, 5).layers(0).init(&device).map(drop), "layers"),
        ] {
            assert!(matches!(error.unwrap_err(), ModelError::Config { field, .. } if field == name), "{name}");
        }
    }
}
