//! The two layers that a transformer applies to every token.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Activation, Dropout, DropoutConfig, Linear, LinearConfig};
use crate::error::{ModelError, at_least_one};
use crate::tap::Tap;

/// What stands between the two layers of a [`FeedForward`].
///
/// # References
///
/// Gated units: Shazeer 2020, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// An activation: `act(W·x)`.
    None(Activation),
    /// A gated unit, `a · act(b)` with a and b the halves of `W·x`. GEGLU is `Gated(Gelu)`, SwiGLU `Gated(Silu)`.
    Gated(Activation),
}

const NAMES: [(&str, Gate); 6] = [
    ("gelu", Gate::None(Activation::Gelu)),
    ("gelu-approximate", Gate::None(Activation::GeluTanh)),
    ("geglu", Gate::Gated(Activation::Gelu)),
    ("geglu-approximate", Gate::None(Activation::QuickGelu)),
    ("swiglu", Gate::Gated(Activation::Silu)),
    ("linear-silu", Gate::None(Activation::Silu)),
];

impl Gate {
    /// The names that published configurations of transformers have for what stands between the layers.
    pub(crate) const PUBLISHED: &'static str =
        "\"gelu\", \"gelu-approximate\", \"geglu\", \"geglu-approximate\", \"swiglu\" and \"linear-silu\"";

    /// The gate with a name of published configurations of transformers. There `geglu-approximate` has no gate.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, gate)| *gate)
    }

    /// The published name, if there is one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, gate)| *gate == self).map(|(name, _)| *name)
    }
}

/// Configuration of a [`FeedForward`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::{Activation, FeedForwardConfig, Gate};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let layers = FeedForwardConfig::new(64).gate(Gate::Gated(Activation::Gelu)).init(&device)?;
/// assert_eq!(layers.inner(), 256);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeedForwardConfig {
    /// Size of the last axis of the input and the output.
    pub width: usize,
    /// Size between the two layers. Default: `4·width`.
    pub inner: usize,
    /// Size of the last axis of the output. Default: `width`.
    pub output: usize,
    /// What stands between the layers. Default: GELU.
    pub gate: Gate,
    /// Probability of dropout between the layers. Default: `0`.
    pub dropout: f64,
    /// Whether the layers have a bias. Default: `true`.
    pub bias: bool,
}

impl FeedForwardConfig {
    /// Two layers, four times as wide between them, with GELU.
    #[must_use]
    pub fn new(width: usize) -> Self {
        let gate = Gate::None(Activation::Gelu);
        Self { width, inner: width.saturating_mul(4), output: width, gate, dropout: 0.0, bias: true }
    }

    /// Sets what stands between the layers.
    #[must_use]
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// Sets the size between the layers.
    #[must_use]
    pub fn inner(mut self, inner: usize) -> Self {
        self.inner = inner;
        self
    }

    /// Sets the probability of dropout between the layers.
    #[must_use]
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    /// Makes the layers.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero or the dropout is no probability.
    pub fn init(&self, device: &Device) -> Result<FeedForward, ModelError> {
        at_least_one("inner", self.inner)?;
        let wide = if matches!(self.gate, Gate::Gated(_)) { 2 * self.inner } else { self.inner };
        let proj = LinearConfig::new(self.width, wide).bias(self.bias).init(device)?;
        Ok(FeedForward {
            net: vec![
                FeedForwardPart::Gate(Projection { proj, gate: self.gate }),
                FeedForwardPart::Dropout(DropoutConfig::new(self.dropout).init()?),
                FeedForwardPart::Linear(LinearConfig::new(self.inner, self.output).bias(self.bias).init(device)?),
            ],
        })
    }
}

/// Two linear layers with an activation or a gate between them. Made by [`FeedForwardConfig::init`].
#[derive(Module, Debug)]
pub struct FeedForward {
    /// First layer, dropout and second layer, at the positions that published weights have.
    pub net: Vec<FeedForwardPart>,
}

/// A part of a [`FeedForward`].
#[derive(Module, Debug)]
pub enum FeedForwardPart {
    /// The first layer and what follows it.
    Gate(Projection),
    /// Dropout.
    Dropout(Dropout),
    /// The second layer.
    Linear(Linear),
}

/// A linear layer and its activation or gate.
#[derive(Module, Debug)]
pub struct Projection {
    /// The layer.
    pub proj: Linear,
    #[module(skip)]
    gate: Gate,
}

impl FeedForward {
    /// Size between the layers.
    #[must_use]
    pub fn inner(&self) -> usize {
        let inner = self.net.iter().find_map(|part| match part {
            FeedForwardPart::Linear(layer) => layer.weight.lazy_shape().to_vec().get(1).copied(),
            _ => None,
        });
        inner.unwrap_or(0)
    }

    /// Applies the layers to the last axis.
    ///
    /// # Shapes
    ///
    /// - input: `[.., width]`
    /// - output: `[.., output]`
    pub fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let y = self.net.iter().enumerate().fold(x, |x, (i, part)| {
            let y = match part {
                FeedForwardPart::Gate(layer) => {
                    let y = layer.proj.forward(x);
                    tap.see(format_args!("net.{i}.proj"), &y);
                    layer.finish(y)
                }
                FeedForwardPart::Dropout(layer) => layer.forward(x),
                FeedForwardPart::Linear(layer) => layer.forward(x),
            };
            tap.see(format_args!("net.{i}"), &y);
            y
        });
        tap.see("", &y);
        y
    }
}

impl Projection {
    /// What follows the layer.
    fn finish(&self, y: Tensor<3>) -> Tensor<3> {
        match self.gate {
            Gate::None(activation) => activation.forward(y),
            Gate::Gated(activation) => {
                let [_, _, width] = y.dims();
                let half = width / 2;
                y.clone().narrow(2, 0, half) * activation.forward(y.narrow(2, half, half))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};
    use crate::weights::parameters;

    #[test]
    fn parameters_have_their_published_names() {
        let layers = FeedForwardConfig::new(3).gate(Gate::Gated(Activation::Gelu)).init(&flex()).unwrap();
        let names: Vec<_> = parameters(&layers).into_iter().map(|p| (p.name, p.shape)).collect();
        let expected = [
            ("net.0.proj.weight", vec![24, 3]),
            ("net.0.proj.bias", vec![24]),
            ("net.2.weight", vec![3, 12]),
            ("net.2.bias", vec![3]),
        ];
        assert_eq!(names, expected.map(|(name, shape)| (name.to_owned(), shape)));
    }

    #[test]
    fn published_names_round_trip() {
        for (name, gate) in NAMES {
            assert_eq!((Gate::from_name(name), gate.name()), (Some(gate), Some(name)));
            assert!(Gate::PUBLISHED.contains(&format!("\"{name}\"")));
        }
        assert_eq!(Gate::from_name("relu"), None);
        assert_eq!(Gate::Gated(Activation::Mish).name(), None);
    }

    #[test]
    fn the_second_half_is_the_gate() {
        let device = flex();
        let layers = FeedForwardConfig::new(3).inner(2).gate(Gate::Gated(Activation::Relu)).init(&device).unwrap();
        let x = tensor([1, 4, 3], 0.3, &device);
        let [FeedForwardPart::Gate(first), _, FeedForwardPart::Linear(last)] = layers.net.as_slice() else {
            panic!("{layers:?}");
        };
        let both = values(&first.proj.forward(x.clone()));
        let gated: Vec<f64> = both.chunks(4).flat_map(|r| [r[0] * r[2].max(0.0), r[1] * r[3].max(0.0)]).collect();
        let gated = Tensor::<1>::from_data(gated.as_slice(), &device).reshape([1, 4, 2]);
        let expected = values(&last.forward(gated));
        assert_close(&layers.forward(x, &mut Tap::none()), &expected, 1e-6);
    }
}
