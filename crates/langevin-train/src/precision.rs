//! Training in half precision.

use crate::TrainError;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};
use langevin_models::layers::cast_parameters;
use serde::{Deserialize, Serialize};

/// The element type that a network computes in while it trains. Parameters that are trained, their moments and their average stay
/// in `f32`, and so do the loss and, in this library's networks, normalization and softmax.
///
/// The network has to bring its input to the type of its parameters and its output back, as this library's do, and to say so by
/// [`Network::casts_input`](langevin_core::Network::casts_input).
///
/// # References
///
/// Micikevicius et al. 2018, [arXiv:1710.03740](https://arxiv.org/abs/1710.03740).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// In the type of the parameters.
    #[default]
    Full,
    /// `bf16`: the range of `f32` with 8 bits of precision.
    Bf16,
    /// `f16`: 11 bits of precision, but gradients below 6e-8 vanish and numbers beyond 65,504 overflow. The loss is therefore
    /// multiplied before gradients are taken: by 65,536 at first, half of it after a step whose gradients overflow, which is left
    /// out, and twice as much, up to 2^24, after 2,000 steps without one.
    F16,
}

impl Precision {
    /// What the network computes in, if not in the type of its parameters, on a device that supports some types.
    pub(crate) fn dtype(self, supported: impl Fn(DType) -> bool) -> Result<Option<DType>, TrainError> {
        let dtype = match self {
            Self::Full => return Ok(None),
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        };
        if supported(dtype) { Ok(Some(dtype)) } else { Err(TrainError::Precision { dtype }) }
    }
}

/// What the loss is multiplied by before gradients are taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScale {
    pub(crate) factor: f32,
    /// Steps since it changed.
    steady: u32,
    /// Steps whose gradients overflowed.
    pub(crate) left_out: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { factor: 65_536.0, steady: 0, left_out: 0 }
    }
}

impl LossScale {
    /// Steps without an overflow after which the factor doubles.
    const PATIENCE: u32 = 2000;
    /// Where gradients are zero, no overflow would ever stop it.
    const MOST: f32 = 16_777_216.0;
    /// Below this the gradients themselves overflow, whatever the factor.
    pub(crate) const LEAST: f32 = 1.0;

    /// After a step whose gradients were finite, or not.
    pub(crate) fn after(self, finite: bool) -> Self {
        if !finite {
            return Self { factor: self.factor / 2.0, steady: 0, left_out: self.left_out + 1 };
        }
        if self.steady + 1 < Self::PATIENCE {
            return Self { steady: self.steady + 1, ..self };
        }
        Self { factor: (self.factor * 2.0).min(Self::MOST), steady: 0, ..self }
    }
}

/// A network in training with the parameters of `network`, under their ids, in another type.
pub(crate) fn in_precision<M: Module>(network: &M, dtype: DType) -> M {
    cast_parameters(network.valid(), dtype).train()
}

/// The path and the type of the first parameter for whose type something is true.
fn first_of_type<M: Module>(network: &M, is_it: impl Fn(DType) -> bool) -> Option<(String, DType)> {
    struct First<F> {
        path: Vec<String>,
        is_it: F,
        found: Option<(String, DType)>,
    }
    impl<F: Fn(DType) -> bool> ModuleVisitor for First<F> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let dtype = param.val().dtype();
            if self.found.is_none() && (self.is_it)(dtype) {
                self.found = Some((self.path.join("."), dtype));
            }
        }
    }
    let mut first = First { path: Vec::new(), is_it, found: None };
    network.visit(&mut first);
    first.found
}

/// Refuses parameters that are narrower than `f32`: what is trained has to keep small steps.
pub(crate) fn require_full<M: Module>(network: &M) -> Result<(), TrainError> {
    match first_of_type(network, |dtype| !matches!(dtype, DType::F32 | DType::F64)) {
        Some((parameter, dtype)) => Err(TrainError::NarrowParameter { parameter, dtype }),
        None => Ok(()),
    }
}

/// Refuses an ε of AdamW that is zero in the type of a parameter: where a gradient is zero, the step would be 0/0.
pub(crate) fn require_epsilon<M: Module>(network: &M, epsilon: f32) -> Result<(), TrainError> {
    /// Half of the smallest number above zero: what is not above it is rounded to zero.
    const F16_VANISHES: f32 = 1.0 / 33_554_432.0;
    if epsilon > F16_VANISHES {
        return Ok(());
    }
    match first_of_type(network, |dtype| dtype == DType::F16) {
        Some((parameter, dtype)) => Err(TrainError::EpsilonVanishes { parameter, dtype, epsilon }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite::last_gradient_not_finite;
    use burn::optim::GradientsParams;
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Two {
        a: Param<Tensor<1>>,
        b: Param<Tensor<1>>,
    }

    fn network() -> Two {
        let device = Device::flex();
        Two { a: Param::from_data([1.0, 2.0], &device), b: Param::from_data([3.0], &device) }.train()
    }

    #[test]
    fn a_device_without_the_type_is_refused() {
        assert_eq!(Precision::Full.dtype(|_| false).unwrap(), None);
        assert_eq!(Precision::F16.dtype(|dtype| dtype == DType::F16).unwrap(), Some(DType::F16));
        let refused = Precision::Bf16.dtype(|dtype| dtype == DType::F16);
        assert!(matches!(refused, Err(TrainError::Precision { dtype: DType::BF16 })));
    }

    #[test]
    fn the_factor_falls_at_once_and_rises_slowly() {
        let mut scale = LossScale::default();
        scale = scale.after(false).after(false);
        assert_eq!(scale.factor, 16_384.0);
        for _ in 0..1999 {
            scale = scale.after(true);
        }
        assert_eq!(scale.factor, 16_384.0);
        assert_eq!(scale.after(true).factor, 32_768.0);
        // An overflow starts the count anew.
        assert_eq!(scale.after(false).after(true).factor, 8192.0);
        assert_eq!(scale.after(false).left_out, 3);
        for _ in 0..2000 * 40 {
            scale = scale.after(true);
        }
        assert_eq!(scale.factor, LossScale::MOST);
    }

    #[test]
    fn narrow_parameters_are_refused_by_name() {
        assert!(require_full(&network()).is_ok());
        let half = in_precision(&network(), DType::BF16);
        let error = require_full(&half).unwrap_err();
        assert!(matches!(error, TrainError::NarrowParameter { ref parameter, dtype: DType::BF16 } if parameter == "a"));
    }

    #[test]
    fn an_epsilon_that_is_zero_is_refused() {
        let half = in_precision(&network(), DType::F16);
        let error = require_epsilon(&half, 1e-8).unwrap_err();
        assert!(
            matches!(error, TrainError::EpsilonVanishes { ref parameter, dtype: DType::F16, .. } if parameter == "a")
        );
        // The bound is where rounding ends at zero.
        let rounded = |x: f32| Tensor::<1>::from_data([x], &Device::flex()).cast(DType::F16).into_scalar::<f32>();
        for (epsilon, fine) in [(2.98e-8, false), (2.99e-8, true), (1e-4, true)] {
            assert_eq!((rounded(epsilon) > 0.0, require_epsilon(&half, epsilon).is_ok()), (fine, fine));
        }
        assert!(require_epsilon(&network(), 1e-8).is_ok());
        assert!(require_epsilon(&in_precision(&network(), DType::BF16), 1e-8).is_ok());
    }

    #[test]
    fn a_network_in_another_type_has_the_same_parameters() {
        let network = network();
        let half = in_precision(&network, DType::F16);
        assert_eq!((half.a.val().dtype(), half.a.id), (DType::F16, network.a.id));
        let loss = (half.a.val().sum() * 3.0 + half.b.val().sum() * 5.0) * 1024.0;
        let gradients = GradientsParams::from_grads(loss.backward(), &half);
        let a = gradients.get::<1>(network.a.id).unwrap();
        assert_eq!((a.dtype(), a.try_into_vec_as::<f32>().unwrap()), (DType::F16, vec![3072.0, 3072.0]));
        assert_eq!(gradients.get::<1>(network.b.id).unwrap().try_into_vec_as::<f32>().unwrap(), [5120.0]);
        assert_eq!(last_gradient_not_finite(&gradients, &network).unwrap(), None);
    }
}
