//! Dropout.

use burn::module::{Flag, Module, Param};
use burn::tensor::{Device, Distribution, Tensor};

use crate::error::ModelError;

/// Configuration of a [`Dropout`] layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutConfig {
    /// Probability with which an entry is set to zero, in `[0, 1)`.
    pub probability: f64,
}

impl DropoutConfig {
    /// Dropout with the given probability.
    #[must_use]
    pub fn new(probability: f64) -> Self {
        Self { probability }
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] unless the probability is in `[0, 1)`.
    pub fn init(&self) -> Result<Dropout, ModelError> {
        if !(self.probability >= 0.0 && self.probability < 1.0) {
            return Err(ModelError::Config {
                field: "dropout",
                given: self.probability.to_string(),
                expected: "a probability in [0, 1)".into(),
            });
        }
        Ok(Dropout { probability: self.probability, training: Param::from_bool(true) })
    }
}

/// Sets entries to zero with probability `p` and multiplies the others with `1/(1 - p)`. Made by
/// [`DropoutConfig::init`].
///
/// It acts on tensors of an autodiff device only, so sampling from `.valid()` is deterministic, and not in a
/// part of a network that is frozen.
///
/// # References
///
/// Srivastava et al. 2014, [Dropout](https://jmlr.org/papers/v15/srivastava14a.html).
#[derive(Module, Debug)]
pub struct Dropout {
    probability: f64,
    training: Param<Flag>,
}

impl Dropout {
    /// Whether it changes tensors of this device.
    pub(crate) fn acts_on(&self, device: &Device) -> bool {
        self.probability > 0.0 && self.training.is_enabled() && device.is_autodiff()
    }

    /// Applies dropout while training, and returns the input otherwise.
    ///
    /// # Shapes
    ///
    /// - input and output: `[..]`, any shape
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if !self.acts_on(&x.device()) {
            return x;
        }
        let keep = 1.0 - self.probability;
        // Scaling the mask first keeps the whole layer to one multiplication in the graph.
        let mask = x.random_like(Distribution::Bernoulli(keep)) / keep;
        x * mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{flex, values};

    #[test]
    fn keeps_the_mean_and_drops_the_share() {
        let layer = DropoutConfig::new(0.25).init().unwrap();
        let x = Tensor::<2>::ones([200, 200], &flex().autodiff());
        let y = values(&layer.forward(x));
        let dropped = y.iter().filter(|v| **v == 0.0).count() as f64 / y.len() as f64;
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        assert!((dropped - 0.25).abs() < 0.02, "{dropped}");
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        assert!(y.iter().all(|v| *v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
    }

    #[test]
    fn does_nothing_outside_training() {
        let layer = DropoutConfig::new(0.9).init().unwrap();
        let x = Tensor::<2>::ones([10, 10], &flex());
        assert!(values(&layer.forward(x)).iter().all(|v| *v == 1.0));
        let frozen = layer.freeze();
        let x = Tensor::<2>::ones([10, 10], &flex().autodiff());
        assert!(values(&frozen.forward(x)).iter().all(|v| *v == 1.0));
    }

    #[test]
    fn refuses_what_is_no_probability() {
        for p in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            let error = DropoutConfig::new(p).init().unwrap_err();
            assert!(matches!(error, ModelError::Config { field: "dropout", .. }));
        }
    }
}
