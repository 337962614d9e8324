//! DPM-Solver-12 and -23: singlestep DPM-Solver with steps of its own choice.

use super::adaptive_clock::Control;
use crate::ode::fingerprint;
use crate::sigma::AncestralNoise;
use crate::solver::PlanError;
use langevin_core::{Node, Process};

pub(super) const NAME: &str = "adaptive DPM-Solver";

/// DPM-Solver with an error estimate: a step of order 2 (or 3) is compared with one of order 1 (or 2) through the same
/// evaluations, and its length in λ follows by PID control. Published as `dpm_adaptive`.
///
/// A step's error is the root mean square of `(low − high)/max(atol, rtol·max(|low|, |before|))` over a sample's elements,
/// with states as x/α. Error control is *per sample*: each sample of a batch has its own clock and step size, so its
/// result does not depend on its neighbors. The denoiser is asked at one level per sample; samples that have arrived wait
/// unchanged.
///
/// With [`eta`](Self::eta) steps are ancestral. Noise then is that of one Brownian path per sample in the clock α²/σ², read
/// for a step only once the step is accepted: rejected steps neither use it up nor choose it.
///
/// Settings that fix the method are made here; [`over`](Self::over) and [`between`](Self::between) put it on a process.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::{Load, Prediction, denoiser, noise::Seeded, process::Edm};
/// use langevin_schedulers::{SamplerExt, exponential::DpmAdaptive};
///
/// // All data is zero: the noise in x is x/σ.
/// let denoiser = denoiser::from_fn(Prediction::Epsilon, |x: Tensor<2>, levels| {
///     Ok(levels.map(|level| 1.0 / level.sigma).times(x))
/// });
/// let sampler = DpmAdaptive::new(0.05, 0.0078)?.over(Edm::default())?;
/// let noise = Seeded::new(42);
/// let x = sampler.start([4, 2], &denoiser, &noise, Load::on(&Device::flex()))?.finish()?;
/// assert!(x.abs().max().into_scalar::<f32>() < 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Notes
/// The step size reacts to errors as the published code has it: the last three errors by the three coefficients, then
/// a factor `1 + atan(f − 1)`, and a step is accepted if that factor is at least the accept safety.
///
/// # References
/// Lu et al. 2022a, "DPM-Solver", appendix C (adaptive step size); the controller and the noise are k-diffusion's.
#[derive(Clone, Debug, PartialEq)]
pub struct DpmAdaptive {
    pub(super) order: usize,
    pub(super) control: Control,
    pub(super) noise: AncestralNoise,
    pub(super) white: bool,
    pub(super) together: bool,
}

fn bad<T>(setting: &'static str, given: f64, expected: &'static str) -> Result<T, PlanError> {
    Err(PlanError::Setting { solver: NAME, setting, given, expected })
}

fn positive(setting: &'static str, given: f64) -> Result<f64, PlanError> {
    if given > 0.0 && given.is_finite() { Ok(given) } else { bad(setting, given, "a positive, finite number") }
}

impl DpmAdaptive {
    /// Of order 3, with relative and absolute tolerance, both positive; published are 0.05 and 0.0078.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for a tolerance that is not positive and finite.
    pub fn new(rtol: f64, atol: f64) -> Result<Self, PlanError> {
        let control = Control::new(positive("relative tolerance", rtol)?, positive("absolute tolerance", atol)?);
        Ok(Self { order: 3, control, noise: AncestralNoise::none(), white: false, together: false })
    }

    /// Of order 2 or 3: as many evaluations an attempt.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for other orders.
    pub fn order(mut self, order: usize) -> Result<Self, PlanError> {
        if ![2, 3].contains(&order) {
            return bad("order", order as f64, "2 or 3");
        }
        self.order = order;
        Ok(self)
    }

    /// Length of the first attempt in λ; 0.05 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is positive and finite.
    pub fn first_step(mut self, h: f64) -> Result<Self, PlanError> {
        self.control.first_step = positive("first step", h)?;
        Ok(self)
    }

    /// Coefficients of the controller: proportional, integral and derivative; 0, 1 and 0 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for one that is negative or not finite.
    pub fn coefficients(mut self, proportional: f64, integral: f64, derivative: f64) -> Result<Self, PlanError> {
        for (setting, given) in [
            ("proportional coefficient", proportional),
            ("integral coefficient", integral),
            ("derivative coefficient", derivative),
        ] {
            if !(given >= 0.0 && given.is_finite()) {
                return bad(setting, given, "a finite number, at least 0");
            }
        }
        self.control.coefficients = [proportional, integral, derivative];
        Ok(self)
    }

    /// The smallest factor of the step size with which a step is accepted; 0.81 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless above 0 and at most 1.
    pub fn accept_safety(mut self, factor: f64) -> Result<Self, PlanError> {
        if !(factor > 0.0 && factor <= 1.0) {
            return bad("accept safety", factor, "a number above 0 and at most 1");
        }
        self.control.accept = factor;
        Ok(self)
    }

    /// With ancestral noise of relative size η, on runs from noise to data. No step goes below the end of the run, so that
    /// the last one has no noise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn eta(mut self, eta: f64) -> Result<Self, PlanError> {
        self.noise.eta = eta;
        self.noise.check(NAME)?;
        Ok(self)
    }

    /// Factor on the added noise, k-diffusion's `s_noise`.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn noise_scale(mut self, factor: f64) -> Result<Self, PlanError> {
        self.noise.factor = factor;
        self.noise.check(NAME)?;
        Ok(self)
    }

    /// Draws noise that is new for each accepted step, as published, keyed by the number of that step; for noise sources
    /// that have no paths. Runs with other tolerances then see other noise.
    pub fn white_noise(mut self) -> Self {
        self.white = true;
        self
    }

    /// One error norm, clock and step size for the whole batch, as published. The result of a sample then depends on its
    /// batch.
    pub fn batch_control(mut self) -> Self {
        self.together = true;
        self
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

    /// Samples a process: from the noisy to the clean end of its range.
    ///
    /// # Errors
    /// As [`between`](Self::between).
    pub fn over<P: Process>(self, process: P) -> Result<AdaptiveDpm<P>, PlanError> {
        let (clean, noisy) = process.time_range();
        self.between(process, noisy, clean)
    }

    /// From `start` to `end` in the process's time: from noise to data it samples, the other way it encodes.
    ///
    /// # Errors
    /// [`PlanError::TimeRange`] for times outside the process's range, [`PlanError::Setting`] if they are equal,
    /// [`PlanError::Singular`] where α or σ is 0, which is infinitely far away in λ, [`PlanError::Combination`] for noise on
    /// the way from data to noise.
    pub fn between<P: Process>(self, process: P, start: f64, end: f64) -> Result<AdaptiveDpm<P>, PlanError> {
        let (clean, noisy) = process.time_range();
        for t in [start, end] {
            if !(t >= clean.min(noisy) && t <= clean.max(noisy)) {
                return Err(PlanError::TimeRange { solver: NAME, t, clean, noisy });
            }
            let level = process.level(t);
            if !level.lambda().is_finite() {
                let advice = "this end is infinitely far away in λ; stay clear of it with `between`";
                return Err(PlanError::Singular { solver: NAME, t, alpha: level.alpha, sigma: level.sigma, advice });
            }
        }
        let (start, end) = (process.node(start), process.node(end));
        let (from, to) = (start.level.lambda(), end.level.lambda());
        if from == to {
            return bad("end of the run", end.t, "another noise level than its start");
        }
        if self.noise.eta > 0.0 && to < from {
            return Err(PlanError::Combination {
                first: format!("eta {}", self.noise.eta),
                second: "a run from data to noise".into(),
                reason: "only steps towards data can be ancestral; leave eta at 0 to encode",
            });
        }
        Ok(AdaptiveDpm { method: self, process, start, end })
    }
}

/// A process with adaptive steps of DPM-Solver: a [`Sampler`](crate::Sampler), made by [`DpmAdaptive::over`] and
/// [`DpmAdaptive::between`].
///
/// A [`Step`](crate::Step) of a run is one in which at least one sample has moved; its levels say where each is, and its
/// `x0` is what was predicted where the step began.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveDpm<P> {
    pub(super) method: DpmAdaptive,
    pub(super) process: P,
    pub(super) start: Node,
    pub(super) end: Node,
}

impl<P: Process> AdaptiveDpm<P> {
    /// 1 if λ rises along the way, −1 if it falls.
    pub(super) fn direction(&self) -> f64 {
        (self.end.level.lambda() - self.start.level.lambda()).signum()
    }

    pub(super) fn numbers_fingerprint(&self) -> u64 {
        let levels = [0.0, 0.5, 1.0].map(|share| {
            let level = self.process.level(self.start.t + share * (self.end.t - self.start.t));
            [level.alpha, level.sigma, level.time]
        });
        let flags = u8::from(self.method.together) + 2 * u8::from(self.method.white);
        let run = [self.start.t, self.end.t, f64::from(flags), self.method.order as f64];
        let noise = [self.method.noise.eta, self.method.noise.factor];
        let all = run.into_iter().chain(noise).chain(self.method.control.numbers());
        fingerprint(all.chain(levels.into_iter().flatten()))
    }
}
