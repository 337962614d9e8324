//! The adaptive method on `f64` vectors, for any ordinary differential equation.

use super::DormandPrince;
use super::control::Control;
use super::drive::System;
use crate::sampler::SampleError;
use langevin_core::level::Scalars;

/// A solution on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSolution {
    /// The state at the end.
    pub x: Vec<f64>,
    /// The states at the times asked for.
    pub at: Vec<Vec<f64>>,
    /// Evaluations of the right-hand side.
    pub evaluations: usize,
    /// Accepted steps.
    pub accepted: usize,
    /// Rejected steps.
    pub rejected: usize,
}

struct Host<F> {
    f: F,
    evaluations: usize,
}

fn number(scalars: &Scalars) -> f64 {
    match scalars {
        Scalars::Shared(value) => *value,
        // The host has one sample.
        Scalars::Each(values) => values.first().copied().unwrap_or(f64::NAN),
    }
}

impl<F: FnMut(f64, &[f64], &mut [f64])> System for Host<F> {
    type Value = Vec<f64>;

    fn slope(&mut self, x: &Vec<f64>, t: &[f64]) -> Result<Vec<f64>, SampleError> {
        let mut out = vec![0.0; x.len()];
        t.iter().for_each(|t| (self.f)(*t, x, &mut out));
        self.evaluations += 1;
        Ok(out)
    }

    fn sum(&mut self, scale: &Scalars, terms: &[(Scalars, &Vec<f64>)]) -> Vec<f64> {
        let scale = number(scale);
        let mut out = vec![0.0; terms.first().map_or(0, |(_, value)| value.len())];
        for (weight, value) in terms {
            let weight = number(weight);
            out.iter_mut().zip(*value).for_each(|(sum, value)| *sum += weight * value);
        }
        out.iter_mut().for_each(|sum| *sum *= scale);
        out
    }

    fn add(&mut self, x: &Vec<f64>, mut y: Vec<f64>) -> Vec<f64> {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        y
    }

    fn norms(
        &mut self,
        control: &Control,
        value: &Vec<f64>,
        a: &Vec<f64>,
        b: &Vec<f64>,
    ) -> Result<Vec<f64>, SampleError> {
        let ratios = value.iter().zip(a.iter().zip(b)).map(|(value, (a, b))| {
            // `max` would drop a NaN.
            let size = if a.abs() > b.abs() { a.abs() } else { b.abs() };
            value / (control.atol + control.rtol * size)
        });
        Ok(vec![(ratios.map(|ratio| ratio * ratio).sum::<f64>() / value.len() as f64).sqrt()])
    }

    fn select(&mut self, flags: &[bool], new: &Vec<f64>, old: &Vec<f64>) -> Vec<f64> {
        if flags == [true] { new.clone() } else { old.clone() }
    }

    fn first_sample(&self) -> u64 {
        0
    }
}

impl DormandPrince {
    /// Solves `dx/dt = f(t, x)` from `start` to `end`, forwards or backwards; `f` writes the slope into its last
    /// argument. The same code as on tensors, for one sample in `f64`.
    ///
    /// ```
    /// use langevin_schedulers::ode::DormandPrince;
    /// let method = DormandPrince::new(1e-10, 1e-10)?;
    /// let solution = method.solve_host(|_, x, dx| dx[0] = -x[0], vec![1.0], 0.0, 1.0)?;
    /// assert!((solution.x[0] - (-1f64).exp()).abs() < 1e-9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SampleError::StepSize`], [`SampleError::TooManySteps`], and [`SampleError::NotFinite`] for a start, times or
    /// an end that are not finite.
    pub fn solve_host(
        &self,
        f: impl FnMut(f64, &[f64], &mut [f64]),
        x: Vec<f64>,
        start: f64,
        end: f64,
    ) -> Result<HostSolution, SampleError> {
        self.solve_host_at(f, x, start, end, &[])
    }

    /// As [`solve_host`](Self::solve_host), with the states at `times` by dense output. The times do not change the
    /// steps; any order, and repeats, are allowed.
    ///
    /// # Errors
    /// As [`solve_host`](Self::solve_host), and [`SampleError::OutputTime`] for times outside the interval.
    pub fn solve_host_at(
        &self,
        f: impl FnMut(f64, &[f64], &mut [f64]),
        x: Vec<f64>,
        start: f64,
        end: f64,
        times: &[f64],
    ) -> Result<HostSolution, SampleError> {
        let mut host = Host { f, evaluations: 0 };
        let course = self.course(start, end);
        if !(x.iter().chain([&start, &end]).all(|number| number.is_finite())) {
            return Err(SampleError::NotFinite { step: 0 });
        }
        for &t in times {
            if !(course.along(t) >= 0.0 && course.along(t) <= course.along(end)) {
                return Err(SampleError::OutputTime { t, start, end });
            }
        }
        let mut at: Vec<_> = vec![x.clone(); times.len()];
        if start == end || x.is_empty() {
            return Ok(HostSolution { x, at, evaluations: 0, accepted: 0, rejected: 0 });
        }
        let mut progress = course.begin(&mut host, x, 1)?;
        let (mut accepted, mut rejected) = (0, 0);
        while !course.arrived(&progress) {
            let attempt = course.attempt(&mut host, &mut progress)?;
            if attempt.accepted == [true] {
                accepted += 1;
                for (state, t) in at.iter_mut().zip(times) {
                    *state = course.interpolate(&mut host, &attempt, *t, state);
                }
            } else {
                rejected += 1;
            }
        }
        if !progress.x.iter().all(|value| value.is_finite()) {
            return Err(SampleError::NotFinite { step: accepted });
        }
        Ok(HostSolution { x: progress.x, at, evaluations: host.evaluations, accepted, rejected })
    }
}
