//! Convolutions.

use burn::module::Param;
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, module};
use langevin_models::layers::{Conv1dConfig, Conv2dConfig, Conv3dConfig};
use proptest::prelude::*;

use crate::compare::{Layout, Results, affine, agree, back, device, laid, leaf, tracked, values};

/// Channels of all kinds, of which the largest take their time.
pub fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..9usize, 3 => 9..70usize, 1 => 90..140usize, 1 => Just(257usize), 1 => Just(513usize)]
}

pub fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::Plain), Just(Layout::Turned), Just(Layout::Part)]
}

pub fn types() -> impl Strategy<Value = DType> {
    prop_oneof![3 => Just(DType::F32), 1 => Just(DType::F16), 1 => Just(DType::BF16)]
}

/// Sizes of numbers; 16-bit types have no room for the others.
pub fn scales() -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(1.0), 1 => Just(1e-6), 1 => Just(1e4), 1 => Just(30.0)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn in_two_dimensions(
        (input, output) in (channels(), channels()),
        (kernel, stride, padding) in (1..8usize, 1..4usize, 0..4usize),
        (batch, height, width) in (1..4usize, 1..20usize, 1..20usize),
        (layout, dtype, scale) in (layouts(), types(), scales()),
        biased in any::<bool>(),
    ) {
        prop_assume!(height + 2 * padding >= kernel && width + 2 * padding >= kernel);
        prop_assume!(input * output * height * width * kernel * kernel * batch < 30_000_000);
        check_2d([input, output, kernel, stride, padding, batch, height, width], layout, dtype, scale, biased);
    }

    /// What goes by tiles.
    #[test]
    fn of_three_by_three(
        (input, output) in (prop_oneof![Just(32usize), 47..130usize], prop_oneof![Just(33usize), 47..130usize]),
        (batch, height, width) in (1..4usize, 1..24usize, 1..24usize),
        (layout, dtype, scale) in (layouts(), types(), scales()),
    ) {
        check_2d([input, output, 3, 1, 1, batch, height, width], layout, dtype, scale, true);
    }

    #[test]
    fn in_one_dimension(
        (input, output) in (channels(), channels()),
        (kernel, stride, padding) in (1..8usize, 1..4usize, 0..4usize),
        (batch, length) in (1..4usize, 1..80usize),
        (layout, dtype, scale) in (layouts(), types(), scales()),
    ) {
        prop_assume!(length + 2 * padding >= kernel);
        let scale = if dtype == DType::F32 { scale } else { 1.0 };
        let spread = 1.0 / ((input * kernel) as f64).sqrt();
        let case = format!("{input} to {output}, {kernel} by {stride} with {padding}, [{batch}, {length}], {layout:?}, {dtype:?}, {scale}");
        let x = leaf([batch, input, length], 1, scale, dtype);
        let (w, b) = (leaf([output, input, kernel], 2, spread, dtype), leaf([output], 3, scale, dtype));
        let mut layer = Conv1dConfig::new(input, output, kernel).stride(stride).padding(padding).init(&device()).unwrap();
        layer.weight = Param::from_tensor(tracked(&w, dtype));
        layer.bias = Some(Param::from_tensor(tracked(&b, dtype)));
        let leaves = tracked(&x, dtype);
        let y = layer.forward(laid(leaves.clone(), layout));
        let given = affine(&y, &leaves, &layer.weight.val(), &layer.bias.as_ref().unwrap().val(), dtype);
        let (x, w, b) = (tracked(&x, DType::F64), tracked(&w, DType::F64), tracked(&b, DType::F64));
        let options = ConvOptions::new([stride], [padding], [1], 1);
        let y = module::conv1d(x.clone(), w.clone(), Some(b.clone()), options);
        let expected = affine(&y, &x, &w, &b, DType::F64);
        agree(&given, &expected, dtype, &case);
    }

    #[test]
    fn transposed(
        (input, output) in (1..40usize, 1..40usize),
        (kernel, stride) in (1..8usize, 1..4usize),
        (batch, length) in (1..4usize, 4..40usize),
        (layout, dtype) in (layouts(), types()),
    ) {
        let padding = kernel / 2;
        let x = leaf([batch, input, length], 1, 1.0, dtype);
        let (w, b) = (leaf([input, output, kernel], 2, 0.2, dtype), leaf([output], 3, 1.0, dtype));
        let config = Conv1dConfig::new(input, output, kernel).stride(stride).padding(padding);
        let mut layer = config.init_transposed(&device()).unwrap();
        layer.weight = Param::from_tensor(tracked(&w, dtype));
        layer.bias = Some(Param::from_tensor(tracked(&b, dtype)));
        let leaves = tracked(&x, dtype);
        let y = layer.forward(laid(leaves.clone(), layout));
        let given = affine(&y, &leaves, &layer.weight.val(), &layer.bias.as_ref().unwrap().val(), dtype);
        let (x, w, b) = (tracked(&x, DType::F64), tracked(&w, DType::F64), tracked(&b, DType::F64));
        let options = ConvTransposeOptions::new([stride], [padding], [0], [1], 1);
        let y = module::conv_transpose1d(x.clone(), w.clone(), Some(b.clone()), options);
        let expected = affine(&y, &x, &w, &b, DType::F64);
        agree(&given, &expected, dtype, &format!("{config:?} [{batch}, {length}] {layout:?} {dtype:?}"));
    }

    #[test]
    fn in_three_dimensions(
        (input, output) in (1..20usize, 1..20usize),
        (kernel, stride, padding) in ([1..4usize, 1..4usize, 1..4usize], [1..3usize, 1..3usize, 1..3usize], [0..2usize, 0..2usize, 0..2usize]),
        (batch, frames, height, width) in (1..3usize, 1..8usize, 1..9usize, 1..9usize),
        (layout, dtype, scale) in (layouts(), types(), scales()),
    ) {
        let size = [frames, height, width];
        prop_assume!((0..3).all(|a| size[a] + 2 * padding[a] >= kernel[a]));
        let scale = if dtype == DType::F32 { scale } else { 1.0 };
        let spread = 1.0 / ((input * kernel.iter().product::<usize>()) as f64).sqrt();
        let [k0, k1, k2] = kernel;
        let x = leaf([batch, input, frames, height, width], 1, scale, dtype);
        let (w, b) = (leaf([output, input, k0, k1, k2], 2, spread, dtype), leaf([output], 3, scale, dtype));
        let config = Conv3dConfig::new(input, output, kernel).stride(stride).padding(padding);
        let mut layer = config.init(&device()).unwrap();
        layer.weight = Param::from_tensor(tracked(&w, dtype));
        layer.bias = Some(Param::from_tensor(tracked(&b, dtype)));
        let leaves = tracked(&x, dtype);
        let y = layer.forward(laid(leaves.clone(), layout));
        let given = affine(&y, &leaves, &layer.weight.val(), &layer.bias.as_ref().unwrap().val(), dtype);
        let (x, w, b) = (tracked(&x, DType::F64), tracked(&w, DType::F64), tracked(&b, DType::F64));
        let y = module::conv3d(x.clone(), w.clone(), None, ConvOptions::new(stride, padding, [1; 3], 1));
        let y = y + b.clone().reshape([1, output, 1, 1, 1]);
        let expected = affine(&y, &x, &w, &b, DType::F64);
        agree(&given, &expected, dtype, &format!("{config:?} [{batch}, {size:?}] {layout:?} {dtype:?} {scale}"));
    }
}

fn check_2d(sizes: [usize; 8], layout: Layout, dtype: DType, scale: f64, biased: bool) {
    let [input, output, kernel, stride, padding, batch, height, width] = sizes;
    let scale = if dtype == DType::F32 { scale } else { 1.0 };
    let spread = 1.0 / ((input * kernel * kernel) as f64).sqrt();
    let case = format!(
        "[{batch}, {input}, {height}, {width}] to {output}, {kernel} by {stride} with {padding}, {layout:?}, {dtype:?}, {scale}, {biased}"
    );
    let x = leaf([batch, input, height, width], 1, scale, dtype);
    let (w, b) = (leaf([output, input, kernel, kernel], 2, spread, dtype), leaf([output], 3, scale, dtype));
    let config = Conv2dConfig::new(input, output, kernel).stride(stride).padding(padding).bias(biased);
    let mut layer = config.init(&device()).unwrap();
    layer.weight = Param::from_tensor(tracked(&w, dtype));
    layer.bias = biased.then(|| Param::from_tensor(tracked(&b, dtype)));
    let leaves = tracked(&x, dtype);
    let y = layer.forward(laid(leaves.clone(), layout));
    let g = back(&y, dtype);
    let mut given: Results = vec![
        ("y", values(&y.clone().inner())),
        ("of x", values(&leaves.grad(&g).unwrap())),
        ("of the weight", values(&layer.weight.val().grad(&g).unwrap())),
    ];
    // Without a graph: the same bits.
    let plain = layer.clone();
    let plain = burn::module::Module::valid(&plain);
    let again = plain.forward(laid(x.clone(), layout));
    assert_eq!(values(&again), given[0].1, "{case}: without a graph");
    if let Some(bias) = &layer.bias {
        given.push(("of the bias", values(&bias.val().grad(&g).unwrap())));
    }
    let (x, w, b) = (tracked(&x, DType::F64), tracked(&w, DType::F64), tracked(&b, DType::F64));
    let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
    let y = module::conv2d(x.clone(), w.clone(), biased.then(|| b.clone()), options);
    let g = back(&y, DType::F64);
    let mut expected: Results = vec![
        ("y", values(&y.inner())),
        ("of x", values(&x.grad(&g).unwrap())),
        ("of the weight", values(&w.grad(&g).unwrap())),
    ];
    if biased {
        expected.push(("of the bias", values(&b.grad(&g).unwrap())));
    }
    agree(&given, &expected, dtype, &case);
}
