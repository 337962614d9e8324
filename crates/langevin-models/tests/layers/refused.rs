//! What layers say of what they cannot take.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{DType, Tensor};
use langevin_models::ModelError;
use langevin_models::layers::algorithm::Convolution;
use langevin_models::layers::{
    Activation, Conv2dConfig, GaussianFourierConfig, GroupNormConfig, LinearConfig, ResnetBlock2dConfig,
    cast_parameters,
};

use crate::compare::device;

/// The message of a panic.
fn told<R>(call: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(call)).err().expect("a panic");
    payload.downcast::<String>().map_or_else(|_| String::new(), |message| *message)
}

#[test]
fn channels_and_sizes_that_do_not_fit_are_named() {
    let device = device().inner();
    let image = || Tensor::<4>::ones([2, 6, 4, 5], &device);
    let conv = Conv2dConfig::new(8, 4, 3).init(&device).unwrap();
    assert_eq!(told(|| conv.forward(image())), "a convolution of 8 channels in F32 was given [2, 6, 4, 5] in F32");
    let conv = Conv2dConfig::new(6, 4, 7).padding(1).init(&device).unwrap();
    let expected = "a kernel of 7 x 7 with a border of [1, 1] does not fit an image of 4 x 5";
    assert_eq!(told(|| conv.forward(image())), expected);
    let norm = GroupNormConfig::new(2, 8).init(&device).unwrap();
    let expected = "a normalization of 8 channels was given [2, 6, 4, 5]";
    assert_eq!(told(|| norm.forward(image())), expected);
    assert_eq!(told(|| norm.forward_activated(image(), Activation::Silu)), expected);
    let linear = LinearConfig::new(5, 4).init(&device).unwrap();
    let half = image().cast(DType::F16);
    assert_eq!(told(|| linear.forward(half)), "a map of 5 numbers to 4 in F32 was given [2, 6, 4, 5] in F16");
    let linear = LinearConfig::new(6, 4).init(&device).unwrap();
    assert_eq!(told(|| linear.forward(image())), "a map of 6 numbers to 4 in F32 was given [2, 6, 4, 5] in F32");
}

#[test]
fn a_block_whose_channels_change_needs_its_shortcut() {
    let block = |output| ResnetBlock2dConfig::new(4, output, 5).groups(2).shortcut(false).init(&device());
    assert!(block(4).is_ok());
    let error = block(6).unwrap_err();
    assert!(matches!(error, ModelError::Config { field: "shortcut", .. }), "{error}");
    assert!(error.to_string().contains("4 channels become 6"), "{error}");
}

#[test]
fn a_layer_says_how_it_convolves() {
    let device = device().inner();
    let layer = Conv2dConfig::new(8, 4, 3).padding(1).stride(2).init(&device).unwrap();
    assert_eq!((layer.stride(), layer.padding()), (2, 1));
    let image = Tensor::<4>::ones([2, 8, 4, 5], &device);
    assert_eq!(layer.algorithm(&image), Convolution::Packed);
    let wide = cast_parameters(layer.clone(), DType::F64);
    assert_eq!(wide.algorithm(&image.clone().cast(DType::F64)), Convolution::Direct);
    // What it says is what it does.
    let weight = layer.weight.val();
    let plain = Conv2dConfig::new(8, 4, 3).padding(1).stride(2).bias(false).init(&device).unwrap();
    let y = Convolution::Packed.run(image.clone(), plain.weight.val(), [2, 2], [1, 1]);
    assert_eq!(y.into_data(), plain.forward(image.clone()).into_data());
    assert!(Convolution::Packed.computes(&image, &weight, [2, 2], [1, 1]));
    assert!(!Convolution::Packed.computes(&image.cast(DType::F64), &wide.weight.val(), [2, 2], [1, 1]));
}

#[test]
fn all_parameters_are_cast_but_frequencies() {
    let device = device().inner();
    let linear = cast_parameters(LinearConfig::new(3, 2).init(&device).unwrap(), DType::BF16);
    assert_eq!(linear.weight.val().dtype(), DType::BF16);
    let features = cast_parameters(GaussianFourierConfig::new(4).init(&device).unwrap(), DType::BF16);
    assert_eq!(features.weight.val().dtype(), DType::F32);
}
