//! Tensors of 16-bit numbers in `f32`, and back.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Element, TensorData};
use bytemuck::Pod;
use half::{bf16, f16};
use langevin_kernels::halves::{self, Half};

use super::{numbers, tensor};

/// The same numbers in `f32`.
pub(super) fn widen(x: FlexTensor) -> FlexTensor {
    match x.dtype() {
        DType::F16 => widen_from::<f16>(&x),
        DType::BF16 => widen_from::<bf16>(&x),
        _ => x,
    }
}

fn widen_from<H: Half + Element + Pod>(x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let from = x.as_slice::<H>().expect("a contiguous tensor of this type");
    let mut to = vec![0.0; from.len()];
    halves::widen(from, &mut to);
    tensor(to, x.layout().shape().clone())
}

/// Numbers of `f32`, rounded to an element type.
pub(super) fn narrow(x: FlexTensor, dtype: DType) -> FlexTensor {
    match dtype {
        DType::F16 => narrow_to::<f16>(&x),
        DType::BF16 => narrow_to::<bf16>(&x),
        _ => x,
    }
}

fn narrow_to<H: Half + Element + Pod>(x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let mut to = vec![H::ZERO; numbers(&x).len()];
    halves::narrow(numbers(&x), &mut to);
    FlexTensor::from_data(TensorData::new(to, x.layout().shape().clone()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{DType, Tensor, activation, module};

    use super::super::{activate, attend, convolve, map_last, normalize_groups};
    use crate::layers::Activation;
    use crate::testing::{assert_close, flex, tensor, values};

    /// Element types, half of the distance of numbers around one, and how far Burn's operations of that type may be away.
    const TYPES: [(DType, f64, f64); 2] = [(DType::F16, 4.9e-4, 2e-3), (DType::BF16, 3.91e-3, 1.6e-2)];

    /// A tensor of numbers of `dtype`, in the type that is `computed`.
    fn input<const N: usize>(shape: [usize; N], seed: f64, [dtype, computed]: [DType; 2]) -> Tensor<N> {
        tensor(shape, seed, &flex()).cast(dtype).cast(computed)
    }

    /// The value of a function of three tensors, and its gradients, in an element type. The numbers are those of `dtype`.
    fn evaluate<const A: usize, const B: usize, const C: usize, const D: usize>(
        shapes: ([usize; A], [usize; B], [usize; C]),
        [dtype, computed]: [DType; 2],
        f: impl Fn(Tensor<A>, Tensor<B>, Tensor<C>) -> Tensor<D>,
    ) -> [Vec<f64>; 4] {
        let types = [dtype, computed];
        let a = Tensor::from_inner(input(shapes.0, 0.3, types)).require_grad();
        let b = Tensor::from_inner(input(shapes.1, 0.7, types)).require_grad();
        let c = Tensor::from_inner(input(shapes.2, 0.5, types)).require_grad();
        let y = f(a.clone(), b.clone(), c.clone());
        assert_eq!(y.dtype(), computed);
        let factors = Tensor::from_inner(input(y.dims(), 0.9, types));
        let gradients = y.clone().mul(factors).sum().backward();
        let [of_a, of_b, of_c] = [
            a.grad(&gradients).map(|g| (g.dtype(), values(&g))),
            b.grad(&gradients).map(|g| (g.dtype(), values(&g))),
            c.grad(&gradients).map(|g| (g.dtype(), values(&g))),
        ]
        .map(|gradient| {
            let (given, values) = gradient.expect("a gradient");
            assert_eq!(given, computed);
            values
        });
        [values(&y.inner()), of_a, of_b, of_c]
    }

    /// A layer in 16 bits is what Burn computes in `f32` of the same numbers, rounded once, and at least as near to it as what Burn
    /// computes in 16 bits.
    fn agree<const A: usize, const B: usize, const C: usize, const D: usize>(
        shapes: ([usize; A], [usize; B], [usize; C]),
        layer: impl Fn(Tensor<A>, Tensor<B>, Tensor<C>) -> Tensor<D>,
        burn: impl Fn(Tensor<A>, Tensor<B>, Tensor<C>) -> Tensor<D>,
    ) {
        for (dtype, step, far) in TYPES {
            let exact = evaluate(shapes, [dtype, DType::F32], &burn);
            let given = evaluate(shapes, [dtype; 2], &layer);
            let others = evaluate(shapes, [dtype; 2], &burn);
            let types = [dtype; 2];
            let plain = layer(input(shapes.0, 0.3, types), input(shapes.1, 0.7, types), input(shapes.2, 0.5, types));
            assert_eq!(values(&plain), given[0], "without a graph");
            for ((exact, given), other) in exact.iter().zip(&given).zip(&others) {
                let error = |of: &[f64]| of.iter().zip(exact).map(|(x, e)| (x - e).powi(2)).sum::<f64>().sqrt();
                assert!(error(given) <= error(other) * 1.001 + 1e-9, "{} and {}", error(given), error(other));
                let given = Tensor::<1>::from_data(given.as_slice(), (&flex(), DType::F64));
                assert_close(&given, exact, step + 2e-5);
                assert_close(&given, other, far);
            }
        }
    }

    #[test]
    fn convolutions_agree_with_burn() {
        for (stride, image) in [(1, [9, 7]), (2, [7, 8])] {
            let options = || ConvOptions::new([stride; 2], [1, 1], [1, 1], 1);
            agree(
                ([2, 3, image[0], image[1]], [4, 3, 3, 3], [4]),
                |x, w, b| convolve(&x, &(w * 0.25), Some(&b), [stride; 2], [1, 1], None).expect("16 bits on the CPU"),
                |x, w, b| module::conv2d(x, w * 0.25, Some(b), options()),
            );
        }
        // Enough channels and pixels for Winograd's algorithm.
        agree(
            ([1, 96, 16, 15], [97, 96, 3, 3], [97]),
            |x, w, b| convolve(&x, &(w * 0.03125), Some(&b), [1, 1], [1, 1], None).expect("16 bits on the CPU"),
            |x, w, b| module::conv2d(x, w * 0.03125, Some(b), ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
        );
    }

    #[test]
    fn affine_maps_agree_with_burn() {
        agree(
            ([2, 3, 70], [40, 70], [40]),
            |x, w, b| map_last(&x, &(w * 0.125), Some(&b)).expect("16 bits on the CPU"),
            |x, w, b| module::linear(x, (w * 0.125).transpose(), Some(b)),
        );
        // A view in another order of memory.
        agree(
            ([5, 6], [4, 5], [4]),
            |x, w, b| map_last(&x.transpose(), &w, Some(&b)).expect("16 bits on the CPU"),
            |x, w, b| module::linear(x.transpose(), w.transpose(), Some(b)),
        );
    }

    #[test]
    fn attention_agrees_with_burn() {
        for bias in [None, Some([2, 1, 1, 6])] {
            let bias = || bias.map(|shape| tensor::<4>(shape, 0.2, &flex()).cast(DType::F16));
            let widened = |x: Tensor<4>| x.cast(DType::F32);
            agree(
                ([2, 3, 5, 4], [2, 3, 6, 4], [2, 3, 6, 7]),
                |q, k, v| attend(&q, &k, &v, bias().as_ref(), 0.5).expect("16 bits on the CPU"),
                |q, k, v| {
                    let scores = widened((q * 0.5).matmul(k.swap_dims(2, 3)));
                    let scores = match bias() {
                        Some(bias) => scores + Tensor::from_inner(widened(bias)),
                        None => scores,
                    };
                    activation::softmax(scores, 3).cast(v.dtype()).matmul(v)
                },
            );
        }
    }

    #[test]
    fn normalization_agrees_with_burn() {
        agree(
            ([2, 6, 4, 5], [6], [6]),
            |x, w, b| normalize_groups(&x, &w, &b, 3, 1e-5, true).expect("16 bits on the CPU"),
            |x, w, b| {
                let dtype = x.dtype();
                let [w, b] = [w, b].map(|p| p.cast(DType::F32).reshape([1, 6, 1, 1]));
                let x = x.cast(DType::F32).reshape([2, 3, 40]);
                let centered = x.clone() - x.mean_dim(2);
                let variance = centered.clone().square().mean_dim(2);
                let y = (centered / (variance + 1e-5).sqrt()).reshape([2, 6, 4, 5]);
                activation::silu(y * w + b).cast(dtype)
            },
        );
    }

    #[test]
    fn activations_agree_with_burn() {
        for kind in [Activation::Silu, Activation::QuickGelu] {
            agree(
                ([3, 40], [1, 40], [3, 40]),
                |x, a, b| {
                    let x = Tensor::cat(vec![x * 4.0, a * 8.0, b], 0);
                    activate(x, kind).break_value().expect("16 bits on the CPU")
                },
                |x, a, b| {
                    let x = Tensor::cat(vec![x * 4.0, a * 8.0, b], 0);
                    activation::sigmoid(x.clone() * if kind == Activation::Silu { 1.0 } else { 1.702 }) * x
                },
            );
        }
    }

    #[test]
    fn types_may_differ_where_the_layers_allow_it() {
        let device = flex();
        let x = tensor::<4>([1, 4, 3, 3], 0.4, &device);
        let (weight, bias) = (tensor::<1>([4], 0.1, &device), tensor::<1>([4], 0.6, &device));
        let short = x.clone().cast(DType::F16);
        let y = normalize_groups(&short, &weight, &bias, 2, 1e-5, false).expect("16 bits on the CPU");
        assert_eq!(y.dtype(), DType::F16);
        let expected = normalize_groups(&short.clone().cast(DType::F32), &weight, &bias, 2, 1e-5, false);
        assert_close(&y, &values(&expected.expect("f32 on the CPU")), 5e-4);
        // Queries and keys that were widened for exact scores.
        let y = attend(&x, &x, &short, None, 0.5).expect("16 bits on the CPU");
        assert_eq!(y.dtype(), DType::F16);
        assert_close(&y, &values(&attend(&x, &x, &x, None, 0.5).expect("f32 on the CPU")), 1e-3);
        let kernel = tensor::<4>([2, 4, 3, 3], 0.2, &device);
        assert!(convolve(&short, &kernel, None, [1, 1], [1, 1], None).is_none());
        let half = kernel.clone().cast(DType::F16);
        assert!(convolve(&short, &half, Some(&tensor::<1>([2], 0.2, &device)), [1, 1], [1, 1], None).is_none());
    }
}
