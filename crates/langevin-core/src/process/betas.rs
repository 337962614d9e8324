//! The beta schedules of discrete chains.

use super::ProcessError;
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// Largest beta of the schedules that are defined through ᾱ, which would reach 1 at their last step.
const MAX_BETA: f64 = 0.999;

/// How the noise added per training step grows: β_i for step i of T.
///
/// The schedules defined through a function ᾱ(u), u in `[0, 1]`, have
/// `β_i = min(1 − ᾱ((i + 1)/T)/ᾱ(i/T), 0.999)`.
///
/// ```
/// use langevin_core::process::Betas;
/// let betas = Betas::Linear { start: 0.1, end: 0.4 }.values(4)?;
/// assert!((betas[1] - 0.2).abs() < 1e-15);
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Betas {
    /// Equally spaced, both ends included (Ho et al. 2020: 1e-4 to 0.02).
    Linear {
        /// β at the first step.
        start: f64,
        /// β at the last step.
        end: f64,
    },
    /// Squares of equally spaced numbers (Rombach et al. 2022; Stable Diffusion: 0.00085 to 0.012).
    ScaledLinear {
        /// β at the first step.
        start: f64,
        /// β at the last step.
        end: f64,
    },
    /// `ᾱ(u) = cos²((u + 0.008)/1.008·π/2)` (Nichol & Dhariwal 2021, eq. 17).
    SquaredCosine,
    /// A logistic curve over `[−6, 6]` between two values (GeoDiff, Xu et al. 2022).
    Sigmoid {
        /// β far below the middle.
        start: f64,
        /// β far above the middle.
        end: f64,
    },
    /// `ᾱ(u) = √(s/(1 + s))` with `ln s = −½·sgn(½ − u)·ln(1 − 2|½ − u| + 1e-6)`: λ follows a Laplace distribution
    /// (after Hang et al. 2024, with the square root that diffusers takes).
    Laplace,
    /// `ᾱ(u) = exp(−12u)`.
    Exponential,
    /// One number for each step.
    Custom(Vec<f64>),
}

impl Betas {
    /// The published schedule of DDPM: linear, 1e-4 to 0.02.
    pub const DDPM: Self = Self::Linear { start: 1e-4, end: 0.02 };

    /// The published schedule of Stable Diffusion 1 and 2: scaled linear, 0.00085 to 0.012.
    pub const STABLE_DIFFUSION: Self = Self::ScaledLinear { start: 0.00085, end: 0.012 };

    /// β of each of `steps` steps, not yet checked to lie in (0, 1).
    ///
    /// # Errors
    /// [`ProcessError::CustomLength`] if a list has another length.
    pub fn values(&self, steps: usize) -> Result<Vec<f64>, ProcessError> {
        Ok(match self {
            Betas::Linear { start, end } => linspace(*start, *end, steps).collect(),
            Betas::ScaledLinear { start, end } => {
                linspace(start.sqrt(), end.sqrt(), steps).map(|root| root * root).collect()
            }
            Betas::Sigmoid { start, end } => {
                linspace(-6.0, 6.0, steps).map(|x| start + (end - start) * logistic(x)).collect()
            }
            Betas::SquaredCosine | Betas::Laplace | Betas::Exponential => self.telescoped(steps),
            Betas::Custom(values) if values.len() != steps => {
                return Err(ProcessError::CustomLength { given: values.len(), steps });
            }
            Betas::Custom(values) => values.clone(),
        })
    }

    /// As [`values`](Self::values), rounded wherever torch rounds when it computes the schedule in float32.
    pub(super) fn values_f32(&self, steps: usize) -> Result<Vec<f32>, ProcessError> {
        Ok(match self {
            Betas::Linear { start, end } => linspace_f32(*start as f32, *end as f32, steps).collect(),
            Betas::ScaledLinear { start, end } => {
                linspace_f32(start.sqrt() as f32, end.sqrt() as f32, steps).map(|root| root * root).collect()
            }
            Betas::Sigmoid { start, end } => linspace_f32(-6.0, 6.0, steps)
                .map(|x| logistic(f64::from(x)) as f32 * (end - start) as f32 + *start as f32)
                .collect(),
            _ => self.values(steps)?.into_iter().map(|beta| beta as f32).collect(),
        })
    }

    fn telescoped(&self, steps: usize) -> Vec<f64> {
        // All divisions are of real numbers: with integers, i/T would be 0 up to the last step.
        let at = |i: usize| self.alpha_bar(i as f64 / steps as f64);
        (0..steps).map(|i| (1.0 - at(i + 1) / at(i)).min(MAX_BETA)).collect()
    }

    /// ᾱ(u) of the schedules that are defined through it.
    fn alpha_bar(&self, u: f64) -> f64 {
        match self {
            Betas::SquaredCosine => {
                let cos = libm::cos((u + 0.008) / 1.008 * FRAC_PI_2);
                cos * cos
            }
            Betas::Laplace => {
                let lambda = -0.5 * (1.0f64).copysign(0.5 - u) * libm::log(1.0 - 2.0 * (0.5 - u).abs() + 1e-6);
                logistic(lambda).sqrt()
            }
            _ => libm::exp(-12.0 * u),
        }
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// `count` equally spaced numbers, both ends included.
fn linspace(start: f64, end: f64, count: usize) -> impl Iterator<Item = f64> {
    let last = count.saturating_sub(1).max(1) as f64;
    (0..count).map(move |i| start + (end - start) * (i as f64 / last))
}

/// torch's float32 linspace: from the nearer end, with one rounding for product and sum.
fn linspace_f32(start: f32, end: f32, count: usize) -> impl Iterator<Item = f32> {
    let step = (end - start) / count.saturating_sub(1).max(1) as f32;
    (0..count).map(move |i| {
        if i < count / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((count - 1 - i) as f32, end) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squared_cosine_follows_its_formula_at_every_step() {
        for steps in [10usize, 100, 1000, 4000] {
            let betas = Betas::SquaredCosine.values(steps).unwrap();
            assert_eq!(betas.len(), steps);
            let bar = |u: f64| ((u + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos().powi(2);
            for (i, &beta) in betas.iter().enumerate() {
                let expected = 1.0 - bar((i + 1) as f64 / steps as f64) / bar(i as f64 / steps as f64);
                assert!((beta - expected.min(0.999)).abs() < 1e-13, "step {i} of {steps}: {beta}, not {expected}");
                assert!(beta > 0.0, "beta at step {i} of {steps} is {beta}");
            }
            // The sum telescopes: the product of 1 − β over all but the last step is ᾱ itself.
            let product: f64 = betas[..steps - 1].iter().map(|b| 1.0 - b).product();
            let expected = bar((steps - 1) as f64 / steps as f64) / bar(0.0);
            assert!((product / expected - 1.0).abs() < 1e-10);
            assert_eq!(betas[steps - 1], 0.999);
        }
    }

    #[test]
    fn the_other_schedules_follow_theirs() {
        let n = 50;
        let share = |i: usize| i as f64 / 49.0;
        let all = |betas: Betas| betas.values(n).unwrap();
        let (linear, scaled) = (all(Betas::Linear { start: 0.01, end: 0.5 }), all(Betas::STABLE_DIFFUSION));
        let (sigmoid, exponential) = (all(Betas::Sigmoid { start: 0.1, end: 0.3 }), all(Betas::Exponential));
        for i in 0..n {
            assert!((linear[i] - (0.01 + 0.49 * share(i))).abs() < 1e-15);
            let root = 0.00085f64.sqrt() + (0.012f64.sqrt() - 0.00085f64.sqrt()) * share(i);
            assert!((scaled[i] - root * root).abs() < 1e-16);
            let logistic = 0.5 + 0.5 * (0.5 * (-6.0 + 12.0 * share(i))).tanh();
            assert!((sigmoid[i] - (0.1 + 0.2 * logistic)).abs() < 1e-15);
            assert!((exponential[i] + (-12.0f64 / 50.0).exp_m1()).abs() < 1e-14);
        }
    }

    #[test]
    fn laplace_has_a_laplace_log_snr() {
        // ᾱ² = s/(1 + s) with the quantile function of Laplace(0, 1/2) as ln s.
        let n = 1000;
        let betas = Betas::Laplace.values(n).unwrap();
        let mut product = (1e3f64 / (1.0 + 1e3)).sqrt();
        for (i, beta) in betas.iter().enumerate().take(n - 1) {
            product *= 1.0 - beta;
            let u = (i + 1) as f64 / n as f64;
            let quantile = if u < 0.5 { -0.5 * (2.0 * u).ln() } else { 0.5 * (2.0 - 2.0 * u).ln() };
            let s = (product * product) / (1.0 - product * product);
            assert!((s.ln() - quantile).abs() < 1e-3, "step {i}: {} is not {quantile}", s.ln());
        }
    }

    #[test]
    fn lists_have_one_number_for_each_step() {
        let list = Betas::Custom(vec![0.1, 0.2]);
        assert_eq!(list.values(2).unwrap(), [0.1, 0.2]);
        assert_eq!(list.values(3), Err(ProcessError::CustomLength { given: 2, steps: 3 }));
    }
}
