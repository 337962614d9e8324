//! Noise processes: how data turns into noise.

mod betas;
mod chain;
#[cfg(test)]
mod checks;
mod cosine;
mod edm;
mod error;
mod flow;
mod forward;
mod interpolation;
mod resolution;
mod sub_vp;
mod table;
mod trig_flow;
mod validate;
mod ve;
mod vp;

pub use betas::Betas;
pub use chain::{ChainEnd, DiscreteChain};
pub use cosine::Cosine;
pub use edm::Edm;
pub use error::ProcessError;
use error::bisect_lambda;
pub use flow::RectifiedFlow;
pub use interpolation::Interpolation;
pub use resolution::ResolutionShift;
pub use sub_vp::SubVpSde;
pub use trig_flow::TrigFlow;
pub use validate::validate;
pub use ve::{VeInput, VeSde};
pub(crate) use vp::LinearBeta;
pub use vp::VpSde;

use crate::level::{Level, Node};

/// A Gaussian perturbation `x_t = α(t)·x_0 + σ(t)·ε`.
///
/// Four functions and a range define one; everything else follows. Time runs from the clean end
/// ([`time_range`](Process::time_range)`.0`) to the noisy end.
///
/// ```
/// use langevin_core::Process;
/// /// Trigonometric interpolation: α = cos(πt/2), σ = sin(πt/2).
/// #[derive(Debug)]
/// struct Trigonometric;
/// impl Process for Trigonometric {
///     fn alpha(&self, t: f64) -> f64 { (t * std::f64::consts::FRAC_PI_2).cos() }
///     fn sigma(&self, t: f64) -> f64 { (t * std::f64::consts::FRAC_PI_2).sin() }
///     fn alpha_dot(&self, t: f64) -> f64 { -std::f64::consts::FRAC_PI_2 * self.sigma(t) }
///     fn sigma_dot(&self, t: f64) -> f64 { std::f64::consts::FRAC_PI_2 * self.alpha(t) }
///     fn time_range(&self) -> (f64, f64) { (1e-3, 0.999) }
/// }
/// let t = Trigonometric.time_at_lambda(0.0)?; // α = σ half-way
/// assert!((t - 0.5).abs() < 1e-12);
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
pub trait Process: std::fmt::Debug + Send + Sync {
    /// Signal coefficient α(t) ≥ 0.
    fn alpha(&self, t: f64) -> f64;
    /// Noise coefficient σ(t) ≥ 0.
    fn sigma(&self, t: f64) -> f64;
    /// Derivative dα/dt.
    fn alpha_dot(&self, t: f64) -> f64;
    /// Derivative dσ/dt.
    fn sigma_dot(&self, t: f64) -> f64;
    /// Process times (clean end, noisy end) between which the process is defined and sampled.
    fn time_range(&self) -> (f64, f64);

    /// The number a network is fed at time `t`; `t` itself unless the process says otherwise.
    fn network_time(&self, t: f64) -> f64 {
        t
    }

    /// Standard deviation of the noise that sampling starts from; σ at the noisy end by default.
    fn prior_std(&self) -> f64 {
        self.sigma(self.time_range().1)
    }

    /// Half-log-SNR `λ(t) = ln(α/σ)`, falling in `t`.
    fn lambda(&self, t: f64) -> f64 {
        libm::log(self.alpha(t)) - libm::log(self.sigma(t))
    }

    /// The time at which λ(t) = `lambda`: bisection on the time range unless a process knows better.
    ///
    /// # Errors
    /// [`ProcessError::LambdaOutOfRange`] if no time in the range has this λ.
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        bisect_lambda(self, lambda)
    }

    /// Coefficient f(t) of the drift `f(t)·x` of the forward SDE, `f = α̇/α`.
    fn drift(&self, t: f64) -> f64 {
        self.alpha_dot(t) / self.alpha(t)
    }

    /// Squared diffusion coefficient `g² = dσ²/dt − 2·f·σ²`.
    fn diffusion_squared(&self, t: f64) -> f64 {
        let sigma = self.sigma(t);
        2.0 * sigma * (self.sigma_dot(t) - self.drift(t) * sigma)
    }

    /// The law of `x_t` given `x_s` for `s < t`: `x_t = scale·x_s + std·ε`.
    fn transition(&self, s: f64, t: f64) -> Transition {
        Transition::between(&self.level(s), &self.level(t))
    }

    /// The level at time `t`.
    fn level(&self, t: f64) -> Level {
        Level { alpha: self.alpha(t), sigma: self.sigma(t), time: self.network_time(t) }
    }

    /// The node at time `t`.
    fn node(&self, t: f64) -> Node {
        Node { t, level: self.level(t) }
    }

    /// Where sampling to the very end arrives: α = 1 and σ = 0, at time 0 or, if the range begins at or below 0, at its
    /// beginning. No network is asked there, so its network time is that of the clean end of the range.
    fn clean(&self) -> Node {
        let min = self.time_range().0;
        Node { t: min.min(0.0), level: Level { alpha: 1.0, sigma: 0.0, time: self.network_time(min) } }
    }

    /// The chain of training steps behind this process, if it is one.
    fn chain(&self) -> Option<&DiscreteChain> {
        None
    }
}

/// A Gaussian transition `x_t = scale·x_s + sqrt(variance)·ε`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// `α_t/α_s`.
    pub scale: f64,
    /// `σ_t² − scale²·σ_s²`, at least 0.
    pub variance: f64,
}

impl Transition {
    /// The transition from a cleaner level to a noisier one.
    pub fn between(from: &Level, to: &Level) -> Self {
        let scale = to.alpha / from.alpha;
        // Factored, so that close levels do not cancel.
        let reached = scale * from.sigma;
        let variance = ((to.sigma - reached) * (to.sigma + reached)).max(0.0);
        Self { scale, variance }
    }
}
