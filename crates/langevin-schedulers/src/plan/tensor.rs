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
        #[cfg(feature = "flex")]
        if terms.len() >= MANY_TERMS
            && let Some(sum) = on_cpu(terms)
        {
            return sum;
        }
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

/// Terms from which on one pass into new memory takes less time than several passes over memory that is there.
#[cfg(feature = "flex")]
const MANY_TERMS: usize = 4;

/// The sum in one pass and in the same bits, where every factor is a number and every value an `f32` tensor on the CPU without a
/// place in a graph of gradients.
#[cfg(feature = "flex")]
fn on_cpu<const D: usize>(terms: &[(Factor<'_, Tensor<D>>, &Tensor<D>)]) -> Option<Tensor<D>> {
    use burn::backend::Flex;
    use burn::backend::flex::FlexTensor;
    use burn::tensor::{DType, TensorData};

    if terms.iter().any(|(_, value)| value.dtype() != DType::F32) {
        return None;
    }
    let shape = terms[0].1.shape();
    let plain = |(factor, value): &(Factor<'_, Tensor<D>>, &Tensor<D>)| {
        let Factor::Number(factor) = factor else { return None };
        let value = (*value).clone().try_into_primitive::<Flex>().ok()?;
        (*value.layout().shape() == shape).then(|| (*factor as f32, value.to_contiguous()))
    };
    let terms: Vec<(f32, FlexTensor)> = terms.iter().map(plain).collect::<Option<_>>()?;
    let slices: Vec<(f32, &[f32])> =
        terms.iter().map(|(factor, value)| Some((*factor, value.as_slice()?))).collect::<Option<_>>()?;
    let mut sum = vec![0.0; shape.num_elements()];
    langevin_kernels::sums::weighted(&slices, &mut sum);
    Some(Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(sum, shape))))
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

    fn name(&self) -> String {
        Plan::name(self).to_owned()
    }

    fn total_steps(&self) -> Option<usize> {
        Some(self.steps())
    }

    fn takes_split(&self) -> bool {
        Plan::needs_split(self) || self.goes_on_from_answers()
    }

    fn needs_split(&self) -> bool {
        Plan::needs_split(self)
    }

    fn reads_clean(&self) -> bool {
        Plan::reads_clean(self)
    }

    fn fingerprint(&self) -> u64 {
        Plan::fingerprint(self)
    }

    fn auxiliaries(&self) -> Vec<Aux> {
        Plan::auxiliaries(self)
    }

    fn zero_terminal_snr(&self) -> bool {
        self.has_zero_terminal_snr()
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    #[test]
    fn sums_on_the_cpu_have_the_bits_of_burn() {
        let device = Device::flex();
        let value = |seed: f32| {
            let numbers: Vec<f32> = (0..600).map(|i| ((i as f32 + 1.0) * 12.9898 * seed).sin()).collect();
            Tensor::<1>::from_data(numbers.as_slice(), &device).reshape([3, 20, 10])
        };
        let (a, b, c): (Tensor<3>, Tensor<3>, Tensor<3>) = (value(0.3), value(0.7), value(1.1));
        let bits = |tensor: Tensor<3>| {
            tensor.try_into_vec_as::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let number = Factor::Number;
        let sum = on_cpu(&[(number(0.3), &a), (number(1.0), &b), (number(-1.7), &c)]).unwrap();
        let expected = a.clone().mul_scalar(0.3) + b.clone() + c.clone().mul_scalar(-1.7);
        assert_eq!(bits(sum), bits(expected));
        // A view in another order of memory, and one that is expanded.
        let turned = a.clone().swap_dims(0, 2);
        let wide = b.clone().narrow(0, 0, 1).swap_dims(0, 2).expand([10, 20, 3]);
        let sum = on_cpu(&[(number(2.0), &turned), (number(0.1), &wide)]).unwrap();
        assert_eq!(bits(sum), bits(turned.mul_scalar(2.0) + wide.mul_scalar(0.1)));
        // What it does not serve.
        let double = a.clone().cast(DType::F64);
        assert!(on_cpu(&[(number(1.0), &double), (number(1.0), &double)]).is_none());
        let tracked = Tensor::from_inner(a.clone()).require_grad();
        assert!(on_cpu(&[(number(1.0), &tracked), (number(1.0), &tracked)]).is_none());
        assert!(on_cpu(&[(Factor::PredictedStd { variance: &b }, &a), (number(1.0), &a)]).is_none());
    }
}
