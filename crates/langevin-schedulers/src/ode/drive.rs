//! The adaptive method itself, over any arithmetic and any number of samples with clocks of their own.

use super::Tableau;
use super::control::{Clock, Control, Trial};
use crate::sampler::SampleError;
use langevin_core::level::Scalars;

/// What the method runs on: tensors whose rows are samples, or one host vector.
pub(super) trait System {
    type Value: Clone;
    /// The slope of each sample at its own time.
    fn slope(&mut self, x: &Self::Value, t: &[f64]) -> Result<Self::Value, SampleError>;
    /// `scale·Σ weight·value`.
    fn sum(&mut self, scale: &Scalars, terms: &[(Scalars, &Self::Value)]) -> Self::Value;
    fn add(&mut self, x: &Self::Value, y: Self::Value) -> Self::Value;
    /// For each sample the root mean square of `value/(atol + rtol·max(|a|, |b|))`.
    fn norms(
        &mut self,
        control: &Control,
        value: &Self::Value,
        a: &Self::Value,
        b: &Self::Value,
    ) -> Result<Vec<f64>, SampleError>;
    /// Rows of `new` where the flag is set, of `old` elsewhere.
    fn select(&mut self, flags: &[bool], new: &Self::Value, old: &Self::Value) -> Self::Value;
    /// Global number of the first sample.
    fn first_sample(&self) -> u64;
    /// Hears of every attempt: where it arrived, its error estimate, and which samples go there. The slope at
    /// `reached` was the last one asked for.
    fn attempted(&mut self, reached: &Self::Value, error: &Self::Value, accepted: &[bool]) {
        let _ = (reached, error, accepted);
    }
}

/// One way to integrate: the method, its control and the interval.
pub(super) struct Course<'a> {
    pub tableau: &'a Tableau,
    pub control: &'a Control,
    /// One norm, and so one clock, for all samples.
    pub together: bool,
    pub start: f64,
    pub end: f64,
}

/// Where the samples are.
#[derive(Clone, Debug)]
pub(super) struct Progress<V> {
    pub x: V,
    /// The slope at `x`, if it is known.
    pub slope: Option<V>,
    pub clocks: Vec<Clock>,
}

/// One attempted step of all samples that have not arrived.
pub(super) struct Attempt<V> {
    x: V,
    slopes: Vec<V>,
    from: Vec<f64>,
    trials: Vec<Trial>,
    pub accepted: Vec<bool>,
}

impl Course<'_> {
    fn scalars(&self, values: impl Iterator<Item = f64>) -> Scalars {
        let mut values = values;
        match values.next() {
            Some(first) if self.together => Scalars::Shared(first),
            first => Scalars::Each(first.into_iter().chain(values).collect()),
        }
    }

    /// The norm of all samples together, if they share one clock.
    fn pool(&self, mut norms: Vec<f64>) -> Vec<f64> {
        if self.together {
            let mean = norms.iter().map(|norm| norm * norm).sum::<f64>() / norms.len() as f64;
            norms.fill(mean.sqrt());
        }
        norms
    }

    /// How far `t` is along the way, in the units of time.
    pub fn along(&self, t: f64) -> f64 {
        if self.end > self.start { t - self.start } else { self.start - t }
    }

    pub fn arrived<V>(&self, progress: &Progress<V>) -> bool {
        progress.clocks.iter().all(|clock| clock.t == self.end)
    }

    /// Sets the clocks of `samples` samples, with first steps from the problem (Hairer, Nørsett & Wanner, II.4).
    pub fn begin<S: System>(
        &self,
        system: &mut S,
        x: S::Value,
        samples: usize,
    ) -> Result<Progress<S::Value>, SampleError> {
        let span = self.along(self.end);
        let signed = |h: f64| if self.end > self.start { h } else { -h };
        let clocks = |steps: &[f64]| steps.iter().map(|h| Clock::new(self.start, signed(*h))).collect();
        if let Some(first) = self.control.first_step {
            let steps = vec![first.min(span).min(self.control.max_step); samples];
            return Ok(Progress { x, slope: None, clocks: clocks(&steps) });
        }
        let slope = system.slope(&x, &vec![self.start; samples])?;
        let of_x = system.norms(self.control, &x, &x, &x)?;
        let of_x = self.pool(of_x);
        let of_slope = system.norms(self.control, &slope, &x, &x)?;
        let of_slope = self.pool(of_slope);
        if of_x.iter().chain(&of_slope).any(|norm| !norm.is_finite()) {
            return Err(SampleError::NotFinite { step: 0 });
        }
        let guesses: Vec<f64> =
            of_x.iter().zip(&of_slope).map(|(x, slope)| self.control.first_guess(*x, *slope, span)).collect();
        let euler = system.sum(&self.scalars(guesses.iter().map(|h| signed(*h))), &[(Scalars::Shared(1.0), &slope)]);
        let euler = system.add(&x, euler);
        let times: Vec<f64> = guesses.iter().map(|h| self.start + signed(*h)).collect();
        let next = system.slope(&euler, &times)?;
        let terms = [(Scalars::Shared(1.0), &next), (Scalars::Shared(-1.0), &slope)];
        let change = system.sum(&self.scalars(guesses.iter().map(|h| 1.0 / h)), &terms);
        let of_change = system.norms(self.control, &change, &x, &x)?;
        let of_change = self.pool(of_change);
        let steps: Vec<f64> = guesses
            .iter()
            .zip(of_slope.iter().zip(of_change))
            .map(|(guess, (slope, change))| self.control.first_step(*guess, *slope, change, span))
            .collect();
        Ok(Progress { x, slope: Some(slope), clocks: clocks(&steps) })
    }

    /// Tries one step of every sample that has not arrived; those whose error is small enough move.
    pub fn attempt<S: System>(
        &self,
        system: &mut S,
        progress: &mut Progress<S::Value>,
    ) -> Result<Attempt<S::Value>, SampleError> {
        let first = system.first_sample();
        let trials = progress
            .clocks
            .iter()
            .zip(first..)
            .map(|(clock, sample)| clock.trial(self.control, self.end, sample))
            .collect::<Result<Vec<_>, _>>()?;
        let from: Vec<f64> = progress.clocks.iter().map(|clock| clock.t).collect();
        let h = self.scalars(trials.iter().map(|trial| trial.h));
        let x = progress.x.clone();
        let slope = match progress.slope.take() {
            Some(slope) => slope,
            None => system.slope(&x, &from)?,
        };
        // The last stage is the end of the step: its slope is the first one of the next.
        let count = self.tableau.stages();
        let (slopes, reached) = stages(system, self.tableau, (&x, slope), (&h, count), |c| match c {
            1.0 => trials.iter().map(|trial| trial.to).collect(),
            c => from.iter().zip(&trials).map(|(t, trial)| t + c * trial.h).collect(),
        })?;
        let error = system.sum(&h, &shared(self.tableau.error_weights(), &slopes));
        let errors = system.norms(self.control, &error, &x, &reached)?;
        let errors = self.pool(errors);
        let accepted: Vec<bool> = progress
            .clocks
            .iter_mut()
            .zip(trials.iter().zip(errors))
            .map(|(clock, (trial, error))| trial.h != 0.0 && clock.judge(self.control, *trial, error))
            .collect();
        system.attempted(&reached, &error, &accepted);
        let last = slopes.last().unwrap_or(&x);
        progress.x = choose(system, &accepted, &reached, &x);
        progress.slope = Some(choose(system, &accepted, last, &slopes[0]));
        Ok(Attempt { x, slopes, from, trials, accepted })
    }

    /// Writes the states at time `t` into `into`, for the samples that have just stepped over `t`.
    pub fn interpolate<S: System>(
        &self,
        system: &mut S,
        attempt: &Attempt<S::Value>,
        t: f64,
        into: &S::Value,
    ) -> S::Value {
        let passed: Vec<bool> = attempt
            .from
            .iter()
            .zip(attempt.trials.iter().zip(&attempt.accepted))
            .map(|(from, (trial, accepted))| {
                *accepted && self.along(*from) < self.along(t) && self.along(t) <= self.along(trial.to)
            })
            .collect();
        if !passed.contains(&true) {
            return into.clone();
        }
        let weights: Vec<Vec<f64>> = attempt
            .from
            .iter()
            .zip(attempt.trials.iter().zip(&passed))
            .map(|(from, (trial, passed))| if *passed { (t - from) / trial.h } else { 0.0 })
            .filter_map(|theta| self.tableau.dense_weights(theta))
            .collect();
        let terms: Vec<_> = attempt
            .slopes
            .iter()
            .enumerate()
            .map(|(stage, slope)| (self.scalars(weights.iter().map(|b| b[stage])), slope))
            .collect();
        let h = self.scalars(attempt.trials.iter().map(|trial| trial.h));
        let change = system.sum(&h, &terms);
        let inside = system.add(&attempt.x, change);
        choose(system, &passed, &inside, into)
    }
}

/// The slopes of the first `count` stages of a step of size `h` that begins at `x` with the slope `first`, and the state
/// at which the last of them was asked. `times` says when a node is.
fn stages<S: System>(
    system: &mut S,
    tableau: &Tableau,
    (x, first): (&S::Value, S::Value),
    (h, count): (&Scalars, usize),
    times: impl Fn(f64) -> Vec<f64>,
) -> Result<(Vec<S::Value>, S::Value), SampleError> {
    let (mut slopes, mut reached) = (vec![first], x.clone());
    for stage in 1..count {
        let change = system.sum(h, &shared(tableau.row(stage), &slopes));
        reached = system.add(x, change);
        slopes.push(system.slope(&reached, &times(tableau.nodes()[stage]))?);
    }
    Ok((slopes, reached))
}

/// Steps of any method from each of `times` to the next, all samples together.
pub(super) fn march<S: System>(
    system: &mut S,
    tableau: &Tableau,
    mut x: S::Value,
    times: &[f64],
    samples: usize,
) -> Result<S::Value, SampleError> {
    // Stages at the end that do not count are left out.
    let count = tableau.weights().iter().rposition(|b| *b != 0.0).map_or(1, |last| last + 1);
    for pair in times.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let h = Scalars::Shared(to - from);
        let first = system.slope(&x, &vec![from; samples])?;
        let (slopes, _) = stages(system, tableau, (&x, first), (&h, count), |c| {
            vec![if c == 1.0 { to } else { from + c * (to - from) }; samples]
        })?;
        let change = system.sum(&h, &shared(tableau.weights(), &slopes));
        x = system.add(&x, change);
    }
    Ok(x)
}

/// Terms with the same weight for all samples; zero weights are left out.
fn shared<'a, V>(weights: &[f64], slopes: &'a [V]) -> Vec<(Scalars, &'a V)> {
    let terms = weights.iter().zip(slopes).filter(|(weight, _)| **weight != 0.0);
    terms.map(|(weight, slope)| (Scalars::Shared(*weight), slope)).collect()
}

fn choose<S: System>(system: &mut S, flags: &[bool], new: &S::Value, old: &S::Value) -> S::Value {
    if !flags.contains(&false) {
        new.clone()
    } else if !flags.contains(&true) {
        old.clone()
    } else {
        system.select(flags, new, old)
    }
}
