//! Adaptive projected guidance.

use super::combine::dot;
use super::estimate::in_f32;
use super::{DenoiseError, Estimate};
use crate::level::Scalars;
use burn::tensor::Tensor;

/// How [`Guided::projected`](super::Guided::projected) changes the direction of guidance.
///
/// Guidance adds `(w − 1)·Δ` to the conditional x̂_0, where `Δ = x̂_0(cond) − x̂_0(uncond)`. The part of Δ that is parallel
/// to the conditional x̂_0 makes it larger, which at high scales means saturated colors; the part that is perpendicular is
/// what makes samples better. Here, in this order,
///
/// 1. [`momentum`](Self::momentum) β: `Δ ← Δ + β·(Δ of the last evaluation, with its momentum)`. β is negative in the
///    paper, so that only news count;
/// 2. [`threshold`](Self::threshold) r: `Δ ← Δ·min(1, r/|Δ|)`, with |·| the Euclidean norm of a sample;
/// 3. the parallel part is scaled by [`parallel`](Self::parallel) η. With η = 1 and nothing else this is plain guidance.
///
/// Momentum is memory of the run: it is saved with it and taken back with a rejected step. It counts evaluations, not
/// steps.
///
/// # References
/// Sadat, Hilliges & Weber 2024, "Eliminating oversaturation and artifacts of high guidance scales in diffusion models",
/// algorithm 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Projection {
    parallel: f64,
    threshold: Option<f64>,
    momentum: f64,
    on_outputs: bool,
    from_unconditional: bool,
}

impl Default for Projection {
    fn default() -> Self {
        Self { parallel: 0.0, threshold: None, momentum: 0.0, on_outputs: false, from_unconditional: false }
    }
}

/// What the difference of the last evaluation is kept as.
const MOMENTUM: &str = "momentum";

impl Projection {
    /// The perpendicular part alone: η = 0, no threshold, no momentum.
    pub fn new() -> Self {
        Self::default()
    }

    /// The share η of the parallel part that is left, 0 unless said otherwise.
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless it is finite.
    pub fn parallel(mut self, eta: f64) -> Result<Self, DenoiseError> {
        if !eta.is_finite() {
            let (setting, expected) = ("parallel share of projected guidance", "a finite number, 0 to 1 in the paper");
            return Err(DenoiseError::Setting { setting, given: eta, expected });
        }
        self.parallel = eta;
        Ok(self)
    }

    /// The largest norm r of a sample's difference; 2.5 to 15 in the paper, by the size of the samples.
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless it is positive.
    pub fn threshold(mut self, norm: f64) -> Result<Self, DenoiseError> {
        if !(norm > 0.0) {
            let setting = "threshold of projected guidance";
            return Err(DenoiseError::Setting { setting, given: norm, expected: "a positive number" });
        }
        self.threshold = Some(norm);
        Ok(self)
    }

    /// The momentum β, −0.75 to 0 in the paper.
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless −1 < β < 1: the differences would add up without end.
    pub fn momentum(mut self, beta: f64) -> Result<Self, DenoiseError> {
        if !(beta.abs() < 1.0) {
            let (setting, expected) =
                ("momentum of projected guidance", "a number between -1 and 1, negative in the paper");
            return Err(DenoiseError::Setting { setting, given: beta, expected });
        }
        self.momentum = beta;
        Ok(self)
    }

    /// Projects the network's outputs whatever they predict, as diffusers does. The paper's reasons are about x̂_0.
    pub fn on_outputs(mut self) -> Self {
        self.on_outputs = true;
        self
    }

    /// Adds `w·Δ` to the unconditional answer, as diffusers does unless told otherwise, where the paper adds `(w − 1)·Δ` to
    /// the conditional one. As soon as Δ is changed the two differ by the change itself: at w = 1, no guidance, this one is
    /// not the conditional answer.
    pub fn from_unconditional(mut self) -> Self {
        self.from_unconditional = true;
        self
    }

    pub(super) fn memory(&self) -> usize {
        usize::from(self.momentum != 0.0)
    }

    pub(super) fn is_on_outputs(&self) -> bool {
        self.on_outputs
    }

    /// The guided estimate; `weight` is the scale w.
    pub(super) fn guide<const D: usize>(
        &self,
        without: &Estimate<D>,
        with: &Estimate<D>,
        weight: &Scalars,
        past: &[Estimate<D>],
    ) -> Result<Estimate<D>, DenoiseError> {
        let (cond, uncond) = if self.on_outputs {
            (with.output(), without.output_as(with.prediction())?)
        } else {
            (with.x0()?, without.x0()?)
        };
        let difference = self.with_momentum(cond.clone().sub(uncond.clone()), past)?;
        let direction = self.project(difference.clone(), &cond);
        let shift = if self.from_unconditional {
            weight.times(direction).add(uncond).sub(cond)
        } else {
            excess(weight).times(direction)
        };
        let guided = if self.on_outputs {
            super::combine::with_output(with, with.output().add(shift))
        } else {
            with.clone().moved(shift)?
        };
        Ok(if self.momentum == 0.0 { guided } else { guided.keeping(MOMENTUM, difference) })
    }

    fn with_momentum<const D: usize>(
        &self,
        difference: Tensor<D>,
        past: &[Estimate<D>],
    ) -> Result<Tensor<D>, DenoiseError> {
        let Some(last) = past.last().and_then(|last| last.kept(MOMENTUM)).filter(|_| self.momentum != 0.0) else {
            return Ok(difference);
        };
        if last.dims() != difference.dims() {
            return Err(DenoiseError::Shape {
                what: "the momentum of the run".into(),
                given: last.dims().to_vec(),
                expected: format!("{:?}, the shape of the states", difference.dims()),
            });
        }
        Ok(difference.add(last.mul_scalar(self.momentum)))
    }

    /// Threshold and projection.
    fn project<const D: usize>(&self, difference: Tensor<D>, onto: &Tensor<D>) -> Tensor<D> {
        let limited = match self.threshold {
            Some(limit) => in_f32(difference, |difference| {
                // A difference of 0 has the factor min(1, ∞).
                let factor = dot(&difference, &difference).sqrt().recip().mul_scalar(limit).clamp_max(1.0);
                difference.mul(factor)
            }),
            None => difference,
        };
        if self.parallel == 1.0 {
            return limited;
        }
        // An x̂_0 of 0 has no direction: nothing is parallel to it.
        let share = dot(&limited, onto).div(dot(onto, onto).clamp_min(1e-24)).mul_scalar(self.parallel - 1.0);
        in_f32(limited, |limited| {
            let onto = onto.clone().cast(limited.dtype());
            limited.add(onto.mul(share))
        })
    }
}

/// w − 1.
fn excess(weight: &Scalars) -> Scalars {
    match weight {
        Scalars::Shared(weight) => Scalars::Shared(weight - 1.0),
        Scalars::Each(weights) => Scalars::Each(weights.iter().map(|weight| weight - 1.0).collect()),
    }
}
