//! Adam with decoupled weight decay: one launch for a parameter and its two moments.

mod kernels;
mod ops;

use burn::tensor::Tensor;

use ops::{AdamOps, Dispatch};

/// The numbers of one update. With `t` updates up to and with this one:
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Decay of the mean of the gradients, β₁.
    pub beta_1: f32,
    /// Decay of the mean of the squared gradients, β₂.
    pub beta_2: f32,
    /// The learning rate over 1 − β₁ᵗ.
    pub rate: f32,
    /// 1/(1 − β₂ᵗ).
    pub correction: f32,
    /// Added to the root of the mean square.
    pub epsilon: f32,
    /// What the parameter is multiplied by: 1 − learning rate · weight decay.
    pub decay: f32,
}

/// The parameter, the mean of its gradients and that of their squares after an update:
///
/// `m ← β₁·m + (1 − β₁)·g`, `v ← β₂·v + (1 − β₂)·g²`, `p ← decay·p − rate·m/(√(correction·v) + ε)`, computed in `f32`.
///
/// All have one shape, no gradients, and the parameter's order in memory afterwards; moments are of the parameter's type, the gradient
/// of any of 16 or 32 bits. With a `factor`, one number on the device, g is the gradient times that. Where nothing else holds parameter and
/// moments, they are overwritten.
///
/// # Panics
///
/// If the shapes differ, or the device does not compile kernels ([`compiles_kernels`](crate::compiles_kernels)).
///
/// # References
///
/// Loshchilov & Hutter 2019, [arXiv:1711.05101](https://arxiv.org/abs/1711.05101).
#[must_use]
pub fn adam<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    [mean, square]: [Tensor<D>; 2],
    factor: Option<Tensor<1>>,
    step: AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    for other in [&gradient, &mean, &square] {
        assert_eq!(other.dims(), parameter.dims(), "a gradient or moment of the parameter");
    }
    let scaled = factor.is_some();
    // What is not read is any tensor.
    let factor = factor.map_or_else(|| gradient.clone().into_dispatch(), Tensor::into_dispatch);
    let [parameter, gradient, mean, square] = [parameter, gradient, mean, square].map(Tensor::into_dispatch);
    let (parameter, mean, square) = Dispatch::adam(parameter, gradient, mean, square, factor, step, scaled);
    (Tensor::from_dispatch(parameter), [mean, square].map(Tensor::from_dispatch))
}
