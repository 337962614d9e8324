//! One table of the public layers and blocks, each with the settings that choose another path through it.

use crate::Case;
use crate::probe::{Measured, filled, function, module, module_in, tensor, value};
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};
use langevin::models::layers::algorithm::Convolution;
use langevin::models::layers::{
    Activation, AddedAttentionConfig, AlphaBlender, AttentionConfig, BasicTransformerBlockConfig, ContextNorm,
    Conv1dConfig, Conv2dConfig, Conv3dConfig, EmbeddingConfig, FeedForwardConfig, Gate, GaussianFourierConfig,
    GroupNormConfig, LayerNormConfig, LinearConfig, Resample, ResnetBlock2dConfig, RmsNormConfig, SinusoidalEmbedding,
    SinusoidalPositions, SpatialNormConfig, SpatioTemporalResnetConfig, TemporalConv, TemporalResnetConfig,
    TimestepEmbeddingConfig, Transformer2dConfig, TransformerSpatioTemporalConfig, TransformerTemporalConfig,
    arrange_weights, attention_with, avg_pool_2x, cast_parameters, fir_downsample_2x, fir_upsample_2x,
    forget_transforms, keep_transforms, mask_bias, scaled_dot_product_attention, upsample_nearest, upsample_nearest_2x,
};
use langevin::models::{MlpConfig, Tap};

const OK: &str = "a valid configuration";
/// Angles near 1000 are known to 6e-5 in `f32`, and whether time times frequency is rounded depends on the device.
const ANGLES: f32 = 1.2e-4;

fn activation(name: &str, device: &Device) -> Measured {
    let activation = Activation::from_name(name).expect("a known activation");
    function([4, 33], device, |x| activation.forward(x.mul_scalar(3.0)))
}

fn conv(
    device: &Device,
    (input, output): (usize, usize),
    (kernel, stride, padding): (usize, usize, usize),
    size: [usize; 2],
    bias: bool,
) -> Measured {
    let config = Conv2dConfig::new(input, output, kernel).stride(stride).padding(padding).bias(bias);
    let layer = config.init(device).expect(OK);
    module(layer, [2, input, size[0], size[1]], device, |layer, x| layer.forward(x))
}

fn conv_3d(device: &Device, kernel: [usize; 3], stride: [usize; 3], padding: [usize; 3]) -> Measured {
    let layer = Conv3dConfig::new(8, 12, kernel).stride(stride).padding(padding).init(device).expect(OK);
    module(layer, [2, 8, 5, 6, 4], device, |layer, x| layer.forward(x))
}

fn attention(device: &Device, config: AttentionConfig, size: usize) -> Measured {
    let layer = config.init(device).expect(OK);
    module(layer, [2, config.channels, size, size], device, |layer, x| layer.forward_image(x, &mut Tap::none()))
}

fn transformer(device: &Device, linear: bool) -> Measured {
    let config = Transformer2dConfig::new(24, 3, 8).groups(4).context(16).layers(2).linear_projection(linear);
    let layer = config.init(device).expect(OK);
    let context = tensor([2, 6, 16], 5, device);
    module(layer, [2, 24, 3, 5], device, move |layer, x| {
        layer.forward(x, Some(&Tensor::from_inner(context.clone())), None, &mut Tap::none())
    })
}

fn resnet(device: &Device, change: impl FnOnce(&mut ResnetBlock2dConfig)) -> Measured {
    let mut config = ResnetBlock2dConfig::new(16, 24, 20).groups(8);
    change(&mut config);
    let block = config.init(device).expect(OK);
    let time = tensor([2, 20], 7, device);
    let shape = [2, config.input, 8, 8];
    module(block, shape, device, move |block, x| {
        block.forward(x, Some(&Tensor::from_inner(time.clone())), &mut Tap::none())
    })
}

/// Attention on views whose memory is not in the order of their shape: a fused kernel returned wrong values for the
/// second of these.
fn attention_of_views(device: &Device, [heads, pixels, width]: [usize; 3]) -> Measured {
    function([2, heads * width, pixels], device, move |x| {
        let view = x.reshape([2, heads, width, pixels]).swap_dims(2, 3);
        scaled_dot_product_attention(view.clone(), view.clone(), view)
    })
}

fn mlp(device: &Device, config: &MlpConfig) -> Measured {
    use langevin::models::Labels;
    let network = config.init(device).expect(OK);
    let labels = match config.classes {
        Some(count) => Labels::of((0..6).map(|i| i % count)),
        None => Labels::none(6),
    };
    let time = tensor([6], 9, device).abs();
    module(network, [6, config.dim], device, move |network, x| {
        let time = Tensor::from_inner(time.clone());
        network.forward_with(x, time, &labels, &mut Tap::none()).expect("a valid input")
    })
}

/// The table: which public item, with what settings.
pub fn table() -> Vec<Case> {
    let case = |item, settings, run: fn(&Device) -> Measured| Case { item, settings, run, limit: None };
    vec![
        case("Activation", "SiLU", |d| activation("silu", d)),
        case("Activation", "GELU", |d| activation("gelu", d)),
        case("Activation", "ReLU", |d| activation("relu", d)),
        case("Activation", "GELU, tanh", |d| activation("gelu_new", d)),
        case("Activation", "quick GELU", |d| activation("quick_gelu", d)),
        case("Activation", "Mish", |d| activation("mish", d)),
        case("Linear", "[7, 33] to 65", |d| {
            module(LinearConfig::new(33, 65).init(d).expect(OK), [7, 33], d, |layer, x| layer.forward(x))
        }),
        // So many numbers for so few sums that several threads share one, on GPUs.
        case("Linear", "[300, 520] to 72", |d| {
            module(LinearConfig::new(520, 72).init(d).expect(OK), [300, 520], d, |layer, x| layer.forward(x))
        }),
        case("Linear", "[70, 1, 333] to 129", |d| {
            module(LinearConfig::new(333, 129).init(d).expect(OK), [70, 1, 333], d, |layer, x| layer.forward(x))
        }),
        case("Linear", "[2, 5, 16] to 8, no bias", |d| {
            let layer = LinearConfig::new(16, 8).bias(false).init(d).expect(OK);
            module(layer, [2, 5, 16], d, |layer, x| layer.forward(x))
        }),
        case("Conv2d", "3x3", |d| conv(d, (16, 24), (3, 1, 1), [9, 12], true)),
        case("Conv2d", "3x3, no bias", |d| conv(d, (16, 24), (3, 1, 1), [8, 8], false)),
        case("Conv2d", "3x3, stride 2", |d| conv(d, (16, 16), (3, 2, 1), [8, 10], true)),
        case("Conv2d", "3x3, stride 3, 3 channels", |d| conv(d, (3, 20), (3, 3, 2), [10, 7], true)),
        case("Conv2d", "4x4, stride 4, of pixels", |d| conv(d, (4, 48), (4, 4, 0), [8, 14], true)),
        case("Conv2d", "5x5, stride 2, to 3 channels", |d| conv(d, (24, 3), (5, 2, 2), [11, 8], false)),
        case("Conv2d", "3x3, stride 2, no padding, odd", |d| conv(d, (8, 8), (3, 2, 0), [9, 7], true)),
        case("Conv2d", "1x1", |d| conv(d, (32, 16), (1, 1, 0), [8, 8], true)),
        case("Conv2d", "3x3 from one channel", |d| conv(d, (1, 32), (3, 1, 1), [8, 8], true)),
        case("Conv2d", "3x3 to three channels", |d| conv(d, (32, 3), (3, 1, 1), [8, 8], true)),
        case("Conv2d", "3x3 to one channel", |d| conv(d, (32, 1), (3, 1, 1), [8, 8], true)),
        case("Conv2d", "3x3 from one to one channel", |d| conv(d, (1, 1), (3, 1, 1), [8, 8], true)),
        case("Conv2d", "1x1 to one channel", |d| conv(d, (32, 1), (1, 1, 0), [8, 8], true)),
        case("Conv2d", "3x3, one row of pixels", |d| conv(d, (8, 8), (3, 1, 1), [1, 16], true)),
        case("Conv2d", "5x5", |d| conv(d, (4, 6), (5, 1, 2), [7, 7], true)),
        case("Conv1d", "5 of 33 steps", |d| {
            let layer = Conv1dConfig::new(16, 24, 5).padding(2).init(d).expect(OK);
            module(layer, [2, 16, 33], d, |layer, x| layer.forward(x))
        }),
        case("Conv1d", "3, stride 2, no bias, one channel", |d| {
            let layer = Conv1dConfig::new(1, 8, 3).stride(2).padding(1).bias(false).init(d).expect(OK);
            module(layer, [2, 1, 9], d, |layer, x| layer.forward(x))
        }),
        case("Conv1d", "1 step", |d| {
            let layer = Conv1dConfig::new(8, 16, 3).padding(1).init(d).expect(OK);
            module(layer, [2, 8, 1], d, |layer, x| layer.forward(x))
        }),
        case("ConvTranspose1d", "4, stride 2", |d| {
            let layer = Conv1dConfig::new(16, 24, 4).stride(2).padding(1).init_transposed(d).expect(OK);
            module(layer, [2, 16, 9], d, |layer, x| layer.forward(x))
        }),
        case("Conv3d", "over 3 frames", |d| conv_3d(d, [3, 1, 1], [1, 1, 1], [1, 0, 0])),
        case("Conv3d", "1x1x1", |d| conv_3d(d, [1, 1, 1], [1, 1, 1], [0, 0, 0])),
        case("Conv3d", "3x3x3, stride 1, 2, 2", |d| conv_3d(d, [3, 3, 3], [1, 2, 2], [1, 1, 1])),
        case("GroupNorm", "8 groups of [2, 32, 8, 8]", |d| {
            let layer = GroupNormConfig::new(8, 32).init(d).expect(OK);
            module(layer, [2, 32, 8, 8], d, |layer, x| layer.forward(x))
        }),
        case("GroupNorm", "4 groups of [3, 12, 5]", |d| {
            let layer = GroupNormConfig::new(4, 12).epsilon(1e-6).init(d).expect(OK);
            module(layer, [3, 12, 5], d, |layer, x| layer.forward(x))
        }),
        case("LayerNorm", "[3, 7, 48]", |d| {
            module(LayerNormConfig::new(48).init(d).expect(OK), [3, 7, 48], d, |layer, x| layer.forward(x))
        }),
        case("LayerNorm", "no parameters", |d| {
            module(LayerNormConfig::new(48).plain().init(d).expect(OK), [3, 7, 48], d, |layer, x| layer.forward(x))
        }),
        case("RmsNorm", "[2, 5, 9, 7]", |d| {
            module(RmsNormConfig::new(7).init(d).expect(OK), [2, 5, 9, 7], d, |layer, x| layer.forward(x))
        }),
        case("RmsNorm", "[5, 1028]", |d| {
            module(RmsNormConfig::new(1028).init(d).expect(OK), [5, 1028], d, |layer, x| layer.forward(x))
        }),
        case("RmsNorm", "[3, 7, 48]", |d| {
            module(RmsNormConfig::new(48).init(d).expect(OK), [3, 7, 48], d, |layer, x| layer.forward(x))
        }),
        case("SpatialNorm", "latents of half the size", |d| {
            let layer = SpatialNormConfig::new(32, 4).init(d).expect(OK);
            let latents = tensor([2, 4, 3, 4], 5, d);
            module(layer, [2, 32, 6, 8], d, move |layer, x| {
                layer.forward(x, &Tensor::from_inner(latents.clone()), &mut Tap::none())
            })
        }),
        case("FeedForward", "GEGLU", |d| {
            let layers = FeedForwardConfig::new(24).gate(Gate::Gated(Activation::Gelu)).init(d).expect(OK);
            module(layers, [2, 5, 24], d, |layers, x| layers.forward(x, &mut Tap::none()))
        }),
        case("attention_with", "a mask", |d| {
            let mask = Tensor::<2>::from_data([[1.0, 1.0, 0.0, 1.0, 0.0]], d);
            function([2, 3, 5, 8], d, move |x| {
                let bias = mask_bias(Tensor::from_inner(mask.clone()));
                attention_with(x.clone(), x.clone().mul_scalar(0.5), x.flip([2]), Some(bias), 0.3)
            })
        }),
        case("Attention", "to a context", |d| {
            let layer = AttentionConfig::new(24, 3, 8).context(16).bias(false).init(d).expect(OK);
            let context = tensor([2, 6, 16], 5, d);
            module(layer, [2, 7, 24], d, move |layer, x| {
                layer.forward(x, Some(Tensor::from_inner(context.clone())), None, &mut Tap::none())
            })
        }),
        case("Attention", "upcast", |d| attention(d, AttentionConfig::new(24, 3, 8).upcast(true), 4)),
        case("AddedAttention", "normalized context", |d| {
            let config = AddedAttentionConfig::new(24, 8, 32).groups(4).context_norm(Some(ContextNorm::Group));
            let context = tensor([2, 6, 32], 5, d);
            module(config.init(d).expect(OK), [2, 24, 3, 5], d, move |layer, x| {
                layer.forward(x, &Tensor::from_inner(context.clone()), None, &mut Tap::none())
            })
        }),
        case("SinusoidalPositions", "[2, 7, 16] of 9", |d| {
            module(SinusoidalPositions::new(9, 16, d).expect(OK), [2, 7, 16], d, |layer, x| layer.forward(x))
        }),
        case("BasicTransformerBlock", "a context, positions", |d| {
            let layer = BasicTransformerBlockConfig::new(24, 3, 8).context(16).positions(9).init(d).expect(OK);
            let context = tensor([2, 6, 16], 5, d);
            module(layer, [2, 7, 24], d, move |layer, x| {
                layer.forward(x, Some(&Tensor::from_inner(context.clone())), None, &mut Tap::none())
            })
        }),
        case("Transformer2d", "convolutions", |d| transformer(d, false)),
        case("Transformer2d", "linear layers", |d| transformer(d, true)),
        case("Embedding", "repeated rows", |d| {
            let layer = EmbeddingConfig::new(10, 16).init(d).expect(OK);
            let weights = tensor([5, 16], 3, d);
            module(layer, [5, 16], d, move |layer, x| {
                let rows = Tensor::<1, Int>::from_data([3, 0, 9, 3, 3], &x.device());
                layer.forward(rows).mul(x).mul(Tensor::from_inner(weights.clone()))
            })
        }),
        case("SinusoidalEmbedding", "times 0 to 999", |d| {
            let times = Tensor::<1>::from_data([0.0, 1.0, 17.5, 400.0, 999.0], d);
            value(SinusoidalEmbedding::new(128).check().expect(OK).forward(times))
        })
        .within(ANGLES),
        case("SinusoidalEmbedding", "cosine first, odd width", |d| {
            let times = Tensor::<1>::from_data([0.0, 0.5, 123.0], d);
            value(SinusoidalEmbedding::new(33).cosine_first(true).shift(1.0).check().expect(OK).forward(times))
        })
        .within(ANGLES),
        case("GaussianFourier", "levels 0.01 to 80", |d| {
            let layer = filled(GaussianFourierConfig::new(32).init(d).expect(OK));
            value(layer.forward(Tensor::<1>::from_data([0.01, 0.5, 3.0, 80.0], d)))
        })
        .within(ANGLES),
        case("TimestepEmbedding", "SiLU", |d| {
            let layer = TimestepEmbeddingConfig::new(32, 64).init(d).expect(OK);
            module(layer, [4, 32], d, |layer, x| layer.forward(x, &mut Tap::none()))
        }),
        case("TimestepEmbedding", "a vector added, SiLU at the end", |d| {
            let config = TimestepEmbeddingConfig::new(32, 64).condition(Some(12));
            let layer = config.post_activation(Some(Activation::Silu)).init(d).expect(OK);
            let told = tensor([4, 12], 5, d);
            module(layer, [4, 32], d, move |layer, x| {
                layer.forward_told(x, Some(Tensor::from_inner(told.clone())), &mut Tap::none())
            })
        }),
        case("scaled_dot_product_attention", "[2, 3, 33, 20]", |d| {
            function([2, 3, 33, 20], d, |x| {
                scaled_dot_product_attention(x.clone(), x.clone().mul_scalar(0.5), x.flip([2]))
            })
        }),
        case("scaled_dot_product_attention", "of transposed views", |d| attention_of_views(d, [3, 20, 8])),
        case("scaled_dot_product_attention", "of transposed views [2, 1, 256, 64]", |d| {
            attention_of_views(d, [1, 256, 64])
        }),
        case("Attention", "2 heads, GroupNorm", |d| {
            attention(d, AttentionConfig::new(32, 2, 16).norm(Some(8), 1e-5), 8)
        }),
        case("Attention", "1 head, no norm, scaled", |d| {
            attention(d, AttentionConfig::new(24, 1, 24).output_scale(1.5), 5)
        }),
        // Axes of size one, which views must not move.
        case("Attention", "4 heads of one number", |d| attention(d, AttentionConfig::new(4, 4, 1), 4)),
        case("Attention", "one token", |d| attention(d, AttentionConfig::new(24, 3, 8), 1)),
        case("TemporalConv", "1 video of 3 frames, 4 channels", |d| {
            let block = TemporalConv::new(4, 4, 0.0, d).expect(OK);
            module(block, [3, 4, 8, 8], d, |block, x| block.forward(x, 3, &mut Tap::none()))
        }),
        case("Attention", "told by latents", |d| {
            let layer = AttentionConfig::new(32, 1, 32).spatial(Some(4)).init(d).expect(OK);
            let latents = tensor([2, 4, 3, 4], 5, d);
            module(layer, [2, 32, 6, 8], d, move |layer, x| {
                layer.forward_image_told(x, Some(&Tensor::from_inner(latents.clone())), &mut Tap::none())
            })
        }),
        case("upsample_nearest_2x", "[2, 3, 5, 4]", |d| function([2, 3, 5, 4], d, upsample_nearest_2x)),
        case("upsample_nearest", "[2, 3, 5, 4] to [9, 7]", |d| {
            function([2, 3, 5, 4], d, |x| upsample_nearest(x, [9, 7]))
        }),
        case("avg_pool_2x", "[2, 3, 6, 4]", |d| function([2, 3, 6, 4], d, avg_pool_2x)),
        case("fir_downsample_2x", "[2, 3, 6, 4]", |d| function([2, 3, 6, 4], d, fir_downsample_2x)),
        case("fir_upsample_2x", "[2, 3, 5, 4]", |d| function([2, 3, 5, 4], d, fir_upsample_2x)),
        case("ResnetBlock2d", "time added", |d| resnet(d, |_| {})),
        case("ResnetBlock2d", "no time", |d| resnet(d, |c| c.time_width = None)),
        case("ResnetBlock2d", "scale and shift", |d| resnet(d, |c| c.scale_shift = true)),
        case("ResnetBlock2d", "halving", |d| resnet(d, |c| c.resample = Resample::Halve)),
        case("ResnetBlock2d", "doubling", |d| resnet(d, |c| c.resample = Resample::Double)),
        case("ResnetBlock2d", "filtered halving", |d| resnet(d, |c| c.resample = Resample::HalveFiltered)),
        case("ResnetBlock2d", "filtered doubling", |d| resnet(d, |c| c.resample = Resample::DoubleFiltered)),
        case("AlphaBlender", "swapped", |d| {
            module(AlphaBlender::new(0.3, true, d), [2, 3, 4], d, |layer, x| {
                layer.forward(x.clone(), x.mul_scalar(-0.5).flip([2]))
            })
        }),
        case("TemporalConv", "3 frames", |d| {
            let block = TemporalConv::new(8, 4, 0.0, d).expect(OK);
            module(block, [6, 8, 4, 5], d, |block, x| block.forward(x, 3, &mut Tap::none()))
        }),
        case("TemporalResnet", "32 to 64 channels, time", |d| {
            let block = TemporalResnetConfig::new(32, 64, Some(12)).init(d).expect(OK);
            let time = tensor([6, 12], 7, d);
            module(block, [2, 32, 3, 4, 4], d, move |block, x| {
                block.forward(x, Some(&Tensor::from_inner(time.clone())), &mut Tap::none())
            })
        }),
        case("SpatioTemporalResnet", "time", |d| {
            let block = SpatioTemporalResnetConfig::new(32, 32, Some(12)).init(d).expect(OK);
            let time = tensor([6, 12], 7, d);
            module(block, [6, 32, 4, 4], d, move |block, x| {
                block.forward(x, Some(&Tensor::from_inner(time.clone())), 3, &mut Tap::none())
            })
        }),
        case("TransformerTemporal", "positions", |d| {
            let block = TransformerTemporalConfig::new(16, 2, 8).groups(4).positions(4).init(d).expect(OK);
            module(block, [6, 16, 3, 4], d, |block, x| block.forward(x, 3, "", &mut Tap::none()))
        }),
        case("TransformerSpatioTemporal", "3 frames", |d| {
            let block = TransformerSpatioTemporalConfig::new(32, 2, 10).init(d).expect(OK);
            let context = tensor([6, 2, 10], 5, d);
            module(block, [6, 32, 3, 4], d, move |block, x| {
                block.forward(x, &Tensor::from_inner(context.clone()), 3, &mut Tap::none())
            })
        }),
        case("arrange_weights", "a convolution", |d| {
            let layer = arrange_weights(filled(Conv2dConfig::new(32, 64, 3).padding(1).init(d).expect(OK)));
            value(layer.forward(tensor([2, 32, 9, 8], 1, d)))
        }),
        // Half precision has limits of its own: `half_precision_stays_near_single_precision`.
        case("cast_parameters", "a convolution in single precision", |d| {
            let layer = cast_parameters(filled(Conv2dConfig::new(32, 64, 3).padding(1).init(d).expect(OK)), DType::F32);
            value(layer.forward(tensor([2, 32, 9, 8], 1, d)))
        }),
        case("forget_transforms", "a convolution", |d| {
            let layer = keep_transforms(filled(Conv2dConfig::new(32, 64, 3).padding(1).init(d).expect(OK)));
            value(forget_transforms(layer).forward(tensor([2, 32, 9, 8], 1, d)))
        }),
        case("keep_transforms", "a convolution", |d| {
            let layer = keep_transforms(filled(Conv2dConfig::new(32, 64, 3).padding(1).init(d).expect(OK)));
            let x = tensor([2, 32, 9, 8], 1, d);
            let first = layer.forward(x.clone());
            // The second call reads what the first has kept.
            value((layer.forward(x) + first) * 0.5)
        }),
        case("Mlp", "2 dimensions", |d| mlp(d, &MlpConfig::new(2).hidden(32).layers(2))),
        case("Mlp", "3 classes", |d| mlp(d, &MlpConfig::new(5).hidden(32).layers(3).classes(3))),
    ]
}

/// Every way to convolve, whichever the layers choose: channels, size and padding of each case.
const CONVOLUTIONS: &[(&str, [usize; 2], [usize; 2], usize)] = &[
    ("[2, 16, 9, 12] to 24", [16, 24], [9, 12], 1),
    ("[2, 32, 8, 8] to 32", [32, 32], [8, 8], 1),
    ("[2, 64, 10, 12] to 96", [64, 96], [10, 12], 1),
    ("[2, 32, 93, 90] to 32", [32, 32], [93, 90], 1),
    ("[2, 8, 5, 4] to 12, no padding", [8, 12], [5, 4], 0),
    ("[2, 6, 3, 7] to 10", [6, 10], [3, 7], 1),
    ("[2, 5, 4, 4] to 3", [5, 3], [4, 4], 1),
];

/// Whether the algorithm computes one of them itself: what it does otherwise is another's row.
fn computes(device: &Device, at: usize, algorithm: Convolution, dtype: DType) -> bool {
    let (_, [input, output], size, padding) = CONVOLUTIONS[at];
    let x = Tensor::zeros([2, input, size[0], size[1]], (device, dtype));
    algorithm.computes(&x, &Tensor::zeros([output, input, 3, 3], (device, dtype)), [1, 1], [padding; 2])
}

/// The algorithm's value and gradients for one of them, in a type of its own.
fn convolution(device: &Device, at: usize, algorithm: Convolution, dtype: DType) -> Measured {
    let (_, [input, output], size, padding) = CONVOLUTIONS[at];
    let layer = Conv2dConfig::new(input, output, 3).bias(false).init(device).expect(OK);
    module(layer, [2, input, size[0], size[1]], device, move |layer, x| {
        let y = algorithm.run(x.cast(dtype), layer.weight.val().cast(dtype), [1, 1], [padding; 2]);
        y.cast(DType::F32)
    })
}

/// Value and gradients of every algorithm on every convolution, by name.
pub fn convolutions(device: &Device, dtype: DType) -> Vec<(String, Measured)> {
    let mut found = Vec::new();
    for (at, (name, ..)) in some_of(CONVOLUTIONS.iter().enumerate()) {
        use Convolution::{Direct, NineProducts, Product, Windows, Winograd2, Winograd4};
        for algorithm in [Direct, Product, Windows, Winograd2, Winograd4, NineProducts] {
            // Winograd4's rounding in half precision is known to be large. The reference has all rows.
            let known = dtype == DType::F32 || algorithm != Winograd4;
            if known && (device == &Device::flex() || computes(device, at, algorithm, dtype)) {
                found.push((format!("{algorithm:?} convolution: {name}"), convolution(device, at, algorithm, dtype)));
            }
        }
    }
    found
}

/// Value and gradients of residual blocks in a type of their own: convolutions that add a time, an input and a projected input.
pub fn blocks(device: &Device, dtype: DType) -> Vec<(String, Measured)> {
    [(32, 64, 9), (64, 64, 8), (64, 32, 16)]
        .map(|(input, output, side)| {
            let block = ResnetBlock2dConfig::new(input, output, 24).groups(8).init(device).expect(OK);
            let time = tensor([3, 24], 7, device).cast(dtype);
            let measured = module_in(dtype, block, [3, input, side, side], device, move |block, x| {
                let time = Tensor::from_inner(time.clone());
                block.forward(x.cast(dtype), Some(&time), &mut Tap::none()).cast(DType::F32)
            });
            (format!("ResnetBlock2d: {input} to {output} channels, {side} by {side} pixels"), measured)
        })
        .into()
}

/// Value and gradients of affine maps in a type of their own, of rows that fill tiles and of others, and of pixels.
pub fn maps(device: &Device, dtype: DType) -> Vec<(String, Measured)> {
    let mut found: Vec<_> = [([128, 64], 96), ([2, 64], 32), ([77, 96], 160)]
        .map(|(shape, output)| {
            let layer = LinearConfig::new(shape[1], output).init(device).expect(OK);
            let measured =
                module_in(dtype, layer, shape, device, move |layer, x| layer.forward(x.cast(dtype)).cast(DType::F32));
            (format!("Linear: {shape:?} to {output}"), measured)
        })
        .into();
    let layer = Conv2dConfig::new(32, 64, 1).init(device).expect(OK);
    let measured =
        module_in(dtype, layer, [2, 32, 9, 7], device, move |layer, x| layer.forward(x.cast(dtype)).cast(DType::F32));
    found.push(("Conv2d: one pixel, 32 to 64 channels".into(), measured));
    // A weight that is arranged is trained as it was.
    let layer = arrange_weights(Conv2dConfig::new(32, 64, 3).padding(1).init(&device.clone().autodiff()).expect(OK));
    let gradients = layer.weight.val().sum().backward();
    assert!(layer.weight.val().grad(&gradients).is_some(), "an arranged weight has no gradient");
    let layer = Conv2dConfig::new(32, 64, 3).padding(1).init(device).expect(OK);
    let layer = cast_parameters(filled(layer), dtype);
    let x = tensor([2, 32, 9, 8], 1, device).cast(dtype);
    found.push(("arrange_weights: 32 to 64 channels".into(), value(layer.forward(x).cast(DType::F32))));
    for ([input, output], size, stride) in
        [([3, 64], [9, 8], 1), ([64, 3], [8, 9], 1), ([32, 64], [9, 8], 2), ([40, 40], [7, 7], 2)]
    {
        let layer = Conv2dConfig::new(input, output, 3).padding(1).stride(stride).init(device).expect(OK);
        let measured = module_in(dtype, layer, [2, input, size[0], size[1]], device, move |layer, x| {
            layer.forward(x.cast(dtype)).cast(DType::F32)
        });
        found.push((format!("Conv2d: {input} to {output} channels, stride {stride}, {size:?} pixels"), measured));
    }
    found
}

/// Value and gradients of attention in a type of its own, by shape: queries and keys that fill no tile, heads that fill no row of one, and
/// what is far above the other scores.
pub fn attentions(device: &Device, dtype: DType) -> Vec<(String, Measured)> {
    let mut found = attentions_of_shapes(device, dtype);
    for tokens in some_of([77, 16, 330]) {
        // Scores grow along the keys, so that what is subtracted from them must grow, too. All numbers are such that 16 bits hold
        // them: what is measured is not their rounding.
        let x = tensor([2, 1, tokens, 40], 7, device).mul_scalar(16.0).round().div_scalar(16.0).cast(dtype);
        let growth = Tensor::<1, Int>::arange(0..tokens as i64, device).float().mul_scalar(24.0 / tokens as f64);
        let growth = growth.floor().div_scalar(4.0).cast(dtype).reshape([1, 1, tokens, 1]);
        let y: Tensor<4> = attention_with(x.clone(), x.clone() * growth, x.flip([2]), None, 0.3);
        let measured = value(y.cast(DType::F32));
        found.push((format!("attention_with: {tokens} tokens, growing scores"), measured));
    }
    found
}

fn attentions_of_shapes(device: &Device, dtype: DType) -> Vec<(String, Measured)> {
    some_of([
        ([1, 2, 77, 40], 1.0),
        ([1, 2, 50, 33], 1.0),
        ([1, 1, 300, 48], 1.0),
        ([2, 3, 160, 64], 1.0),
        ([1, 2, 96, 40], 1.0),
        ([1, 2, 64, 80], 6.0),
        ([1, 1, 96, 160], 1.0),
        ([2, 1, 64, 256], 1.0),
        ([2, 2, 256, 64], 1.0),
        ([1, 2, 128, 96], 1.0),
        ([1, 1, 64, 144], 1.0),
    ])
    .map(|(shape, factor)| {
        let measured = function(shape, device, move |x| {
            let x = x.cast(dtype);
            // More queries than keys, and values narrower than keys.
            let (keys, values) = (x.clone().narrow(2, 0, 32), x.clone().narrow(2, 16, 32).narrow(3, 0, 24));
            let crossed = attention_with(x.clone(), keys, values, None, 0.3).sum_dim(3).mul_scalar(0.1);
            let y = attention_with(x.clone().mul_scalar(factor), x.clone().mul_scalar(0.5), x.flip([2]), None, 0.3);
            let y = y + crossed;
            y.cast(DType::F32)
        });
        (format!("attention_with: {shape:?}, queries times {factor}"), measured)
    })
    .collect()
}

/// All cases, or every n-th with `LANGEVIN_EVERY=n`: devices without kernels of their own for some shapes compute all of them in one way.
fn some_of<T>(cases: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let every = std::env::var("LANGEVIN_EVERY").map_or(1, |n| n.parse().expect("LANGEVIN_EVERY is a number from 1"));
    cases.into_iter().step_by(every)
}

/// Dropout draws on the device, so its values cannot be compared: its law can.
pub fn dropout(device: &Device) {
    use langevin::models::layers::DropoutConfig;
    let layer = DropoutConfig::new(0.25).init().expect(OK);
    let still = layer.valid().forward(Tensor::<2>::ones([64, 64], device));
    assert_eq!(still.sum().into_scalar::<f32>(), 4096.0, "dropout acts in sampling");
    let x = Tensor::<2>::from_inner(Tensor::ones([64, 64], device)).require_grad();
    let y = layer.train().forward(x.clone());
    let gradients = y.clone().sum().backward();
    let kept: Vec<f32> = y.inner().into_data().try_to_vec().expect("f32");
    let passed: Vec<f32> = x.grad(&gradients).expect("a gradient").into_data().try_to_vec().expect("f32");
    assert_eq!(kept, passed, "the gradient passes where the value does");
    let dropped = kept.iter().filter(|v| **v == 0.0).count() as f64 / 4096.0;
    assert!((dropped - 0.25).abs() < 0.035, "{dropped} of the values are dropped"); // five standard deviations
    assert!(kept.iter().all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6), "what is kept is scaled by 4/3");
}
