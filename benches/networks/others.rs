//! Layers and networks of other sizes than those that algorithms were chosen by, in `f32` on a processor: few and many channels, large
//! and even kernels, single samples, masks, transformers, autoencoders.

use crate::case::{Case, Setting, cast, probe, random};
use crate::layers::{function, layer};
use crate::networks::{forward, training_step, with_batch};
use burn::module::Module;
use burn::tensor::{DType, Tensor};
use langevin::models::layers::{
    Activation, Conv1dConfig, Conv2dConfig, Conv3dConfig, GroupNorm, GroupNormConfig, LayerNormConfig, LinearConfig,
    RmsNormConfig, attention_with, scaled_dot_product_attention,
};
use langevin::models::{AutoencoderKlConfig, DiTConfig, Labels, Tap, UNet2dConfig};

const OK: &str = "a valid configuration";

/// The layers and networks.
pub fn cases() -> Vec<Case> {
    let mut cases = convolutions();
    cases.extend(normalizations());
    cases.extend(attentions());
    for [rows, input, output] in [[2048, 384, 1536], [2048, 1536, 384], [1, 1280, 1280], [8, 512, 512], [77, 768, 3072]]
    {
        let make = move |s: &Setting| LinearConfig::new(s.size(input), s.size(output)).init(&s.device).expect(OK);
        let name = format!("linear [1,{rows},{input},{output}]");
        cases.extend(layer("linear", &name, [1, rows, input], make, |layer, x| layer.forward(x)));
    }
    cases.extend(networks());
    cases
}

fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    // Kernel, stride, channels of images and of results, batch, side.
    for (kernel, stride, input, output, batch, side) in [
        (3, 1, 3, 64, 8, 32),
        (3, 1, 4, 320, 1, 64),
        (3, 1, 64, 3, 8, 32),
        (3, 1, 128, 3, 1, 256),
        (3, 1, 128, 128, 1, 256),
        (3, 1, 512, 512, 1, 32),
        (3, 1, 1280, 1280, 1, 8),
        (3, 1, 32, 32, 16, 32),
        (3, 1, 64, 64, 16, 16),
        (3, 1, 96, 64, 4, 28),
        (3, 1, 512, 256, 4, 8),
        (3, 1, 128, 128, 1, 4),
        (3, 2, 128, 128, 4, 32),
        (3, 2, 320, 320, 1, 64),
        (1, 1, 256, 512, 4, 16),
        (1, 1, 320, 320, 1, 64),
        (1, 1, 64, 64, 1, 8),
        (2, 2, 4, 384, 8, 32),
        (4, 2, 64, 64, 4, 32),
        (5, 1, 64, 64, 4, 32),
        (7, 1, 64, 64, 4, 32),
        (7, 2, 3, 64, 4, 64),
        (5, 1, 3, 32, 4, 32),
    ] {
        let make = move |s: &Setting| {
            let config = Conv2dConfig::new(s.size(input), s.size(output), kernel).stride(stride);
            config.padding((kernel - 1) / 2).init(&s.device).expect(OK)
        };
        let name = format!("conv{kernel}x{kernel}s{stride} [{batch},{input},{side},{side}] to {output}");
        cases.extend(layer("convolution", &name, [batch, input, side, side], make, |layer, x| layer.forward(x)));
    }
    for (kernel, input, output, batch, length) in [(5, 32, 64, 16, 64), (3, 256, 256, 4, 256), (1, 64, 64, 4, 1024)] {
        let make = move |s: &Setting| {
            let config = Conv1dConfig::new(s.size(input), s.size(output), kernel);
            config.padding(kernel / 2).init(&s.device).expect(OK)
        };
        let name = format!("conv{kernel} [{batch},{input},{length}] to {output}");
        cases.extend(layer("convolution", &name, [batch, input, length], make, |layer, x| layer.forward(x)));
    }
    for (kernel, channels, frames, side) in
        [([3, 3, 3], 64, 8, 16), ([3, 3, 3], 16, 8, 32), ([1, 3, 3], 64, 8, 32), ([2, 2, 2], 32, 8, 16)]
    {
        let make = move |s: &Setting| {
            let config = Conv3dConfig::new(s.size(channels), s.size(channels), kernel);
            config.padding(kernel.map(|k| (k - 1) / 2)).init(&s.device).expect(OK)
        };
        let [f, r, c] = kernel;
        let name = format!("conv{f}x{r}x{c} [1,{channels},{frames},{side},{side}]");
        let shape = [1, channels, frames, side, side];
        cases.extend(layer("convolution", &name, shape, make, |layer, x| layer.forward(x)));
    }
    cases
}

fn normalizations() -> Vec<Case> {
    let mut cases = Vec::new();
    for [batch, channels, side] in [[16, 64, 8], [1, 128, 128], [1, 1280, 8], [4, 256, 16]] {
        let make = move |s: &Setting| {
            let channels = s.size(channels);
            GroupNormConfig::new(32.min(channels / 2), channels).init(&s.device).expect(OK)
        };
        let name = format!("groupnorm-silu [{batch},{channels},{side},{side}]");
        let forward = |layer: &GroupNorm, x| Activation::Silu.forward(layer.forward(x));
        cases.extend(layer("normalization", &name, [batch, channels, side, side], make, forward));
    }
    for [batch, tokens, width] in [[8, 256, 384], [1, 77, 768], [1, 4096, 320]] {
        let shape = [batch, tokens, width];
        let make = move |s: &Setting| LayerNormConfig::new(s.size(width)).init(&s.device).expect(OK);
        let name = format!("layernorm [{batch},{tokens},{width}]");
        cases.extend(layer("normalization", &name, shape, make, |layer, x| layer.forward(x)));
        let make = move |s: &Setting| RmsNormConfig::new(s.size(width)).init(&s.device).expect(OK);
        let name = format!("rmsnorm [{batch},{tokens},{width}]");
        cases.extend(layer("normalization", &name, shape, make, |layer, x| layer.forward(x)));
    }
    cases
}

fn attentions() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [[8, 6, 256, 64], [1, 12, 77, 64], [8, 8, 64, 32], [16, 4, 16, 32], [1, 1, 1024, 64], [2, 8, 1024, 80]]
    {
        let [batch, heads, tokens, width] = shape;
        let attend = |[q, k, v]: [Tensor<4>; 3]| scaled_dot_product_attention(q, k, v);
        cases.extend(function("attention", &format!("attention [{batch},{heads},{tokens},{width}]"), shape, attend));
    }
    for [batch, heads, tokens, width] in [[1, 12, 77, 64], [2, 8, 512, 64]] {
        let attend = |[q, k, v]: [Tensor<4>; 3]| {
            let [_, _, tokens, width] = q.dims();
            let hidden: Vec<f32> = (0..tokens * tokens)
                .map(|at| if at % tokens > at / tokens { f32::NEG_INFINITY } else { 0.0 })
                .collect();
            let bias = Tensor::<1>::from_data(hidden.as_slice(), &q.device()).reshape([1, 1, tokens, tokens]);
            let bias = bias.cast(q.dtype());
            attention_with(q, k, v, Some(bias), 1.0 / (width as f64).sqrt())
        };
        let name = format!("attention-causal [{batch},{heads},{tokens},{width}]");
        cases.extend(function("attention", &name, [batch, heads, tokens, width], attend));
    }
    for [batch, heads, queries, width] in [[1, 8, 4096, 40], [2, 8, 256, 160]] {
        let attend = |[q]: [Tensor<4>; 1]| {
            let [_, _, tokens, _] = q.dims();
            // The first of the queries are keys and values, too.
            let keys = q.clone().narrow(2, 0, 77.min(tokens));
            scaled_dot_product_attention(q, keys.clone(), keys)
        };
        let name = format!("attention-to-77 [{batch},{heads},{queries},{width}]");
        cases.extend(function("attention", &name, [batch, heads, queries, width], attend));
    }
    cases
}

fn networks() -> Vec<Case> {
    let mut cases = Vec::new();
    let unets: [(&str, &[usize], usize, usize); 3] = [
        ("unet-32-64-96", &[32, 64, 96], 4, 32),
        ("unet-128-256-512", &[128, 256, 512], 2, 32),
        ("unet-64-128-batch-1", &[64, 128], 1, 16),
    ];
    for (name, channels, batch, side) in unets {
        let build = move |s: &Setting| {
            let (channels, side, groups): (&[usize], usize, usize) =
                if s.tiny { (&[8, 8, 8], 8, 8) } else { (channels, side, 32) };
            let config =
                UNet2dConfig::images(3, side).channels(channels).layers(1).attention_at(&[1]).norm_groups(groups);
            with_batch(config, [s.batch.unwrap_or(batch), 3, side, side], s)
        };
        cases.push(forward(name, build));
        cases.push(training_step(name, build));
    }
    let dit = |s: &Setting| {
        let (layers, heads, width) = if s.tiny { (1, 2, 4) } else { (6, 6, 64) };
        let config = DiTConfig::new(4, 32).heads(heads, width).layers(layers);
        let batch = s.batch.unwrap_or(if s.tiny { 1 } else { 8 });
        let network = cast(config.init(&s.device).expect(OK), s);
        let x = random([batch, 4, 32, 32], s);
        let times: Vec<f32> = (0..batch).map(|i| (i * 997 % 1000) as f32).collect();
        (network, x, Tensor::<1>::from_data(times.as_slice(), &s.device), Labels::of(0..batch))
    };
    cases.push(Case::new("network", "dit-384 forward", move |s| {
        let (network, x, time, labels) = dit(s);
        let network = network.valid();
        Box::new(move || {
            probe(network.forward_with(x.clone(), time.clone(), &labels, &mut Tap::none()).expect("a valid input"))
        })
    }));
    cases.push(Case::new("network", "dit-384 training", move |s| {
        let (network, x, time, labels) = dit(s);
        let network = network.train();
        let (x, time) = (Tensor::from_inner(x), Tensor::from_inner(time));
        Box::new(move || {
            let y = network.forward_with(x.clone(), time.clone(), &labels, &mut Tap::none()).expect("a valid input");
            let loss = y.cast(DType::F32).square().mean();
            let gradients = loss.backward();
            probe(network.proj_out_2.weight.val().grad(&gradients).expect("a gradient"))
        })
    }));
    cases.push(Case::new("network", "vae-decoder", |s| {
        let json = include_str!("../../crates/langevin-models/tests/published/sd-vae-ft-mse.json");
        let config = AutoencoderKlConfig::from_json(json).expect(OK);
        let (config, side) = if s.tiny { (AutoencoderKlConfig::new(3, 4, &[32]), 4) } else { (config, 32) };
        let network = cast(config.init(&s.device).expect(OK), s).valid();
        let z = random([1, 4, side, side], s);
        Box::new(move || probe(network.decode(z.clone()).expect("a valid input")))
    }));
    cases
}
