//! Plans on `f64` vectors: no tensor, no device, full precision. This is how orders of convergence are measured.

use super::analysis::{Need, Needs};
use super::machine::{Answer, Arithmetic, Factor, Memory, advance};
use super::{Aux, Plan, Src};
use langevin_core::{Key, Level, Node, NoiseError, NoiseSource};

/// What a host model answers: x̂_0 and ε̂, and the raw variance if it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct HostAnswer {
    /// The clean sample.
    pub x0: Vec<f64>,
    /// The noise.
    pub eps: Vec<f64>,
    /// Raw variance channels.
    pub variance: Option<Vec<f64>>,
}

/// What can go wrong in a host run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HostError {
    /// Noise could not be delivered.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The model's answer has another length than the state.
    #[error("the model answered with {given} values for a state of {expected}")]
    Length {
        /// Values expected.
        expected: usize,
        /// Values given.
        given: usize,
    },
    /// The plan needs a variance that the model does not give.
    #[error("the plan needs the model's variance, but its answers have none")]
    NoVariance,
    /// The plan reads a tensor that the run was not given.
    #[error("the plan reads {name}, which the run was not given: run it with `run_host_given`")]
    NotGiven {
        /// What is missing.
        name: String,
    },
}

/// One committed step of a host run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostStep<'a> {
    /// Where the sample is now.
    pub after: Node,
    /// The sample.
    pub x: &'a [f64],
    /// The clean sample as predicted in this step, if the plan reports one.
    pub x0: Option<&'a [f64]>,
}

struct Host<'a, M> {
    model: M,
    noise: &'a dyn NoiseSource,
    sample: u64,
    numel: usize,
}

impl<M: FnMut(&[f64], &Level) -> HostAnswer> Arithmetic for Host<'_, M> {
    type Value = Vec<f64>;
    type Error = HostError;

    fn sum(&mut self, like: &Vec<f64>, terms: &[(Factor<'_, Vec<f64>>, &Vec<f64>)]) -> Vec<f64> {
        let mut out = vec![0.0; like.len()];
        for (factor, value) in terms {
            let pairs = out.iter_mut().zip(value.iter());
            match factor {
                Factor::Number(c) => {
                    for (sum, value) in pairs {
                        *sum += c * value;
                    }
                }
                Factor::LearnedStd { variance, log_min, log_max } => {
                    for ((sum, value), v) in pairs.zip(variance.iter()) {
                        let fraction = 0.5 * (v + 1.0);
                        *sum += libm::exp(0.5 * (fraction * log_max + (1.0 - fraction) * log_min)) * value;
                    }
                }
                Factor::PredictedStd { variance } => {
                    for ((sum, value), v) in pairs.zip(variance.iter()) {
                        *sum += v.sqrt() * value;
                    }
                }
            }
        }
        out
    }

    fn blend(&mut self, mask: &Vec<f64>, new: Vec<f64>, old: &Vec<f64>) -> Vec<f64> {
        mask.iter().zip(new).zip(old).map(|((m, new), old)| m * new + (1.0 - m) * old).collect()
    }

    fn ask(&mut self, x: &Vec<f64>, at: &Level, needs: Needs) -> Result<Answer<Vec<f64>>, HostError> {
        let answer = (self.model)(x, at);
        let expected = x.len();
        for given in [answer.x0.len(), answer.eps.len()] {
            if given != expected {
                return Err(HostError::Length { expected, given });
            }
        }
        if needs.variance {
            match &answer.variance {
                None => return Err(HostError::NoVariance),
                Some(v) if v.len() != expected => return Err(HostError::Length { expected, given: v.len() }),
                Some(_) => {}
            }
        }
        Ok(Answer {
            x0: (needs.x0 != Need::No).then_some(answer.x0),
            eps: (needs.eps != Need::No).then_some(answer.eps),
            variance: answer.variance.filter(|_| needs.variance),
        })
    }

    fn white(&mut self, key: Key) -> Result<Vec<f64>, HostError> {
        let mut out = vec![0.0; self.numel];
        self.noise.fill(self.sample, key, &mut out)?;
        Ok(out)
    }

    fn path(&mut self, from: f64, until: f64) -> Result<Vec<f64>, HostError> {
        let mut out = vec![0.0; self.numel];
        self.noise.fill_path(self.sample, from, until, &mut out)?;
        Ok(out)
    }
}

impl Plan {
    /// Runs the plan on one sample's `f64` values and returns the final state.
    ///
    /// `model` answers with x̂_0 and ε̂ for a state at a level; `noise` is asked for the draws of `sample`.
    ///
    /// # Errors
    /// [`HostError`] if noise is missing or an answer does not fit.
    pub fn run_host(
        &self,
        x: Vec<f64>,
        sample: u64,
        noise: &dyn NoiseSource,
        model: impl FnMut(&[f64], &Level) -> HostAnswer,
    ) -> Result<Vec<f64>, HostError> {
        let mut last = x.clone();
        self.run_host_steps(x, sample, noise, model, |step| last.copy_from_slice(step.x))?;
        Ok(last)
    }

    /// As [`run_host`](Self::run_host), and shows every step.
    ///
    /// # Errors
    /// As [`run_host`](Self::run_host).
    pub fn run_host_steps(
        &self,
        x: Vec<f64>,
        sample: u64,
        noise: &dyn NoiseSource,
        model: impl FnMut(&[f64], &Level) -> HostAnswer,
        each: impl FnMut(HostStep<'_>),
    ) -> Result<(), HostError> {
        self.run_host_given(x, &[], sample, noise, model, each)
    }

    /// As [`run_host_steps`](Self::run_host_steps), with the tensors that the plan reads beside the sample, each as long
    /// as the sample: for [`RePaint`](crate::RePaint) `(KNOWN, image)` and `(MASK, mask)`.
    ///
    /// # Errors
    /// As [`run_host`](Self::run_host), [`HostError::NotGiven`] if one is missing, [`HostError::Length`] if one has
    /// another length.
    pub fn run_host_given(
        &self,
        x: Vec<f64>,
        given: &[(Aux, &[f64])],
        sample: u64,
        noise: &dyn NoiseSource,
        model: impl FnMut(&[f64], &Level) -> HostAnswer,
        mut each: impl FnMut(HostStep<'_>),
    ) -> Result<(), HostError> {
        let (mut host, expected) = (Host { model, noise, sample, numel: x.len() }, x.len());
        let mut memory = Memory::new(x);
        for aux in self.auxiliaries() {
            let Some((_, values)) = given.iter().find(|(given, _)| *given == aux) else {
                return Err(HostError::NotGiven { name: Src::Aux(aux).to_string() });
            };
            if values.len() != expected {
                return Err(HostError::Length { expected, given: values.len() });
            }
            memory.give(aux, values.to_vec());
        }
        let mut row = 0;
        while let Some(committed) = advance(self, &mut row, &mut memory, &mut host)? {
            if let Some(x) = memory.state(0) {
                each(HostStep { after: committed.after, x, x0: committed.report.as_deref() });
            }
        }
        Ok(())
    }
}
