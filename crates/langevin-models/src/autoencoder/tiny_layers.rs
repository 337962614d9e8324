//! The layers of a tiny autoencoder.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::tiny_config::TinyAutoencoderConfig;
use crate::error::ModelError;
use crate::layers::{Activation, Conv2d, Conv2dConfig, upsample_nearest};
use crate::tap::Tap;

/// A layer of a coder, at the position that published weights have.
#[derive(Module, Debug)]
pub enum TinyLayer {
    /// A convolution.
    Conv(Conv2d),
    /// A residual block.
    Block(TinyBlock),
    /// A function without parameters.
    Function(TinyFunction),
}

/// A function without parameters.
#[derive(Module, Debug)]
pub struct TinyFunction {
    #[module(skip)]
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Activation(Activation),
    /// Enlarging by repetition.
    Enlarge(usize),
}

impl TinyFunction {
    fn new(kind: Kind) -> Self {
        Self { kind }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self.kind {
            Kind::Activation(activation) => activation.forward(x),
            Kind::Enlarge(factor) => {
                let [_, _, height, width] = x.dims();
                upsample_nearest(x, [factor * height, factor * width])
            }
        }
    }
}

/// Three convolutions with activations between them, added to the input, and a ReLU.
#[derive(Module, Debug)]
pub struct TinyBlock {
    /// Convolutions and activations in turn.
    pub conv: Vec<TinyLayer>,
}

impl TinyBlock {
    fn new(channels: usize, activation: Activation, device: &Device) -> Result<Self, ModelError> {
        let conv = || Ok(TinyLayer::Conv(Conv2dConfig::new(channels, channels, 3).padding(1).init(device)?));
        let between = || TinyLayer::Function(TinyFunction::new(Kind::Activation(activation)));
        Ok(Self { conv: vec![conv()?, between(), conv()?, between(), conv()?] })
    }

    fn forward(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let h = tap.scope("conv", |tap| run(&self.conv, x.clone(), tap));
        // The class projects the input where the channels change. They never do.
        tap.see("skip", &x);
        let y = Activation::Relu.forward(h + x);
        tap.see("fuse", &y);
        tap.see("", &y);
        y
    }
}

fn run(layers: &[TinyLayer], x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
    let mut h = x;
    for (i, layer) in layers.iter().enumerate() {
        h = match layer {
            TinyLayer::Block(block) => tap.scope(i, |tap| block.forward(h, tap)),
            TinyLayer::Conv(layer) => {
                let h = layer.forward(h);
                tap.see(i, &h);
                h
            }
            TinyLayer::Function(function) => {
                let h = function.forward(h);
                tap.see(i, &h);
                h
            }
        };
    }
    tap.see("", &h);
    h
}

/// The encoder of a [`TinyAutoencoder`](super::TinyAutoencoder).
#[derive(Module, Debug)]
pub struct TinyEncoder {
    /// All layers in turn.
    pub layers: Vec<TinyLayer>,
}

impl TinyEncoder {
    pub(super) fn new(config: &TinyAutoencoderConfig, device: &Device) -> Result<Self, ModelError> {
        let channels = config.encoder_channels[0];
        let mut layers = Vec::new();
        for (level, blocks) in config.encoder_blocks.iter().enumerate() {
            let conv = match level {
                0 => Conv2dConfig::new(config.in_channels, channels, 3),
                _ => Conv2dConfig::new(channels, channels, 3).stride(2).bias(false),
            };
            layers.push(TinyLayer::Conv(conv.padding(1).init(device)?));
            for _ in 0..*blocks {
                layers.push(TinyLayer::Block(TinyBlock::new(channels, config.activation, device)?));
            }
        }
        let last = Conv2dConfig::new(channels, config.latent_channels, 3).padding(1).init(device)?;
        layers.push(TinyLayer::Conv(last));
        Ok(Self { layers })
    }

    /// Encodes images with values in [-1, 1].
    pub(super) fn forward(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let y = tap.scope("layers", |tap| run(&self.layers, (x + 1.0) / 2.0, tap));
        tap.see("", &y);
        y
    }
}

/// The decoder of a [`TinyAutoencoder`](super::TinyAutoencoder).
#[derive(Module, Debug)]
pub struct TinyDecoder {
    /// All layers in turn.
    pub layers: Vec<TinyLayer>,
}

impl TinyDecoder {
    pub(super) fn new(config: &TinyAutoencoderConfig, device: &Device) -> Result<Self, ModelError> {
        let channels = config.decoder_channels[0];
        let function = |kind| TinyLayer::Function(TinyFunction::new(kind));
        let first = Conv2dConfig::new(config.latent_channels, channels, 3).padding(1).init(device)?;
        let mut layers = vec![TinyLayer::Conv(first), function(Kind::Activation(config.activation))];
        for (level, blocks) in config.decoder_blocks.iter().enumerate() {
            let last = level + 1 == config.decoder_blocks.len();
            for _ in 0..*blocks {
                layers.push(TinyLayer::Block(TinyBlock::new(channels, config.activation, device)?));
            }
            if !last {
                layers.push(function(Kind::Enlarge(config.upsampling)));
            }
            let output = if last { config.out_channels } else { channels };
            let conv = Conv2dConfig::new(channels, output, 3).padding(1).bias(last).init(device)?;
            layers.push(TinyLayer::Conv(conv));
        }
        Ok(Self { layers })
    }

    /// Decodes latents, limited softly to ±3, to images in [-1, 1].
    pub(super) fn forward(&self, z: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let z = (z / 3.0).tanh() * 3.0;
        let y = tap.scope("layers", |tap| run(&self.layers, z, tap)) * 2.0 - 1.0;
        tap.see("", &y);
        y
    }
}
