//! Normalization of rows: to their mean and variance, or to their mean square.
//!
//! A row is read by some threads of a workgroup, which add up what they read in `f32`; forward it is read two or three times and written once.

mod kernels;
mod ops;

use burn::tensor::Tensor;

use ops::{Dispatch, RowNormOps};

/// How to normalize rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowNormalization {
    /// Whether the mean is taken away.
    pub centered: bool,
    /// Added to the variance, or to the mean square.
    pub epsilon: f64,
}

/// Which parameters there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Affine {
    pub weight: bool,
    pub bias: bool,
}

/// `(x - mean) / √(variance + ε) · weight + bias` for each row, or `x / √(mean of squares + ε) · weight + bias`. Rows in half precision are
/// normalized in `f32` and returned in their own type.
///
/// # Shapes
///
/// - x and output: `[rows, width]`
/// - weight and bias: `[width]`, of the type of x
///
/// # Panics
///
/// If the shapes or types do not fit, or there are no rows.
///
/// # References
///
/// Ba, Kiros, Hinton 2016, [arXiv:1607.06450](https://arxiv.org/abs/1607.06450); Zhang, Sennrich 2019,
/// [arXiv:1910.07467](https://arxiv.org/abs/1910.07467).
#[must_use]
pub fn row_norm(
    x: Tensor<2>,
    weight: Option<Tensor<1>>,
    bias: Option<Tensor<1>>,
    normalization: RowNormalization,
) -> Tensor<2> {
    let ([rows, width], dtype) = (x.dims(), x.dtype());
    assert!(rows > 0 && width > 0, "rows to normalize");
    for tensor in [&weight, &bias].into_iter().flatten() {
        assert_eq!((tensor.dims(), tensor.dtype()), ([width], dtype), "a parameter of the normalization");
    }
    let affine = Affine { weight: weight.is_some(), bias: bias.is_some() };
    // As it is: an operation on it would wait for a gradient that never comes.
    let weight = weight.map_or_else(|| x.clone().into_dispatch(), Tensor::into_dispatch);
    let bias = bias.map_or_else(|| x.clone().into_dispatch(), Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::row_norm(x.into_dispatch(), weight, bias, normalization, affine))
}
