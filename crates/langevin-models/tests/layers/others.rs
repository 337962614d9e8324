//! Affine maps, activations, images of other sizes, and what is empty.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, Tensor, activation, module};
use langevin_models::Tap;
use langevin_models::layers::{
    Activation, AttentionConfig, Conv1dConfig, Conv2dConfig, Conv3dConfig, GroupNormConfig, LayerNormConfig,
    LinearConfig, Resample, ResnetBlock2dConfig, RmsNormConfig, avg_pool_2x, fir_downsample_2x, fir_upsample_2x,
    scaled_dot_product_attention, upsample_nearest, upsample_nearest_2x,
};
use proptest::prelude::*;

use crate::compare::{Results, affine, agree, back, device, laid, leaf, tracked, values};
use crate::convolution::{channels, layouts, scales, types};

/// Value and gradient of a function of one tensor.
fn of_one<const D: usize, const E: usize>(x: &Tensor<D>, dtype: DType, f: impl Fn(Tensor<D>) -> Tensor<E>) -> Results {
    let x = tracked(x, dtype);
    let y = f(x.clone());
    let g = back(&y, dtype);
    vec![("y", values(&y.inner())), ("of x", values(&x.grad(&g).unwrap()))]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn affine_maps(
        (rows, input, output) in (1..200usize, channels(), channels()),
        (layout, dtype, scale) in (layouts(), types(), scales()),
    ) {
        let scale = if dtype == DType::F32 { scale } else { 1.0 };
        let x = leaf([1, rows, input], 1, scale, dtype);
        let spread = 1.0 / (input as f64).sqrt();
        let (w, b) = (leaf([output, input], 2, spread, dtype), leaf([output], 3, scale, dtype));
        let mut layer = LinearConfig::new(input, output).init(&device()).unwrap();
        layer.weight = Param::from_tensor(tracked(&w, dtype));
        layer.bias = Some(Param::from_tensor(tracked(&b, dtype)));
        let leaves = tracked(&x, dtype);
        let y = layer.forward(laid(leaves.clone(), layout));
        let given = affine(&y, &leaves, &layer.weight.val(), &layer.bias.as_ref().unwrap().val(), dtype);
        let (x, w, b) = (tracked(&x, DType::F64), tracked(&w, DType::F64), tracked(&b, DType::F64));
        let y = module::linear(x.clone(), w.clone().transpose(), Some(b.clone()));
        let expected = affine(&y, &x, &w, &b, DType::F64);
        agree(&given, &expected, dtype, &format!("[{rows}, {input}] to {output} {layout:?} {dtype:?} {scale}"));
    }

    #[test]
    fn activations(
        count in 1..3000usize,
        (layout, dtype) in (layouts(), types()),
        scale in prop_oneof![Just(1.0), Just(1e-6), Just(5.0), Just(1e4)],
        which in 0..6usize,
    ) {
        let scale = if dtype == DType::F32 { scale } else { f64::clamp(scale, 1.0, 5.0) };
        let kind = [
            Activation::Silu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Relu,
            Activation::Mish,
        ][which];
        let x = leaf([count, 3], 1, scale, dtype);
        let given = of_one(&x, dtype, |x| kind.forward(laid(x, layout)));
        let expected = of_one(&x, DType::F64, |x| match kind {
            Activation::Silu => activation::silu(x),
            Activation::Gelu => (x.clone() / std::f64::consts::SQRT_2).erf().add_scalar(1.0) * x * 0.5,
            Activation::GeluTanh => {
                let inner = (x.clone() + x.clone().powi_scalar(3) * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
                (inner.tanh() + 1.0) * x * 0.5
            }
            Activation::QuickGelu => activation::sigmoid(x.clone() * 1.702) * x,
            Activation::Relu => activation::relu(x),
            _ => activation::mish(x),
        });
        agree(&given, &expected, dtype, &format!("{kind:?} of {count} {layout:?} {dtype:?} {scale}"));
    }

    #[test]
    fn images_of_other_sizes(
        (batch, channels, height, width) in (1..3usize, 1..9usize, 1..12usize, 1..12usize),
        (layout, dtype) in (layouts(), types()),
        size in [1..30usize, 1..30usize],
    ) {
        let case = format!("[{batch}, {channels}, {height}, {width}] {layout:?} {dtype:?} {size:?}");
        let x = leaf([batch, channels, height, width], 1, 1.0, dtype);
        let repeat = |x: Tensor<4>, size: [usize; 2]| {
            let rows = (0..size[0]).map(|i| x.clone().narrow(2, i * height / size[0], 1)).collect();
            let x = Tensor::cat(rows, 2);
            Tensor::cat((0..size[1]).map(|i| x.clone().narrow(3, i * width / size[1], 1)).collect(), 3)
        };
        let flat = |x: Tensor<4>| {
            let [b, c, h, w] = x.dims();
            x.reshape([b * c, 1, h, w])
        };
        let filter = |gain: f64| {
            let taps = [1.0, 3.0, 3.0, 1.0];
            let all: Vec<f64> = taps.iter().flat_map(|a| taps.iter().map(move |b| a * b * gain / 64.0)).collect();
            Tensor::<1>::from_data(all.as_slice(), (&device(), DType::F64)).reshape([1, 1, 4, 4])
        };
        agree(
            &of_one(&x, dtype, |x| upsample_nearest_2x(laid(x, layout))),
            &of_one(&x, DType::F64, |x| repeat(x, [2 * height, 2 * width])),
            dtype,
            &case,
        );
        agree(
            &of_one(&x, dtype, |x| upsample_nearest(laid(x, layout), size)),
            &of_one(&x, DType::F64, |x| repeat(x, size)),
            dtype,
            &case,
        );
        agree(
            &of_one(&x, dtype, |x| fir_upsample_2x(laid(x, layout))),
            &of_one(&x, DType::F64, |x| {
                let options = ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1);
                let y = module::conv_transpose2d(flat(x), filter(4.0), None, options);
                y.reshape([batch, channels, 2 * height, 2 * width])
            }),
            dtype,
            &case,
        );
        let (height, width) = (2 * height, 2 * width);
        let x = leaf([batch, channels, height, width], 1, 1.0, dtype);
        agree(
            &of_one(&x, dtype, |x| avg_pool_2x(laid(x, layout))),
            &of_one(&x, DType::F64, |x| {
                let pairs = x.reshape([batch * channels * height / 2, 2, width / 2, 2]);
                pairs.sum_dim(3).sum_dim(1).mul_scalar(0.25).reshape([batch, channels, height / 2, width / 2])
            }),
            dtype,
            &case,
        );
        agree(
            &of_one(&x, dtype, |x| fir_downsample_2x(laid(x, layout))),
            &of_one(&x, DType::F64, |x| {
                let y = module::conv2d(flat(x), filter(1.0), None, ConvOptions::new([2, 2], [1, 1], [1, 1], 1));
                y.reshape([batch, channels, height / 2, width / 2])
            }),
            dtype,
            &case,
        );
    }
}

/// A layer with parameters of another type.
fn cast<M: Module>(layer: M, dtype: DType) -> M {
    struct Cast(DType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| Tensor::from_inner(tensor.inner().cast(self.0)).require_grad())
        }
    }
    layer.map(&mut Cast(dtype))
}

/// The shape of a function of a tensor of zeros, which has a gradient, and without one.
fn shape_of<const D: usize, const E: usize>(
    shape: [usize; D],
    dtype: DType,
    f: impl Fn(Tensor<D>) -> Tensor<E>,
) -> [usize; E] {
    let x = Tensor::<D>::zeros(shape, (&device().inner(), dtype));
    let tracked = Tensor::from_inner(x.clone()).require_grad();
    let y = f(tracked.clone());
    let dims = y.dims();
    let gradients = y.sum().backward();
    assert_eq!(tracked.grad(&gradients).expect("a gradient").dims(), shape);
    dims
}

/// No samples, and no rows of affine maps: shapes are those of the definition, and gradients are there.
#[test]
fn of_nothing() {
    let device = device();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let conv = cast(Conv2dConfig::new(4, 3, 3).padding(1).stride(2).init(&device).unwrap(), dtype);
        assert_eq!(shape_of([0, 4, 6, 7], dtype, |x| conv.forward(x)), [0, 3, 3, 4]);
        let conv = cast(Conv1dConfig::new(4, 3, 3).padding(1).init(&device).unwrap(), dtype);
        assert_eq!(shape_of([0, 4, 6], dtype, |x| conv.forward(x)), [0, 3, 6]);
        let conv = cast(Conv1dConfig::new(4, 3, 4).padding(1).stride(2).init_transposed(&device).unwrap(), dtype);
        assert_eq!(shape_of([0, 4, 6], dtype, |x| conv.forward(x)), [0, 3, 12]);
        for kernel in [[3, 1, 1], [3, 3, 3]] {
            let config = Conv3dConfig::new(4, 3, kernel).padding(kernel.map(|k| k / 2));
            let conv = cast(config.init(&device).unwrap(), dtype);
            assert_eq!(shape_of([0, 4, 2, 6, 7], dtype, |x| conv.forward(x)), [0, 3, 2, 6, 7]);
        }
        let linear = cast(LinearConfig::new(4, 3).init(&device).unwrap(), dtype);
        assert_eq!(shape_of([0, 4], dtype, |x| linear.forward(x)), [0, 3]);
        assert_eq!(shape_of([2, 0, 4], dtype, |x| linear.forward(x)), [2, 0, 3]);
        let norm = cast(GroupNormConfig::new(2, 4).init(&device).unwrap(), dtype);
        assert_eq!(shape_of([0, 4, 6, 7], dtype, |x| norm.forward(x)), [0, 4, 6, 7]);
        let norm = cast(LayerNormConfig::new(4).init(&device).unwrap(), dtype);
        assert_eq!(shape_of([2, 0, 4], dtype, |x| norm.forward(x)), [2, 0, 4]);
        let norm = cast(RmsNormConfig::new(4).init(&device).unwrap(), dtype);
        assert_eq!(shape_of([0, 4], dtype, |x| norm.forward(x)), [0, 4]);
        let attend = |x: Tensor<4>| scaled_dot_product_attention(x.clone(), x.clone(), x);
        assert_eq!(shape_of([0, 2, 5, 4], dtype, attend), [0, 2, 5, 4]);
        let attention = cast(AttentionConfig::new(4, 2, 3).init(&device).unwrap(), dtype);
        for shape in [[0, 5, 4], [2, 0, 4]] {
            // Added to its input, as in every block: by itself it has no gradient there.
            let attend = |x: Tensor<3>| x.clone() + attention.forward(x, None, None, &mut Tap::none());
            assert_eq!(shape_of(shape, dtype, attend), shape);
        }
        for (resample, side) in [(Resample::Keep, 6), (Resample::Double, 12)] {
            let block = ResnetBlock2dConfig::new(4, 6, 5).groups(2).resample(resample).init(&device).unwrap();
            let block = cast(block, dtype);
            for rows in [0, 1] {
                let time = Tensor::ones([rows, 5], (&device, dtype));
                let shape = shape_of([0, 4, 6, 6], dtype, |x| block.forward(x, Some(&time), &mut Tap::none()));
                assert_eq!(shape, [0, 6, side, side]);
            }
        }
        for kind in [Activation::Silu, Activation::Gelu, Activation::Relu] {
            assert_eq!(shape_of([0, 4], dtype, |x| kind.forward(x)), [0, 4]);
        }
        assert_eq!(shape_of([0, 4, 6, 8], dtype, upsample_nearest_2x), [0, 4, 12, 16]);
        assert_eq!(shape_of([0, 4, 6, 8], dtype, |x| upsample_nearest(x, [7, 9])), [0, 4, 7, 9]);
        assert_eq!(shape_of([0, 4, 6, 8], dtype, avg_pool_2x), [0, 4, 3, 4]);
        assert_eq!(shape_of([0, 4, 6, 8], dtype, fir_upsample_2x), [0, 4, 12, 16]);
        assert_eq!(shape_of([0, 4, 6, 8], dtype, fir_downsample_2x), [0, 4, 3, 4]);
    }
}
