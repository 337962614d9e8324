//! One step of the semi-linear equation between two levels.

use super::phi::{factorial, phi};
use langevin_core::Level;
use serde::{Deserialize, Serialize};

/// Which of the network's two answers is taken as a polynomial in λ.
///
/// The flow is exact in everything else, so the two differ in the error of that polynomial: the clean sample is the
/// smoother one where there is little noise, and stays in range under guidance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// The clean sample x̂_0: DPM-Solver++ (Lu et al. 2022b).
    #[default]
    Data,
    /// The noise ε̂: DPM-Solver (Lu et al. 2022a), DEIS (Zhang & Chen 2023).
    Noise,
}

/// A step in λ from one level to another of the reverse SDE whose noise has τ² times the strength of the reverse of the
/// forward one: τ = 0 is the probability flow, τ = 1 the reverse SDE (Xue et al. 2023, eq. 6).
///
/// With `h = λ_t − λ_s` and `c = 1 + τ²` the solution is, in the data basis,
/// `x_t = (σ_t/σ_s)·e^{−τ²h}·x_s + α_t ∫ c·e^{−c(λ_t − λ)} x̂_0(λ) dλ + σ_t·√(1 − e^{−2τ²h})·z` and, in the noise basis,
/// `x_t = (α_t/α_s)·x_s − σ_t ∫ c·e^{λ_t − λ} ε̂(λ) dλ + τ·σ_t·√(e^{2h} − 1)·z`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg {
    basis: Basis,
    tau_squared: f64,
    from: Level,
    to: Level,
    /// h, infinite at either end of a process, negative on the way from data to noise.
    pub h: f64,
}

impl Leg {
    pub fn new(basis: Basis, tau_squared: f64, from: Level, to: Level) -> Self {
        Self { basis, tau_squared, from, to, h: to.lambda() - from.lambda() }
    }

    /// The factor of x_s.
    pub fn decay(&self) -> f64 {
        match self.basis {
            Basis::Noise => self.to.alpha / self.from.alpha,
            // 0·∞ is no number, but no noise takes nothing away.
            Basis::Data if self.tau_squared == 0.0 => self.to.sigma / self.from.sigma,
            Basis::Data => self.to.sigma / self.from.sigma * libm::exp(-self.tau_squared * self.h),
        }
    }

    /// The weight of the k-th derivative, times h^k, of the answer in λ at the step's beginning:
    /// `h^{−k} ∫ weight(λ)·(λ − λ_s)^k/k! dλ`.
    pub fn weight(&self, k: usize) -> f64 {
        let c = 1.0 + self.tau_squared;
        match (self.basis, k) {
            // As the difference of two finite numbers where e^−h is not one.
            (Basis::Data, 0) if self.h < -1.0 && self.tau_squared == 0.0 => {
                self.to.alpha - self.decay() * self.from.alpha
            }
            (Basis::Data, 0) => -self.to.alpha * libm::expm1(-c * self.h),
            (Basis::Data, _) if self.h.is_infinite() => self.to.alpha / factorial(k),
            (Basis::Data, _) => self.to.alpha * c * self.h * phi(k + 1, -c * self.h),
            // As the difference of two finite numbers where e^h is not one.
            (Basis::Noise, 0) if self.h > 1.0 => c * (self.to.sigma - self.decay() * self.from.sigma),
            (Basis::Noise, 0) => -c * self.to.sigma * libm::expm1(self.h),
            (Basis::Noise, _) if self.h.is_infinite() => f64::NAN,
            (Basis::Noise, _) => -c * self.to.sigma * self.h * phi(k + 1, self.h),
        }
    }

    /// What the weight of a constant answer is to first order in h.
    pub fn linear(&self) -> f64 {
        let c = 1.0 + self.tau_squared;
        match self.basis {
            Basis::Data => self.to.alpha * c * self.h,
            Basis::Noise => -self.to.sigma * c * self.h,
        }
    }

    /// α where the step arrives.
    pub fn reached_alpha(&self) -> f64 {
        self.to.alpha
    }

    /// Standard deviation of the noise that is added.
    pub fn std(&self) -> f64 {
        if self.tau_squared == 0.0 {
            return 0.0;
        }
        match self.basis {
            Basis::Data => self.to.sigma * (-libm::expm1(-2.0 * self.tau_squared * self.h)).sqrt(),
            Basis::Noise => {
                let reached = self.decay() * self.from.sigma;
                (self.tau_squared * (reached - self.to.sigma) * (reached + self.to.sigma)).sqrt()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(lambda: f64) -> Level {
        // α² + σ² = 1.
        let alpha = (1.0 / (1.0 + (-2.0 * lambda).exp())).sqrt();
        Level { alpha, sigma: alpha * (-lambda).exp(), time: 0.0 }
    }

    /// With the answers of one fixed clean sample, every leg is exact: it reaches α_t·x_0 + (its share of) σ_t·ε.
    #[test]
    fn a_constant_clean_sample_is_carried_exactly() {
        let (from, to) = (level(-1.0), level(0.7));
        let (x0, eps) = (0.8, -1.3);
        let x = from.alpha * x0 + from.sigma * eps;
        for tau_squared in [0.0, 0.3, 1.0] {
            let leg = Leg::new(Basis::Data, tau_squared, from, to);
            let kept = to.sigma * (-tau_squared * leg.h).exp();
            let reached = leg.decay() * x + leg.weight(0) * x0;
            assert!((reached - (to.alpha * x0 + kept * eps)).abs() < 1e-14);
            // What is kept and what is added make up the noise of the level.
            assert!((kept * kept + leg.std().powi(2) - to.sigma * to.sigma).abs() < 1e-14);
        }
        let leg = Leg::new(Basis::Noise, 0.0, from, to);
        assert!((leg.decay() * x + leg.weight(0) * eps - (to.alpha * x0 + to.sigma * eps)).abs() < 1e-14);
    }

    /// The weights are the integrals they are said to be.
    #[test]
    fn weights_are_integrals() {
        for (basis, tau_squared) in [(Basis::Data, 0.0), (Basis::Data, 0.4), (Basis::Noise, 0.0), (Basis::Noise, 1.0)] {
            for h in [1e-3, 0.5, 2.5] {
                let (from, to) = (level(-0.4), level(-0.4 + h));
                let leg = Leg::new(basis, tau_squared, from, to);
                let c = 1.0 + tau_squared;
                for k in 0..4 {
                    let n = 2000;
                    let f = |v: f64| {
                        let weight = match basis {
                            Basis::Data => to.alpha * c * (-c * h * (1.0 - v)).exp(),
                            Basis::Noise => -to.sigma * c * (h * (1.0 - v)).exp(),
                        };
                        weight * h * v.powi(k) / factorial(k as usize)
                    };
                    // Simpson.
                    let sum: f64 = (0..n)
                        .map(|i| {
                            let (a, b) = (f64::from(i) / f64::from(n), f64::from(i + 1) / f64::from(n));
                            (f(a) + 4.0 * f(0.5 * (a + b)) + f(b)) / (6.0 * f64::from(n))
                        })
                        .sum();
                    let found = leg.weight(k as usize);
                    assert!(
                        (found - sum).abs() < 1e-10 * sum.abs().max(1e-3),
                        "{basis:?} {tau_squared} {h} {k}: {found} {sum}"
                    );
                }
            }
        }
    }

    #[test]
    fn ends_are_limits() {
        let (noise, clean) = (Level { alpha: 0.0, sigma: 1.0, time: 1.0 }, Level { alpha: 1.0, sigma: 0.0, time: 0.0 });
        let middle = level(0.2);
        let first = Leg::new(Basis::Data, 0.0, noise, middle);
        assert_eq!((first.decay(), first.weight(0)), (middle.sigma, middle.alpha));
        let last = Leg::new(Basis::Data, 0.0, middle, clean);
        assert_eq!((last.decay(), last.weight(0)), (0.0, 1.0));
        let last = Leg::new(Basis::Data, 1.0, middle, clean);
        assert_eq!((last.decay(), last.weight(0), last.std()), (0.0, 1.0, 0.0));
        let last = Leg::new(Basis::Noise, 0.0, middle, clean);
        assert!((last.decay() - 1.0 / middle.alpha).abs() < 1e-15);
        assert!((last.weight(0) + middle.sigma / middle.alpha).abs() < 1e-15);
        // Upwards: into pure noise in either basis, out of clean data in that of the noise.
        let up = Leg::new(Basis::Data, 0.0, middle, noise);
        let carried = up.decay() * middle.sigma;
        assert!((carried - 1.0).abs() < 1e-15 && (up.decay() * middle.alpha + up.weight(0)).abs() < 1e-15);
        let up = Leg::new(Basis::Noise, 0.0, middle, noise);
        assert_eq!((up.decay(), up.weight(0)), (0.0, 1.0));
        let out = Leg::new(Basis::Noise, 0.0, clean, middle);
        assert_eq!((out.decay(), out.weight(0)), (middle.alpha, middle.sigma));
        // From pure noise the first step of the reverse SDE forgets all of it.
        let first = Leg::new(Basis::Data, 1.0, noise, middle);
        assert_eq!((first.decay(), first.std()), (0.0, middle.sigma));
    }
}
