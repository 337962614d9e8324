//! The ControlNet.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::Load;

use super::config::{ChannelOrder, ControlNetConfig, PublishedControlNet};
use crate::condition::TextCondition;
use crate::error::ModelError;
use crate::layers::{Activation, Conv2d, Conv2dConfig, TimestepEmbedding, constant};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::unet::TimeProjection;
use crate::unet::conditional::{
    AddedEmbedding, ConditionalClass, ConditionalDownBlock2d, ConditionalMidBlock2d, ControlResiduals, Teller,
    UNet2dConditional,
};
use crate::weights::{Transplant, read_config_file, read_folder, write_folder};

/// A copy of a UNet's way down that sees an image, too, and tells the UNet what to add. Made by
/// [`ControlNetConfig::init`], [`ControlNet::from_unet`] or [`ControlNet::load`].
///
/// # References
///
/// Zhang, Rao, Agrawala 2023, [arXiv:2302.05543](https://arxiv.org/abs/2302.05543). Parameters have the names of
/// diffusers' `ControlNetModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::control::ControlOptions;
/// use langevin_models::{ControlNet, Tap, TextCondition, UNet2dConditionalConfig};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let unet = UNet2dConditionalConfig::new(4, 16).channels(&[8, 16]).layers(1).norm_groups(4).init(&device)?;
/// let net = ControlNet::from_unet(&unet, 3, &[4, 8], &device)?;
/// let (x, image) = (Tensor::<4>::zeros([1, 4, 8, 8], &device), Tensor::<4>::ones([1, 3, 16, 16], &device));
/// let text = TextCondition::new(Tensor::zeros([1, 7, 16], &device));
/// let time = Tensor::<1>::from_data([999.0], &device);
/// let added = net.forward_with(x, time, &text, image, &ControlOptions::default(), &mut Tap::none())?;
/// assert_eq!(added.mid.dims(), [1, 16, 4, 4]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct ControlNet {
    /// First convolution.
    pub conv_in: Conv2d,
    /// Features of the time.
    pub time_proj: TimeProjection,
    /// Layers that turn the features into the time embedding.
    pub time_embedding: TimestepEmbedding,
    /// What is added to the time embedding for a class.
    pub class_embedding: Option<ConditionalClass>,
    /// What else is added to the time embedding.
    pub add_embedding: Option<AddedEmbedding>,
    /// Layers that bring the image to the size and channels of the first convolution's output.
    pub controlnet_cond_embedding: ControlEmbedding,
    /// Blocks on the way down, finest level first.
    pub down_blocks: Vec<ConditionalDownBlock2d>,
    /// Block at the coarsest level.
    pub mid_block: Option<ConditionalMidBlock2d>,
    /// A convolution for each tensor that the UNet's way up takes, starting at zero.
    pub controlnet_down_blocks: Vec<Conv2d>,
    /// The convolution for the middle block, starting at zero.
    pub controlnet_mid_block: Conv2d,
    #[module(skip)]
    config: ControlNetConfig,
}

/// The layers that embed the control image.
#[derive(Module, Debug)]
pub struct ControlEmbedding {
    /// First convolution.
    pub conv_in: Conv2d,
    /// Pairs of convolutions, of which the second halves the image.
    pub blocks: Vec<Conv2d>,
    /// Last convolution, starting at zero.
    pub conv_out: Conv2d,
}

/// How strongly a ControlNet counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlOptions {
    /// What its residuals are multiplied with. Default: `1`.
    pub scale: f64,
    /// Whether residuals of fine levels count less, from a tenth for the first to all for the middle block, so that the
    /// network may guess without a text. Default: `false`.
    pub guess: bool,
}

impl Default for ControlOptions {
    fn default() -> Self {
        Self { scale: 1.0, guess: false }
    }
}

/// A convolution that starts at zero.
fn zero(input: usize, output: usize, kernel: usize, device: &Device) -> Result<Conv2d, ModelError> {
    let mut conv = Conv2dConfig::new(input, output, kernel).padding(kernel / 2).init(device)?;
    conv.weight = constant([output, input, kernel, kernel], 0.0, device);
    conv.bias = Some(constant([output], 0.0, device));
    Ok(conv)
}

impl ControlEmbedding {
    fn new(config: &ControlNetConfig, device: &Device) -> Result<Self, ModelError> {
        let channels = &config.embedding_channels;
        let conv = |input, output, stride| Conv2dConfig::new(input, output, 3).padding(1).stride(stride).init(device);
        let mut blocks = Vec::with_capacity(2 * (channels.len() - 1));
        for pair in channels.windows(2) {
            blocks.push(conv(pair[0], pair[0], 1)?);
            blocks.push(conv(pair[0], pair[1], 2)?);
        }
        Ok(Self {
            conv_in: conv(config.image_channels, channels[0], 1)?,
            blocks,
            conv_out: zero(channels[channels.len() - 1], config.encoder.levels[0].channels, 3, device)?,
        })
    }

    fn forward(&self, image: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let h = self.conv_in.forward(image);
        tap.see("conv_in", &h);
        // This activation is SiLU whatever the network's is.
        let mut h = Activation::Silu.forward(h);
        for (i, conv) in self.blocks.iter().enumerate() {
            h = conv.forward(h);
            tap.see(format_args!("blocks.{i}"), &h);
            h = Activation::Silu.forward(h);
        }
        let y = self.conv_out.forward(h);
        tap.see("conv_out", &y);
        tap.see("", &y);
        y
    }
}

impl ControlNet {
    pub(super) fn new(config: &ControlNetConfig, device: &Device) -> Result<Self, ModelError> {
        let encoder = &config.encoder;
        let levels = &encoder.levels;
        let (time_proj, features) = encoder.time_projection(device)?;
        let mut taken = vec![levels[0].channels];
        for (i, level) in levels.iter().enumerate() {
            let count = level.layers + usize::from(i + 1 < levels.len());
            taken.extend(vec![level.channels; count]);
        }
        let last = levels[levels.len() - 1].channels;
        Ok(Self {
            conv_in: Conv2dConfig::new(encoder.in_channels, levels[0].channels, 3).padding(1).init(device)?,
            time_proj,
            time_embedding: encoder.time_embedding(features, device)?,
            class_embedding: encoder.class_embedding(features, Activation::Silu, device)?,
            add_embedding: encoder.add_embedding(device)?,
            controlnet_cond_embedding: ControlEmbedding::new(config, device)?,
            down_blocks: (0..levels.len())
                .map(|i| ConditionalDownBlock2d::new(encoder, i, device))
                .collect::<Result<_, _>>()?,
            mid_block: ConditionalMidBlock2d::new(encoder, device)?,
            controlnet_down_blocks: taken.iter().map(|&c| zero(c, c, 1, device)).collect::<Result<_, _>>()?,
            controlnet_mid_block: zero(last, last, 1, device)?,
            config: config.clone(),
        })
    }

    /// A ControlNet to train: the weights of a UNet's way down, and new layers for images of `image_channels` channels
    /// through `embedding_channels`, each but the first of which halves the image. It adds nothing yet.
    ///
    /// # Errors
    ///
    /// Those of [`ControlNetConfig::for_unet`]; [`ModelError::Config`] if the UNet's input has channels beside the state.
    pub fn from_unet(
        unet: &UNet2dConditional,
        image_channels: usize,
        embedding_channels: &[usize],
        device: &Device,
    ) -> Result<Self, ModelError> {
        let config = ControlNetConfig::for_unet(unet.config(), image_channels, embedding_channels)?;
        let encoder = &unet.config().encoder;
        if config.encoder.in_channels != encoder.in_channels || encoder.guidance_width.is_some() {
            return Err(ModelError::Config {
                field: "in_channels",
                given: format!("{} channels, or a guidance scale that is told", encoder.in_channels),
                expected: "a UNet that sees the state alone".into(),
            });
        }
        let fresh = Self::new(&config, device)?;
        let merged = Self {
            conv_in: unet.conv_in.clone(),
            time_embedding: unet.time_embedding.clone(),
            class_embedding: unet.class_embedding.clone(),
            add_embedding: unet.add_embedding.clone(),
            down_blocks: unet.down_blocks.clone(),
            mid_block: unet.mid_block.clone(),
            ..fresh.clone()
        };
        // The new layers in the element type of the others.
        Transplant::default().with(&merged).into(fresh, unet.conv_in.weight.val().dtype(), "ControlNet")
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`ControlNetConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, ControlNetConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        let config = PublishedControlNet::from(self.config.clone()).to_value();
        write_folder(self, &config, folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &ControlNetConfig {
        &self.config
    }

    /// What is to be added to the UNet.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, height, width]`
    /// - time: `[batch]`, or `[1]` for all samples
    /// - image: `[batch or 1, image_channels, ..]` in `[0, 1]`, of the height and width that become those of x when they
    ///   are halved, rounding up, by each layer of the embedding but the first: 8 times those of x in published networks
    ///
    /// # Errors
    ///
    /// Those of [`UNet2dConditional::forward_with`], and [`ModelError::Config`] for a scale that is not finite.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        text: &TextCondition,
        image: Tensor<4>,
        options: &ControlOptions,
        tap: &mut Tap<'_>,
    ) -> Result<ControlResiduals, ModelError> {
        let [batch, ..] = x.dims();
        let dtype = self.conv_in.weight.val().dtype();
        self.check_condition(text)?;
        self.check(x.dims(), image.dims())?;
        if !options.scale.is_finite() {
            return Err(ModelError::Config {
                field: "scale",
                given: options.scale.to_string(),
                expected: "a finite number".into(),
            });
        }
        let told = self.teller().tell(for_batch(time, batch)?, &text.for_batch(batch)?, dtype, tap)?;
        let image = match self.config.order {
            ChannelOrder::Rgb => image,
            ChannelOrder::Bgr => image.flip([1]),
        };
        let mut h = self.conv_in.forward(x.cast(dtype));
        tap.see("conv_in", &h);
        h = h + tap
            .scope("controlnet_cond_embedding", |tap| self.controlnet_cond_embedding.forward(image.cast(dtype), tap));
        let mut skips = vec![h.clone()];
        for (i, block) in self.down_blocks.iter().enumerate() {
            let down = tap.scope(format_args!("down_blocks.{i}"), |tap| block.forward(h, &told, None, tap));
            skips.extend(down.skips);
            h = down.hidden;
        }
        if let Some(block) = &self.mid_block {
            h = tap.scope("mid_block", |tap| block.forward(h, &told, tap));
        }
        let scales = self.scales(options);
        let finish = |y: Tensor<4>, scale: f64| {
            let y = if scale == 1.0 { y } else { y * scale };
            if self.config.pool { y.mean_dim(2).mean_dim(3) } else { y }
        };
        let mut down = Vec::with_capacity(skips.len());
        for (i, (skip, conv)) in skips.into_iter().zip(&self.controlnet_down_blocks).enumerate() {
            let y = conv.forward(skip);
            tap.see(format_args!("controlnet_down_blocks.{i}"), &y);
            down.push(finish(y, scales[i]));
        }
        let mid = self.controlnet_mid_block.forward(h);
        tap.see("controlnet_mid_block", &mid);
        Ok(ControlResiduals { down, mid: finish(mid, scales[scales.len() - 1]) })
    }

    /// A factor for each residual, the middle block's last.
    fn scales(&self, options: &ControlOptions) -> Vec<f64> {
        let count = self.controlnet_down_blocks.len();
        let factor = |i: usize| {
            let guess = options.guess && !self.config.pool;
            if guess { 10f64.powf(i as f64 / count as f64 - 1.0) } else { 1.0 }
        };
        (0..=count).map(|i| factor(i) * options.scale).collect()
    }

    /// Checks that a condition has what the network is told, and nothing that it does not know.
    pub(super) fn check_condition(&self, text: &TextCondition) -> Result<(), ModelError> {
        self.config.encoder.check_condition(text)
    }

    /// The parts of a UNet's condition that this network is told, too.
    pub(super) fn known_of(&self, text: &TextCondition) -> TextCondition {
        self.config.encoder.known_of(text)
    }

    fn check(&self, x: [usize; 4], image: [usize; 4]) -> Result<(), ModelError> {
        let (channels, [batch, given, height, width]) = (self.config.encoder.in_channels, x);
        if given != channels || height == 0 || width == 0 {
            let expected = format!("[batch, {channels}, height, width]");
            return Err(ModelError::Shape { what: "x", given: x.to_vec(), expected });
        }
        let halvings = self.config.embedding_channels.len() - 1;
        let [rows, image_channels, sides @ ..] = image;
        let embedded = sides.map(|side| (0..halvings).fold(side, |side, _| side.div_ceil(2)));
        let rows_fit = rows == batch || rows == 1;
        if image_channels != self.config.image_channels || !rows_fit || embedded != [height, width] {
            let (factor, channels) = (1usize << halvings, self.config.image_channels);
            return Err(ModelError::Shape {
                what: "control image",
                given: image.to_vec(),
                expected: format!("[{batch}, {channels}, {}, {}]", factor * height, factor * width),
            });
        }
        Ok(())
    }

    fn teller(&self) -> Teller<'_> {
        Teller {
            config: &self.config.encoder,
            time_proj: &self.time_proj,
            time_embedding: &self.time_embedding,
            class_embedding: self.class_embedding.as_ref(),
            add_embedding: self.add_embedding.as_ref(),
            encoder_hid_proj: None,
        }
    }
}
