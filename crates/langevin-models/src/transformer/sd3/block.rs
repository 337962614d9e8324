//! A block over two streams, an image and a text.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::Sd3Config;
use crate::error::ModelError;
use crate::layers::{
    AdaLayerNormContinuous, AdaLayerNormDual, AdaLayerNormZero, ContextStream, FeedForward, JointAttention,
    JointAttentionConfig, LayerNorm,
};
use crate::tap::Tap;
use crate::transformer::streams::{feed_forward, finish};

/// A block of an [`Sd3`](crate::Sd3): one attention over the tokens of a text and the patches of an image, and
/// feed-forward layers for each.
#[derive(Module, Debug)]
pub struct JointBlock {
    /// Normalization of the image before attention.
    pub norm1: ImageNorm,
    /// Normalization of the text before attention.
    pub norm1_context: ContextNorm,
    /// Attention of both to both.
    pub attn: JointAttention,
    /// Attention of the patches to each other.
    pub attn2: Option<JointAttention>,
    /// Normalization of the image before its feed-forward layers.
    pub norm2: LayerNorm,
    /// Feed-forward layers of the image.
    pub ff: FeedForward,
    /// Normalization of the text before its feed-forward layers.
    pub norm2_context: Option<LayerNorm>,
    /// Feed-forward layers of the text.
    pub ff_context: Option<FeedForward>,
}

/// Normalization of the image before attention.
#[derive(Module, Debug)]
pub enum ImageNorm {
    /// For one attention.
    Zero(AdaLayerNormZero),
    /// For two.
    Dual(AdaLayerNormDual),
}

/// Normalization of the text before attention.
#[derive(Module, Debug)]
pub enum ContextNorm {
    /// In most blocks.
    Zero(AdaLayerNormZero),
    /// In the last block, after which the text is not needed.
    Continuous(AdaLayerNormContinuous),
}

impl JointBlock {
    pub(super) fn new(config: &Sd3Config, index: usize, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        let last = index + 1 == config.layers;
        let dual = config.dual_attention.contains(&index);
        let attention = JointAttentionConfig::new(width, config.heads).norm(config.qk_norm);
        let context = if last { ContextStream::ReadOnly } else { ContextStream::Both };
        let (norm2, ff) = feed_forward(width, device)?;
        let text = if last { None } else { Some(feed_forward(width, device)?) };
        let (norm2_context, ff_context) = text.unzip();
        Ok(Self {
            norm1: match dual {
                true => ImageNorm::Dual(AdaLayerNormDual::new(width, device)?),
                false => ImageNorm::Zero(AdaLayerNormZero::new(width, device)?),
            },
            norm1_context: match last {
                true => ContextNorm::Continuous(AdaLayerNormContinuous::new(width, device)?),
                false => ContextNorm::Zero(AdaLayerNormZero::new(width, device)?),
            },
            attn: attention.context(context).init(device)?,
            attn2: if dual { Some(attention.init(device)?) } else { None },
            norm2,
            ff,
            norm2_context,
            ff_context,
        })
    }

    /// The image, and the text where it is needed after the block.
    pub(super) fn forward(
        &self,
        image: Tensor<3>,
        text: Tensor<3>,
        embedding: &Tensor<2>,
        tap: &mut Tap<'_>,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let (h, gates, second) = tap.scope("norm1", |tap| match &self.norm1 {
            ImageNorm::Zero(norm) => {
                let (h, gates) = norm.forward(image.clone(), embedding.clone(), tap);
                (h, gates, None)
            }
            ImageNorm::Dual(norm) => {
                let (h, gates, second) = norm.forward(image.clone(), embedding.clone(), tap);
                (h, gates, Some(second))
            }
        });
        let (context, text_gates) = tap.scope("norm1_context", |tap| match &self.norm1_context {
            ContextNorm::Zero(norm) => {
                let (h, gates) = norm.forward(text.clone(), embedding.clone(), tap);
                (h, Some(gates))
            }
            ContextNorm::Continuous(norm) => (norm.forward(text.clone(), embedding.clone(), tap), None),
        });
        let (attended, gathered) = tap.scope("attn", |tap| self.attn.forward(h, Some(context), None, tap));
        let alone = match (&self.attn2, second) {
            (Some(layer), Some([h, gate])) => {
                Some(gate * tap.scope("attn2", |tap| layer.forward(h, None, None, tap)).0)
            }
            _ => None,
        };
        let image = finish(image, gates, [Some(attended), alone], (&self.norm2, &self.ff), ["norm2", "ff"], tap);
        let text = match (text_gates, &self.norm2_context, &self.ff_context) {
            (Some(gates), Some(norm), Some(layers)) => {
                let names = ["norm2_context", "ff_context"];
                Some(finish(text, gates, [gathered, None], (norm, layers), names, tap))
            }
            _ => None,
        };
        match &text {
            Some(text) => {
                tap.see(0, text);
                tap.see(1, &image);
            }
            None => tap.see(1, &image),
        }
        (image, text)
    }
}
