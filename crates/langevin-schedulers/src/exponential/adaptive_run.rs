//! The adaptive DPM-Solver on tensors: a sampler whose samples have clocks of their own.

use super::adaptive::{AdaptiveDpm, NAME};
use super::adaptive_clock::Clock;
use super::singlestep::Singlestep;
use crate::plan::{Coef, Src, Term};
use crate::sampler::rows::{Attempt, check_company, noise_by_row, pooled, scaled_errors, select};
use crate::sampler::{Context, RunState, SampleError, Sampler, Step};
use crate::sde::clock as path_clock;
use burn::tensor::Tensor;
use langevin_core::level::Scalars;
use langevin_core::{Denoiser, Key, Level, Levels, Node, NoiseSource, Process, ProcessError, noise};

/// Weights of the state and of up to three answers.
type Weights = [f64; 4];

/// One sample's attempt.
struct Trial {
    from: Level,
    to: Node,
    /// λ where it ends.
    lambda: f64,
    /// Levels of the inner stages.
    inner: Vec<Node>,
    /// Weights of each stage's state, then of the result.
    stages: Vec<Weights>,
    /// Weights of the result of lower order.
    low: Weights,
    /// Deviation of the noise that is added to the result.
    std: f64,
    moves: bool,
}

const KEEP: Weights = [1.0, 0.0, 0.0, 0.0];

fn weights(terms: &[Term]) -> Weights {
    let mut weights = [0.0; 4];
    for term in terms {
        if let (Coef::C(c), Src::X(_)) = (term.c, term.of) {
            weights[0] = c;
        }
        if let (Coef::C(c), Src::Eps(slot)) = (term.c, term.of) {
            weights[1 + usize::from(slot)] = c;
        }
    }
    weights
}

impl<P: Process> AdaptiveDpm<P> {
    fn node(&self, lambda: f64) -> Result<Node, ProcessError> {
        match lambda {
            at if at == self.end.level.lambda() => Ok(self.end),
            at if at == self.start.level.lambda() => Ok(self.start),
            at => Ok(self.process.node(self.process.time_at_lambda(at)?)),
        }
    }

    /// The order by which the error shrinks, as published: noise makes steps rougher.
    fn error_order(&self) -> f64 {
        if self.method.noise.eta > 0.0 { 1.5 } else { self.method.order as f64 }
    }

    fn trial(&self, clock: &Clock, sample: u64) -> Result<Trial, SampleError> {
        let (end, order) = (self.end.level, self.method.order);
        let lambda = clock.target(&self.method.control, end.lambda(), sample)?;
        let (from, to) = (self.node(clock.lambda)?, self.node(lambda)?);
        if lambda == clock.lambda {
            let inner = vec![from; order - 1];
            let from = from.level;
            return Ok(Trial { from, to, lambda, inner, stages: vec![KEEP; order], low: KEEP, std: 0.0, moves: false });
        }
        let from = from.level;
        let (goal, std) = if self.method.noise.eta > 0.0 {
            self.method.noise.split_above(&from, &to.level, end.sigma / end.alpha)
        } else {
            (to.level, 0.0)
        };
        let method = Singlestep::of_noise(order);
        let length = goal.lambda() - from.lambda();
        let inner: Vec<Node> = (1..order)
            .map(|stage| self.node(from.lambda() + length * stage as f64 / order as f64))
            .collect::<Result<_, _>>()?;
        let levels: Vec<Level> = inner.iter().map(|node| node.level).collect();
        let stage = |asked: &[Level], to: &Level, last| weights(&method.stage(&from, asked, to, 0, last));
        let mut stages: Vec<Weights> = (0..order - 1).map(|i| stage(&levels[..i], &levels[i], false)).collect();
        stages.push(stage(&levels, &goal, true));
        let low = stage(&levels[..order - 2], &goal, true);
        Ok(Trial { from, to, lambda, inner, stages, low, std, moves: true })
    }

    fn levels(&self, levels: Vec<Level>) -> Levels {
        match levels.first() {
            Some(first) if self.method.together => Levels::Shared(*first),
            _ => Levels::Each(levels),
        }
    }

    fn scalars(&self, values: Vec<f64>) -> Scalars {
        match values.first() {
            Some(first) if self.method.together => Scalars::Shared(*first),
            _ => Scalars::Each(values),
        }
    }

    /// `Σ weight·value` of the state and the answers so far, as the whole weight of the first answer and those of the
    /// others' differences from it: what two orders have in common is then rounded alike, and their difference is not
    /// one of rounding errors.
    fn combine<const D: usize>(
        &self,
        trials: &[Trial],
        of: impl Fn(&Trial) -> &Weights,
        x: &Tensor<D>,
        answers: &[Tensor<D>],
    ) -> Tensor<D> {
        let column = |f: &dyn Fn(&Weights) -> f64| trials.iter().map(|trial| f(of(trial))).collect::<Vec<f64>>();
        let mut sum = self.scalars(column(&|weights| weights[0])).times(x.clone());
        let Some(first) = answers.first() else { return sum };
        sum = sum.add(self.scalars(column(&|weights| weights[1..].iter().sum())).times(first.clone()));
        for (i, answer) in answers.iter().enumerate().skip(1) {
            let column = column(&|weights| weights[i + 1]);
            if column.iter().any(|weight| *weight != 0.0) {
                sum = sum.add(self.scalars(column).times(answer.clone().sub(first.clone())));
            }
        }
        sum
    }

    /// The noise of the accepted steps; none elsewhere.
    fn noise<const D: usize>(
        &self,
        trials: &[Trial],
        clocks: &[Clock],
        accepted: &[bool],
        x: &Tensor<D>,
        (first, source): (u64, &dyn NoiseSource),
    ) -> Result<Option<Tensor<D>>, SampleError> {
        let noisy = |i: usize| accepted[i] && trials[i].std > 0.0;
        if !(0..trials.len()).any(noisy) {
            return Ok(None);
        }
        // Samples with one clock all draw the same; sources that draw on devices can do that, too.
        let key = |clock: &Clock| Key::step(clock.accepted as u64 - 1, 0);
        if self.method.white && self.method.together {
            let z = noise::like(source, x, first, key(&clocks[0]))?;
            return Ok(Some(z.mul_scalar(trials[0].std)));
        }
        let noise = noise_by_row(x, |i, row| {
            if !noisy(i) {
                return Ok(());
            }
            let (trial, sample) = (&trials[i], first + i as u64);
            let scale = if self.method.white {
                source.fill(sample, key(&clocks[i]), row)?;
                trial.std
            } else {
                let (from, until) = (path_clock(&trial.from), path_clock(&trial.to.level));
                source.fill_path(sample, from, until, row)?;
                trial.std / (until - from).sqrt()
            };
            row.iter_mut().for_each(|value| *value *= scale);
            Ok(())
        });
        Ok(Some(noise?))
    }

    fn restore<const D: usize>(&self, state: &RunState<D>) -> Result<(Vec<Clock>, Tensor<D>), SampleError> {
        if state.numbers.is_empty() {
            let x = state.x();
            let h = self.method.control.first_step * self.direction();
            let clock = Clock::new(self.start.level.lambda(), h);
            return Ok((vec![clock; x.dims()[0]], x.div_scalar(self.start.level.alpha)));
        }
        let clocks: Vec<Clock> = state.numbers.chunks(Clock::NUMBERS).filter_map(Clock::restore).collect();
        Attempt::last(state, clocks)
    }

    /// Tries one step of every sample that has not arrived; nothing if all were rejected. Tolerances are relative to the lower
    /// order's result over α.
    fn attempt<const D: usize>(
        &self,
        state: &mut RunState<D>,
        cx: &Context<'_, D>,
        clocks: &mut [Clock],
        before: &Tensor<D>,
    ) -> Result<Option<Attempt<D>>, SampleError> {
        let (first, x) = (state.first_sample(), state.x());
        let trials: Vec<Trial> =
            clocks.iter().zip(first..).map(|(clock, sample)| self.trial(clock, sample)).collect::<Result<_, _>>()?;
        let order = self.method.order;
        let mut answers = Vec::with_capacity(order);
        let mut x0 = None;
        for stage in 0..order {
            let at = |trial: &Trial| if stage == 0 { trial.from } else { trial.inner[stage - 1].level };
            let asked = match stage {
                0 => x.clone(),
                _ => self.combine(&trials, |trial| &trial.stages[stage - 1], &x, &answers),
            };
            let estimate = cx.ask(state, asked, &self.levels(trials.iter().map(at).collect()))?;
            answers.push(estimate.eps()?);
            x0 = x0.or_else(|| estimate.x0().ok());
        }
        let high = self.combine(&trials, |trial| &trial.stages[order - 1], &x, &answers);
        let low = self.combine(&trials, |trial| &trial.low, &x, &answers);
        let over = self.scalars(trials.iter().map(|trial| 1.0 / trial.to.level.alpha).collect());
        let low = over.times(low);
        let control = &self.method.control;
        let errors = scaled_errors(&low, &over.times(high.clone()), before, (control.rtol, control.atol))?;
        let errors = if self.method.together { pooled(errors) } else { errors };
        let error_order = self.error_order();
        let accepted: Vec<bool> = clocks
            .iter_mut()
            .zip(trials.iter().zip(errors))
            .map(|(clock, (trial, error))| trial.moves && clock.judge(control, error_order, trial.lambda, error))
            .collect();
        if !accepted.contains(&true) {
            return Ok(None);
        }
        let high = match self.noise(&trials, clocks, &accepted, &x, (first, cx.noise))? {
            Some(noise) => high.add(noise),
            None => high,
        };
        let x = select(&accepted, &high, &x);
        let before = select(&accepted, &low, before);
        Ok(Some(Attempt { x, before, x0 }))
    }
}

impl<P: Process, const D: usize> Sampler<D> for AdaptiveDpm<P> {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        self.check_denoiser(cx.denoiser, &state.x().dims())?;
        let (mut clocks, before) = self.restore(state)?;
        let end = self.end.level.lambda();
        while clocks.iter().any(|clock| clock.lambda != end) {
            let saved = state.clone();
            let Some(attempt) = self.attempt(state, cx, &mut clocks, &before)? else {
                state.roll_back(&saved);
                continue;
            };
            let x0 = attempt.commit(state, clocks.iter().flat_map(Clock::save).collect());
            let at = |clock: &Clock| self.node(clock.lambda).map(|node| node.level);
            let levels = clocks.iter().map(at).collect::<Result<Vec<_>, _>>()?;
            return Ok(Some(state.step(self.levels(levels), x0)));
        }
        Ok(None)
    }

    fn start_levels(&self) -> Levels {
        Levels::Shared(self.start.level)
    }

    fn prior_std(&self) -> f64 {
        crate::solver::prior_std(&self.process, &self.start)
    }

    fn name(&self) -> String {
        NAME.into()
    }

    fn check_denoiser(&self, denoiser: &dyn Denoiser<D>, shape: &[usize]) -> Result<(), SampleError> {
        check_company(NAME, self.method.together, denoiser, shape)
    }

    fn reads_clean(&self) -> bool {
        false
    }

    fn zero_terminal_snr(&self) -> bool {
        crate::solver::has_zero_terminal_snr(&self.process)
    }

    fn fingerprint(&self) -> u64 {
        self.numbers_fingerprint()
    }
}
