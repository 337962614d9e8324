//! Exponential moving average of the parameters.

use crate::TrainError;
use crate::error::require;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::container::TensorContainer;
use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// How fast the average forgets.
///
/// ```
/// use langevin_train::{EmaDecay, EmaWarmup};
/// let decay = EmaDecay::from(0.999); // with the default warm-up
/// assert_eq!(decay.at(1), 2.0 / 11.0);
/// assert_eq!(decay.at(1_000_000), 0.999);
/// let diffusers = EmaDecay { decay: 0.9999, warmup: EmaWarmup::InverseGamma { gamma: 1.0, power: 0.75 } };
/// assert!((diffusers.at(15) - 0.875).abs() < 1e-12); // 1 - (1 + 15)^(-3/4)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmaDecay {
    /// Decay in the long run, in `[0, 1)`: the average reaches back about `1/(1 − decay)` updates.
    pub decay: f64,
    /// What keeps the first, untrained parameters out of the average.
    pub warmup: EmaWarmup,
}

/// Decay of the first updates; `t` counts the updates before the present one. The very first one (`t = 0`) copies the
/// parameters, except without warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum EmaWarmup {
    /// The full decay from the start.
    None,
    /// `min(decay, (1 + t)/(10 + t))`, the rule of TensorFlow, and the default of diffusers.
    #[default]
    Ramp,
    /// `min(decay, 1 − (1 + t/gamma)^(−power))`, the warm-up of diffusers: power 2/3 for a million steps or more, 3/4
    /// for fewer.
    InverseGamma {
        /// Scale of the updates, > 0; 1 in diffusers.
        gamma: f64,
        /// Exponent, > 0.
        power: f64,
    },
}

impl From<f64> for EmaDecay {
    fn from(decay: f64) -> Self {
        Self { decay, warmup: EmaWarmup::default() }
    }
}

impl EmaDecay {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a decay outside `[0, 1)` or an inverse-gamma warm-up whose numbers are not positive.
    pub fn validate(self) -> Result<Self, TrainError> {
        require((0.0..1.0).contains(&self.decay), "ema decay", self.decay, "a number in [0, 1)")?;
        if let EmaWarmup::InverseGamma { gamma, power } = self.warmup {
            let positive = "a positive, finite number";
            require(gamma > 0.0 && gamma.is_finite(), "ema warm-up gamma", gamma, positive)?;
            require(power > 0.0 && power.is_finite(), "ema warm-up power", power, positive)?;
        }
        Ok(self)
    }

    /// The decay of the update that `t` updates came before.
    pub fn at(&self, t: u64) -> f64 {
        let t = t as f64;
        match self.warmup {
            EmaWarmup::None => self.decay,
            _ if t == 0.0 => 0.0,
            EmaWarmup::Ramp => self.decay.min((1.0 + t) / (10.0 + t)),
            EmaWarmup::InverseGamma { gamma, power } => self.decay.min(1.0 - (1.0 + t / gamma).powf(-power)),
        }
    }
}

/// An exponential moving average of a network's parameters, kept in `f32` whatever the network trains in.
///
/// Parameters are matched by their ids, so the average belongs to the network it was made from and to what training
/// makes of it. Parameters that are frozen, buffers and integers are copied, not averaged.
///
/// ```
/// use burn::module::{Module, Param};
/// use burn::tensor::{Device, Tensor};
/// use langevin_train::{Ema, EmaDecay, EmaWarmup};
///
/// #[derive(Module, Debug)]
/// struct Scale { scale: Param<Tensor<1>> }
///
/// let mut network = Scale { scale: Param::from_data([1.0], &Device::flex().autodiff()) };
/// let mut ema = Ema::new(&network, EmaDecay { decay: 0.75, warmup: EmaWarmup::None })?;
/// network.scale = network.scale.map(|s| Tensor::from_inner(s.inner().mul_scalar(5.0)).require_grad());
/// ema.update(&network);
/// assert_eq!(ema.network().scale.val().into_scalar::<f32>(), 2.0); // 0.75·1 + 0.25·5
/// # Ok::<(), langevin_train::TrainError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ema<M> {
    /// The average: a network without autodiff whose float parameters are `f32`. None while it is updated, so that nothing else holds its tensors.
    shadow: Option<M>,
    decay: EmaDecay,
    updates: u64,
}

impl<M: Module> Ema<M> {
    /// An average that starts at the parameters of `network`.
    ///
    /// # Errors
    /// As [`EmaDecay::validate`].
    pub fn new(network: &M, decay: impl Into<EmaDecay>) -> Result<Self, TrainError> {
        let decay = decay.into().validate()?;
        let shadow = network.valid().map(&mut ToF32);
        Ok(Self { shadow: Some(shadow), decay, updates: 0 })
    }

    /// Takes the present parameters of `network` into the average: `s ← d·s + (1 − d)·p`.
    ///
    /// No number is read from the device.
    pub fn update(&mut self, network: &M) {
        let decay = self.decay.at(self.updates);
        let mut current = Collect::default();
        network.visit(&mut current);
        self.shadow = self.shadow.take().map(|shadow| shadow.map(&mut Average { current, decay }));
        self.updates += 1;
    }

    /// How many updates went into the average.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The averaged network in `f32`, ready to sample with: no autodiff, no dropout.
    pub fn network(&self) -> M {
        self.shadow.clone().expect("nobody asks during an update")
    }

    /// The averaged network in the dtypes of `network`.
    pub fn network_like(&self, network: &M) -> M {
        let mut types = Dtypes::default();
        network.visit(&mut types);
        self.network().map(&mut types)
    }

    /// Goes on from a checkpoint.
    pub(crate) fn resume(&mut self, shadow: M, updates: u64) {
        self.shadow = Some(shadow);
        self.updates = updates;
    }
}

struct ToF32;

impl ModuleMapper for ToF32 {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(DType::F32))
    }
}

/// The parameters of a network by id, without autodiff, and whether they are trained.
#[derive(Default)]
struct Collect {
    tensors: TensorContainer<ParamId>,
    trained: std::collections::HashSet<ParamId>,
}

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if tensor.is_require_grad() {
            self.trained.insert(param.id);
        }
        self.tensors.register(param.id, tensor.inner());
    }
}

struct Average {
    current: Collect,
    decay: f64,
}

impl ModuleMapper for Average {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(current) = self.current.tensors.remove::<Tensor<D>>(&param.id) else {
            return param;
        };
        let averaged = self.current.trained.contains(&param.id);
        let decay = if averaged { self.decay } else { 0.0 };
        param.map(|shadow| {
            if decay == 0.0 {
                return current.cast(DType::F32);
            }
            #[cfg(feature = "cube")]
            if langevin_gpu::compiles_kernels(&shadow.device()) && current.dtype() != DType::F64 {
                return langevin_gpu::average(shadow, current, decay as f32);
            }
            shadow.mul_scalar(decay).add(current.cast(DType::F32).mul_scalar(1.0 - decay))
        })
    }
}

/// Casts parameters to the dtypes that the same parameters have in another network.
#[derive(Default)]
struct Dtypes(std::collections::HashMap<ParamId, DType>);

impl ModuleVisitor for Dtypes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.insert(param.id, param.val().dtype());
    }
}

impl ModuleMapper for Dtypes {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.get(&param.id) {
            Some(&dtype) => param.map(|tensor| tensor.cast(dtype)),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Two {
        trained: Param<Tensor<1>>,
        frozen: Param<Tensor<2>>,
    }

    fn network(trained: f32, frozen: f32, dtype: DType) -> Two {
        let device = Device::flex();
        let two = Two {
            trained: Param::from_tensor(Tensor::<1>::from_data([trained], (&device, dtype))),
            frozen: Param::from_tensor(Tensor::<2>::from_data([[frozen]], (&device, dtype))),
        };
        let mut two = two.train();
        two.frozen = two.frozen.set_require_grad(false);
        two
    }

    /// The same parameters (by id) with other values.
    fn set(network: &Two, trained: f32, frozen: f32) -> Two {
        let mut network = network.clone();
        network.trained =
            network.trained.map(|t| Tensor::from_inner(t.inner().zeros_like().add_scalar(trained)).require_grad());
        network.frozen = network.frozen.map(|t| t.zeros_like().add_scalar(frozen));
        network
    }

    fn value(network: &Two) -> f32 {
        network.trained.val().into_scalar::<f32>()
    }

    #[test]
    fn averages_follow_the_recursion() {
        let start = network(1.0, 1.0, DType::F32);
        let decay = EmaDecay::from(0.6);
        let mut ema = Ema::new(&start, decay).unwrap();
        let mut expected = 1.0;
        for (t, trained) in [3.0f32, -2.0, 0.5, 8.0, 1.0].into_iter().enumerate() {
            ema.update(&set(&start, trained, trained));
            // Ramp: 0 (a copy), 2/11, 3/12, 4/13, 5/14, all below 0.6.
            let d = if t == 0 { 0.0 } else { (1.0 + t as f64) / (10.0 + t as f64) };
            expected = d * expected + (1.0 - d) * f64::from(trained);
            assert!((f64::from(value(&ema.network())) - expected).abs() < 1e-5);
            let frozen = ema.network().frozen.val().into_scalar::<f32>();
            assert_eq!(frozen, trained, "frozen parameters are copied");
        }
        assert_eq!(ema.updates(), 5);
    }

    #[test]
    fn decays_have_their_closed_forms() {
        let none = EmaDecay { decay: 0.99, warmup: EmaWarmup::None };
        assert_eq!([0, 1, 1000].map(|t| none.at(t)), [0.99; 3]);
        let ramp = EmaDecay::from(0.99);
        assert_eq!(
            [0, 1, 10, 890, 891, 10_000].map(|t| ramp.at(t)),
            [0.0, 2.0 / 11.0, 11.0 / 20.0, 891.0 / 900.0, 0.99, 0.99]
        );
        let gamma = EmaDecay { decay: 0.9, warmup: EmaWarmup::InverseGamma { gamma: 2.0, power: 0.5 } };
        assert_eq!(gamma.at(0), 0.0);
        assert!((gamma.at(6) - 0.5).abs() < 1e-12); // 1 − (1 + 3)^(−1/2)
        assert_eq!(gamma.at(1_000_000), 0.9);
    }

    #[test]
    fn half_precision_networks_are_averaged_in_f32() {
        let start = network(0.0, 0.0, DType::F16);
        let mut ema = Ema::new(&start, EmaDecay { decay: 0.9999, warmup: EmaWarmup::None }).unwrap();
        let moved = set(&start, 1.0, 0.0);
        for _ in 0..100 {
            ema.update(&moved);
        }
        // In f16 steps of 1e-4 near 0.0099 would be off by percents.
        let expected = 1.0 - 0.9999f64.powi(100);
        let averaged = ema.network();
        assert_eq!(averaged.trained.val().dtype(), DType::F32);
        assert!((f64::from(value(&averaged)) / expected - 1.0).abs() < 1e-4);
        assert_eq!(ema.network_like(&moved).trained.val().dtype(), DType::F16);
        assert!(!averaged.trained.val().is_autodiff());
    }

    #[test]
    fn settings_are_checked() {
        let bad = |decay: EmaDecay| matches!(decay.validate(), Err(TrainError::Setting { .. }));
        for decay in [1.0, -0.1, 1.5, f64::NAN] {
            assert!(bad(EmaDecay::from(decay)));
        }
        for number in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let warmup = |gamma, power| EmaDecay { decay: 0.9, warmup: EmaWarmup::InverseGamma { gamma, power } };
            assert!(bad(warmup(number, 1.0)) && bad(warmup(1.0, number)));
        }
        assert!(EmaDecay::from(0.0).validate().is_ok());
    }
}
