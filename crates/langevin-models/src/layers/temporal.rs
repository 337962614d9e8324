//! Residual blocks over frames, and the mixture of what frames say alone and together.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, activation};

use super::norm::widen;
use super::swapped;
use super::{
    Activation, Conv3d, Conv3dConfig, Dropout, DropoutConfig, GroupNorm, GroupNormConfig, Linear, LinearConfig,
    ResnetBlock2d, ResnetBlock2dConfig,
};
use crate::error::ModelError;
use crate::layers::constant;
use crate::tap::Tap;

/// `[batch·frames, channels, height, width]` to `[batch, channels, frames, height, width]`.
pub(crate) fn to_video(x: Tensor<4>, frames: usize) -> Tensor<5> {
    let [rows, channels, height, width] = x.dims();
    swapped(x.reshape([rows / frames, frames, channels, height, width]), 1)
}

/// The way back.
pub(crate) fn to_frames(x: Tensor<5>) -> Tensor<4> {
    let [batch, channels, frames, height, width] = x.dims();
    swapped(x, 1).reshape([batch * frames, channels, height, width])
}

fn over_frames(input: usize, output: usize, device: &Device) -> Result<Conv3d, ModelError> {
    Conv3dConfig::new(input, output, [3, 1, 1]).padding([1, 0, 0]).init(device)
}

/// A mixture of two tensors with a learned share: `s·a + (1 - s)·b` with `s` the sigmoid of a number.
///
/// # References
///
/// Blattmann et al. 2023, [arXiv:2304.08818](https://arxiv.org/abs/2304.08818), eq. 3.
#[derive(Module, Debug)]
pub struct AlphaBlender {
    /// The number `[1]`.
    pub mix_factor: Param<Tensor<1>>,
    swapped: bool,
}

impl AlphaBlender {
    /// A mixture that starts with the share `sigmoid(start)` of the first tensor, or of the second if `swapped`.
    #[must_use]
    pub fn new(start: f32, swapped: bool, device: &Device) -> Self {
        Self { mix_factor: constant([1], start, device), swapped }
    }

    /// Mixes.
    ///
    /// # Shapes
    ///
    /// - both inputs and the output: `[..]`, any shape
    pub fn forward<const D: usize>(&self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        let dtype = a.dtype();
        let share = activation::sigmoid(widen(self.mix_factor.val())).cast(dtype).reshape([1; D]);
        let rest = share.clone().neg() + 1.0;
        if self.swapped { a * rest + b * share } else { a * share + b * rest }
    }
}

/// Configuration of a [`TemporalResnet`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TemporalResnetConfig {
    /// Channels of the input.
    pub input: usize,
    /// Channels of the output.
    pub output: usize,
    /// Width of the time embedding, or none for a block that is told no time.
    pub time_width: Option<usize>,
    /// Epsilon of the normalizations, which have 32 groups. Default: `1e-5`.
    pub epsilon: f64,
}

impl TemporalResnetConfig {
    /// A block from `input` to `output` channels.
    #[must_use]
    pub fn new(input: usize, output: usize, time_width: Option<usize>) -> Self {
        Self { input, output, time_width, epsilon: 1e-5 }
    }

    /// Makes the block.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero or channels are no multiple of 32.
    pub fn init(&self, device: &Device) -> Result<TemporalResnet, ModelError> {
        let norm = |channels| GroupNormConfig::new(32, channels).epsilon(self.epsilon).init(device);
        let shortcut = Conv3dConfig::new(self.input, self.output, [1, 1, 1]);
        Ok(TemporalResnet {
            norm1: norm(self.input)?,
            conv1: over_frames(self.input, self.output, device)?,
            time_emb_proj: match self.time_width {
                Some(width) => Some(LinearConfig::new(width, self.output).init(device)?),
                None => None,
            },
            norm2: norm(self.output)?,
            conv2: over_frames(self.output, self.output, device)?,
            conv_shortcut: (self.input != self.output).then(|| shortcut.init(device)).transpose()?,
        })
    }
}

/// The residual block over frames: as [`ResnetBlock2d`] with convolutions over three frames, which see one pixel of each.
/// Made by [`TemporalResnetConfig::init`].
///
/// # References
///
/// Blattmann et al. 2023, [arXiv:2304.08818](https://arxiv.org/abs/2304.08818), section 3.1.
#[derive(Module, Debug)]
pub struct TemporalResnet {
    /// First normalization, over frames and pixels.
    pub norm1: GroupNorm,
    /// First convolution.
    pub conv1: Conv3d,
    /// Projection of the time embedding.
    pub time_emb_proj: Option<Linear>,
    /// Second normalization.
    pub norm2: GroupNorm,
    /// Second convolution.
    pub conv2: Conv3d,
    /// Projection of the input, where the channels change.
    pub conv_shortcut: Option<Conv3d>,
}

impl TemporalResnet {
    /// Applies the block. `time` is the time embedding of each frame after its activation; a block without time ignores it.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, input, frames, height, width]`
    /// - time: `[batch·frames, time_width]`
    /// - output: `[batch, output, frames, height, width]`
    ///
    /// # Panics
    ///
    /// If a block that is told a time gets none.
    pub fn forward(&self, x: Tensor<5>, time: Option<&Tensor<2>>, tap: &mut Tap<'_>) -> Tensor<5> {
        let h = self.norm1.forward(x.clone());
        tap.see("norm1", &h);
        let mut h = self.conv1.forward(Activation::Silu.forward(h));
        tap.see("conv1", &h);
        if let Some(projection) = &self.time_emb_proj {
            let told = projection.forward(time.expect("a time embedding").clone());
            tap.see("time_emb_proj", &told);
            let [batch, channels, frames, _, _] = h.dims();
            h = h + swapped(told.reshape([batch, frames, channels, 1, 1]), 1);
        }
        let h = self.norm2.forward(h);
        tap.see("norm2", &h);
        let h = Activation::Silu.forward(h);
        tap.see("dropout", &h);
        let h = self.conv2.forward(h);
        tap.see("conv2", &h);
        let residual = match &self.conv_shortcut {
            Some(conv) => {
                let residual = conv.forward(x);
                tap.see("conv_shortcut", &residual);
                residual
            }
            None => x,
        };
        let y = residual + h;
        tap.see("", &y);
        y
    }
}

/// Configuration of a [`SpatioTemporalResnet`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::SpatioTemporalResnetConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let block = SpatioTemporalResnetConfig::new(32, 64, Some(128)).init(&device)?;
/// assert_eq!(block.temporal_res_block.conv1.weight.dims(), [64, 64, 3, 1, 1]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpatioTemporalResnetConfig {
    /// Channels of the input.
    pub input: usize,
    /// Channels of the output.
    pub output: usize,
    /// Width of the time embedding, or none for a block that is told no time.
    pub time_width: Option<usize>,
    /// Epsilon of the block over pixels. Default: `1e-6`.
    pub epsilon: f64,
    /// Epsilon of the block over frames. Default: `1e-6`.
    pub temporal_epsilon: f64,
    /// The share of the block over pixels starts at the sigmoid of this. Default: `0.5`.
    pub mix: f32,
    /// Whether that is the share of the block over frames. Default: `false`.
    pub swapped: bool,
}

impl SpatioTemporalResnetConfig {
    /// A block from `input` to `output` channels.
    #[must_use]
    pub fn new(input: usize, output: usize, time_width: Option<usize>) -> Self {
        Self { input, output, time_width, epsilon: 1e-6, temporal_epsilon: 1e-6, mix: 0.5, swapped: false }
    }

    /// Sets the epsilon of both blocks.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        (self.epsilon, self.temporal_epsilon) = (epsilon, epsilon);
        self
    }

    /// Makes the block.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero or channels are no multiple of 32.
    pub fn init(&self, device: &Device) -> Result<SpatioTemporalResnet, ModelError> {
        let spatial = ResnetBlock2dConfig {
            time_width: self.time_width,
            epsilon: self.epsilon,
            ..ResnetBlock2dConfig::without_time(self.input, self.output)
        };
        let temporal = TemporalResnetConfig {
            epsilon: self.temporal_epsilon,
            ..TemporalResnetConfig::new(self.output, self.output, self.time_width)
        };
        Ok(SpatioTemporalResnet {
            spatial_res_block: spatial.init(device)?,
            temporal_res_block: temporal.init(device)?,
            time_mixer: AlphaBlender::new(self.mix, self.swapped, device),
        })
    }
}

/// A residual block over the pixels of each frame, one over the frames of each pixel, and a learned mixture of the results
/// of the two. Made by [`SpatioTemporalResnetConfig::init`].
///
/// # References
///
/// Blattmann et al. 2023, Stable Video Diffusion, [arXiv:2311.15127](https://arxiv.org/abs/2311.15127), appendix D.
#[derive(Module, Debug)]
pub struct SpatioTemporalResnet {
    /// The block over pixels.
    pub spatial_res_block: ResnetBlock2d,
    /// The block over frames.
    pub temporal_res_block: TemporalResnet,
    /// The mixture.
    pub time_mixer: AlphaBlender,
}

impl SpatioTemporalResnet {
    /// Applies the blocks. `time` is the time embedding of each frame after its activation.
    ///
    /// # Shapes
    ///
    /// - x: `[batch·frames, input, height, width]`
    /// - time: `[batch·frames, time_width]`
    /// - output: `[batch·frames, output, height, width]`
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>, frames: usize, tap: &mut Tap<'_>) -> Tensor<4> {
        let alone = tap.scope("spatial_res_block", |tap| self.spatial_res_block.forward(x, time, tap));
        let alone = to_video(alone, frames);
        let together = tap.scope("temporal_res_block", |tap| self.temporal_res_block.forward(alone.clone(), time, tap));
        let mixed = self.time_mixer.forward(alone, together);
        tap.see("time_mixer", &mixed);
        let y = to_frames(mixed);
        tap.see("", &y);
        y
    }
}

/// Four convolutions over three frames, each after a normalization and SiLU, added to the input. The last starts at zero,
/// so a network for images becomes one for videos without a change. Made by [`TemporalConv::new`].
///
/// # References
///
/// Wang et al. 2023, [arXiv:2308.06571](https://arxiv.org/abs/2308.06571), section 3.3.
#[derive(Module, Debug)]
pub struct TemporalConv {
    /// First convolution, with what is before it.
    pub conv1: Vec<TemporalConvPart>,
    /// Second convolution.
    pub conv2: Vec<TemporalConvPart>,
    /// Third convolution.
    pub conv3: Vec<TemporalConvPart>,
    /// Fourth convolution.
    pub conv4: Vec<TemporalConvPart>,
}

/// A part of a [`TemporalConv`], at the position that published weights have.
#[derive(Module, Debug)]
pub enum TemporalConvPart {
    /// Normalization.
    Norm(GroupNorm),
    /// SiLU.
    Silu(Silu),
    /// Dropout.
    Dropout(Dropout),
    /// Convolution.
    Conv(Conv3d),
}

/// SiLU as a module without parameters.
#[derive(Module, Debug)]
pub struct Silu {
    #[module(skip)]
    activation: Activation,
}

impl TemporalConv {
    /// Convolutions of `channels` channels, with `groups` groups in the normalizations, and dropout with probability
    /// `dropout` before all but the first.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the groups do not divide the channels or the dropout is no probability.
    pub fn new(channels: usize, groups: usize, dropout: f64, device: &Device) -> Result<Self, ModelError> {
        let parts = |dropout: Option<f64>, zero: bool| -> Result<Vec<TemporalConvPart>, ModelError> {
            let mut conv = over_frames(channels, channels, device)?;
            if zero {
                conv.weight = constant([channels, channels, 3, 1, 1], 0.0, device);
                conv.bias = Some(constant([channels], 0.0, device));
            }
            let mut parts = vec![
                TemporalConvPart::Norm(GroupNormConfig::new(groups, channels).init(device)?),
                TemporalConvPart::Silu(Silu { activation: Activation::Silu }),
            ];
            if let Some(probability) = dropout {
                parts.push(TemporalConvPart::Dropout(DropoutConfig::new(probability).init()?));
            }
            parts.push(TemporalConvPart::Conv(conv));
            Ok(parts)
        };
        Ok(Self {
            conv1: parts(None, false)?,
            conv2: parts(Some(dropout), false)?,
            conv3: parts(Some(dropout), false)?,
            conv4: parts(Some(dropout), true)?,
        })
    }

    /// Applies the convolutions.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch·frames, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>, frames: usize, tap: &mut Tap<'_>) -> Tensor<4> {
        let video = to_video(x, frames);
        let groups = [("conv1", &self.conv1), ("conv2", &self.conv2), ("conv3", &self.conv3), ("conv4", &self.conv4)];
        let h = groups.into_iter().fold(video.clone(), |h, (name, parts)| {
            let h = parts.iter().enumerate().fold(h, |h, (i, part)| {
                let h = match part {
                    TemporalConvPart::Norm(layer) => layer.forward(h),
                    TemporalConvPart::Silu(layer) => layer.activation.forward(h),
                    TemporalConvPart::Dropout(layer) => layer.forward(h),
                    TemporalConvPart::Conv(layer) => layer.forward(h),
                };
                tap.see(format_args!("{name}.{i}"), &h);
                h
            });
            tap.see(name, &h);
            h
        });
        let y = to_frames(video + h);
        tap.see("", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};
    use crate::weights::parameters;

    #[test]
    fn frames_and_videos_are_the_same_numbers() {
        let x = tensor([6, 4, 2, 3], 0.3, &flex());
        let video = to_video(x.clone(), 3);
        assert_eq!(video.dims(), [2, 4, 3, 2, 3]);
        // Frame 1 of sample 1 is row 4.
        let frame = video.clone().narrow(0, 1, 1).narrow(2, 1, 1).reshape([4, 2, 3]);
        assert_close(&frame, &values(&x.clone().narrow(0, 4, 1)), 0.0);
        assert_close(&to_frames(video), &values(&x), 0.0);
    }

    #[test]
    fn the_share_is_a_sigmoid_and_can_be_swapped() {
        let device = flex();
        let (a, b) = (tensor([2, 3], 0.3, &device), tensor([2, 3], 0.8, &device));
        let share = 1.0 / (1.0 + (-0.7f64).exp());
        let mix = |swapped| AlphaBlender::new(0.7, swapped, &device).forward(a.clone(), b.clone());
        let by_hand = |share: f64| -> Vec<f64> {
            values(&a).iter().zip(values(&b)).map(|(a, b)| share * a + (1.0 - share) * b).collect()
        };
        assert_close(&mix(false), &by_hand(share), 1e-6);
        assert_close(&mix(true), &by_hand(1.0 - share), 1e-6);
    }

    #[test]
    fn the_temporal_block_sees_one_pixel_of_neighbouring_frames() {
        let device = flex();
        let block = TemporalResnetConfig::new(32, 64, Some(5)).init(&device).unwrap();
        let time = tensor([4, 5], 0.2, &device);
        // Without the normalizations, which see everything, a change of a pixel reaches the frames beside it only.
        let conv = |x: Tensor<5>| block.conv1.forward(x);
        let x = tensor([1, 32, 4, 2, 2], 0.4, &device);
        let mut data = values(&x);
        data[3] += 1.0; // channel 0, frame 0, pixel (1, 1)
        let changed = Tensor::<1>::from_data(data.as_slice(), &device).reshape([1, 32, 4, 2, 2]);
        let difference = values(&(conv(changed) - conv(x.clone())));
        for (i, d) in difference.iter().enumerate() {
            let (frame, pixel) = (i / 4 % 4, i % 4);
            let reached = frame < 2 && pixel == 3;
            assert!(reached || d.abs() < 1e-6, "frame {frame}, pixel {pixel}: {d}");
        }
        assert!(difference.iter().any(|d| d.abs() > 1e-3));
        // The whole block by its parts.
        let h = block.conv1.forward(Activation::Silu.forward(block.norm1.forward(x.clone())));
        let told = block.time_emb_proj.as_ref().unwrap().forward(time.clone());
        let h = h + told.reshape([1, 4, 64, 1, 1]).swap_dims(1, 2);
        let h = block.conv2.forward(Activation::Silu.forward(block.norm2.forward(h)));
        let expected = h + block.conv_shortcut.as_ref().unwrap().forward(x.clone());
        let given = block.forward(x, Some(&time), &mut Tap::none());
        assert_close(&given, &values(&expected), 1e-6);
    }

    #[test]
    fn a_full_share_leaves_the_block_over_pixels() {
        let device = flex();
        let config = SpatioTemporalResnetConfig { mix: 60.0, ..SpatioTemporalResnetConfig::new(32, 32, None) };
        let block = config.init(&device).unwrap();
        let x = tensor([4, 32, 3, 3], 0.4, &device);
        let alone = block.spatial_res_block.forward(x.clone(), None, &mut Tap::none());
        assert_close(&block.forward(x.clone(), None, 2, &mut Tap::none()), &values(&alone), 1e-6);
        let swapped = SpatioTemporalResnetConfig { swapped: true, ..config }.init(&device).unwrap();
        let alone = swapped.spatial_res_block.forward(x.clone(), None, &mut Tap::none());
        let together = swapped.temporal_res_block.forward(to_video(alone, 2), None, &mut Tap::none());
        let given = swapped.forward(x, None, 2, &mut Tap::none());
        assert_close(&given, &values(&to_frames(together)), 1e-6);
    }

    #[test]
    fn temporal_convolutions_start_as_the_identity() {
        let device = flex();
        let block = TemporalConv::new(8, 4, 0.1, &device).unwrap();
        let x = tensor([6, 8, 2, 3], 0.4, &device);
        assert_close(&block.forward(x.clone(), 3, &mut Tap::none()), &values(&x), 1e-6);
        let names: Vec<_> = parameters(&block).into_iter().map(|p| p.name).collect();
        for name in ["conv1.0.weight", "conv1.2.weight", "conv2.3.bias", "conv4.3.weight"] {
            assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
        }
        assert!(matches!(TemporalConv::new(8, 3, 0.1, &device), Err(ModelError::Config { field: "groups", .. })));
        assert!(matches!(TemporalConv::new(8, 4, 1.0, &device), Err(ModelError::Config { field: "dropout", .. })));
    }

    #[test]
    fn refuses_impossible_sizes() {
        let device = flex();
        let error = TemporalResnetConfig::new(8, 32, None).init(&device).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "groups", .. }), "{error}");
        let error = SpatioTemporalResnetConfig::new(32, 8, None).init(&device).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "groups", .. }), "{error}");
    }
}
