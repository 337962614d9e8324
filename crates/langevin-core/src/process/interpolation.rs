//! Between the steps of a chain.

use serde::{Deserialize, Serialize};

/// The quantity that is linear in time between two steps of a chain.
///
/// A discrete chain is only defined at its steps; solvers that ask in between need a choice. At the steps all choices agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpolation {
    /// The angle `atan2(σ, α)`: finite everywhere, with zero terminal SNR too.
    #[default]
    Angle,
    /// `σ/α`.
    Sigma,
    /// `ln(σ/α)`, which is −λ.
    LogSigma,
    /// `ln α`.
    LogAlpha,
}

impl Interpolation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Interpolation::Angle => "the angle",
            Interpolation::Sigma => "sigma/alpha",
            Interpolation::LogSigma => "ln(sigma/alpha)",
            Interpolation::LogAlpha => "ln(alpha)",
        }
    }

    /// The interpolated quantity at a level, signed so that it rises with noise.
    pub(super) fn clock(self, alpha: f64, sigma: f64) -> f64 {
        match self {
            Interpolation::Angle => libm::atan2(sigma, alpha),
            Interpolation::Sigma => sigma / alpha,
            Interpolation::LogSigma => libm::log(sigma) - libm::log(alpha),
            Interpolation::LogAlpha => -libm::log(alpha),
        }
    }

    /// As [`clock`](Self::clock), from the half-log-SNR.
    pub(super) fn clock_at_lambda(self, lambda: f64) -> f64 {
        match self {
            Interpolation::Angle => libm::atan(libm::exp(-lambda)),
            Interpolation::Sigma => libm::exp(-lambda),
            Interpolation::LogSigma => -lambda,
            // α² = 1/(1 + e^(−2λ)).
            Interpolation::LogAlpha => (-lambda).max(0.0) + 0.5 * libm::log1p(libm::exp(-2.0 * lambda.abs())),
        }
    }

    /// (α, σ) on the unit circle where the clock shows `y`.
    pub(super) fn coefficients(self, y: f64) -> (f64, f64) {
        match self {
            Interpolation::Angle => (libm::cos(y), libm::sin(y)),
            Interpolation::Sigma => {
                let alpha = 1.0 / libm::hypot(1.0, y);
                (alpha, y * alpha)
            }
            Interpolation::LogSigma => Interpolation::Sigma.coefficients(libm::exp(y)),
            Interpolation::LogAlpha => (libm::exp(-y), (-libm::expm1(-2.0 * y)).sqrt()),
        }
    }

    /// Derivatives of (α, σ) when the clock runs at speed `speed` through the level (α, σ).
    pub(super) fn derivatives(self, alpha: f64, sigma: f64, speed: f64) -> (f64, f64) {
        // Everything moves on the unit circle: α̇ = −σ·φ̇ and σ̇ = α·φ̇ for the angle φ.
        let angle = match self {
            Interpolation::Angle => speed,
            Interpolation::Sigma => alpha * alpha * speed,
            Interpolation::LogSigma => alpha * sigma * speed,
            Interpolation::LogAlpha => alpha / sigma * speed,
        };
        (-sigma * angle, alpha * angle)
    }
}
