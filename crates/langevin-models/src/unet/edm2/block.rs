//! A block of the network.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::config::Edm2UNetConfig;
use super::magnitude::{MpConv2d, MpLinear, mp_silu, mp_sum, unit_magnitude};
use crate::error::ModelError;
use crate::layers::{Dropout, DropoutConfig, attention_with, avg_pool_2x, constant, swapped, upsample_nearest_2x};
use crate::tap::Tap;

/// What a block does to height and width before everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resample {
    Keep,
    Halve,
    Double,
}

/// Where a block is and what it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub input: usize,
    pub output: usize,
    pub decoder: bool,
    pub resample: Resample,
    pub attention: bool,
}

/// Two convolutions, the second told what the noise level and the class are, and perhaps attention; each is a weighted
/// sum with its input. Biases and learned norms are absent.
///
/// A block of the encoder normalizes each pixel first. That, and the limit of the activations, is all that keeps
/// magnitudes from drifting.
#[derive(Module, Debug)]
pub struct Edm2Block {
    /// How much the embedding scales: `[1]`, starts at 0.
    pub emb_gain: Param<Tensor<1>>,
    /// First convolution.
    pub conv_res0: MpConv2d,
    /// Embedding to the scales of channels.
    pub emb_linear: MpLinear,
    /// Second convolution.
    pub conv_res1: MpConv2d,
    /// Projection of the input, where the channels change.
    pub conv_skip: Option<MpConv2d>,
    /// Projection to queries, keys and values.
    pub attn_qkv: Option<MpConv2d>,
    /// Projection of the heads.
    pub attn_proj: Option<MpConv2d>,
    dropout: Dropout,
    #[module(skip)]
    resample: Resample,
    decoder: bool,
    heads: usize,
    residual_balance: f64,
    attention_balance: f64,
    limit: f64,
}

impl Edm2Block {
    pub(super) fn new(config: &Edm2UNetConfig, place: Place, device: &Device) -> Result<Self, ModelError> {
        let Place { input, output, .. } = place;
        let conv = |input, output, kernel| MpConv2d::new(input, output, kernel, device);
        let pointwise = |asked: bool, input, output| match asked {
            true => conv(input, output, 1).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            emb_gain: constant([1], 0.0, device),
            conv_res0: conv(if place.decoder { input } else { output }, output, 3)?,
            emb_linear: MpLinear::new(config.embedding_width(), output, device)?,
            conv_res1: conv(output, output, 3)?,
            conv_skip: pointwise(input != output, input, output)?,
            attn_qkv: pointwise(place.attention, output, 3 * output)?,
            attn_proj: pointwise(place.attention, output, output)?,
            dropout: DropoutConfig::new(config.dropout).init()?,
            resample: place.resample,
            decoder: place.decoder,
            heads: output / config.head_dim,
            residual_balance: config.residual_balance,
            attention_balance: config.attention_balance,
            limit: config.activation_limit,
        })
    }

    pub(super) fn force(mut self) -> Self {
        self.conv_res0 = self.conv_res0.force();
        self.emb_linear = self.emb_linear.force();
        self.conv_res1 = self.conv_res1.force();
        self.conv_skip = self.conv_skip.map(MpConv2d::force);
        self.attn_qkv = self.attn_qkv.map(MpConv2d::force);
        self.attn_proj = self.attn_proj.map(MpConv2d::force);
        self
    }

    pub(super) fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut x = match self.resample {
            Resample::Keep => x,
            Resample::Halve => avg_pool_2x(x),
            Resample::Double => upsample_nearest_2x(x),
        };
        if !self.decoder {
            x = unit_magnitude(self.skip(x, tap), 1);
        }
        let y = self.conv_res0.forward(mp_silu(x.clone()));
        tap.see("conv_res0", &y);
        let told = self.emb_linear.forward(embedding.clone());
        tap.see("emb_linear", &told);
        let [batch, channels] = told.dims();
        let scale = told * self.emb_gain.val().reshape([1, 1]) + 1.0;
        let y = mp_silu(y * scale.reshape([batch, channels, 1, 1]));
        let y = self.conv_res1.forward(self.dropout.forward(y));
        tap.see("conv_res1", &y);
        if self.decoder {
            x = self.skip(x, tap);
        }
        let mut x = mp_sum(x, y, self.residual_balance);
        if let (Some(qkv), Some(proj)) = (&self.attn_qkv, &self.attn_proj) {
            let y = self.attend(qkv, proj, x.clone(), tap);
            x = mp_sum(x, y, self.attention_balance);
        }
        let y = x.clamp(-self.limit, self.limit);
        tap.see("", &y);
        y
    }

    fn skip(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        match &self.conv_skip {
            Some(conv) => {
                let x = conv.forward(x);
                tap.see("conv_skip", &x);
                x
            }
            None => x,
        }
    }

    /// Attention among pixels whose queries, keys and values have magnitude one, so that scores are cosines.
    fn attend(&self, qkv: &MpConv2d, proj: &MpConv2d, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let pixels = height * width;
        let d = channels / self.heads;
        let y = qkv.forward(x);
        tap.see("attn_qkv", &y);
        // The three alternate along the channels of a head.
        let y = unit_magnitude(y.reshape([batch * self.heads, d, 3, pixels]), 1);
        let part = |i| {
            let part = y.clone().narrow(2, i, 1).reshape([batch, self.heads, d, pixels]);
            swapped(part, 2)
        };
        let y = attention_with(part(0), part(1), part(2), None, 1.0 / (d as f64).sqrt());
        let y = swapped(y, 2).reshape([batch, channels, height, width]);
        let y = proj.forward(y);
        tap.see("attn_proj", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    fn block(place: Place) -> Edm2Block {
        let mut config = Edm2UNetConfig::new(1, 8, 4);
        config.head_dim = 2;
        Edm2Block::new(&config, place, &flex()).unwrap()
    }

    const ENCODER: Place = Place { input: 4, output: 4, decoder: false, resample: Resample::Keep, attention: true };

    #[test]
    fn attention_is_that_of_the_definition() {
        let block = block(ENCODER);
        let x = tensor([1, 4, 1, 3], 0.4, &flex());
        let (qkv, proj) = (block.attn_qkv.as_ref().unwrap(), block.attn_proj.as_ref().unwrap());
        let y = values(&qkv.forward(x.clone()));
        // Channel (head, c, part), pixel p.
        let raw = |head: usize, c: usize, part: usize, p: usize| y[((head * 2 + c) * 3 + part) * 3 + p];
        let unit = |head, part, p| {
            let v = [raw(head, 0, part, p), raw(head, 1, part, p)];
            let size = ((v[0] * v[0] + v[1] * v[1]) / 2.0).sqrt() + 1e-4;
            [v[0] / size, v[1] / size]
        };
        let mut attended = vec![0.0; 12];
        for head in 0..2 {
            for p in 0..3 {
                let q = unit(head, 0, p);
                let weights: Vec<f64> = (0..3)
                    .map(|k| {
                        let k = unit(head, 1, k);
                        ((q[0] * k[0] + q[1] * k[1]) / 2f64.sqrt()).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for c in 0..2 {
                    let sum: f64 = (0..3).map(|k| weights[k] * unit(head, 2, k)[c]).sum();
                    attended[(head * 2 + c) * 3 + p] = sum / total;
                }
            }
        }
        let attended = Tensor::<1>::from_data(attended.as_slice(), &flex()).reshape([1, 4, 1, 3]);
        let expected = values(&proj.forward(attended));
        assert_close(&block.attend(qkv, proj, x, &mut Tap::none()), &expected, 1e-5);
    }

    #[test]
    fn without_gain_the_embedding_does_not_count() {
        let mut block = block(ENCODER);
        let x = tensor([2, 4, 4, 4], 0.4, &flex());
        let ask = |block: &Edm2Block, seed| {
            let width = block.emb_linear.weight.dims()[1];
            values(&block.forward(x.clone(), &tensor([2, width], seed, &flex()), &mut Tap::none()))
        };
        assert_eq!(ask(&block, 0.1), ask(&block, 0.7));
        block.emb_gain = Param::from_data([1.0], &flex());
        assert_ne!(ask(&block, 0.1), ask(&block, 0.7));
    }

    #[test]
    fn activations_are_limited() {
        let mut block = block(Place { decoder: true, attention: false, ..ENCODER });
        block.limit = 0.5;
        let width = block.emb_linear.weight.dims()[1];
        let x = tensor([1, 4, 4, 4], 0.4, &flex()) * 100.0;
        let y = values(&block.forward(x, &tensor([1, width], 0.2, &flex()), &mut Tap::none()));
        assert!(y.iter().all(|v| v.abs() <= 0.5) && y.iter().any(|v| v.abs() == 0.5));
    }

    #[test]
    fn a_change_of_size_comes_first() {
        let x = tensor([1, 4, 4, 6], 0.4, &flex());
        for (resample, expected) in [(Resample::Halve, [1, 4, 2, 3]), (Resample::Double, [1, 4, 8, 12])] {
            let block = block(Place { resample, ..ENCODER });
            let width = block.emb_linear.weight.dims()[1];
            let y = block.forward(x.clone(), &tensor([1, width], 0.2, &flex()), &mut Tap::none());
            assert_eq!(y.dims(), expected);
        }
    }
}
