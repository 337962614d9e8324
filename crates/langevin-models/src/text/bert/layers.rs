//! The layers of BERT.
#![allow(non_snake_case, reason = "fields have the names of published parameters")]

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::super::attention::attend;
use super::super::tokens::Sight;
use super::config::BertConfig;
use crate::error::ModelError;
use crate::layers::{Activation, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use crate::tap::Tap;

/// A normalization of BERT's width.
pub(super) fn norm(config: &BertConfig, device: &Device) -> Result<LayerNorm, ModelError> {
    LayerNormConfig::new(config.width).epsilon(config.epsilon).init(device)
}

/// Projections and attention.
#[derive(Module, Debug)]
pub struct BertSelfAttention {
    /// Projection to queries.
    pub query: Linear,
    /// Projection to keys.
    pub key: Linear,
    /// Projection to values.
    pub value: Linear,
    heads: usize,
}

/// A layer, the sum with what came before, and a normalization.
#[derive(Module, Debug)]
pub struct BertOutput {
    /// The layer.
    pub dense: Linear,
    /// The normalization.
    pub LayerNorm: LayerNorm,
}

impl BertOutput {
    fn new(input: usize, config: &BertConfig, device: &Device) -> Result<Self, ModelError> {
        let dense = LinearConfig::new(input, config.width).init(device)?;
        Ok(Self { dense, LayerNorm: norm(config, device)? })
    }

    fn forward(&self, h: Tensor<3>, before: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let h = self.dense.forward(h);
        tap.see("dense", &h);
        let y = self.LayerNorm.forward(h + before);
        tap.see("LayerNorm", &y);
        tap.see("", &y);
        y
    }
}

/// Attention among tokens.
#[derive(Module, Debug)]
pub struct BertAttention {
    /// Projections and attention; published as `self`, which is a keyword.
    pub self_: BertSelfAttention,
    /// What follows it.
    pub output: BertOutput,
}

impl BertAttention {
    fn forward(&self, x: Tensor<3>, sight: &Sight, tap: &mut Tap<'_>) -> Tensor<3> {
        let inside = &self.self_;
        let h = tap.scope("self", |tap| {
            let mut project = |name, layer: &Linear| {
                let y = layer.forward(x.clone());
                tap.see(name, &y);
                y
            };
            let projected =
                [project("query", &inside.query), project("key", &inside.key), project("value", &inside.value)];
            let scale = 1.0 / ((x.dims()[2] / inside.heads) as f64).sqrt();
            let h = attend(projected, inside.heads, sight, scale);
            // The published module returns the weights of attention as well, which are not kept here.
            tap.see("0", &h);
            h
        });
        let y = tap.scope("output", |tap| self.output.forward(h, x, tap));
        tap.see("0", &y);
        y
    }
}

/// The first layer of each token.
#[derive(Module, Debug)]
pub struct BertIntermediate {
    /// The layer.
    pub dense: Linear,
    #[module(skip)]
    activation: Activation,
}

/// A layer: attention, then two layers of each token, each normalized after the sum.
#[derive(Module, Debug)]
pub struct BertLayer {
    /// Attention.
    pub attention: BertAttention,
    /// First layer of each token.
    pub intermediate: BertIntermediate,
    /// Second layer of each token.
    pub output: BertOutput,
}

impl BertLayer {
    pub(super) fn new(config: &BertConfig, device: &Device) -> Result<Self, ModelError> {
        let square = || LinearConfig::new(config.width, config.width).init(device);
        Ok(Self {
            attention: BertAttention {
                self_: BertSelfAttention { query: square()?, key: square()?, value: square()?, heads: config.heads },
                output: BertOutput::new(config.width, config, device)?,
            },
            intermediate: BertIntermediate {
                dense: LinearConfig::new(config.width, config.inner).init(device)?,
                activation: config.activation,
            },
            output: BertOutput::new(config.inner, config, device)?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<3>, sight: &Sight, tap: &mut Tap<'_>) -> Tensor<3> {
        let x = tap.scope("attention", |tap| self.attention.forward(x, sight, tap));
        let h = self.intermediate.dense.forward(x.clone());
        tap.see("intermediate.dense", &h);
        let h = self.intermediate.activation.forward(h);
        tap.see("intermediate", &h);
        let y = tap.scope("output", |tap| self.output.forward(h, x, tap));
        tap.see("", &y);
        y
    }
}
