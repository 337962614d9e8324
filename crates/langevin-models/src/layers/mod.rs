//! Leaf layers with the parameter names and layouts of torch.
//!
//! Every layer stores `weight` and `bias` as torch does (`[out, in]` for linear layers, `[out, in, height,
//! width]` for convolutions), so published weights map onto them without renaming or transposition, and
//! starts from torch's default initialization. A layer is made from its `…Config` by `init`, which checks
//! the configuration; `forward` panics on tensors of the wrong shape, as Burn's layers do: networks check
//! what users give them before a layer sees it.

mod activation;
mod ada_norm;
mod added_attention;
mod angle;
mod arrange;
mod attention;
mod combined;
mod conv;
mod conv_1d;
mod conv_3d;
mod convolution;
mod dropout;
mod embedding;
mod feed_forward;
mod initial;
mod joint_attention;
mod linear;
mod norm;
mod patches;
mod permuted;
mod products;
mod resample;
mod resampler;
mod resnet;
mod rotary;
mod spatial_norm;
mod temporal;
mod time;
mod transformer2d;
mod transformer_block;
mod video_transformer;

/// The ways to compute what layers choose for themselves, for those who want to measure or to compare them.
pub mod algorithm {
    pub use super::convolution::Algorithm as Convolution;
}

pub use activation::Activation;
pub use ada_norm::{
    AdaLayerNormContinuous, AdaLayerNormDual, AdaLayerNormLabels, AdaLayerNormSingle, AdaLayerNormZero, Gates, modulate,
};
pub use added_attention::{AddedAttention, AddedAttentionConfig, ContextNorm, ContextNormalization};
pub(crate) use angle::sin_cos;
pub use arrange::{arrange_weights, cast_parameters, forget_transforms, keep_transforms};
pub use attention::{Attention, AttentionConfig, attention_with, mask_bias, scaled_dot_product_attention};
pub(crate) use attention::{join_heads, split_heads};
pub use combined::{
    LabelEmbedding, TextProjection, TimestepLabelEmbedding, TimestepSizeEmbedding, TimestepTextEmbedding,
};
pub use conv::{Conv2d, Conv2dConfig};
pub use conv_1d::{Conv1d, Conv1dConfig, ConvTranspose1d};
pub use conv_3d::{Conv3d, Conv3dConfig};
pub(crate) use convolution::convolve;
#[cfg(feature = "flex")]
pub(crate) use convolution::{Kept, Transform};
pub use dropout::{Dropout, DropoutConfig};
pub use embedding::{Embedding, EmbeddingConfig};
pub use feed_forward::{FeedForward, FeedForwardConfig, FeedForwardPart, Gate};
pub(crate) use initial::{constant, random};
pub use joint_attention::{ContextStream, JointAttention, JointAttentionConfig};
pub(crate) use linear::map_last;
pub use linear::{Linear, LinearConfig};
pub(crate) use norm::widen;
pub use norm::{GroupNorm, GroupNormConfig, LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig};
pub use patches::{GridPositions, PatchEmbedding, PatchEmbeddingConfig, PatchOrder, patchify, unpatchify};
pub(crate) use permuted::{permuted, swapped};
pub(crate) use products::multiply;
pub use resample::{avg_pool_2x, fir_downsample_2x, fir_upsample_2x, upsample_nearest, upsample_nearest_2x};
pub(crate) use resample::{smooth_downsample_2x, smooth_upsample_2x};
pub use resampler::{DownsampleConv, Downsampler, UpsampleConv, Upsampler};
pub use resnet::{Resample, ResnetBlock2d, ResnetBlock2dConfig};
pub use rotary::RotaryEmbedding;
pub(crate) use spatial_norm::GROUPS as SPATIAL_GROUPS;
pub use spatial_norm::{SpatialNorm, SpatialNormConfig};
pub use temporal::{
    AlphaBlender, SpatioTemporalResnet, SpatioTemporalResnetConfig, TemporalConv, TemporalResnet, TemporalResnetConfig,
};
pub(crate) use temporal::{to_frames, to_video};
pub use time::{
    GaussianFourier, GaussianFourierConfig, SinusoidalEmbedding, TimestepEmbedding, TimestepEmbeddingConfig,
};
pub(crate) use transformer_block::positions;
pub use transformer_block::{BasicTransformerBlock, BasicTransformerBlockConfig, SinusoidalPositions};
pub use transformer2d::{PixelProjection, Transformer2d, Transformer2dConfig};
pub use video_transformer::{
    TransformerSpatioTemporal, TransformerSpatioTemporalConfig, TransformerTemporal, TransformerTemporalConfig,
};
