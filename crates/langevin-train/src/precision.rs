//! Training in half precision.

use crate::TrainError;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorReadError};
use langevin_models::layers::arrange_weights;
use serde::{Deserialize, Serialize};

/// The element type that a network computes in while it trains. Parameters that are trained, their moments and their average stay
/// in `f32`, and so do the loss and, in this library's networks, normalization and softmax.
///
/// The network has to bring its input to the type of its parameters and its output back, as this library's do.
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

/// A network in training with the parameters of `network`, under their ids, in another type. Tables of Fourier features stay as they
/// are: rounded, they would be other features than those that the network is asked with later.
pub(crate) fn in_precision<M: Module>(network: &M, dtype: DType) -> M {
    struct Cast {
        dtype: DType,
        /// Modules around, by what they are.
        inside: Vec<bool>,
    }
    impl ModuleMapper for Cast {
        fn enter_module(&mut self, _: &str, container: &str) {
            self.inside.push(container.ends_with("Fourier"));
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.inside.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.inside.contains(&true) { param } else { param.map(|tensor| tensor.cast(self.dtype)) }
        }
    }
    arrange_weights(network.valid().map(&mut Cast { dtype, inside: Vec::new() })).train()
}

/// Refuses parameters that are narrower than `f32`: what is trained has to keep small steps.
pub(crate) fn require_full<M: Module>(network: &M) -> Result<(), TrainError> {
    struct Narrow {
        path: Vec<String>,
        first: Option<(String, DType)>,
    }
    impl ModuleVisitor for Narrow {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let dtype = param.val().dtype();
            if self.first.is_none() && !matches!(dtype, DType::F32 | DType::F64) {
                self.first = Some((self.path.join("."), dtype));
            }
        }
    }
    let mut narrow = Narrow { path: Vec::new(), first: None };
    network.visit(&mut narrow);
    match narrow.first {
        Some((parameter, dtype)) => Err(TrainError::NarrowParameter { parameter, dtype }),
        None => Ok(()),
    }
}

/// The path of the first parameter of `network` whose gradient has a NaN or an infinity. Reads one number from the device, and more
/// only if there is one.
pub(crate) fn first_not_finite<M: Module>(
    gradients: &GradientsParams,
    network: &M,
) -> Result<Option<String>, TensorReadError> {
    struct Zeros<'a> {
        gradients: &'a GradientsParams,
        path: Vec<String>,
        /// Zero times each gradient, summed up: zero, or NaN.
        list: Vec<(String, Tensor<1>)>,
    }
    impl ModuleVisitor for Zeros<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                self.list.push((self.path.join("."), gradient.mul_scalar(0.0).sum().cast(DType::F32)));
            }
        }
    }
    let mut zeros = Zeros { gradients, path: Vec::new(), list: Vec::new() };
    network.visit(&mut zeros);
    let Some(all) = zeros.list.iter().map(|(_, zero)| zero.clone()).reduce(Tensor::add) else { return Ok(None) };
    if all.try_into_scalar::<f32>()? == 0.0 {
        return Ok(None);
    }
    for (path, zero) in zeros.list {
        if zero.try_into_scalar::<f32>()? != 0.0 {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_network_in_another_type_has_the_same_parameters() {
        let network = network();
        let half = in_precision(&network, DType::F16);
        assert_eq!((half.a.val().dtype(), half.a.id), (DType::F16, network.a.id));
        let loss = (half.a.val().sum() * 3.0 + half.b.val().sum() * 5.0) * 1024.0;
        let gradients = GradientsParams::from_grads(loss.backward(), &half);
        let a = gradients.get::<1>(network.a.id).unwrap();
        assert_eq!((a.dtype(), a.try_into_vec_as::<f32>().unwrap()), (DType::F16, vec![3072.0, 3072.0]));
        assert_eq!(gradients.get::<1>(network.b.id).unwrap().try_into_vec_as::<f32>().unwrap(), [5120.0]);
        assert_eq!(first_not_finite(&gradients, &network).unwrap(), None);
    }

    #[test]
    fn the_first_gradient_that_is_not_finite_is_named() {
        let (network, device) = (network(), Device::flex());
        for (a, b, name) in [
            ([f32::NAN, 0.0], [1.0], "a"),
            ([1.0, 0.0], [f32::INFINITY], "b"),
            ([f32::INFINITY, 0.0], [f32::NEG_INFINITY], "a"),
        ] {
            let mut gradients = GradientsParams::new();
            gradients.register(network.a.id, Tensor::<1>::from_data(a, &device));
            gradients.register(network.b.id, Tensor::<1>::from_data(b, &device));
            assert_eq!(first_not_finite(&gradients, &network).unwrap().as_deref(), Some(name));
        }
    }
}
