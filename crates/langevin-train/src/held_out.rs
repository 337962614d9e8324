//! The loss of data that training does not see.

use crate::{FromLabels, Objective, TrainError};
use burn::tensor::{Device, Tensor};
use langevin_core::noise::{Domain, Key, Seeded, like};
use langevin_core::{Levels, Network};
use langevin_data::DataSet;

/// Held-out samples with a noise and a level for each, drawn once: the same question to every network, so that its answers
/// can be compared along a run and between runs.
///
/// ```
/// # use langevin_core::{Network, Prediction, process::RectifiedFlow};
/// # use langevin_data::VectorSet;
/// # use langevin_models::MlpConfig;
/// # use langevin_train::{HeldOut, Objective, Trainer};
/// # let data = VectorSet::new((0..40).map(|i| i as f32 / 20.0 - 1.0).collect(), [40, 1])?.split(0.5, 7)?;
/// # let device = burn::tensor::Device::flex();
/// # let network = MlpConfig::new(1).hidden(8).init(&device)?;
/// let objective = Objective::new(RectifiedFlow::new(), Prediction::Flow)?;
/// let held_out = HeldOut::new(&objective, &data.test, 256, 1, &device)?;
/// let before = held_out.loss(&network.for_sampling())?;
/// let trained = Trainer::new(network, objective).steps(60).batch_size(20).learning_rate(1e-2).no_ema().quiet().fit(&data.train)?;
/// assert!(held_out.loss(trained.for_sampling())? < before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeldOut<C, const D: usize> {
    objective: Objective,
    x0: Tensor<D>,
    noise: Tensor<D>,
    levels: Levels,
    cond: C,
}

impl<C: FromLabels, const D: usize> HeldOut<C, D> {
    /// The first samples of `data`, `most` of them or all if there are fewer, with noises and levels of `seed`.
    ///
    /// # Errors
    /// [`TrainError::Setting`] if `most` is 0, [`TrainError::Data`], [`TrainError::Noise`], and those of
    /// [`Objective::levels`].
    pub fn new<S: DataSet<D> + ?Sized>(
        objective: &Objective,
        data: &S,
        most: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let count = data.len().min(most);
        if count == 0 {
            let (setting, given, expected) = ("most", most as f64, "a whole number, at least 1, and data");
            return Err(TrainError::Setting { setting, given, expected });
        }
        let batch = data.batch(&(0..count).collect::<Vec<_>>(), device)?;
        let labels = batch.labels.map_or(vec![None; count], |labels| labels.into_iter().map(Some).collect());
        let key = Key { domain: Domain::Training, index: 0, lane: 0 };
        Ok(Self {
            noise: like(&Seeded::new(seed), &batch.x, 0, key)?,
            levels: objective.levels(seed, 0, count)?,
            cond: C::from_labels(&labels)?,
            objective: objective.clone(),
            x0: batch.x,
        })
    }

    /// The mean loss of a network that samples ([`Watch::network`](crate::Watch), [`Trained::for_sampling`]).
    ///
    /// # Errors
    /// Those of [`Objective::evaluate`], and [`TrainError::Read`] if the loss cannot be read from the device.
    ///
    /// [`Trained::for_sampling`]: crate::Trained::for_sampling
    pub fn loss<N: Network<D, Cond = C>>(&self, network: &N) -> Result<f32, TrainError> {
        let (x0, noise) = (self.x0.clone(), self.noise.clone());
        Ok(self.objective.evaluate(network, x0, noise, &self.levels, &self.cond)?.try_into_scalar::<f32>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use langevin_core::process::RectifiedFlow;
    use langevin_core::{DenoiseError, Prediction};
    use langevin_data::VectorSet;

    /// Answers with a number everywhere.
    #[derive(Clone)]
    struct Constant(f64);

    impl Network<2> for Constant {
        type Cond = ();
        fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
            Ok(x.full_like(self.0))
        }
        fn for_sampling(&self) -> Self {
            self.clone()
        }
    }

    fn data() -> VectorSet {
        VectorSet::new((0..60).map(|i| i as f32 / 30.0 - 1.0).collect(), [60, 1]).expect("data")
    }

    #[test]
    fn the_question_is_the_same_every_time_and_another_for_another_seed() {
        let objective = Objective::new(RectifiedFlow::new(), Prediction::Flow).expect("an objective");
        let ask = |most, seed| {
            let held_out = HeldOut::new(&objective, &data(), most, seed, &Device::flex()).expect("data");
            held_out.loss(&Constant(0.5)).expect("a loss")
        };
        assert_eq!(ask(60, 1), ask(60, 1));
        assert_eq!(ask(60, 1), ask(1000, 1));
        assert_ne!(ask(60, 1), ask(60, 2));
        assert_ne!(ask(60, 1), ask(30, 1));
    }

    #[test]
    fn nothing_to_hold_out_is_an_error() {
        let objective = Objective::new(RectifiedFlow::new(), Prediction::Flow).expect("an objective");
        let held_out = HeldOut::<(), 2>::new(&objective, &data(), 0, 1, &Device::flex());
        assert!(matches!(held_out, Err(TrainError::Setting { setting: "most", .. })));
    }
}
