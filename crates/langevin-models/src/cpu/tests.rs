//! The kernels against Burn's own operations, in value and gradient.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor, activation, module};

use crate::layers::Activation;
use crate::testing::{assert_close, flex, tensor, values};

/// Value and gradients of a function of three tensors, without and with a graph, where some of the tensors are constants.
#[track_caller]
fn agree<const A: usize, const B: usize, const C: usize, const D: usize>(
    shapes: ([usize; A], [usize; B], [usize; C]),
    given: impl Fn(Tensor<A>, Tensor<B>, Tensor<C>) -> Tensor<D>,
    expected: impl Fn(Tensor<A>, Tensor<B>, Tensor<C>) -> Tensor<D>,
) {
    let device = flex();
    let plain = || (tensor(shapes.0, 0.3, &device), tensor(shapes.1, 0.7, &device), tensor(shapes.2, 0.5, &device));
    let (a, b, c) = plain();
    let value = values(&expected(a, b, c));
    let (a, b, c) = plain();
    assert_close(&given(a, b, c), &value, 1e-5);
    for tracked in 1..8 {
        let gradients = |f: &dyn Fn(Tensor<A>, Tensor<B>, Tensor<C>) -> Tensor<D>| {
            let (a, b, c) = plain();
            let a = if tracked & 1 > 0 { Tensor::from_inner(a).require_grad() } else { a };
            let b = if tracked & 2 > 0 { Tensor::from_inner(b).require_grad() } else { b };
            let c = if tracked & 4 > 0 { Tensor::from_inner(c).require_grad() } else { Tensor::from_inner(c) };
            let y = f(a.clone(), b.clone(), c.clone());
            let factors = Tensor::from_inner(tensor(y.dims(), 0.9, &device));
            let value = values(&y.clone().inner());
            let gradients = y.mul(factors).sum().backward();
            let of = |bit: usize, gradient: Option<Vec<f64>>| {
                assert_eq!(gradient.is_some(), tracked & bit > 0);
                gradient.unwrap_or_default()
            };
            let of_a = if tracked & 1 > 0 { a.grad(&gradients).map(|g| values(&g)) } else { None };
            let of_b = if tracked & 2 > 0 { b.grad(&gradients).map(|g| values(&g)) } else { None };
            let of_c = if tracked & 4 > 0 { c.grad(&gradients).map(|g| values(&g)) } else { None };
            [value, of(1, of_a), of(2, of_b), of(4, of_c)]
        };
        for (given, expected) in gradients(&given).iter().zip(gradients(&expected)) {
            let given = Tensor::<1>::from_data(given.as_slice(), (&device, DType::F64)).cast(DType::F32);
            assert_close(&given, &expected, 2e-5);
        }
    }
}

#[test]
fn other_sizes_agree_with_burn() {
    for (height, width) in [(2, 4), (6, 2), (8, 34)] {
        let (batch, channels) = (2, 3);
        let shapes = ([batch, channels, height, width], [1], [1]);
        // Further factors and terms, so that all three tensors have gradients.
        let with = |y: Tensor<4>, b: Tensor<1>, c: Tensor<1>| y * b.reshape([1, 1, 1, 1]) + c.reshape([1, 1, 1, 1]);
        agree(
            shapes,
            |a, b, c| with(super::double(&a).expect("a tensor of flex"), b, c),
            |a, b, c| {
                let rows = a.reshape([batch * channels, height, 1, width, 1]);
                let y = rows.expand([batch * channels, height, 2, width, 2]);
                with(y.reshape([batch, channels, 2 * height, 2 * width]), b, c)
            },
        );
        agree(
            shapes,
            |a, b, c| with(super::halve(&a).expect("a tensor of flex"), b, c),
            |a, b, c| {
                let pairs = a.reshape([batch * channels * height / 2, 2, width / 2, 2]);
                let y = pairs.sum_dim(3).sum_dim(1).mul_scalar(0.25);
                with(y.reshape([batch, channels, height / 2, width / 2]), b, c)
            },
        );
    }
    // A view, and sides that have no halves.
    let x = tensor([1, 2, 4, 6], 0.3, &flex());
    let turned = x.clone().swap_dims(2, 3);
    let expected = values(&super::double(&x).expect("a tensor of flex").swap_dims(2, 3));
    assert_close(&super::double(&turned).expect("a tensor of flex"), &expected, 0.0);
    assert!(super::halve(&x.narrow(3, 0, 5)).is_none());
}

#[test]
fn convolutions_agree_with_burn() {
    for (kernel, stride, padding, image) in [
        ([3, 3], [1, 1], [1, 1], [9, 7]),
        ([3, 3], [1, 1], [1, 1], [2, 3]),
        ([3, 3], [2, 2], [1, 1], [7, 8]),
        ([1, 1], [1, 1], [0, 0], [4, 5]),
        ([1, 3], [1, 2], [0, 1], [1, 9]),
    ] {
        let shapes = ([2, 3, image[0], image[1]], [4, 3, kernel[0], kernel[1]], [4]);
        let burn = |x, weight, bias| module::conv2d(x, weight, bias, ConvOptions::new(stride, padding, [1, 1], 1));
        agree(
            shapes,
            |x, weight, bias| super::convolve(&x, &weight, Some(&bias), stride, padding, None).expect("f32 on the CPU"),
            |x, weight, bias| burn(x, weight, Some(bias)),
        );
        // Without a bias; the third is added outside, on both sides alike.
        agree(
            shapes,
            |x, weight, c| {
                let y = super::convolve(&x, &weight, None, stride, padding, None).expect("f32 on the CPU");
                y + c.reshape([1, 4, 1, 1])
            },
            |x, weight, c| burn(x, weight, None) + c.reshape([1, 4, 1, 1]),
        );
    }
}

#[test]
fn convolutions_of_many_channels_agree_with_burn() {
    // Enough channels and pixels for Winograd's algorithm.
    agree(
        ([1, 96, 16, 15], [98, 96, 3, 3], [98]),
        // Weights of the size that layers start with: results are of order one then.
        |x, w, bias| super::convolve(&x, &(w * 0.03), Some(&bias), [1, 1], [1, 1], None).expect("f32 on the CPU"),
        |x, w, bias| module::conv2d(x, w * 0.03, Some(bias), ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
    );
}

#[test]
fn affine_maps_agree_with_burn() {
    agree(
        ([2, 3, 5], [4, 5], [4]),
        |x, weight, bias| super::map_last(&x, &weight, Some(&bias)).expect("f32 on the CPU"),
        |x, weight, bias| module::linear(x, weight.transpose(), Some(bias)),
    );
    agree(
        ([6, 5], [4, 5], [4]),
        |x, weight, c| super::map_last(&x, &weight, None).expect("f32 on the CPU") + c.reshape([1, 4]),
        |x, weight, c| module::linear(x, weight.transpose(), None) + c.reshape([1, 4]),
    );
    // A view in another order of memory.
    agree(
        ([5, 6], [4, 5], [4]),
        |x, weight, bias| super::map_last(&x.transpose(), &weight, Some(&bias)).expect("f32 on the CPU"),
        |x, weight, bias| module::linear(x.transpose(), weight.transpose(), Some(bias)),
    );
}

#[test]
fn normalization_agrees_with_burn() {
    for silu in [false, true] {
        agree(
            ([2, 6, 4, 5], [6], [6]),
            |x, weight, bias| super::normalize_groups(&x, &weight, &bias, 3, 1e-5, silu).expect("f32 on the CPU"),
            |x, weight, bias| {
                let x = x.reshape([2, 3, 40]);
                let centered = x.clone() - x.mean_dim(2);
                let variance = centered.clone().square().mean_dim(2);
                let y = (centered / (variance + 1e-5).sqrt()).reshape([2, 6, 4, 5]);
                let y = y * weight.reshape([1, 6, 1, 1]) + bias.reshape([1, 6, 1, 1]);
                if silu { activation::silu(y) } else { y }
            },
        );
    }
}

#[test]
fn attention_agrees_with_burn() {
    let burn = |q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Option<Tensor<4>>| {
        let scores = q.matmul(k.swap_dims(2, 3)) * 0.6;
        activation::softmax(bias.map_or(scores.clone(), |bias| scores + bias), 3).matmul(v)
    };
    for bias in [None, Some([1, 1, 1, 6]), Some([2, 1, 1, 6]), Some([1, 3, 5, 6]), Some([2, 3, 5, 6])] {
        let bias = || bias.map(|shape| tensor(shape, 0.2, &flex()));
        agree(
            ([2, 3, 5, 4], [2, 3, 6, 4], [2, 3, 6, 7]),
            |q, k, v| super::attend(&q, &k, &v, bias().as_ref(), 0.6).expect("f32 on the CPU"),
            |q, k, v| burn(q, k, v, bias()),
        );
    }
    // Heads as views of tokens.
    agree(
        ([2, 5, 3, 4], [2, 6, 3, 4], [2, 6, 3, 4]),
        |q, k, v| {
            let [q, k, v] = [q, k, v].map(|x: Tensor<4>| x.swap_dims(1, 2));
            super::attend(&q, &k, &v, None, 0.6).expect("f32 on the CPU")
        },
        |q, k, v| burn(q.swap_dims(1, 2), k.swap_dims(1, 2), v.swap_dims(1, 2), None),
    );
}

#[test]
fn one_tensor_may_be_queries_keys_and_values() {
    let device = flex();
    let gradient = |f: &dyn Fn(Tensor<4>) -> Tensor<4>| {
        let x = Tensor::<4>::from_inner(tensor([1, 2, 5, 4], 0.3, &device)).require_grad();
        let y = f(x.clone());
        let factors = Tensor::from_inner(tensor([1, 2, 5, 4], 0.9, &device));
        values(&x.grad(&y.mul(factors).sum().backward()).expect("a gradient"))
    };
    let given = gradient(&|x| super::attend(&x, &x, &x, None, 0.6).expect("f32 on the CPU"));
    let expected =
        gradient(&|x| activation::softmax(x.clone().matmul(x.clone().swap_dims(2, 3)) * 0.6, 3).matmul(x.clone()));
    let given = Tensor::<1>::from_data(given.as_slice(), (&device, DType::F64)).cast(DType::F32);
    assert_close(&given, &expected, 1e-5);
}

#[test]
fn a_bias_may_hide_many_keys() {
    let [q, k, v] =
        [([1, 1, 3, 4], 0.1), ([1, 1, 600, 4], 0.5), ([1, 1, 600, 4], 0.9)].map(|(s, n)| tensor(s, n, &flex()));
    let hidden: Vec<f32> = (0..600).map(|key| if key < 400 { f32::NEG_INFINITY } else { 0.0 }).collect();
    let bias = Tensor::<1>::from_data(hidden.as_slice(), &flex()).reshape([1, 1, 1, 600]);
    let given = super::attend(&q, &k, &v, Some(&bias), 0.5).expect("f32 on the CPU");
    let seen = super::attend(&q, &k.narrow(2, 400, 200), &v.narrow(2, 400, 200), None, 0.5).expect("f32 on the CPU");
    assert_close(&given, &values(&seen), 1e-6);
}

#[test]
fn views_are_convolved_and_normalized() {
    // In another order of memory, and expanded.
    let turned = |x: Tensor<4>| x.permute([0, 3, 1, 2]);
    agree(
        ([2, 6, 5, 3], [4, 3, 3, 3], [4]),
        |x, weight, bias| {
            super::convolve(&turned(x), &weight, Some(&bias), [1, 1], [1, 1], None).expect("f32 on the CPU")
        },
        |x, weight, bias| module::conv2d(turned(x), weight, Some(bias), ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
    );
    agree(
        ([1, 4, 1, 1], [4], [4]),
        |x, weight, bias| {
            let x = x.expand([3, 4, 5, 6]) + Tensor::arange(0..6, &weight.device()).float().reshape([1, 1, 1, 6]);
            super::normalize_groups(&x, &weight, &bias, 2, 1e-5, true).expect("f32 on the CPU")
        },
        |x, weight, bias| {
            let x = x.expand([3, 4, 5, 6]) + Tensor::arange(0..6, &weight.device()).float().reshape([1, 1, 1, 6]);
            let x = x.reshape([3, 2, 60]);
            let centered = x.clone() - x.mean_dim(2);
            let variance = centered.clone().square().mean_dim(2);
            let y = (centered / (variance + 1e-5).sqrt()).reshape([3, 4, 5, 6]);
            activation::silu(y * weight.reshape([1, 4, 1, 1]) + bias.reshape([1, 4, 1, 1]))
        },
    );
}

#[test]
fn what_is_computed_again_going_back_is_left_to_burn() {
    let device = flex().autodiff().gradient_checkpointing();
    let x = Tensor::<4>::ones([1, 2, 4, 4], &device).require_grad();
    assert!(super::convolve(&x, &x, None, [1, 1], [0, 0], None).is_none());
}

/// An activation that has a kernel.
fn active<const D: usize>(x: Tensor<D>, kind: Activation) -> Tensor<D> {
    super::activate(x, kind).break_value().expect("f32 on the CPU")
}

#[test]
fn activations_agree_with_burn() {
    for kind in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu] {
        let burn = |x: Tensor<2>| match kind {
            Activation::Silu => activation::silu(x),
            Activation::Gelu => (x.clone() / std::f64::consts::SQRT_2).erf().add_scalar(1.0) * x * 0.5,
            Activation::GeluTanh => {
                let inner = (x.clone() + x.clone().powi_scalar(3) * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
                (inner.tanh() + 1.0) * x * 0.5
            }
            _ => activation::sigmoid(x.clone() * 1.702) * x,
        };
        let apply = |x| active(x, kind);
        agree(
            ([3, 40], [1], [1]),
            |x, a, b| apply(x * 3.0 + a.unsqueeze()) + b.unsqueeze(),
            |x, a, b| burn(x * 3.0 + a.unsqueeze()) + b.unsqueeze(),
        );
    }
}

#[test]
fn what_others_hold_is_not_overwritten() {
    let x = tensor([4, 5], 0.4, &flex());
    let before = values(&x);
    let part = x.clone().narrow(0, 1, 2);
    let y = active(part.clone(), Activation::Silu);
    assert_eq!(values(&x), before);
    assert_close(&y, &values(&activation::silu(part)), 1e-6);
    // A view that alone holds a larger memory.
    let view = tensor([4, 5], 0.4, &flex()).narrow(0, 0, 2);
    let expected = values(&activation::silu(x.narrow(0, 0, 2)));
    assert_close(&active(view, Activation::Silu), &expected, 1e-6);
}

#[test]
fn other_tensors_are_left_to_burn() {
    let x = tensor([1, 2, 4, 4], 0.4, &flex());
    let weight = tensor([3, 2, 3, 3], 0.2, &flex());
    let (double, weight) = (x.clone().cast(DType::F64), weight.cast(DType::F64));
    assert!(super::convolve(&double, &weight, None, [1, 1], [1, 1], None).is_none());
    assert!(super::activate(double, Activation::Silu).is_continue());
    assert!(super::activate(x, Activation::Mish).is_continue());
    // A bias of attention that is trained.
    let q = tensor([1, 1, 2, 3], 0.4, &flex());
    let bias = Tensor::from_inner(tensor([1, 1, 2, 2], 0.4, &flex())).require_grad();
    assert!(super::attend(&q, &q, &q, Some(&bias), 1.0).is_none());
}
