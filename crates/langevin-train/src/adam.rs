//! The rule of AdamW: for one parameter, in one pass where there is a kernel for its device.

mod kernel;

use kernel::Kernel;

use crate::TrainError;
use crate::error::require;
use burn::optim::{AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

/// AdamW, with the defaults of torch: betas 0.9 and 0.999, epsilon 1e-8, weight decay 1e-2.
///
/// [`Trainer`](crate::Trainer) takes it as its setting. For a loop of your own it is an update rule of Burn's: same results and state
/// as [`burn::optim::AdamW`], up to rounding, but one pass over parameter, gradient and moments instead of a dozen, on the CPU and on GPUs.
/// There 16-bit parameters are updated in `f32` and rounded once.
///
/// # References
/// Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization".
///
/// # Example
/// ```
/// use burn::module::{Module, Param};
/// use burn::optim::{GradientsParams, ModuleOptimizer};
/// use burn::tensor::{Device, Tensor};
/// use langevin_train::AdamW;
///
/// #[derive(Module, Debug)]
/// struct Scale { scale: Param<Tensor<1>> }
///
/// let mut optimizer = ModuleOptimizer::from(AdamW { weight_decay: 0.0, ..AdamW::default() }.validate()?);
/// let network = Scale { scale: Param::from_data([1.0], &Device::flex()) }.train();
/// let loss = network.scale.val().square().sum();
/// let gradients = GradientsParams::from_grads(loss.backward(), &network);
/// let network = optimizer.step(0.1, network, gradients);
/// assert!((network.scale.val().into_scalar::<f32>() - 0.9).abs() < 1e-6); // the first step is as long as the learning rate
/// # Ok::<(), langevin_train::TrainError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    /// Decay of the mean of the gradients, in `[0, 1)`.
    pub beta_1: f32,
    /// Decay of the mean of the squared gradients, in `[0, 1)`.
    pub beta_2: f32,
    /// Added to the root of the mean square, > 0.
    pub epsilon: f32,
    /// Decoupled weight decay, ≥ 0: a step multiplies each parameter by `1 − learning_rate·weight_decay`.
    pub weight_decay: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 1e-2 }
    }
}

impl AdamW {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`TrainError::Setting`] naming the one that is out of range.
    pub fn validate(self) -> Result<Self, TrainError> {
        let unit = "a number in [0, 1)";
        require((0.0..1.0).contains(&self.beta_1), "beta_1 of AdamW", self.beta_1.into(), unit)?;
        require((0.0..1.0).contains(&self.beta_2), "beta_2 of AdamW", self.beta_2.into(), unit)?;
        let (epsilon, decay) = (self.epsilon, self.weight_decay);
        require(epsilon > 0.0 && epsilon.is_finite(), "epsilon of AdamW", epsilon.into(), "a positive, finite number")?;
        require(
            decay >= 0.0 && decay.is_finite(),
            "weight_decay of AdamW",
            decay.into(),
            "a finite number, at least 0",
        )?;
        Ok(self)
    }

    /// The rule by Burn's operations.
    fn by_operations(&self) -> burn::optim::AdamW {
        AdamWConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .with_weight_decay(self.weight_decay)
            .build()
    }
}

impl AdamW {
    /// The parameter and its state after a step with `factor`, one number in `f32`, times the gradient.
    pub(crate) fn step_scaled<const D: usize>(
        &self,
        rate: f64,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        factor: Option<Tensor<1>>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let dtype = parameter.dtype();
        let fits = state.as_ref().is_none_or(|AdamWState { momentum }| {
            momentum.moment_1.dtype() == dtype && momentum.moment_2.dtype() == dtype && momentum.max_moment_2.is_none()
        });
        let Some(kernel) = Kernel::of(&parameter, gradient.dtype()).filter(|_| fits) else {
            let gradient = scaled(gradient, factor, dtype);
            return self.by_operations().step(rate, parameter, gradient, state);
        };
        let (time, moments) = match state {
            Some(AdamWState { momentum }) => (momentum.time + 1, [momentum.moment_1, momentum.moment_2]),
            None => (1, [parameter.zeros_like(), parameter.zeros_like()]),
        };
        let unbiased = |beta: f32| 1.0 - f64::from(beta).powi(i32::try_from(time).unwrap_or(i32::MAX));
        let rate_now = rate / unbiased(self.beta_1);
        let numbers = [rate_now, 1.0 / unbiased(self.beta_2), 1.0 - rate * f64::from(self.weight_decay)];
        let (parameter, [first, second]) =
            kernel.run(*self, numbers.map(|number| number as f32), parameter, gradient, moments, factor);
        (parameter, Some(AdamWState::new(AdaptiveMomentumState::new(time, first, second))))
    }
}

/// A gradient in another type, times a number.
fn scaled<const D: usize>(gradient: Tensor<D>, factor: Option<Tensor<1>>, dtype: DType) -> Tensor<D> {
    let gradient = gradient.cast(dtype);
    match factor {
        Some(factor) => gradient.mul(factor.cast(dtype).reshape([1; D])),
        None => gradient,
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: f64,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        self.step_scaled(rate, parameter, gradient, None, state)
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        burn::optim::AdamW::to_device(state, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, TensorData};

    #[test]
    fn settings_are_checked() {
        let good = AdamW::default();
        let bad = |settings: AdamW| matches!(settings.validate(), Err(TrainError::Setting { .. }));
        for beta in [1.0, -0.1, f32::NAN] {
            assert!(bad(AdamW { beta_1: beta, ..good }) && bad(AdamW { beta_2: beta, ..good }));
        }
        for number in [-1.0, f32::NAN, f32::INFINITY] {
            assert!(bad(AdamW { epsilon: number, ..good }) && bad(AdamW { weight_decay: number, ..good }));
        }
        assert!(bad(AdamW { epsilon: 0.0, ..good }));
        assert_eq!(good, AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 1e-2 });
    }

    /// Five updates by the rule and by Burn's: the parameter and its moments.
    fn five(rule: &impl Optimizer<State<2> = AdamWState<2>>, dtype: DType, turned: bool) -> [Vec<f32>; 3] {
        let device = Device::flex();
        let wave = |phase: f32| -> Tensor<2> {
            let numbers: Vec<f32> = (0..21).map(|i| (i as f32 * 1.7 + phase).sin()).collect();
            let tensor = Tensor::from_data(TensorData::new(numbers, [7, 3]), (&device, dtype));
            if turned { tensor.transpose() } else { tensor }
        };
        let (mut parameter, mut state) = (wave(0.0), None);
        for step in 0..5 {
            // What something else holds must not change; what nobody holds may be overwritten.
            let before = (step % 2 == 0).then(|| (parameter.clone(), parameter.clone().into_data()));
            (parameter, state) = rule.step(0.05, parameter, wave(step as f32), state);
            assert!(before.is_none_or(|(before, kept)| before.into_data() == kept));
        }
        let AdamWState { momentum } = state.expect("a state");
        assert_eq!((momentum.time, parameter.dtype()), (5, dtype));
        [parameter, momentum.moment_1, momentum.moment_2].map(|x| x.try_into_vec_as().expect("numbers"))
    }

    #[test]
    fn agrees_with_the_rule_of_burn() {
        let rule = AdamW { beta_1: 0.8, beta_2: 0.9, epsilon: 1e-3, weight_decay: 0.1 };
        for (dtype, within) in [(DType::F32, 2e-6), (DType::F64, 1e-7)] {
            for turned in [false, true] {
                let (found, expected) = (five(&rule, dtype, turned), five(&rule.by_operations(), dtype, turned));
                for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                    assert!((found - expected).abs() <= within, "{found} instead of {expected}");
                }
            }
        }
    }
}
