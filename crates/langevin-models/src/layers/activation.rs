//! Activation functions by their published names.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};
use std::f64::consts::SQRT_2;
#[cfg(feature = "flex")]
use std::ops::ControlFlow;

/// An elementwise non-linearity. The serialized names are the published ones: `silu`, `gelu` …
///
/// # References
///
/// SiLU: Elfwing, Uchibe, Doya 2018, [arXiv:1702.03118](https://arxiv.org/abs/1702.03118). GELU: Hendrycks,
/// Gimpel 2016, [arXiv:1606.08415](https://arxiv.org/abs/1606.08415). Mish: Misra 2019,
/// [arXiv:1908.08681](https://arxiv.org/abs/1908.08681).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Activation {
    /// `x · sigmoid(x)`, also known as swish.
    #[default]
    #[serde(alias = "swish")]
    Silu,
    /// `x · Φ(x)` with the exact normal distribution function.
    Gelu,
    /// `x · tanh(ln(1 + exp(x)))`.
    Mish,
    /// `max(x, 0)`.
    Relu,
    /// GELU with the tanh approximation of the normal distribution function.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu-approximate")]
    GeluTanh,
    /// `x · sigmoid(1.702·x)`, a coarser approximation of GELU.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
}

impl Activation {
    /// The activation with a published name, ignoring case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "silu" | "swish" => Some(Self::Silu),
            "gelu" => Some(Self::Gelu),
            "mish" => Some(Self::Mish),
            "relu" => Some(Self::Relu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu-approximate" => Some(Self::GeluTanh),
            "quick_gelu" => Some(Self::QuickGelu),
            _ => None,
        }
    }

    /// The published name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::Mish => "mish",
            Self::Relu => "relu",
            Self::GeluTanh => "gelu_new",
            Self::QuickGelu => "quick_gelu",
        }
    }

    /// Applies the function to every entry.
    ///
    /// # Shapes
    ///
    /// - input and output: `[..]`, any shape
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        #[cfg(feature = "flex")]
        let x = match crate::cpu::activate(x, self) {
            ControlFlow::Break(y) => return y,
            ControlFlow::Continue(x) => x,
        };
        match self {
            Self::Silu => activation::silu(x),
            // Burn's gradient of it on GPUs is that of the tanh approximation, 8e-4 off.
            Self::Gelu => wide(x, |x| x.clone().div_scalar(SQRT_2).erf().add_scalar(1.0).mul(x.div_scalar(2.0))),
            Self::Mish => activation::mish(x),
            Self::Relu => activation::relu(x),
            Self::GeluTanh => wide(x, |x| {
                let inner = (x.clone() + x.clone().powi_scalar(3) * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
                (inner.tanh() + 1.0) * (x * 0.5)
            }),
            Self::QuickGelu => activation::sigmoid(x.clone() * 1.702) * x,
        }
    }
}

/// Computes in f32 what cancels in half precision.
fn wide<const D: usize>(x: Tensor<D>, function: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    function(super::widen(x)).cast(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex};

    #[test]
    fn values_match_the_formulas() {
        let points = [-3.0f64, -0.5, 0.0, 0.7, 2.5];
        let x = Tensor::<1>::from_data(points.map(|p| p as f32), &flex());
        type Formula = fn(f64) -> f64;
        let formula: [(Activation, Formula); 6] = [
            (Activation::Silu, |x| x / (1.0 + (-x).exp())),
            (Activation::Gelu, |x| 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))),
            (Activation::Mish, |x| x * x.exp().ln_1p().tanh()),
            (Activation::Relu, |x| x.max(0.0)),
            (Activation::GeluTanh, |x| {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }),
            (Activation::QuickGelu, |x| x / (1.0 + (-1.702 * x).exp())),
        ];
        for (function, f) in formula {
            assert_close(&function.forward(x.clone()), &points.map(f), 2e-6);
        }
    }

    #[test]
    fn names_round_trip() {
        for function in [
            Activation::Silu,
            Activation::Gelu,
            Activation::Mish,
            Activation::Relu,
            Activation::GeluTanh,
            Activation::QuickGelu,
        ] {
            assert_eq!(Activation::from_name(function.name()), Some(function));
            let json = serde_json::to_string(&function).unwrap();
            assert_eq!(json, format!("\"{}\"", function.name()));
        }
        assert_eq!(Activation::from_name("Swish"), Some(Activation::Silu));
        assert_eq!(Activation::from_name("tanh"), None);
    }

    #[test]
    fn half_precision_does_not_cancel_or_overflow() {
        use burn::tensor::DType;
        let x = Tensor::<1>::from_data([-3.0, -2.0, 30_000.0], &flex());
        for function in [Activation::Gelu, Activation::GeluTanh] {
            let expected: Vec<f64> = function.forward(x.clone()).to_data().iter::<f64>().collect();
            let given = function.forward(x.clone().cast(DType::F16));
            assert_eq!(given.dtype(), DType::F16);
            for (given, expected) in given.to_data().iter::<f64>().zip(expected) {
                assert!((given - expected).abs() <= 1e-3 * expected.abs(), "{function:?}: {given}, {expected}");
            }
        }
    }
}
