//! What a step asks the network, to be asked again where the answer is no number.

use crate::finite::{first_parameter_not_finite, is_finite};
use crate::{Objective, Origin, Precision, TrainError};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::{Levels, Network};

/// A batch with its noise, and who asks.
pub(crate) struct Question<'a, C, const D: usize> {
    pub(crate) objective: &'a Objective,
    pub(crate) x0: Tensor<D>,
    pub(crate) noise: Tensor<D>,
    pub(crate) levels: Levels,
    pub(crate) cond: C,
    /// Where layers draw at random, and the seed of this step.
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) precision: Precision,
    /// Steps in the last checkpoint.
    pub(crate) checkpoint: Option<u64>,
    /// Whether numbers are looked at before the network is changed.
    pub(crate) checked: bool,
}

impl<C, const D: usize> Question<'_, C, D> {
    /// The loss of a network: the same each time, dropout included.
    pub(crate) fn loss<N: Network<D, Cond = C>>(&self, network: &N) -> Result<Tensor<1>, TrainError> {
        self.device.seed(self.seed);
        self.objective.loss(network, self.x0.clone(), self.noise.clone(), &self.levels, &self.cond)
    }

    /// An error that says where it came from, if the loss of the network is not finite. Reads it from the device.
    pub(crate) fn check<N: Network<D, Cond = C> + Module>(
        &self,
        network: &N,
        loss: &Tensor<1>,
    ) -> Result<(), TrainError> {
        let loss = loss.clone().try_into_scalar::<f32>()?;
        if loss.is_finite() {
            return Ok(());
        }
        let origin = self.origin(network)?;
        let Self { step, precision, checkpoint, .. } = *self;
        Err(TrainError::NonFiniteLoss { step, loss, origin, precision, checkpoint })
    }

    /// The network runs again, once or twice.
    fn origin<N: Network<D, Cond = C> + Module>(&self, network: &N) -> Result<Origin, TrainError> {
        if !is_finite(self.x0.clone())? {
            return Ok(Origin::Data);
        }
        if let Some(path) = first_parameter_not_finite(network)? {
            return Ok(Origin::Parameter(path));
        }
        let x = self.objective.noised(self.x0.clone(), self.noise.clone(), &self.levels)?;
        let x = Tensor::from_inner(x);
        let time = self.levels.times(&x);
        self.device.seed(self.seed);
        if let Some(name) = network.first_not_finite(x.clone(), time.clone(), &self.cond)? {
            return Ok(Origin::Layer(name));
        }
        self.device.seed(self.seed);
        let output = network.forward(x, time, &self.cond)?;
        Ok(if is_finite(output.inner())? { Origin::Loss } else { Origin::Output })
    }
}
