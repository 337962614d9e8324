//! Parallel-in-time sampling by Picard iterations (Shih et al. 2023).

use crate::plan::{Aux, Plan};
use crate::sampler::{Context, RunState, SampleError, Sampler, Step};
use crate::solver::PlanError;
use burn::tensor::Tensor;
use langevin_core::{DenoiseError, Denoiser, Estimate, Level, Levels, Prediction, Query};
use std::sync::Mutex;

const NAME: &str = "Picard iterations";

/// Iterates a plan over a window of its questions at once: all states of the window are asked about in one call of the
/// network, the plan is run through with those answers, and where the states no longer move it is done with them.
///
/// What is iterated is the network's output: between two rounds the plan itself runs as always, one row after the other,
/// on the outputs for the states of the round before. So it works for every plan, multistep and stochastic ones
/// included, and each round settles at least the first question of the window: after as many rounds as there are questions
/// the result is the sequential one, whatever the tolerance. With a tolerance of 0 it is the same to the bit, as far as the
/// network gives the same bits in a larger batch.
///
/// This buys time with evaluations: fewer rounds one after the other, for more evaluations in all. It pays where a device
/// has room for a larger batch. [`rounds`](Self::rounds) counts the former, [`RunState::evaluations`] the latter.
///
/// Networks are asked about a whole window in one call ([`Denoiser::denoise_each`]), with their condition repeated.
///
/// ```
/// use burn::tensor::Device;
/// use langevin_core::exact::{Posterior, correlated_mixture};
/// use langevin_core::{Grid, Load, Prediction, noise::Seeded, process::VpSde};
/// use langevin_schedulers::{Ddim, Picard, SamplerExt, Solver};
///
/// let denoiser = correlated_mixture()?.denoiser(Prediction::Epsilon)?;
/// let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(100))?;
/// let sampler = Picard::over(plan, 20)?.tolerance(1e-3)?;
/// let noise = Seeded::new(42);
/// let end = sampler.start([4, 2], &denoiser, &noise, Load::on(&Device::flex()))?.finish_state()?;
/// assert!(Picard::rounds(&end) < 60); // instead of 100
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Shih et al. 2023, "Parallel sampling of diffusion models", algorithm 1, with the linear part of each step kept exact.
#[derive(Clone, Debug)]
pub struct Picard {
    plan: Plan,
    window: usize,
    tolerance: f64,
}

/// The host numbers of a run: questions that are settled, and rounds so far.
const SETTLED: usize = 0;
const ROUNDS: usize = 1;

impl Picard {
    /// Over a plan, with `window` questions at once and a tolerance of 0.001.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for a window of 0.
    pub fn over(plan: Plan, window: usize) -> Result<Self, PlanError> {
        if window == 0 {
            return Err(PlanError::Setting { solver: NAME, setting: "window", given: 0.0, expected: "1 or more" });
        }
        Ok(Self { plan, window, tolerance: 1e-3 })
    }

    /// A question counts as settled when its state has moved by no more than `tolerance` since it was asked about: the root
    /// mean square over the elements of each sample, in units of √(α² + σ²). The end is then off by a few times as much; 0
    /// is exact.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is finite and at least 0.
    pub fn tolerance(mut self, tolerance: f64) -> Result<Self, PlanError> {
        if !(tolerance >= 0.0 && tolerance.is_finite()) {
            let expected = "a number, 0 or above";
            return Err(PlanError::Setting { solver: NAME, setting: "tolerance", given: tolerance, expected });
        }
        self.tolerance = tolerance;
        Ok(self)
    }

    /// The plan that is iterated.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How many rounds a run has taken, one batched call of the network each.
    pub fn rounds<const D: usize>(state: &RunState<D>) -> usize {
        state.numbers.get(ROUNDS).map_or(0, |rounds| *rounds as usize)
    }

    /// How many questions the next step has.
    fn needed(&self, row: usize) -> usize {
        let mut rows = self.plan.rows()[row.min(self.plan.rows().len())..].iter();
        let mut questions = 0;
        for row in rows.by_ref() {
            questions += usize::from(row.eval.is_some());
            if row.step.is_some() {
                break;
            }
        }
        questions
    }

    /// The states of the next `wanted` questions, as far as the plan goes, on the answers that there are.
    fn walk<const D: usize>(
        &self,
        state: &RunState<D>,
        wanted: usize,
        cx: &Context<'_, D>,
    ) -> Result<Vec<(Tensor<D>, Level)>, SampleError> {
        let mut ahead = state.clone();
        let replay = Replay::of(&state.past, &state.x());
        let replayed = Context { denoiser: &replay, noise: cx.noise };
        while replay.count() < wanted && self.plan.advance(&mut ahead, &replayed)?.is_some() {}
        let mut asked = replay.asked.into_inner().unwrap_or_default();
        asked.truncate(wanted);
        Ok(asked)
    }

    /// One round: asks about every question of the window, and finds out which are settled.
    fn round<const D: usize>(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<(), SampleError> {
        let settled = state.numbers[SETTLED] as usize;
        let wanted = settled + self.window;
        let (states, levels): (Vec<_>, Vec<_>) = self.walk(state, wanted, cx)?.into_iter().skip(settled).unzip();
        let answers = cx.denoiser.denoise_each(&states, &levels, cx.noise)?;
        if answers.len() != states.len() {
            let (given, expected) = (vec![answers.len()], format!("one for each of {} states", states.len()));
            return Err(DenoiseError::Shape { what: "the list of answers".into(), given, expected }.into());
        }
        let asked = states.iter().map(|x| (x.dims(), x.dtype()));
        answers.iter().zip(asked).try_for_each(|(answer, asked)| state.accept(answer, asked))?;
        state.evaluations += answers.len();
        state.numbers[ROUNDS] += 1.0;
        state.past.truncate(settled);
        state.past.extend(answers);
        let moved: Vec<_> = self.walk(state, wanted, cx)?.into_iter().skip(settled).map(|(x, _)| x).collect();
        state.numbers[SETTLED] += self.settled(&states, &moved, &levels)? as f64;
        Ok(())
    }

    /// How many questions from the first on have not moved. The first never does: nothing before it was iterated.
    fn settled<const D: usize>(
        &self,
        before: &[Tensor<D>],
        after: &[Tensor<D>],
        levels: &[Level],
    ) -> Result<usize, SampleError> {
        let distance = |(before, after): (&Tensor<D>, &Tensor<D>)| {
            let rows = before.dims()[0] as i64;
            let squares = after.clone().sub(before.clone()).powf_scalar(2.0).reshape([rows, -1]);
            squares.mean_dim(1).max()
        };
        let distances: Vec<Tensor<1>> = before.iter().zip(after).skip(1).map(distance).collect();
        if distances.is_empty() {
            return Ok(before.len().min(1));
        }
        let read = Tensor::cat(distances, 0).try_into_vec_as::<f64>();
        let squares = read.map_err(|error| SampleError::Read { message: error.to_string() })?;
        let close =
            |(square, level): &(f64, &Level)| square.sqrt() <= self.tolerance * libm::hypot(level.alpha, level.sigma);
        Ok(1 + squares.into_iter().zip(&levels[1..]).take_while(close).count())
    }
}

/// Answers a plan's questions in order from outputs that there are, for states that may have moved since.
struct Replay<'a, const D: usize> {
    answers: &'a [Estimate<D>],
    /// What is taken for the clean sample where there is no answer yet.
    guess: Tensor<D>,
    asked: Mutex<Vec<(Tensor<D>, Level)>>,
}

impl<'a, const D: usize> Replay<'a, D> {
    fn of(answers: &'a [Estimate<D>], x: &Tensor<D>) -> Self {
        let known = answers.last().and_then(|estimate| estimate.x0().ok());
        Self { answers, guess: known.unwrap_or_else(|| x.zeros_like()), asked: Mutex::default() }
    }

    fn count(&self) -> usize {
        self.asked.lock().map_or(0, |asked| asked.len())
    }
}

impl<const D: usize> Denoiser<D> for Replay<'_, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let Query { x, levels, .. } = query;
        let mut call = 0;
        if let (Ok(mut asked), Levels::Shared(level)) = (self.asked.lock(), levels) {
            call = asked.len();
            asked.push((x.clone(), *level));
        }
        let Some(answer) = self.answers.get(call) else {
            let variance = match self.answers.last().map(Estimate::variance) {
                Some(Ok(variance)) => variance,
                _ => x.zeros_like(),
            };
            let clean = matches!(levels, Levels::Shared(level) if level.sigma == 0.0);
            let (guess, zero) = (if clean { x.clone() } else { self.guess.clone() }, x.zeros_like());
            let estimate = Estimate::new(x, guess, levels.clone(), Prediction::Sample).with_variance(variance);
            // Without noise a sample says nothing of ε̂.
            return Ok(if clean { estimate.with_parts(None, Some(zero)) } else { estimate });
        };
        let parts = answer.parts();
        let estimate = Estimate::new(x, parts.output.clone(), levels.clone(), parts.prediction);
        let estimate = estimate.with_parts(parts.x0.cloned(), parts.eps.cloned());
        Ok(match parts.variance {
            Some(variance) => estimate.with_variance(variance.clone()),
            None => estimate,
        })
    }
}

impl<const D: usize> Sampler<D> for Picard {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        self.check_denoiser(cx.denoiser, &state.x().dims())?;
        if state.row() >= self.plan.rows().len() {
            return Ok(None);
        }
        if state.numbers.len() != 2 {
            state.numbers = vec![0.0; 2];
        }
        if state.is_replaced() {
            // The samples have been moved: the outputs are of other states now.
            state.numbers[SETTLED] = 0.0;
        }
        let needed = self.needed(state.row());
        while (state.numbers[SETTLED] as usize) < needed {
            self.round(state, cx)?;
        }
        if state.past.len() < needed {
            return Err(SampleError::Incomplete { row: state.row() });
        }
        let (evaluations, rest) = (state.evaluations, state.past.split_off(needed));
        let answers = std::mem::replace(&mut state.past, rest);
        let replay = Replay::of(&answers, &state.x());
        let step = self.plan.advance(state, &Context { denoiser: &replay, noise: cx.noise })?;
        state.evaluations = evaluations;
        state.numbers[SETTLED] -= needed as f64;
        Ok(step.map(|step| Step { evaluations, ..step }))
    }

    fn start_levels(&self) -> Levels {
        Sampler::<D>::start_levels(&self.plan)
    }

    fn prior_std(&self) -> f64 {
        self.plan.prior_deviation()
    }

    fn name(&self) -> String {
        format!("{NAME} over {}", self.plan.name())
    }

    fn check_denoiser(&self, denoiser: &dyn Denoiser<D>, _: &[usize]) -> Result<(), SampleError> {
        if denoiser.memory() > 0 {
            let (what, advice) = ("a denoiser with memory", "its answers depend on those before; run the plan itself");
            return Err(SampleError::Unsupported { sampler: NAME, what, advice });
        }
        Ok(())
    }

    fn total_steps(&self) -> Option<usize> {
        Some(self.plan.steps())
    }

    fn takes_split(&self) -> bool {
        Sampler::<D>::takes_split(&self.plan)
    }

    fn needs_split(&self) -> bool {
        self.plan.needs_split()
    }

    fn reads_clean(&self) -> bool {
        self.plan.reads_clean()
    }

    fn zero_terminal_snr(&self) -> bool {
        self.plan.has_zero_terminal_snr()
    }

    fn fingerprint(&self) -> u64 {
        let settings = crate::ode::fingerprint([self.window as f64, self.tolerance]);
        self.plan.fingerprint() ^ settings.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn auxiliaries(&self) -> Vec<Aux> {
        self.plan.auxiliaries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ddim, Solver};
    use langevin_core::Grid;
    use langevin_core::process::VpSde;

    #[test]
    fn settings_out_of_range_are_refused() {
        let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(5)).expect("a plan");
        assert!(matches!(Picard::over(plan.clone(), 0), Err(PlanError::Setting { setting: "window", .. })));
        for tolerance in [-1.0, f64::NAN, f64::INFINITY] {
            let error =
                Picard::over(plan.clone(), 3).and_then(|sampler| sampler.tolerance(tolerance)).expect_err("bad");
            assert!(matches!(error, PlanError::Setting { setting: "tolerance", .. }), "{error}");
        }
        let prints = [(3, 0.1), (4, 0.1), (3, 0.2)].map(|(window, tolerance)| {
            let sampler = Picard::over(plan.clone(), window).and_then(|sampler| sampler.tolerance(tolerance));
            Sampler::<2>::fingerprint(&sampler.expect("settings"))
        });
        assert!(prints[0] != prints[1] && prints[0] != prints[2] && prints[1] != prints[2]);
        assert!(!prints.contains(&plan.fingerprint()));
    }
}
