//! Normalization: of groups and rows, with means far larger than what varies.

use burn::module::Param;
use burn::tensor::{DType, Tensor, activation};
use langevin_models::layers::{GroupNormConfig, LayerNormConfig, RmsNormConfig};
use proptest::prelude::*;

use crate::compare::{Results, affine, agree, back, device, laid, leaf, shifted, tracked, values};
use crate::convolution::{layouts, types};

/// What is added to every number: up to thousands of times what varies.
fn shifts() -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(0.0), 1 => Just(5.0), 1 => Just(-1000.0), 1 => Just(1e4)]
}

fn scales() -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(1.0), 1 => Just(1e-6), 1 => Just(1e4), 1 => Just(30.0)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn of_groups(
        (groups, each) in (1..20usize, 1..9usize),
        (batch, height, width) in (1..4usize, 1..20usize, 1..20usize),
        (layout, dtype) in (layouts(), types()),
        (scale, shift) in (scales(), shifts()),
    ) {
        let (scale, shift) = if dtype == DType::F32 { (scale, shift) } else { (1.0, shift.clamp(0.0, 5.0)) };
        let channels = groups * each;
        // Two numbers or more, of which something is left when the mean is gone.
        prop_assume!(each * height * width > 1);
        let epsilon = 1e-5;
        let x = shifted([batch, channels, height, width], 1, scale, shift, dtype);
        let (w, b) = (leaf([channels], 2, 1.0, dtype), leaf([channels], 3, 1.0, dtype));
        let mut layer = GroupNormConfig::new(groups, channels).epsilon(epsilon).init(&device()).unwrap();
        layer.weight = Param::from_tensor(tracked(&w, dtype));
        layer.bias = Param::from_tensor(tracked(&b, dtype));
        let leaves = tracked(&x, dtype);
        let y = layer.forward(laid(leaves.clone(), layout));
        let given = affine(&y, &leaves, &layer.weight.val(), &layer.bias.val(), dtype);
        let (x, w, b) = (tracked(&x, DType::F64), tracked(&w, DType::F64), tracked(&b, DType::F64));
        let rows = x.clone().reshape([batch * groups, each * height * width]);
        let centered = rows.clone() - rows.mean_dim(1);
        let variance = centered.clone().square().mean_dim(1);
        let y = (centered / (variance + epsilon).sqrt()).reshape([batch, channels, height, width]);
        let y = y * w.clone().reshape([1, channels, 1, 1]) + b.clone().reshape([1, channels, 1, 1]);
        let expected = affine(&y, &x, &w, &b, DType::F64);
        let case = format!("{groups} of {each}, [{batch}, {height}, {width}], {layout:?}, {dtype:?}, {scale} + {shift}");
        agree(&given, &expected, dtype, &case);
    }

    #[test]
    fn of_rows(
        (rows, width) in (1..200usize, prop_oneof![3..20usize, 20..400usize, Just(1152usize)]),
        parameters in 0..3usize,
        centered in any::<bool>(),
        (layout, dtype) in (layouts(), types()),
        (scale, shift) in (scales(), shifts()),
    ) {
        let (scale, shift) = if dtype == DType::F32 { (scale, shift) } else { (1.0, shift.clamp(0.0, 5.0)) };
        let epsilon = 1e-6;
        let x = shifted([1, rows, width], 1, scale, if centered { shift } else { 0.0 }, dtype);
        let (w, b) = (leaf([width], 2, 1.0, dtype), leaf([width], 3, 1.0, dtype));
        let leaves = tracked(&x, dtype);
        let input = laid(leaves.clone(), layout);
        let [own_w, own_b] = [&w, &b].map(|p| Param::from_tensor(tracked(p, dtype)));
        let y = if centered {
            let config = LayerNormConfig::new(width).epsilon(epsilon);
            let mut layer = (if parameters == 0 { config.plain() } else { config }).init(&device()).unwrap();
            layer.weight = (parameters > 0).then(|| own_w.clone());
            layer.bias = (parameters > 1).then(|| own_b.clone());
            layer.forward(input)
        } else {
            let mut layer = RmsNormConfig::new(width).epsilon(epsilon).init(&device()).unwrap();
            layer.weight = own_w.clone();
            layer.forward(input)
        };
        let g = back(&y, dtype);
        let weighted = !centered || parameters > 0;
        let biased = centered && parameters > 1;
        let mut given: Results = vec![("y", values(&y.inner())), ("of x", values(&leaves.grad(&g).unwrap()))];
        if weighted {
            given.push(("of the weight", values(&own_w.val().grad(&g).unwrap())));
        }
        if biased {
            given.push(("of the bias", values(&own_b.val().grad(&g).unwrap())));
        }
        let (x, w, b) = (tracked(&x, DType::F64), tracked(&w, DType::F64), tracked(&b, DType::F64));
        let away = if centered { x.clone() - x.clone().mean_dim(2) } else { x.clone() };
        let mut y = away.clone() / (away.square().mean_dim(2) + epsilon).sqrt();
        if weighted {
            y = y * w.clone().unsqueeze();
        }
        if biased {
            y = y + b.clone().unsqueeze();
        }
        let g = back(&y, DType::F64);
        let mut expected: Results = vec![("y", values(&y.inner())), ("of x", values(&x.grad(&g).unwrap()))];
        if weighted {
            expected.push(("of the weight", values(&w.grad(&g).unwrap())));
        }
        if biased {
            expected.push(("of the bias", values(&b.grad(&g).unwrap())));
        }
        let case = format!("[{rows}, {width}], {parameters}, {centered}, {layout:?}, {dtype:?}, {scale} + {shift}");
        agree(&given, &expected, dtype, &case);
    }
}

#[test]
fn of_what_is_the_same_everywhere() {
    for value in [0.0, 1e-6, 0.1, 1000.3, 1e4] {
        let x = Tensor::<4>::full([2, 6, 31, 33], value, &device().inner());
        let group = GroupNormConfig::new(3, 6).init(&device().inner()).unwrap().forward(x.clone());
        let row = LayerNormConfig::new(33).init(&device().inner()).unwrap().forward(x);
        for y in [group, row] {
            assert!(values(&y).iter().all(|y| y.abs() < 1e-6), "{value}");
        }
    }
}

/// The activation between a normalization and a convolution is one operation with the former, which no public layer shows alone.
#[test]
fn before_an_activation() {
    let x = shifted([2, 8, 9, 7], 1, 1.0, 1000.0, DType::F32);
    let layer = langevin_models::layers::ResnetBlock2dConfig::without_time(8, 8).groups(4).init(&device()).unwrap();
    let leaves = tracked(&x, DType::F32);
    let y = layer.forward(leaves.clone(), None, &mut langevin_models::Tap::none());
    let g = back(&y, DType::F32);
    let given: Results = vec![("y", values(&y.inner())), ("of x", values(&leaves.grad(&g).unwrap()))];
    let x = tracked(&x, DType::F64);
    let wide = |p: &Param<Tensor<1>>| Tensor::<1>::from_inner(p.val().inner().cast(DType::F64)).reshape([1, 8, 1, 1]);
    let normal = |x: Tensor<4>, norm: &langevin_models::layers::GroupNorm| {
        let rows = x.clone().reshape([8, 126]);
        let centered = rows.clone() - rows.mean_dim(1);
        let y = centered.clone() / (centered.square().mean_dim(1) + 1e-5).sqrt();
        activation::silu(y.reshape([2, 8, 9, 7]) * wide(&norm.weight) + wide(&norm.bias))
    };
    let convolve = |x: Tensor<4>, conv: &langevin_models::layers::Conv2d| {
        let weight = Tensor::<4>::from_inner(conv.weight.val().inner().cast(DType::F64));
        let bias = Tensor::<1>::from_inner(conv.bias.as_ref().unwrap().val().inner().cast(DType::F64));
        let options = burn::tensor::ops::ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        burn::tensor::module::conv2d(x, weight, Some(bias), options)
    };
    let h = convolve(normal(x.clone(), &layer.norm1), &layer.conv1);
    let y = x.clone() + convolve(normal(h, &layer.norm2), &layer.conv2);
    let g = back(&y, DType::F64);
    let expected: Results = vec![("y", values(&y.inner())), ("of x", values(&x.grad(&g).unwrap()))];
    agree(&given, &expected, DType::F32, "a residual block");
}
