//! AdamW on a whole network.

use crate::AdamW;
use crate::norm::Scaled;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{AdamWState, AdaptiveMomentumState};
use burn::tensor::Tensor;
use burn::tensor::container::TensorContainer;
use std::collections::HashMap;

/// AdamW with its state.
///
/// The rule on state of our own: `ModuleOptimizer` brings a saved state to the default device, which need not
/// be a device of this machine, and takes the state of a foreign network without a word.
pub(crate) struct Optimizer {
    rule: AdamW,
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
    pub(crate) fn new(rule: AdamW) -> Self {
        Self { rule, moments: Moments::default() }
    }

    /// The network after one update. Gradients may be of other types than the parameters.
    pub(crate) fn step<M: Module>(&mut self, learning_rate: f64, network: M, scaled: Scaled) -> M {
        network.map(&mut Update { optimizer: self, learning_rate, scaled })
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
    scaled: Scaled,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some(gradient) = self.scaled.gradients.remove::<D>(id) else {
            return param;
        };
        let Moments { first, second, updates } = &mut self.optimizer.moments;
        let state = match (first.remove(&id), second.remove(&id), updates.get(&id)) {
            (Some(first), Some(second), Some(&updates)) => {
                Some(AdamWState::new(AdaptiveMomentumState::new(updates, first, second)))
            }
            _ => None,
        };
        let (rule, factor) = (&self.optimizer.rule, self.scaled.factor.clone());
        param.map(|tensor| {
            let strategy = tensor.gradient_checkpointing_strategy();
            let (tensor, state) = rule.step_scaled(self.learning_rate, tensor.inner(), gradient, factor, state);
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::GradientsParams;
    use burn::tensor::{DType, Device};

    #[derive(Module, Debug)]
    struct Two {
        a: Param<Tensor<1>>,
        b: Param<Tensor<2>>,
    }

    fn network() -> Two {
        let device = Device::flex();
        Two { a: Param::from_data([1.0, 2.0], &device), b: Param::from_data([[-1.0]], &device) }.train()
    }

    fn gradients(network: &Two, a: [f32; 2], b: Option<f32>) -> Scaled {
        let device = Device::flex();
        let mut gradients = GradientsParams::new();
        gradients.register(network.a.id, Tensor::<1>::from_data(a, &device));
        if let Some(b) = b {
            gradients.register(network.b.id, Tensor::<2>::from_data([[b]], &device));
        }
        Scaled { gradients, factor: None }
    }

    fn values(network: &Two) -> Vec<f32> {
        let a = network.a.val().inner().try_into_vec_as::<f32>().unwrap();
        let b = network.b.val().inner().try_into_vec_as::<f32>().unwrap();
        [a, b].concat()
    }

    #[test]
    fn steps_follow_the_formula_of_the_paper() {
        let settings = AdamW { beta_1: 0.8, beta_2: 0.9, epsilon: 1e-8, weight_decay: 0.1 };
        let (mut network, mut optimizer) = (network(), Optimizer::new(settings));
        let mut expected = [1.0f64, 2.0, -1.0];
        let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
        for (t, g) in [[0.5f32, -1.0, 2.0], [0.1, 3.0, -2.0], [-0.7, 0.0, 0.25]].into_iter().enumerate() {
            let gradients = gradients(&network, [g[0], g[1]], Some(g[2]));
            network = optimizer.step(0.05, network, gradients);
            for i in 0..3 {
                let g = f64::from(g[i]);
                m[i] = 0.8 * m[i] + 0.2 * g;
                v[i] = 0.9 * v[i] + 0.1 * g * g;
                let (mean, square) =
                    (m[i] / (1.0 - 0.8f64.powi(t as i32 + 1)), v[i] / (1.0 - 0.9f64.powi(t as i32 + 1)));
                expected[i] = expected[i] * (1.0 - 0.05 * 0.1) - 0.05 * mean / (square.sqrt() + 1e-8);
            }
            for (value, expected) in values(&network).into_iter().zip(expected) {
                assert!((f64::from(value) - expected).abs() < 1e-5, "{value} {expected}");
            }
        }
        assert!(network.a.val().is_require_grad());
    }

    #[test]
    fn a_state_that_was_saved_goes_on_exactly() {
        let mut optimizer = Optimizer::new(AdamW::default());
        let start = network();
        // The second parameter has no gradient in the first step: its count differs.
        let network = optimizer.step(0.1, start.clone(), gradients(&start, [1.0, -1.0], None));
        let network = optimizer.step(0.1, network, gradients(&start, [0.5, 3.0], Some(1.0)));
        let state = optimizer.state(&network);
        assert_eq!(state.updates, [2, 1]);
        let mut resumed = Optimizer::new(AdamW::default());
        resumed.resume(&state);
        for _ in 0..2 {
            let next = |optimizer: &mut Optimizer| {
                values(&optimizer.step(0.1, network.clone(), gradients(&start, [0.3, 0.2], Some(-4.0))))
            };
            assert_eq!(next(&mut optimizer), next(&mut resumed));
        }
    }

    #[test]
    fn a_factor_and_another_type_are_those_of_the_gradient() {
        let start = network();
        let (mut plain, mut scaled) = (Optimizer::new(AdamW::default()), Optimizer::new(AdamW::default()));
        let mut halves = GradientsParams::new();
        let device = Device::flex();
        halves.register(start.a.id, Tensor::<1>::from_data([8.0, -12.0], (&device, DType::F16)));
        halves.register(start.b.id, Tensor::<2>::from_data([[24.0]], (&device, DType::F16)));
        let expected = plain.step(0.1, start.clone(), gradients(&start, [2.0, -3.0], Some(6.0)));
        let factor = Some(Tensor::<1>::from_data([0.25], &device));
        let found = scaled.step(0.1, start, Scaled { gradients: halves, factor });
        assert_eq!(values(&found), values(&expected));
        assert_eq!(found.a.val().dtype(), DType::F32);
        // The first moment is a tenth of the gradient.
        let moment = scaled.state(&found).first.b.val().into_scalar::<f32>();
        assert!((moment - 0.6).abs() < 1e-6, "{moment}");
    }
}
