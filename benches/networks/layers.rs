//! Single layers, forward and with their gradients.

use crate::case::{Case, Setting, Work, cast, probe, random};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use langevin::models::Tap;
use langevin::models::layers::algorithm::Convolution;
use langevin::models::layers::{
    Activation, Conv1dConfig, Conv2d, Conv2dConfig, Conv3dConfig, GroupNorm, GroupNormConfig, LayerNormConfig,
    LinearConfig, ResnetBlock2d, ResnetBlock2dConfig, RmsNormConfig, avg_pool_2x, fir_downsample_2x, fir_upsample_2x,
    scaled_dot_product_attention, upsample_nearest_2x,
};

const OK: &str = "a valid configuration";

/// The layers and sizes that are timed.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Kernel, stride, channels, batch, side.
    for (kernel, stride, channels, batch, side) in [
        (3, 1, 320, 8, 64),
        (3, 1, 256, 64, 16),
        (3, 1, 128, 64, 32),
        (3, 2, 128, 64, 32),
        (1, 1, 320, 8, 64),
        (3, 1, 320, 1, 64),
        (3, 1, 256, 4, 16),
    ] {
        let make = move |s: &Setting| {
            let config = Conv2dConfig::new(s.size(channels), s.size(channels), kernel);
            config.stride(stride).padding(kernel / 2).init(&s.device).expect(OK)
        };
        let name = format!("conv{kernel}x{kernel}s{stride} [{batch},{channels},{side},{side}]");
        let shape = [batch, channels, side, side];
        cases.extend(layer("convolution", &name, shape, make, |layer, x| layer.forward(x)));
    }
    for [batch, channels, side] in [[8, 320, 64], [64, 256, 16], [1, 320, 64]] {
        let make = move |s: &Setting| {
            let channels = s.size(channels);
            GroupNormConfig::new(32.min(channels / 2), channels).init(&s.device).expect(OK)
        };
        let name = format!("groupnorm-silu [{batch},{channels},{side},{side}]");
        let forward = |layer: &GroupNorm, x| Activation::Silu.forward(layer.forward(x));
        cases.extend(layer("normalization", &name, [batch, channels, side, side], make, forward));
    }
    for [batch, tokens, width] in [[8, 4096, 320], [64, 256, 256]] {
        let shape = [batch, tokens, width];
        let make = move |s: &Setting| LayerNormConfig::new(s.size(width)).init(&s.device).expect(OK);
        let name = format!("layernorm [{batch},{tokens},{width}]");
        cases.extend(layer("normalization", &name, shape, make, |layer, x| layer.forward(x)));
        let make = move |s: &Setting| RmsNormConfig::new(s.size(width)).init(&s.device).expect(OK);
        let name = format!("rmsnorm [{batch},{tokens},{width}]");
        cases.extend(layer("normalization", &name, shape, make, |layer, x| layer.forward(x)));
    }
    for [batch, channels, side] in [[8, 320, 64], [64, 256, 16], [1, 320, 64]] {
        let make = move |s: &Setting| {
            let channels = s.size(channels);
            let config = ResnetBlock2dConfig::without_time(channels, channels).groups(32.min(channels / 2));
            config.init(&s.device).expect(OK)
        };
        let forward = |block: &ResnetBlock2d, x| block.forward(x, None, &mut Tap::none());
        let name = format!("residual-block [{batch},{channels},{side},{side}]");
        cases.extend(layer("residual block", &name, [batch, channels, side, side], make, forward));
    }
    for [batch, channels, length] in [[8, 256, 4096], [2, 128, 1024]] {
        let make = move |s: &Setting| {
            Conv1dConfig::new(s.size(channels), s.size(channels), 5).padding(2).init(&s.device).expect(OK)
        };
        let name = format!("conv5 [{batch},{channels},{length}]");
        cases.extend(layer("convolution", &name, [batch, channels, length], make, |layer, x| layer.forward(x)));
    }
    for [batch, channels, frames, side] in [[1, 320, 16, 32], [1, 64, 8, 16]] {
        let make = move |s: &Setting| {
            let config = Conv3dConfig::new(s.size(channels), s.size(channels), [3, 1, 1]);
            config.padding([1, 0, 0]).init(&s.device).expect(OK)
        };
        let name = format!("conv3x1x1 [{batch},{channels},{frames},{side},{side}]");
        let shape = [batch, channels, frames, side, side];
        cases.extend(layer("convolution", &name, shape, make, |layer, x| layer.forward(x)));
    }
    for [batch, tokens, input, output] in [[8, 4096, 320, 1280], [64, 256, 256, 256]] {
        let make = move |s: &Setting| LinearConfig::new(s.size(input), s.size(output)).init(&s.device).expect(OK);
        let name = format!("linear [{batch},{tokens},{input},{output}]");
        cases.extend(layer("linear", &name, [batch, tokens, input], make, |layer, x| layer.forward(x)));
    }
    for [batch, heads, tokens, width] in
        [[8, 8, 4096, 40], [8, 8, 4096, 64], [64, 1, 256, 256], [2, 8, 4096, 40], [1, 8, 4096, 40], [1, 1, 4096, 512]]
    {
        let name = format!("attention [{batch},{heads},{tokens},{width}]");
        let attend = |[q, k, v]: [Tensor<4>; 3]| scaled_dot_product_attention(q, k, v);
        cases.extend(function("attention", &name, [batch, heads, tokens, width], attend));
    }
    let resamplings: [(&str, Resampling, usize); 4] = [
        ("nearest up", upsample_nearest_2x, 32),
        ("average down", avg_pool_2x, 64),
        ("filtered up", fir_upsample_2x, 32),
        ("filtered down", fir_downsample_2x, 64),
    ];
    for (kind, resample, side) in resamplings {
        let name = format!("resampling {kind} [1,320,{side},{side}]");
        cases.extend(function("resampling", &name, [1, 320, side, side], move |[x]| resample(x)));
    }
    cases
}

type Resampling = fn(Tensor<4>) -> Tensor<4>;

/// Convolutions by each of the algorithms, to choose by.
pub fn algorithms() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kernel, stride, channels, batch, side) in [
        (3, 1, 320, 8, 64),
        (3, 1, 256, 64, 16),
        (3, 1, 128, 64, 32),
        (3, 1, 1280, 2, 16),
        (3, 1, 256, 64, 4),
        (3, 2, 128, 64, 32),
        (1, 1, 320, 8, 64),
    ] {
        use Convolution::{Direct, NineProducts, Product, Windows, Winograd2, Winograd4};
        for algorithm in [Direct, Product, Windows, Winograd2, Winograd4, NineProducts] {
            if !algorithm.fits([kernel; 2], [stride; 2]) {
                continue;
            }
            let make = move |s: &Setting| {
                Conv2dConfig::new(s.size(channels), s.size(channels), kernel).bias(false).init(&s.device).expect(OK)
            };
            let forward =
                move |layer: &Conv2d, x: Tensor<4>| algorithm.run(x, layer.weight.val(), [stride; 2], [kernel / 2; 2]);
            let name = format!("{algorithm:?} conv{kernel}x{kernel}s{stride} [{batch},{channels},{side},{side}]");
            cases.extend(layer("algorithm", &name, [batch, channels, side, side], make, forward));
        }
    }
    cases
}

/// A layer forward, and with the gradients of input and parameters.
pub fn layer<M: Module + 'static, const D: usize>(
    group: &'static str,
    name: &str,
    shape: [usize; D],
    make: impl Fn(&Setting) -> M + Copy + 'static,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<D> + Copy + 'static,
) -> [Case; 2] {
    let forward_only = move |s: &Setting| -> Work {
        let layer = cast(make(s), s).valid();
        let x = random(shape.map(|n| s.size(n)), s);
        Box::new(move || probe(forward(&layer, x.clone())))
    };
    let with_gradients = move |s: &Setting| -> Work {
        let layer = cast(make(s), s).train();
        let x = random(shape.map(|n| s.size(n)), s);
        let y = forward(&layer, Tensor::from_inner(x.clone()));
        let factors = Tensor::from_inner(random(y.dims(), s));
        Box::new(move || {
            let x = Tensor::from_inner(x.clone()).require_grad();
            let gradients = forward(&layer, x.clone()).mul(factors.clone()).sum().backward();
            let mut probes = Probes { gradients: &gradients, sum: probe(x.grad(&gradients).expect("a gradient")) };
            layer.visit(&mut probes);
            probes.sum
        })
    };
    [Case::new(group, name, forward_only), Case::new(group, format!("{name} gradients"), with_gradients)]
}

/// A function of tensors of one shape forward, and with their gradients.
pub fn function<const N: usize, const D: usize>(
    group: &'static str,
    name: &str,
    shape: [usize; D],
    forward: impl Fn([Tensor<D>; N]) -> Tensor<D> + Copy + 'static,
) -> [Case; 2] {
    let inputs = move |s: &Setting| [(); N].map(|()| random(shape.map(|n| s.size(n)), s));
    let forward_only = move |s: &Setting| -> Work {
        let x = inputs(s);
        Box::new(move || probe(forward(x.clone())))
    };
    let with_gradients = move |s: &Setting| -> Work {
        let x = inputs(s);
        let factors = Tensor::from_inner(random(forward(x.clone()).dims(), s));
        Box::new(move || {
            let x = x.clone().map(|x| Tensor::from_inner(x).require_grad());
            let gradients = forward(x.clone()).mul(factors.clone()).sum().backward();
            x.iter().map(|x| probe(x.grad(&gradients).expect("a gradient"))).reduce(|a, b| a + b).expect("an input")
        })
    };
    [Case::new(group, name, forward_only), Case::new(group, format!("{name} gradients"), with_gradients)]
}

/// Adds one value of every gradient.
struct Probes<'a> {
    gradients: &'a Gradients,
    sum: Tensor<1>,
}

impl ModuleVisitor for Probes<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.sum = self.sum.clone() + probe(gradient);
        }
    }
}
