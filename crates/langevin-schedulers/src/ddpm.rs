//! Ancestral sampling from the posterior, DDPM (Ho et al. 2020, algorithm 2).

use crate::plan::{Coef, Draw, Plan, Row, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::process::Transition;
use langevin_core::{Grid, Level, Process};
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};

/// Variance of the reverse step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variance {
    /// The posterior's own, `σ_s²·σ²_{t|s}/σ_t²`: right for data that is one point.
    #[default]
    FixedSmall,
    /// The forward step's, `σ²_{t|s}` (β on a chain): right for data that is standard normal.
    FixedLarge,
    /// The network's variance channels are the variance.
    Learned,
    /// The network's variance channels, in [-1, 1], interpolate the logarithm between small and large
    /// (Nichol & Dhariwal 2021).
    LearnedRange,
}

impl Display for Variance {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Variance::FixedSmall => "small fixed",
            Variance::FixedLarge => "large fixed",
            Variance::Learned => "learned",
            Variance::LearnedRange => "learned-range",
        })
    }
}

/// DDPM on any process and any respacing: `x_s` is drawn from `q(x_s | x_t, x̂_0)`.
///
/// With `σ²_{t|s} = σ_t² − (α_t/α_s)²σ_s²` its mean is
/// `(α_t/α_s)(σ_s²/σ_t²)·x_t + α_s(σ²_{t|s}/σ_t²)·x̂_0`.
///
/// # Example
///
/// ```
/// use langevin_core::Grid;
/// use langevin_core::process::{Betas, DiscreteChain};
/// use langevin_schedulers::{Ddpm, Solver, Variance};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let chain = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
/// let plan = Ddpm::new().variance(Variance::FixedLarge).plan(&chain, &Grid::leading(100))?;
/// assert_eq!(plan.rows().len(), 100);
/// # Ok(()) }
/// ```
///
/// # References
///
/// Ho, Jain & Abbeel 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239), eq. 6, 7 and algorithm 2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ddpm {
    variance: Variance,
    noise_at_end: bool,
    #[serde(default)]
    mean_at_end: bool,
}

/// The smallest variance whose logarithm is taken, as in the original code.
pub const VARIANCE_FLOOR: f64 = 1e-20;

impl Ddpm {
    /// With the small fixed variance.
    pub fn new() -> Self {
        Self::default()
    }

    /// With another variance.
    pub fn variance(mut self, variance: Variance) -> Self {
        self.variance = variance;
        self
    }

    /// Whether the network's variance channels are read.
    pub fn learns_variance(&self) -> bool {
        matches!(self.variance, Variance::Learned | Variance::LearnedRange)
    }

    /// Adds noise in the last step too, unless it starts at network time 0, as diffusers does. The paper's algorithm
    /// adds none; the fixed small variance is zero there.
    pub fn noise_at_end(mut self, noise: bool) -> Self {
        self.noise_at_end = noise;
        self
    }

    /// Adds no noise in a step that arrives at the clean end of the process's range, also where there is noise left: the
    /// result is the posterior's mean, as Würstchen's sampler has it.
    pub fn mean_at_end(mut self) -> Self {
        self.mean_at_end = true;
        self
    }

    fn row(&self, index: usize, stop: &Stop, clean: f64) -> Result<Row, PlanError> {
        let posterior = Posterior::of("DDPM", stop)?;
        let last = stop.to.level.sigma == 0.0;
        let noisy = if last { self.noise_at_end && stop.ask.time != 0.0 } else { true };
        let std = match self.variance {
            Variance::FixedSmall => Coef::C(posterior.variance.sqrt()),
            Variance::FixedLarge => Coef::C(posterior.forward.sqrt()),
            Variance::Learned => Coef::PredictedStd { slot: 0 },
            Variance::LearnedRange => Coef::LearnedStd {
                slot: 0,
                log_min: libm::log(posterior.variance.max(VARIANCE_FLOOR)),
                log_max: libm::log(posterior.forward.max(VARIANCE_FLOOR)),
            },
        };
        let noisy = noisy && std != Coef::C(0.0) && !(self.mean_at_end && stop.to.t == clean);
        let mut sum = vec![Term::new(posterior.of_x, Src::X(0)), Term::new(posterior.of_x0, Src::X0(0))];
        if noisy {
            sum.push(Term { c: std, of: Src::Z(0) });
        }
        Ok(Row::step(index, stop, 0, sum, noisy.then_some(Draw::WHITE)))
    }
}

/// The posterior `q(x_s | x_t, x_0) = N(of_x·x_t + of_x0·x_0, variance)` of a Gaussian process.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::ddpm::Posterior;
/// let stop = Grid::times(vec![0.5, 0.4])?.stops(&VpSde::default())?[0];
/// let posterior = Posterior::of("an example", &stop)?;
/// // The mean is right where there is no noise: α_s from x_0 by way of x_t and directly.
/// let mean = posterior.of_x * stop.from.level.alpha + posterior.of_x0;
/// assert!((mean - stop.to.level.alpha).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Ho et al. 2020, "Denoising diffusion probabilistic models", eq. 6 and 7.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// Coefficient of x_t.
    pub of_x: f64,
    /// Coefficient of x_0.
    pub of_x0: f64,
    /// Its variance; zero where the step ends in clean data.
    pub variance: f64,
    /// Variance of the forward step, `σ²_{t|s}`.
    pub forward: f64,
}

impl Posterior {
    /// For a step from t to s; `solver` names who asks, in errors.
    ///
    /// # Errors
    /// [`PlanError::Singular`] if there is no noise at t.
    pub fn of(solver: &'static str, stop: &Stop) -> Result<Self, PlanError> {
        let (t, s) = (&stop.from.level, &stop.to.level);
        if !(t.sigma > 0.0) {
            return Err(PlanError::Singular {
                solver,
                t: stop.from.t,
                alpha: t.alpha,
                sigma: t.sigma,
                advice: "there is no noise left to take away; end the grid earlier",
            });
        }
        let Transition { scale, variance: forward } = Transition::between(s, t);
        let ratio = (s.sigma / t.sigma).powi(2);
        let share = forward / (t.sigma * t.sigma);
        Ok(Self { of_x: scale * ratio, of_x0: s.alpha * share, variance: s.sigma * s.sigma * share, forward })
    }
}

/// The noise-to-signal ratio.
pub(crate) fn ratio(level: &Level) -> f64 {
    level.sigma / level.alpha
}

/// Whether the first step that moves goes to a smaller noise-to-signal ratio.
pub(crate) fn falls(stops: &[Stop]) -> bool {
    let moves = stops.iter().map(|stop| (ratio(&stop.from.level), ratio(&stop.to.level)));
    moves.filter(|(from, to)| from != to).map(|(from, to)| to < from).next().unwrap_or(true)
}

/// Checks that no step raises (or lowers) the noise-to-signal ratio. A step that stays is allowed: chains that end at
/// their first step have one.
pub(crate) fn check_direction(solver: &'static str, stops: &[Stop], falling: bool) -> Result<(), PlanError> {
    for (step, stop) in stops.iter().enumerate() {
        let (from, to) = (ratio(&stop.from.level), ratio(&stop.to.level));
        if !(if falling { to <= from } else { to >= from }) {
            let expected = if falling { "falling" } else { "rising" };
            return Err(PlanError::Direction { solver, expected, step, from, to });
        }
    }
    Ok(())
}

impl Solver for Ddpm {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let stops = grid.stops(process)?;
        check_direction("DDPM", &stops, true)?;
        let clean = process.time_range().0;
        let rows = stops.iter().enumerate().map(|(index, stop)| self.row(index, stop, clean));
        let rows = rows.collect::<Result<_, _>>()?;
        let name = format!("DDPM ({} variance)", self.variance);
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use langevin_core::process::{Betas, DiscreteChain, SubVpSde, VeSde, VpSde};

    fn chain() -> DiscreteChain {
        DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000).expect("a chain")
    }

    /// Neighboring steps of the chain: the formulas of Ho et al., equations 6 and 7, in their own symbols.
    #[test]
    fn neighboring_steps_are_the_formulas_of_the_paper() {
        let chain = chain();
        let plan = Ddpm::new().plan(&chain, &Grid::leading(1000)).expect("a plan");
        for (row, t) in plan.rows().iter().zip((1..1000).rev()) {
            let (bar, before, beta) = (chain.alphas_cumprod()[t], chain.alphas_cumprod()[t - 1], chain.betas()[t]);
            let expected = [
                (Src::X(0), (1.0 - beta).sqrt() * (1.0 - before) / (1.0 - bar)),
                (Src::X0(0), before.sqrt() * beta / (1.0 - bar)),
                (Src::Z(0), ((1.0 - before) / (1.0 - bar) * beta).sqrt()),
            ];
            for (term, (of, value)) in row.post[0].sum.iter().zip(expected) {
                assert_eq!(term.of, of);
                let Coef::C(c) = term.c else { panic!("a number") };
                assert!((c - value).abs() < 1e-12, "step {t}, {of}: {c} and {value}");
            }
        }
        let last = &plan.rows()[999];
        assert_eq!((last.draws.len(), last.post[0].sum.as_slice()), (0, &[Term::new(1.0, Src::X0(0))][..]));
    }

    /// Given x_t and x_0, x_s is what conditioning the joint normal law of (x_s, x_t) gives.
    #[test]
    fn the_posterior_is_the_conditional_law() {
        let vp = VpSde::default();
        for (t, s) in [(0.9, 0.2), (0.5, 0.45), (0.1, 0.01)] {
            let stop = &Grid::times(vec![t, s]).expect("falling").stops(&vp).expect("stops")[0];
            let (from, to) = (stop.from.level, stop.to.level);
            let posterior = Posterior::of("DDPM", stop).expect("a posterior");
            // Given x_0: var(x_s) = σ_s², cov(x_s, x_t) = (α_t/α_s)σ_s².
            let gain = from.alpha / to.alpha * to.sigma.powi(2) / from.sigma.powi(2);
            assert!((posterior.of_x - gain).abs() < 1e-12);
            assert!((posterior.of_x0 - (to.alpha - gain * from.alpha)).abs() < 1e-12);
            let variance = to.sigma.powi(2) - gain.powi(2) * from.sigma.powi(2);
            assert!((posterior.variance - variance).abs() < 1e-12);
        }
    }

    /// The ancestral sampling predictor of Song et al. 2021 (appendix F): on VE processes it is DDPM with the small
    /// variance, on the chains of VP with the large one. For sub-VP the paper has none; the posterior has.
    #[test]
    fn ancestral_predictors_of_score_sdes_are_ddpm() {
        let numbers = |row: &Row| -> Vec<f64> {
            // x̂_0 = (x + σ²·score)/α.
            let level = row.eval.expect("a question").at;
            let mut sums = vec![0.0; 3];
            for term in &row.post[0].sum {
                let Coef::C(c) = term.c else { panic!("a number") };
                match term.of {
                    Src::X(_) => sums[0] += c,
                    Src::X0(_) => {
                        sums[0] += c / level.alpha;
                        sums[1] += c * level.sigma * level.sigma / level.alpha;
                    }
                    _ => sums[2] += c,
                }
            }
            sums
        };
        let close = |row: &Row, expected: [f64; 3]| {
            for (found, expected) in numbers(row).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-9 * expected.abs().max(1.0), "{found} is not {expected}");
            }
        };
        let ve = VeSde::default();
        let plan = Ddpm::new().plan(&ve, &Grid::uniform(100)).expect("a plan");
        let mut before = plan.start_node().level.sigma.powi(2);
        for row in plan.rows() {
            // x + (σ_i² − σ_{i−1}²)·score + √(σ_{i−1}²(σ_i² − σ_{i−1}²)/σ_i²)·z.
            let after = row.after.level.sigma.powi(2);
            close(row, [1.0, before - after, (after * (before - after) / before).sqrt()]);
            before = after;
        }
        let steps = 1000;
        let betas = Betas::Linear { start: 0.1 / f64::from(steps), end: 20.0 / f64::from(steps) };
        let vp = DiscreteChain::new(betas, steps as usize).expect("a chain");
        let plan = Ddpm::new().variance(Variance::FixedLarge).plan(&vp, &Grid::leading(1000)).expect("a plan");
        for (row, t) in plan.rows().iter().zip((1..1000).rev()) {
            // (x + β·score)/√(1 − β) + √β·z.
            let beta = vp.betas()[t];
            let root = (1.0 - beta).sqrt();
            close(row, [1.0 / root, beta / root, beta.sqrt()]);
        }
        let sub_vp = Ddpm::new().plan(&SubVpSde::default(), &Grid::uniform(100)).expect("a plan");
        assert!(sub_vp.is_stochastic());
    }

    #[test]
    fn the_large_variance_is_the_forward_one() {
        let chain = chain();
        let plan = Ddpm::new().variance(Variance::FixedLarge).plan(&chain, &Grid::leading(1000)).expect("a plan");
        for (row, t) in plan.rows().iter().zip((1..1000).rev()) {
            let Coef::C(std) = row.post[0].sum[2].c else { panic!("a number") };
            assert!((std - chain.betas()[t].sqrt()).abs() < 1e-12);
        }
    }

    #[test]
    fn names_are_words() {
        let name = |variance| {
            let plan = Ddpm::new().variance(variance).plan(&chain(), &Grid::leading(2)).expect("a plan");
            plan.name().to_owned()
        };
        assert_eq!(name(Variance::FixedSmall), "DDPM (small fixed variance)");
        assert_eq!(name(Variance::FixedLarge), "DDPM (large fixed variance)");
        assert_eq!(name(Variance::Learned), "DDPM (learned variance)");
        assert_eq!(name(Variance::LearnedRange), "DDPM (learned-range variance)");
    }

    /// Noise in the last step only if asked for, and never from network time 0.
    #[test]
    fn noise_at_the_end() {
        let draws = |ddpm: Ddpm, offset: usize| {
            let ddpm = ddpm.variance(Variance::FixedLarge);
            let plan = ddpm.plan(&chain(), &Grid::leading(10).offset(offset)).expect("a plan");
            plan.rows()[9].draws.len()
        };
        assert_eq!(draws(Ddpm::new(), 1), 0);
        assert_eq!(draws(Ddpm::new().noise_at_end(true), 1), 1);
        assert_eq!(draws(Ddpm::new().noise_at_end(true), 0), 0);
        // Where the range ends with noise: only if the mean is not asked for.
        let ending = |ddpm: Ddpm| {
            let plan = ddpm.plan(&VpSde::default(), &Grid::uniform(10)).expect("a plan");
            assert_eq!(plan.rows()[8].draws.len(), 1);
            plan.rows()[9].draws.len()
        };
        assert_eq!((ending(Ddpm::new()), ending(Ddpm::new().mean_at_end())), (1, 0));
    }
}
