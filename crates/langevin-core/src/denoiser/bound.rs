//! Networks bound to a prediction and a condition, and classifier-free guidance.

use super::{Condition, DenoiseError, Denoiser, Estimate, Network, Query};
use crate::level::Levels;
use crate::prediction::Prediction;
use burn::tensor::Tensor;

/// A network bound to what it predicts and what it is told: the usual [`Denoiser`].
///
/// Made by [`Network::denoiser`]. It holds the sampling form of the network, so a run started from a network in
/// training grows no autodiff graph.
#[derive(Clone, Debug)]
pub struct Bound<N: Network<D>, const D: usize> {
    network: N,
    prediction: Prediction,
    cond: N::Cond,
    learned_variance: bool,
}

impl<N: Network<D>, const D: usize> Bound<N, D> {
    pub(super) fn new(network: &N, prediction: Prediction, cond: N::Cond) -> Result<Self, DenoiseError> {
        let prediction = prediction.validate()?;
        Ok(Self { network: network.for_sampling(), prediction, cond, learned_variance: false })
    }

    /// Says that the network's output has twice the channels (dimension 1): prediction, then raw variance.
    pub fn with_learned_variance(mut self) -> Self {
        self.learned_variance = true;
        self
    }

    /// Classifier-free guidance `uncond + scale·(cond − uncond)` in one network call on concatenated rows
    /// (Ho & Salimans 2022, in the scale convention where 1 is no guidance).
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless the scale is finite.
    pub fn guided(self, uncond: N::Cond, scale: f64) -> Result<Guided<N, D>, DenoiseError> {
        if !scale.is_finite() {
            return Err(DenoiseError::Setting { setting: "guidance scale", given: scale, expected: "a finite number" });
        }
        Ok(Guided { bound: self, uncond, scale })
    }

    /// Output and raw variance for states, levels and conditions of the same number of rows.
    fn ask(
        &self,
        x: &Tensor<D>,
        levels: &Levels,
        cond: &N::Cond,
    ) -> Result<(Tensor<D>, Option<Tensor<D>>), DenoiseError> {
        let scale = levels.try_map(|level| self.prediction.input_scale(level))?;
        let time = levels.times(x);
        let output = self.network.forward(scale.times(x.clone()), time, cond)?;
        let mut expected = x.dims();
        if D >= 2 && self.learned_variance {
            expected[1] *= 2;
        }
        if output.dims() != expected {
            return Err(DenoiseError::Shape {
                what: "the network's output".into(),
                given: output.dims().to_vec(),
                expected: format!(
                    "{expected:?} for states {:?} ({} learned variance)",
                    x.dims(),
                    if self.learned_variance { "with" } else { "without" }
                ),
            });
        }
        if !self.learned_variance {
            return Ok((output, None));
        }
        let channels = x.dims()[1];
        let variance = output.clone().narrow(1, channels, channels);
        Ok((output.narrow(1, 0, channels), Some(variance)))
    }
}

fn check_rows(levels: &Levels, batch: usize) -> Result<(), DenoiseError> {
    match levels.rows() {
        Some(levels) if levels != batch => Err(DenoiseError::LevelRows { levels, batch }),
        _ => Ok(()),
    }
}

fn check_state<N: Network<D>, const D: usize>(bound: &Bound<N, D>, x: &Tensor<D>) -> Result<(), DenoiseError> {
    bound.network.check_shape(&x.dims()[1..])
}

impl<N: Network<D>, const D: usize> Denoiser<D> for Bound<N, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let Query { x, levels, .. } = query;
        let batch = x.dims()[0];
        check_rows(levels, batch)?;
        check_state(self, &x)?;
        let (output, variance) = self.ask(&x, levels, &self.cond.expand(batch)?)?;
        let estimate = Estimate::new(x, output, levels.clone(), self.prediction);
        Ok(match variance {
            Some(variance) => estimate.with_variance(variance),
            None => estimate,
        })
    }
}

/// Classifier-free guidance over a [`Bound`] network; made by [`Bound::guided`].
#[derive(Clone, Debug)]
pub struct Guided<N: Network<D>, const D: usize> {
    bound: Bound<N, D>,
    uncond: N::Cond,
    scale: f64,
}

impl<N: Network<D>, const D: usize> Denoiser<D> for Guided<N, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let Query { x, levels, .. } = query;
        let batch = x.dims()[0];
        check_rows(levels, batch)?;
        check_state(&self.bound, &x)?;
        let (uncond, cond) = (self.uncond.expand(batch)?, self.bound.cond.expand(batch)?);
        let both = N::Cond::cat(&[&uncond, &cond])?;
        let (output, variance) =
            self.bound.ask(&Tensor::cat(vec![x.clone(), x.clone()], 0), &levels.repeat(2), &both)?;
        let without = output.clone().narrow(0, 0, batch);
        let with = output.narrow(0, batch, batch);
        let guided = without.clone().add(with.sub(without).mul_scalar(self.scale));
        let estimate = Estimate::new(x, guided, levels.clone(), self.bound.prediction);
        Ok(match variance {
            // The variance is the conditional one: extrapolating it has no meaning.
            Some(variance) => estimate.with_variance(variance.narrow(0, batch, batch)),
            None => estimate,
        })
    }
}

/// A denoiser from a function of (states, levels) that returns the output in `prediction`.
pub fn from_fn<const D: usize, F>(prediction: Prediction, f: F) -> FromFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Result<Tensor<D>, DenoiseError> + Send + Sync,
{
    FromFn { prediction, f }
}

/// A closure as a denoiser; made by [`from_fn`].
#[derive(Clone, Debug)]
pub struct FromFn<F> {
    prediction: Prediction,
    f: F,
}

impl<const D: usize, F> Denoiser<D> for FromFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Result<Tensor<D>, DenoiseError> + Send + Sync,
{
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let output = (self.f)(query.x.clone(), query.levels)?;
        if output.dims() != query.x.dims() {
            return Err(DenoiseError::Shape {
                what: "the denoiser's output".into(),
                given: output.dims().to_vec(),
                expected: format!("{:?}, the shape of the states", query.x.dims()),
            });
        }
        Ok(Estimate::new(query.x, output, query.levels.clone(), self.prediction))
    }
}
