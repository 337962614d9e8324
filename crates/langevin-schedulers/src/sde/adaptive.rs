//! Reverse SDEs with steps of their own choice.

use crate::ode::{Control, fingerprint};
use crate::solver::PlanError;
use langevin_core::Process;

pub(super) const NAME: &str = "adaptive SDE solver";

/// The reverse SDE of any process with adaptive steps: a step of Euler-Maruyama is compared with one of the stochastic
/// improved Euler method, through the same noise, and the latter is kept. Two evaluations an attempt.
///
/// A step from t to s < t with `h = t − s` is `x' = x − h·b(x, t) + g(t)·√h·z`, then `x̃ = x − h·b(x', s) + g(s)·√h·z` and
/// `x'' = ½(x' + x̃)`, where `b = f·x + g²/σ·ε̂` is the drift of the reverse SDE. It is accepted if the root mean square of
/// `(x' − x'')/max(atol, rtol·max(|x'|, |x'_before|))` over a sample's elements is at most 1, and the next step is
/// `safety·error^{−exponent}` times as long. Error control is *per sample*: each sample of a batch has its own clock and step
/// size, so its result does not depend on its neighbors.
///
/// The noise is that of one Brownian path per sample in the clock `c = α²/σ²`, `z = (W(c_s) − W(c_t))/√(c_s − c_t)`. A
/// rejected step only asks the path, and the shorter step after it sees what the path does on its part of the way: noise is
/// neither thrown away nor chosen by its size, which would bias the samples.
///
/// [`simulate`](Self::simulate) does the same for an SDE of one's own, by another pair of methods.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::{Load, Prediction, denoiser, noise::Seeded, process::VeSde};
/// use langevin_schedulers::{SamplerExt, sde::AdaptiveSde};
///
/// // All data is zero: the noise in x is x/σ.
/// let denoiser = denoiser::from_fn(Prediction::Epsilon, |x: Tensor<2>, levels| {
///     Ok(levels.map(|level| 1.0 / level.sigma).times(x))
/// });
/// let sampler = AdaptiveSde::new(0.05, 0.0078)?.over(VeSde::default())?;
/// let noise = Seeded::new(42);
/// let x = sampler.start([4, 2], &denoiser, &noise, Load::on(&Device::flex()))?.finish()?;
/// assert!(x.abs().max().into_scalar::<f32>() < 0.2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Jolicoeur-Martineau et al. 2021, "Gotta go fast when generating data with score-based models", algorithm 1; Roberts
/// 2012, "Modify the improved Euler scheme to integrate stochastic differential equations".
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveSde {
    pub(super) control: Control,
    pub(super) together: bool,
    pub(super) denoise: bool,
}

fn bad<T>(setting: &'static str, given: f64, expected: &'static str) -> Result<T, PlanError> {
    Err(PlanError::Setting { solver: NAME, setting, given, expected })
}

fn positive(setting: &'static str, given: f64) -> Result<f64, PlanError> {
    if given > 0.0 && given.is_finite() { Ok(given) } else { bad(setting, given, "a positive, finite number") }
}

impl AdaptiveSde {
    /// With relative and absolute tolerance, both positive. The paper takes 0.01 to 0.05 and one step of an image's 256
    /// brightnesses, 0.0078 for pixels in [−1, 1].
    ///
    /// # Errors
    /// [`PlanError::Setting`] for a tolerance that is not positive and finite.
    pub fn new(rtol: f64, atol: f64) -> Result<Self, PlanError> {
        let mut control = Control::new(positive("relative tolerance", rtol)?, positive("absolute tolerance", atol)?);
        (control.exponent, control.beta, control.first_step) = (0.9, 0.0, Some(0.01));
        Ok(Self { control, together: false, denoise: false })
    }

    /// The first step size, in units of time; 0.01 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is positive and finite.
    pub fn first_step(mut self, step: f64) -> Result<Self, PlanError> {
        self.control.first_step = Some(positive("first step", step)?);
        Ok(self)
    }

    /// The largest step size, in units of time. Default: none.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is positive and finite.
    pub fn max_step(mut self, step: f64) -> Result<Self, PlanError> {
        self.control.max_step = positive("largest step", step)?;
        Ok(self)
    }

    /// How step sizes follow errors: `safety·error^{−exponent}`, 0.9 and 0.9 unless said otherwise. (From one step to the
    /// next they change by a factor from 0.2 to 10, and do not grow right after a rejection.)
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `0 < safety < 1` and `0 < exponent <= 1`.
    pub fn step_rule(mut self, safety: f64, exponent: f64) -> Result<Self, PlanError> {
        if !(safety > 0.0 && safety < 1.0) {
            return bad("safety factor", safety, "a number between 0 and 1");
        }
        if !(exponent > 0.0 && exponent <= 1.0) {
            return bad("exponent", exponent, "a number above 0 and at most 1");
        }
        (self.control.safety, self.control.exponent) = (safety, exponent);
        Ok(self)
    }

    /// Most steps, accepted or not, that a sample may try. Default 10 000.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for 0.
    pub fn max_steps(mut self, steps: usize) -> Result<Self, PlanError> {
        if steps == 0 {
            return bad("largest number of steps", 0.0, "1 or more");
        }
        self.control.limit = steps;
        Ok(self)
    }

    /// One error norm, clock and step size for the whole batch. The result of a sample then depends on its batch.
    pub fn batch_control(mut self) -> Self {
        self.together = true;
        self
    }

    /// Ends with one more step, to the clean sample that the denoiser expects where the run ends, as the paper does.
    pub fn denoise_at_end(mut self) -> Self {
        self.denoise = true;
        self
    }

    /// Samples a process: from the noisy to the clean end of its range.
    ///
    /// # Errors
    /// As [`between`](Self::between).
    pub fn over<P: Process>(self, process: P) -> Result<AdaptiveReverse<P>, PlanError> {
        let (clean, noisy) = process.time_range();
        self.between(process, noisy, clean)
    }

    /// From `start` to `end` in the process's time, from noise towards data.
    ///
    /// # Errors
    /// [`PlanError::TimeRange`] for times outside the process's range, [`PlanError::Direction`] unless the noise falls,
    /// [`PlanError::Singular`] where the reverse SDE has an infinite drift: α = 0 or σ = 0.
    pub fn between<P: Process>(self, process: P, start: f64, end: f64) -> Result<AdaptiveReverse<P>, PlanError> {
        let (clean, noisy) = process.time_range();
        for t in [start, end] {
            if !(t >= clean.min(noisy) && t <= clean.max(noisy)) {
                return Err(PlanError::TimeRange { solver: NAME, t, clean, noisy });
            }
            let level = process.level(t);
            let drift = [process.drift(t), process.diffusion_squared(t) / level.sigma, level.lambda()];
            if !drift.iter().all(|number| number.is_finite()) {
                let advice = "the reverse SDE has an infinite drift there; stay clear of this time with `between`";
                return Err(PlanError::Singular { solver: NAME, t, alpha: level.alpha, sigma: level.sigma, advice });
            }
        }
        let ratio = |t: f64| process.sigma(t) / process.alpha(t);
        let (from, to) = (ratio(start), ratio(end));
        if !(to < from) {
            return Err(PlanError::Direction { solver: NAME, expected: "falling", step: 0, from, to });
        }
        Ok(AdaptiveReverse { method: self, process, start, end })
    }
}

/// The reverse SDE of a process with adaptive steps: a [`Sampler`](crate::Sampler), made by [`AdaptiveSde::over`] and
/// [`AdaptiveSde::between`].
///
/// A [`Step`](crate::Step) of a run is one in which at least one sample has moved; its levels say where each is, and its
/// `x0` is what was predicted where the step began.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveReverse<P> {
    pub(super) method: AdaptiveSde,
    pub(super) process: P,
    pub(super) start: f64,
    pub(super) end: f64,
}

impl<P: Process> AdaptiveReverse<P> {
    pub(super) fn numbers_fingerprint(&self) -> u64 {
        let levels = [0.0, 0.5, 1.0].map(|share| {
            let level = self.process.level(self.start + share * (self.end - self.start));
            [level.alpha, level.sigma, level.time]
        });
        let flags = u8::from(self.method.together) + 2 * u8::from(self.method.denoise);
        let run = [self.start, self.end, f64::from(flags), self.method.control.exponent];
        let all = run.into_iter().chain(self.method.control.numbers());
        fingerprint(all.chain(levels.into_iter().flatten()))
    }
}
