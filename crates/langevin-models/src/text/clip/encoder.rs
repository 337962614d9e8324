//! The transformer that both towers have.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::super::attention::attend;
use super::super::tokens::Sight;
use crate::error::ModelError;
use crate::layers::{Activation, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use crate::tap::Tap;

/// The sizes of a tower.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) width: usize,
    pub(super) inner: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) activation: Activation,
    pub(super) epsilon: f64,
}

/// Attention among tokens.
#[derive(Module, Debug)]
pub struct ClipAttention {
    /// Projection to queries.
    pub q_proj: Linear,
    /// Projection to keys.
    pub k_proj: Linear,
    /// Projection to values.
    pub v_proj: Linear,
    /// Projection of the heads back.
    pub out_proj: Linear,
    heads: usize,
}

impl ClipAttention {
    fn new(sizes: &Sizes, device: &Device) -> Result<Self, ModelError> {
        let linear = || LinearConfig::new(sizes.width, sizes.width).init(device);
        Ok(Self { q_proj: linear()?, k_proj: linear()?, v_proj: linear()?, out_proj: linear()?, heads: sizes.heads })
    }

    fn forward(&self, x: Tensor<3>, sight: &Sight, tap: &mut Tap<'_>) -> Tensor<3> {
        let width = x.dims()[2];
        let mut project = |name, layer: &Linear| {
            let y = layer.forward(x.clone());
            tap.see(name, &y);
            y
        };
        let projected =
            [project("q_proj", &self.q_proj), project("k_proj", &self.k_proj), project("v_proj", &self.v_proj)];
        let scale = 1.0 / ((width / self.heads) as f64).sqrt();
        let y = self.out_proj.forward(attend(projected, self.heads, sight, scale));
        tap.see("out_proj", &y);
        // The published module returns the weights of attention as well, which are not kept here.
        tap.see("0", &y);
        y
    }
}

/// The two layers that are applied to every token.
#[derive(Module, Debug)]
pub struct ClipMlp {
    /// First layer.
    pub fc1: Linear,
    /// Second layer.
    pub fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl ClipMlp {
    fn new(sizes: &Sizes, device: &Device) -> Result<Self, ModelError> {
        Ok(Self {
            fc1: LinearConfig::new(sizes.width, sizes.inner).init(device)?,
            fc2: LinearConfig::new(sizes.inner, sizes.width).init(device)?,
            activation: sizes.activation,
        })
    }

    fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let h = self.fc1.forward(x);
        tap.see("fc1", &h);
        let h = self.activation.forward(h);
        tap.see("activation_fn", &h);
        let y = self.fc2.forward(h);
        tap.see("fc2", &y);
        tap.see("", &y);
        y
    }
}

/// A layer: attention and two linear layers, each with a normalization before and a sum after.
#[derive(Module, Debug)]
pub struct ClipLayer {
    /// Attention.
    pub self_attn: ClipAttention,
    /// Normalization before attention.
    pub layer_norm1: LayerNorm,
    /// Layers of each token.
    pub mlp: ClipMlp,
    /// Normalization before them.
    pub layer_norm2: LayerNorm,
}

impl ClipLayer {
    fn new(sizes: &Sizes, device: &Device) -> Result<Self, ModelError> {
        let norm = || LayerNormConfig::new(sizes.width).epsilon(sizes.epsilon).init(device);
        Ok(Self {
            self_attn: ClipAttention::new(sizes, device)?,
            layer_norm1: norm()?,
            mlp: ClipMlp::new(sizes, device)?,
            layer_norm2: norm()?,
        })
    }

    fn forward(&self, x: Tensor<3>, sight: &Sight, tap: &mut Tap<'_>) -> Tensor<3> {
        let h = self.layer_norm1.forward(x.clone());
        tap.see("layer_norm1", &h);
        let x = x + tap.scope("self_attn", |tap| self.self_attn.forward(h, sight, tap));
        let h = self.layer_norm2.forward(x.clone());
        tap.see("layer_norm2", &h);
        let y = x + tap.scope("mlp", |tap| self.mlp.forward(h, tap));
        tap.see("", &y);
        y
    }
}

/// The layers.
#[derive(Module, Debug)]
pub struct ClipEncoder {
    /// One after the other.
    pub layers: Vec<ClipLayer>,
}

impl ClipEncoder {
    pub(super) fn new(sizes: &Sizes, device: &Device) -> Result<Self, ModelError> {
        let layers = (0..sizes.layers).map(|_| ClipLayer::new(sizes, device)).collect::<Result<_, _>>()?;
        Ok(Self { layers })
    }

    /// The input, and what each layer returns.
    pub(super) fn forward(&self, x: Tensor<3>, sight: &Sight, tap: &mut Tap<'_>) -> Vec<Tensor<3>> {
        let mut states = vec![x.clone()];
        let mut h = x;
        for (i, layer) in self.layers.iter().enumerate() {
            h = tap.scope(format_args!("encoder.layers.{i}"), |tap| layer.forward(h, sight, tap));
            states.push(h.clone());
        }
        states
    }
}
