//! Blocks over two streams and over one.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use super::FluxConfig;
use crate::error::ModelError;
use crate::layers::{
    Activation, AdaLayerNormSingle, AdaLayerNormZero, ContextStream, FeedForward, JointAttention, JointAttentionConfig,
    LayerNorm, Linear, LinearConfig, RotaryEmbedding,
};
use crate::tap::Tap;
use crate::transformer::streams::{feed_forward, finish};

/// A block of a [`Flux`](crate::Flux) with layers of their own for text and image, and one attention over both.
#[derive(Module, Debug)]
pub struct FluxBlock {
    /// Normalization of the image before attention.
    pub norm1: AdaLayerNormZero,
    /// Normalization of the text before attention.
    pub norm1_context: AdaLayerNormZero,
    /// Attention of both to both.
    pub attn: JointAttention,
    /// Normalization of the image before its feed-forward layers.
    pub norm2: LayerNorm,
    /// Feed-forward layers of the image.
    pub ff: FeedForward,
    /// Normalization of the text before its feed-forward layers.
    pub norm2_context: LayerNorm,
    /// Feed-forward layers of the text.
    pub ff_context: FeedForward,
}

/// Values beyond the largest of `f16` are brought back to it, as the published networks expect.
fn clip(x: Tensor<3>) -> Tensor<3> {
    if x.dtype() == DType::F16 { x.clamp(-65_504.0, 65_504.0) } else { x }
}

impl FluxBlock {
    pub(super) fn new(config: &FluxConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        let attention = JointAttentionConfig::new(width, config.heads).context(ContextStream::Both).norm(true);
        let (norm2, ff) = feed_forward(width, device)?;
        let (norm2_context, ff_context) = feed_forward(width, device)?;
        Ok(Self {
            norm1: AdaLayerNormZero::new(width, device)?,
            norm1_context: AdaLayerNormZero::new(width, device)?,
            attn: attention.init(device)?,
            norm2,
            ff,
            norm2_context,
            ff_context,
        })
    }

    /// Text and image.
    pub(super) fn forward(
        &self,
        [text, image]: [Tensor<3>; 2],
        embedding: &Tensor<2>,
        rotary: &RotaryEmbedding,
        tap: &mut Tap<'_>,
    ) -> [Tensor<3>; 2] {
        let (h, gates) = tap.scope("norm1", |tap| self.norm1.forward(image.clone(), embedding.clone(), tap));
        let (context, text_gates) =
            tap.scope("norm1_context", |tap| self.norm1_context.forward(text.clone(), embedding.clone(), tap));
        let (attended, gathered) = tap.scope("attn", |tap| self.attn.forward(h, Some(context), Some(rotary), tap));
        let layers = (&self.norm2, &self.ff);
        let image = finish(image, gates, [Some(attended), None], layers, ["norm2", "ff"], tap);
        let layers = (&self.norm2_context, &self.ff_context);
        let text = clip(finish(text, text_gates, [gathered, None], layers, ["norm2_context", "ff_context"], tap));
        tap.see(0, &text);
        tap.see(1, &image);
        [text, image]
    }
}

/// A block of a [`Flux`](crate::Flux) over one stream, in which attention and feed-forward layers run side by side.
///
/// # References
///
/// Dehghani et al. 2023, [arXiv:2302.05442](https://arxiv.org/abs/2302.05442), section 2 (parallel layers).
#[derive(Module, Debug)]
pub struct FluxSingleBlock {
    /// Normalization before both.
    pub norm: AdaLayerNormSingle,
    /// First feed-forward layer.
    pub proj_mlp: Linear,
    /// From what attention returns and the features of the first layer to the output.
    pub proj_out: Linear,
    /// Attention of all tokens to each other.
    pub attn: JointAttention,
}

impl FluxSingleBlock {
    pub(super) fn new(config: &FluxConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        Ok(Self {
            norm: AdaLayerNormSingle::new(width, device)?,
            proj_mlp: LinearConfig::new(width, 4 * width).init(device)?,
            proj_out: LinearConfig::new(5 * width, width).init(device)?,
            attn: JointAttentionConfig::new(width, config.heads).norm(true).output(false).init(device)?,
        })
    }

    /// Text and image.
    pub(super) fn forward(
        &self,
        both: [Tensor<3>; 2],
        embedding: &Tensor<2>,
        rotary: &RotaryEmbedding,
        tap: &mut Tap<'_>,
    ) -> [Tensor<3>; 2] {
        let [before, count] = [both[0].dims()[1], both[1].dims()[1]];
        let x = Tensor::cat(both.into(), 1);
        let (h, gate) = tap.scope("norm", |tap| self.norm.forward(x.clone(), embedding.clone(), tap));
        let features = self.proj_mlp.forward(h.clone());
        tap.see("proj_mlp", &features);
        let features = Activation::GeluTanh.forward(features);
        tap.see("act_mlp", &features);
        let (attended, _) = tap.scope("attn", |tap| self.attn.forward(h, None, Some(rotary), tap));
        let h = self.proj_out.forward(Tensor::cat(vec![attended, features], 2));
        tap.see("proj_out", &h);
        let y = clip(x + gate * h);
        let both = [y.clone().narrow(1, 0, before), y.narrow(1, before, count)];
        tap.see(0, &both[0]);
        tap.see(1, &both[1]);
        both
    }
}
