//! The blocks of T5's encoder. The stream between them is in f32 where the weights are in half precision, and so is the
//! last layer of each token: published weights overflow f16 there.
#![allow(non_snake_case, reason = "fields have the names of published parameters")]

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::super::attention::{attend, table};
use super::super::tokens::Sight;
use super::config::{T5EncoderConfig, T5FeedForward};
use crate::error::ModelError;
use crate::layers::{Activation, Embedding, Linear, LinearConfig, RmsNorm, RmsNormConfig, map_last, widen};
use crate::tap::Tap;

fn linear(input: usize, output: usize, device: &Device) -> Result<Linear, ModelError> {
    LinearConfig::new(input, output).bias(false).init(device)
}

fn norm(config: &T5EncoderConfig, device: &Device) -> Result<RmsNorm, ModelError> {
    RmsNormConfig::new(config.width).epsilon(config.epsilon).init(device)
}

/// Attention among tokens, whose scores are not scaled.
#[derive(Module, Debug)]
pub struct T5Attention {
    /// Projection to queries.
    pub q: Linear,
    /// Projection to keys.
    pub k: Linear,
    /// Projection to values.
    pub v: Linear,
    /// Projection of the heads back.
    pub o: Linear,
    /// What is added to the scores of each head for each bucket of distances, in the first block: the others share it.
    /// `[buckets, heads]`
    pub relative_attention_bias: Option<Embedding>,
    heads: usize,
}

impl T5Attention {
    fn new(config: &T5EncoderConfig, first: bool, device: &Device) -> Result<Self, ModelError> {
        let (width, inner) = (config.width, config.heads * config.head_dim);
        Ok(Self {
            q: linear(width, inner, device)?,
            k: linear(width, inner, device)?,
            v: linear(width, inner, device)?,
            o: linear(inner, width, device)?,
            relative_attention_bias: first.then(|| table(config.buckets, config.heads, 0.1, device)),
            heads: config.heads,
        })
    }

    fn forward(&self, x: Tensor<3>, sight: &Sight, tap: &mut Tap<'_>) -> Tensor<3> {
        let mut project = |name, layer: &Linear| {
            let y = layer.forward(x.clone());
            tap.see(name, &y);
            y
        };
        let projected = [project("q", &self.q), project("k", &self.k), project("v", &self.v)];
        let y = self.o.forward(attend(projected, self.heads, sight, 1.0));
        tap.see("o", &y);
        // The published module returns what is added to the scores as well.
        tap.see("0", &y);
        y
    }
}

/// Attention with the normalization before and the sum after it.
#[derive(Module, Debug)]
pub struct T5LayerAttention {
    /// Attention.
    pub SelfAttention: T5Attention,
    /// Normalization.
    pub layer_norm: RmsNorm,
}

/// The two layers of each token.
#[derive(Module, Debug)]
pub struct T5Dense {
    /// The first layer, where there is no gate.
    pub wi: Option<Linear>,
    /// The layer whose output is activated, where there is a gate.
    pub wi_0: Option<Linear>,
    /// The layer that is multiplied with it.
    pub wi_1: Option<Linear>,
    /// The last layer.
    pub wo: Linear,
    #[module(skip)]
    activation: Activation,
}

impl T5Dense {
    fn new(config: &T5EncoderConfig, device: &Device) -> Result<Self, ModelError> {
        let first = |there: bool| there.then(|| linear(config.width, config.inner, device)).transpose();
        let (gated, activation) = match config.feed_forward {
            T5FeedForward::Plain(activation) => (false, activation),
            T5FeedForward::Gated(activation) => (true, activation),
        };
        Ok(Self {
            wi: first(!gated)?,
            wi_0: first(gated)?,
            wi_1: first(gated)?,
            wo: linear(config.inner, config.width, device)?,
            activation,
        })
    }

    /// Half-precision tokens are returned in f32.
    fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let mut apply = |name, layer: &Option<Linear>| {
            let y = layer.as_ref().map(|layer| layer.forward(x.clone()));
            if let Some(y) = &y {
                tap.see(name, y);
            }
            y.map(widen)
        };
        let (plain, gate, factor) = (apply("wi", &self.wi), apply("wi_0", &self.wi_0), apply("wi_1", &self.wi_1));
        let h = plain.or(gate).map(|h| self.activation.forward(h));
        let h = match (h, factor) {
            (Some(h), Some(factor)) => h * factor,
            (Some(h), None) => h,
            (None, _) => widen(x.clone()),
        };
        let y = map_last(h, widen(self.wo.weight.val()), None);
        tap.see("wo", &y);
        tap.see("", &y);
        y
    }
}

/// The two layers with the normalization before and the sum after them.
#[derive(Module, Debug)]
pub struct T5LayerFeedForward {
    /// The two layers.
    pub DenseReluDense: T5Dense,
    /// Normalization.
    pub layer_norm: RmsNorm,
}

/// A half of a block.
#[derive(Module, Debug)]
pub enum T5Layer {
    /// Attention.
    Attention(T5LayerAttention),
    /// The layers of each token.
    FeedForward(T5LayerFeedForward),
}

impl T5Layer {
    /// `x` is the stream, which is normalized to the element type `dtype` of the weights.
    fn forward(&self, x: Tensor<3>, sight: &Sight, tap: &mut Tap<'_>) -> Tensor<3> {
        match self {
            Self::Attention(layer) => {
                let h = layer.layer_norm.forward(x.clone()).cast(layer.layer_norm.weight.val().dtype());
                tap.see("layer_norm", &h);
                let y = x + widen(tap.scope("SelfAttention", |tap| layer.SelfAttention.forward(h, sight, tap)));
                tap.see("0", &y);
                y
            }
            Self::FeedForward(layer) => {
                let h = layer.layer_norm.forward(x.clone()).cast(layer.layer_norm.weight.val().dtype());
                tap.see("layer_norm", &h);
                let y = x + tap.scope("DenseReluDense", |tap| layer.DenseReluDense.forward(h, tap));
                tap.see("", &y);
                y
            }
        }
    }
}

/// A block: attention, then the layers of each token.
#[derive(Module, Debug)]
pub struct T5Block {
    /// Both.
    pub layer: Vec<T5Layer>,
}

impl T5Block {
    pub(super) fn new(config: &T5EncoderConfig, first: bool, device: &Device) -> Result<Self, ModelError> {
        Ok(Self {
            layer: vec![
                T5Layer::Attention(T5LayerAttention {
                    SelfAttention: T5Attention::new(config, first, device)?,
                    layer_norm: norm(config, device)?,
                }),
                T5Layer::FeedForward(T5LayerFeedForward {
                    DenseReluDense: T5Dense::new(config, device)?,
                    layer_norm: norm(config, device)?,
                }),
            ],
        })
    }

    /// What is added to the scores for distances, if it is here.
    pub(super) fn distances(&self) -> Option<&Embedding> {
        self.layer.iter().find_map(|layer| match layer {
            T5Layer::Attention(layer) => layer.SelfAttention.relative_attention_bias.as_ref(),
            T5Layer::FeedForward(_) => None,
        })
    }

    pub(super) fn forward(&self, x: Tensor<3>, sight: &Sight, tap: &mut Tap<'_>) -> Tensor<3> {
        let mut x = x;
        for (i, layer) in self.layer.iter().enumerate() {
            x = tap.scope(format_args!("layer.{i}"), |tap| layer.forward(x, sight, tap));
        }
        tap.see("0", &x);
        x
    }
}
