//! Plans on tensors: a plan is a [`Sampler`].

use super::analysis::{Need, Needs};
use super::machine::{Answer, Arithmetic, Factor, advance};
use super::{Aux, Plan, Src};
use crate::sampler::{Context, RunState, SampleError, Sampler, Step};
use burn::tensor::Tensor;
use langevin_core::{Key, Level, Levels, PredictionError, noise};

struct Tensors<'a, 'b, const D: usize> {
    cx: &'a Context<'b, D>,
    /// Counts evaluations and keeps what denoisers remember.
    state: &'a mut RunState<D>,
    like: Tensor<D>,
}

impl<const D: usize> Arithmetic for Tensors<'_, '_, D> {
    type Value = Tensor<D>;
    type Error = SampleError;

    fn sum(&mut self, like: &Tensor<D>, terms: &[(Factor<'_, Tensor<D>>, &Tensor<D>)]) -> Tensor<D> {
        let mut total: Option<Tensor<D>> = None;
        for (n, (factor, value)) in terms.iter().enumerate() {
            let value = (*value).clone();
            let part = match factor {
                Factor::Number(1.0) => value,
                Factor::Number(c) => value.mul_scalar(*c),
                Factor::LearnedStd { variance, log_min, log_max } => {
                    let log = (*variance).clone().mul_scalar(0.25 * (log_max - log_min));
                    value.mul(log.add_scalar(0.25 * (log_max + log_min)).exp())
                }
                Factor::PredictedStd { variance } => value.mul((*variance).clone().sqrt()),
            };
            total = Some(match total {
                // Burn adds into the buffer of the left summand. The first sum goes into the second buffer and stays
                // there, so that the buffer allocated last is one that is kept: memory at the end of the heap that
                // nobody keeps goes back to the system after each step, and costs more to get again than the sum.
                Some(sum) if n == 1 => part.add(sum),
                Some(sum) => sum.add(part),
                None => part,
            });
        }
        total.unwrap_or_else(|| like.zeros_like())
    }

    fn blend(&mut self, mask: &Tensor<D>, new: Tensor<D>, old: &Tensor<D>) -> Tensor<D> {
        // Not old + mask·(new − old): where the mask is 0 or 1 this keeps the bits.
        let rest = mask.clone().neg().add_scalar(1.0);
        new.mul(mask.clone()).add(old.clone().mul(rest))
    }

    fn ask(&mut self, x: &Tensor<D>, at: &Level, needs: Needs) -> Result<Answer<Tensor<D>>, SampleError> {
        let estimate = self.cx.ask(self.state, x.clone(), &Levels::Shared(*at))?;
        Ok(Answer {
            x0: part(needs.x0, || estimate.x0())?,
            eps: part(needs.eps, || estimate.eps())?,
            variance: if needs.variance { Some(estimate.variance()?) } else { None },
        })
    }

    fn white(&mut self, key: Key) -> Result<Tensor<D>, SampleError> {
        Ok(noise::like(self.cx.noise, &self.like, self.state.first_sample(), key)?)
    }

    fn path(&mut self, from: f64, until: f64) -> Result<Tensor<D>, SampleError> {
        Ok(noise::path_like(self.cx.noise, &self.like, self.state.first_sample(), (from, until))?)
    }
}

/// A part of an estimate, as far as it is needed: a report does without what a prediction does not determine.
fn part<V>(need: Need, of: impl FnOnce() -> Result<V, PredictionError>) -> Result<Option<V>, PredictionError> {
    match need {
        Need::No => Ok(None),
        Need::Yes => of().map(Some),
        Need::Report => match of() {
            Err(PredictionError::Singular { .. }) => Ok(None),
            other => other.map(Some),
        },
    }
}

impl<const D: usize> Sampler<D> for Plan {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        let mut memory = state.memory().clone();
        let mut row = state.row();
        if let Some(aux) = self.auxiliaries().into_iter().find(|aux| row == 0 && memory.given(*aux).is_none()) {
            return Err(SampleError::NotGiven { name: Src::Aux(aux).to_string() });
        }
        if self.analysis.live.get(row).is_some_and(|live| !memory.holds(live)) {
            return Err(SampleError::Incomplete { row });
        }
        let like = state.x();
        if let Some(other) = memory.values().find(|value| value.dims() != like.dims()) {
            return Err(SampleError::CarriedShape { given: other.dims().to_vec(), expected: like.dims().to_vec() });
        }
        let mut tensors = Tensors { cx, state, like };
        let Some(committed) = advance(self, &mut row, &mut memory, &mut tensors)? else { return Ok(None) };
        state.commit(row, memory);
        Ok(Some(state.step(Levels::Shared(committed.after.level), committed.report)))
    }

    fn start_levels(&self) -> Levels {
        Levels::Shared(self.start_node().level)
    }

    fn prior_std(&self) -> f64 {
        self.prior_deviation()
    }

    fn total_steps(&self) -> Option<usize> {
        Some(self.steps())
    }

    fn takes_split(&self) -> bool {
        self.goes_on_from_answers()
    }

    fn fingerprint(&self) -> u64 {
        Plan::fingerprint(self)
    }

    fn auxiliaries(&self) -> Vec<Aux> {
        Plan::auxiliaries(self)
    }
}
