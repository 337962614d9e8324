//! AdamW on a whole network, and clipping by the global norm.

use crate::TrainError;
use crate::error::require;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer as _};
use burn::tensor::container::TensorContainer;
use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Settings of AdamW, with the defaults of torch: betas 0.9 and 0.999, epsilon 1e-8, weight decay 1e-2.
///
/// # References
/// Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization".
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
}

/// AdamW with its state.
///
/// Burn's update rule on state of our own: `ModuleOptimizer` brings a saved state to the default device, which need not
/// be a device of this machine, and takes the state of a foreign network without a word.
pub(crate) struct Optimizer {
    rule: burn::optim::AdamW,
    moments: Moments,
}

/// First and second moment and the number of updates of each parameter that had a gradient.
#[derive(Default)]
struct Moments {
    first: TensorContainer<ParamId>,
    second: TensorContainer<ParamId>,
    updates: HashMap<ParamId, usize>,
}

/// The state of an [`Optimizer`] in the shape of the network: moments where the parameters are.
pub(crate) struct OptimizerState<M> {
    pub(crate) first: M,
    pub(crate) second: M,
    /// Updates of each float parameter, in the order of a visit.
    pub(crate) updates: Vec<u64>,
}

impl Optimizer {
    pub(crate) fn new(settings: AdamW) -> Self {
        let rule = AdamWConfig::new()
            .with_beta_1(settings.beta_1)
            .with_beta_2(settings.beta_2)
            .with_epsilon(settings.epsilon)
            .with_weight_decay(settings.weight_decay)
            .build();
        Self { rule, moments: Moments::default() }
    }

    /// The network after one update.
    pub(crate) fn step<M: Module>(&mut self, learning_rate: f64, network: M, gradients: GradientsParams) -> M {
        network.map(&mut Update { optimizer: self, learning_rate, gradients })
    }

    /// The state as networks like `network` (without autodiff).
    pub(crate) fn state<M: Module>(&self, network: &M) -> OptimizerState<M> {
        let mut updates = Updates { of: &self.moments.updates, list: Vec::new() };
        network.visit(&mut updates);
        let replaced = |tensors| network.valid().map(&mut Replace { tensors });
        OptimizerState {
            first: replaced(&self.moments.first),
            second: replaced(&self.moments.second),
            updates: updates.list,
        }
    }

    /// Goes on from a state whose networks have the parameter ids of the network in training.
    pub(crate) fn resume<M: Module>(&mut self, state: &OptimizerState<M>) {
        let mut ids = Ids::default();
        state.first.visit(&mut ids);
        let updates: HashMap<_, _> = ids.0.into_iter().zip(state.updates.iter().map(|&n| n as usize)).collect();
        let used = |network: &M| {
            let mut take = Take { updates: &updates, tensors: TensorContainer::new() };
            network.visit(&mut take);
            take.tensors
        };
        let (first, second) = (used(&state.first), used(&state.second));
        self.moments = Moments { first, second, updates: updates.into_iter().filter(|(_, n)| *n > 0).collect() };
    }
}

struct Update<'a> {
    optimizer: &'a mut Optimizer,
    learning_rate: f64,
    gradients: GradientsParams,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return param;
        };
        let Moments { first, second, updates } = &mut self.optimizer.moments;
        let state = match (first.remove(&id), second.remove(&id), updates.get(&id)) {
            (Some(first), Some(second), Some(&updates)) => {
                Some(AdamWState::new(AdaptiveMomentumState::new(updates, first, second)))
            }
            _ => None,
        };
        let rule = &self.optimizer.rule;
        param.map(|tensor| {
            let strategy = tensor.gradient_checkpointing_strategy();
            let (tensor, state) = rule.step(self.learning_rate, tensor.inner(), gradient, state);
            if let Some(AdamWState { momentum }) = state {
                first.register(id, momentum.moment_1);
                second.register(id, momentum.moment_2);
                updates.insert(id, momentum.time);
            }
            let tensor = Tensor::from_inner(tensor);
            let tensor = match strategy {
                Some(strategy) => tensor.with_gradient_checkpointing_strategy(strategy),
                None => tensor,
            };
            tensor.require_grad()
        })
    }
}

struct Updates<'a> {
    of: &'a HashMap<ParamId, usize>,
    list: Vec<u64>,
}

impl ModuleVisitor for Updates<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.list.push(self.of.get(&param.id).map_or(0, |&n| n as u64));
    }
}

#[derive(Default)]
struct Ids(Vec<ParamId>);

impl ModuleVisitor for Ids {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.id);
    }
}

/// Puts tensors in the place of parameters, zeros where there is none.
struct Replace<'a> {
    tensors: &'a TensorContainer<ParamId>,
}

impl ModuleMapper for Replace<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let tensor = self.tensors.get::<Tensor<D>>(&param.id);
        param.map(|value| tensor.unwrap_or_else(|| value.zeros_like()))
    }
}

/// Collects the parameters that were updated at least once.
struct Take<'a> {
    updates: &'a HashMap<ParamId, usize>,
    tensors: TensorContainer<ParamId>,
}

impl ModuleVisitor for Take<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.updates.get(&param.id).is_some_and(|&n| n > 0) {
            self.tensors.register(param.id, param.val().inner());
        }
    }
}

/// Scales all gradients by `min(1, max_norm/(norm + 1e-6))`, where `norm` is that of all gradients together, as torch's
/// `clip_grad_norm_`. Nothing is read from the device.
pub(crate) fn clip_by_global_norm<M: Module>(
    mut gradients: GradientsParams,
    network: &M,
    max_norm: f64,
) -> GradientsParams {
    let mut sum = SquareSum { gradients: &gradients, sum: None };
    network.visit(&mut sum);
    let Some(sum) = sum.sum else {
        return gradients;
    };
    let factor = sum.sqrt().add_scalar(1e-6).recip().mul_scalar(max_norm).clamp_max(1.0);
    network.visit(&mut Scale { gradients: &mut gradients, factor });
    gradients
}

struct SquareSum<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SquareSum<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = gradient.cast(DType::F32).square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum.add(square),
                None => square,
            });
        }
    }
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<1>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let factor = self.factor.clone().cast(gradient.dtype()).reshape([1; D]);
            self.gradients.register(param.id, gradient.mul(factor));
        }
    }
}
