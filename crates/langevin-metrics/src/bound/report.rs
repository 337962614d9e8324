//! The terms of a bound.

use crate::MetricError;
use crate::read::check_finite;
use langevin_core::Node;

/// The term of one step: `KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t))`.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTerm {
    /// Where the step begins, t.
    pub from: Node,
    /// Where it ends, s.
    pub to: Node,
    /// The term of each sample, in nats.
    pub nats: Vec<f64>,
}

/// A variational bound on `−ln p(x_0)` of a batch, term by term; made by
/// [`VariationalBound::evaluate`](super::VariationalBound::evaluate).
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    prior: Vec<f64>,
    steps: Vec<StepTerm>,
    decoder: Vec<f64>,
    numel: usize,
}

impl Bound {
    pub(super) fn new(
        prior: Vec<f64>,
        steps: Vec<StepTerm>,
        decoder: Vec<f64>,
        numel: usize,
    ) -> Result<Self, MetricError> {
        let advice = "look at the network's output and its variance channels";
        check_finite("the prior term", &prior, prior.len(), advice)?;
        check_finite("the decoder's term", &decoder, decoder.len(), advice)?;
        for step in &steps {
            check_finite("the term of a step", &step.nats, step.nats.len(), advice)?;
        }
        Ok(Self { prior, steps, decoder, numel })
    }

    /// L_T of each sample, `KL(q(x_T|x_0) ‖ p(x_T))`, in nats. No network takes part in it.
    pub fn prior(&self) -> &[f64] {
        &self.prior
    }

    /// The terms L_{t−1} from the noisiest step on; one less than there are steps.
    pub fn steps(&self) -> &[StepTerm] {
        &self.steps
    }

    /// L_0 of each sample, `−ln p(x_0|x_1)`, in nats.
    pub fn decoder(&self) -> &[f64] {
        &self.decoder
    }

    /// The bound of each sample: the sum of all terms, in nats.
    pub fn total(&self) -> Vec<f64> {
        let sum = |(index, (prior, decoder)): (usize, (&f64, &f64))| {
            prior + self.steps.iter().map(|step| step.nats[index]).sum::<f64>() + decoder
        };
        self.prior.iter().zip(&self.decoder).enumerate().map(sum).collect()
    }

    /// The bound in bits per dimension.
    pub fn bits_per_dimension(&self) -> Vec<f64> {
        self.in_bits(&self.total())
    }

    /// Nats of samples as bits per dimension.
    pub fn in_bits(&self, nats: &[f64]) -> Vec<f64> {
        nats.iter().map(|nats| nats / (self.numel as f64 * std::f64::consts::LN_2)).collect()
    }
}
