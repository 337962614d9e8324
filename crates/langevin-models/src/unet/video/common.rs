//! Checks and steps that the networks for video have in common.

use burn::tensor::{DType, Tensor};

use crate::error::{ModelError, at_least_one, level_count, positive};
use crate::layers::{Activation, Conv2d, GroupNorm, SinusoidalEmbedding, TimestepEmbedding};
use crate::tap::Tap;

/// The embedding of the time of each video, where `width` sines and cosines are looked at.
pub(super) fn embed_time(
    layers: &TimestepEmbedding,
    width: usize,
    time: Tensor<1>,
    guidance: Option<Tensor<2>>,
    dtype: DType,
    tap: &mut Tap<'_>,
) -> Tensor<2> {
    let features = SinusoidalEmbedding::new(width).cosine_first(true).forward(time).cast(dtype);
    tap.see("time_proj", &features);
    let guidance = guidance.map(|guidance| guidance.cast(dtype));
    tap.scope("time_embedding", |tap| layers.forward_told(features, guidance, tap))
}

/// The last layers of a network, on frames.
pub(super) fn finish(norm: &GroupNorm, conv: &Conv2d, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
    let h = norm.forward(x);
    tap.see("conv_norm_out", &h);
    let h = Activation::Silu.forward(h);
    tap.see("conv_act", &h);
    let y = conv.forward(h);
    tap.see("conv_out", &y);
    y
}

/// Element type of the weights.
pub(super) fn dtype(conv: &Conv2d) -> DType {
    conv.weight.val().dtype()
}

pub(super) fn wrong(field: &'static str, given: impl std::fmt::Display, expected: impl Into<String>) -> ModelError {
    ModelError::Config { field, given: given.to_string(), expected: expected.into() }
}

/// Checks that there is room for a sine and a cosine.
pub(super) fn at_least_two(field: &'static str, given: usize) -> Result<(), ModelError> {
    if given < 2 { Err(wrong(field, given, "at least 2: a sine and a cosine")) } else { Ok(()) }
}

/// Checks what every configuration of the family has.
pub(super) fn check_sizes(
    channels: &[usize],
    (down, up): (usize, usize),
    (input, output): (usize, usize),
    groups: usize,
) -> Result<(), ModelError> {
    at_least_one("in_channels", input)?;
    at_least_one("out_channels", output)?;
    level_count("block_out_channels", channels.len())?;
    at_least_one("norm_num_groups", groups)?;
    for (field, count) in [("down_block_types", down), ("up_block_types", up)] {
        if count != channels.len() {
            let expected = format!("one for each of the {} levels in `block_out_channels`", channels.len());
            return Err(wrong(field, format!("{count} blocks"), expected));
        }
    }
    for &width in channels {
        at_least_one("block_out_channels", width)?;
        if !width.is_multiple_of(groups) {
            let expected = format!("multiples of {groups}, the groups of the normalizations");
            return Err(wrong("block_out_channels", width, expected));
        }
    }
    at_least_two("block_out_channels", channels[0])
}

/// Checks the options of residual blocks over pixels.
pub(super) fn check_resnets(padding: usize, epsilon: f64, mid_scale: f64) -> Result<(), ModelError> {
    if padding > 1 {
        return Err(wrong("downsample_padding", padding, "0 or 1: more would not halve the image"));
    }
    positive("norm_eps", epsilon)?;
    positive("mid_block_scale_factor", mid_scale)
}

/// Checks that a level has channels for `given` heads, or for a head of `given` channels.
pub(super) fn check_heads(field: &'static str, given: usize, width: usize) -> Result<(), ModelError> {
    at_least_one(field, given)?;
    if given <= width { Ok(()) } else { Err(wrong(field, given, format!("at most {width}, the channels of a level"))) }
}

/// The smallest side of frames that can be halved down to the coarsest level.
pub(super) fn smallest_side(padding: usize, levels: usize) -> usize {
    // With zeros on each side, odd sizes are rounded up.
    if padding == 0 { 1 << (levels - 1) } else { 1 }
}

/// Checks the shape of one sample of `layout`, given as its axes in the order channels, frames, height, width; `given` is
/// the shape to report.
pub(super) fn check_video(
    [c, frames, height, width]: [usize; 4],
    channels: impl Fn(usize) -> bool,
    most_frames: Option<usize>,
    smallest: usize,
    given: &[usize],
    layout: impl Fn() -> String,
) -> Result<(), ModelError> {
    let fits = channels(c)
        && frames > 0
        && most_frames.is_none_or(|most| frames <= most)
        && height >= smallest
        && width >= smallest;
    if fits {
        return Ok(());
    }
    let frames = most_frames.map_or_else(String::new, |most| format!(", with 1 to {most} frames"));
    let expected = format!("{}{frames} and both sides at least {smallest}", layout());
    Err(ModelError::Shape { what: "x", given: given.to_vec(), expected })
}
