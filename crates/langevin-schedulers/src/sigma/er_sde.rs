//! Extended reverse-time SDEs: noise by any function of σ/α.

use super::churn::{Churn, plan_raised};
use super::frame::walk;
use crate::ddpm::{check_direction, ratio};
use crate::ode::check_joined;
use crate::plan::{Draw, Plan, Row, Slot, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "ER-SDE";

/// φ of an extended reverse SDE: how much noise it has where. φ(s)/s must not fall as s rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum NoiseScale {
    /// `φ(s) = s^p`: 1 is the probability flow, 2 the reverse SDE, and p the one with noise of strength τ² = p − 1.
    Power(f64),
    /// `φ(s) = s·(exp(s^0.3) + 10)`, the authors' choice: τ² = 0.3·s^0.3·e^(s^0.3)/(e^(s^0.3) + 10), which is little noise.
    #[default]
    Exponential,
}

impl NoiseScale {
    /// φ(s)/s.
    fn over_s(self, s: f64) -> f64 {
        match self {
            NoiseScale::Power(p) => libm::pow(s, p - 1.0),
            NoiseScale::Exponential => libm::exp(libm::pow(s, 0.3)) + 10.0,
        }
    }

    /// `(φ(to)/to)/(φ(from)/from)`, at most 1: what is left of the noise of a state, beside the share `to/from`.
    fn left(self, from: f64, to: f64) -> f64 {
        let (above, below) = (self.over_s(from), self.over_s(to));
        if above.is_normal() {
            return below / above;
        }
        // The two are beyond the range of numbers, or below it, where their ratio need not be.
        if from == to {
            return 1.0;
        }
        if from.is_infinite() {
            return 0.0;
        }
        match self {
            NoiseScale::Power(p) => libm::pow(to / from, p - 1.0),
            // The 10 is nothing beside the first.
            NoiseScale::Exponential if below.is_infinite() => libm::exp(libm::pow(to, 0.3) - libm::pow(from, 0.3)),
            NoiseScale::Exponential => below * libm::exp(-libm::pow(from, 0.3)),
        }
    }

    /// `φ(to)/to·∫ du/φ(u)` and `φ(to)/to·∫ (u − from)/φ(u) du` from `to` up to `from`.
    fn integrals(self, from: f64, to: f64) -> (f64, f64) {
        // With v = ln u the first is ∫ dv/(φ(u)/u). Gauss-Legendre with eight points, on pieces on which all is smooth.
        let (begin, end) = (libm::log(to), libm::log(from));
        let pieces = (2.0 * (end - begin)).ceil().max(1.0);
        let half = 0.5 * (end - begin) / pieces;
        let (mut plain, mut weighed) = (0.0, 0.0);
        for piece in 0..pieces as usize {
            let middle = begin + (2 * piece + 1) as f64 * half;
            for (node, weight) in GAUSS {
                for at in [middle - node * half, middle + node * half] {
                    let u = libm::exp(at);
                    let part = weight * half * self.left(u, to);
                    plain += part;
                    weighed += part * (u - from);
                }
            }
        }
        (plain, weighed)
    }
}

/// Positive nodes on [−1, 1] and their weights.
const GAUSS: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_5),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_3),
];

/// Solvers of extended reverse-time SDEs, ER-SDE-Solver-1 to -3: one evaluation a step, the state and its noise exact, x̂_0 a
/// polynomial in σ/α through up to three answers.
///
/// In `y = x/α` over `s = σ/α` the equation is `d(y/φ) = x̂_0 d(1/φ)` with noise that keeps the marginals, for any
/// [`NoiseScale`] φ. A step from s to s' is
/// `y' = r·y + (1 − r)·x̂_0 + (s' − s + φ(s')·∫ du/φ)·x̂_0' + ((s' − s)²/2 + φ(s')·∫ (u − s)/φ du)·x̂_0''` and noise of variance
/// `s'² − r²s²`, with `r = φ(s')/φ(s)` and integrals from s' to s. Here they are exact to rounding; the published code sums
/// 200 values. The derivatives are the published differences of answers: x̂_0' is that of the last two, so that the third
/// answer lowers the error but the order stays 2.
///
/// A step from pure noise, the one after it, and a step to clean data have order 1.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::{ErSde, NoiseScale}};
/// let plan = ErSde::new(3)?.plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
/// assert_eq!((plan.evaluations(), plan.is_stochastic()), (10, true));
/// let flow = ErSde::new(3)?.noise(NoiseScale::Power(1.0))?.plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
/// assert!(!flow.is_stochastic());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Cui et al. 2023, "Elucidating the solution space of extended reverse-time SDE for diffusion models", algorithms 1 to 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErSde {
    order: usize,
    noise: NoiseScale,
}

impl ErSde {
    /// With up to `order` answers, and the authors' noise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless the order is 1, 2 or 3.
    pub fn new(order: usize) -> Result<Self, PlanError> {
        let solver = Self { order, noise: NoiseScale::default() };
        solver.check()?;
        Ok(solver)
    }

    /// With another φ.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for a power that is not finite and at least 1.
    pub fn noise(mut self, noise: NoiseScale) -> Result<Self, PlanError> {
        self.noise = noise;
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), PlanError> {
        let bad = |setting, given, expected| Err(PlanError::Setting { solver: NAME, setting, given, expected });
        if !(1..=3).contains(&self.order) {
            return bad("order", self.order as f64, "1, 2 or 3");
        }
        match self.noise {
            NoiseScale::Power(p) if !(p >= 1.0 && p.is_finite()) => {
                bad("power of the noise scale", p, "a finite number, at least 1: 1 adds no noise, 2 is the reverse SDE")
            }
            _ => Ok(()),
        }
    }

    /// Weights of the answers at these σ/α, the latest first, in y at σ/α = `to`.
    fn weights(&self, past: &[(Slot, f64)], to: f64) -> Vec<f64> {
        let s = past[0].1;
        // From pure noise to pure noise nothing is taken away.
        let share = if to == s { 1.0 } else { to / s };
        let constant = 1.0 - share * self.noise.left(s, to);
        let [_, (_, s1), ..] = *past else { return vec![constant] };
        let (plain, weighed) = self.noise.integrals(s, to);
        let of_slope = to - s + to * plain;
        let [_, _, (_, s2), ..] = *past else {
            let share = of_slope / (s - s1);
            return vec![constant + share, -share];
        };
        let of_curvature = (0.5 * (to - s) * (to - s) + to * weighed) * 2.0 / (s - s2);
        let (first, second) = ((of_slope + of_curvature) / (s - s1), of_curvature / (s1 - s2));
        vec![constant + first, -first - second, second]
    }

    fn row(&self, index: usize, stop: &Stop, past: &[(Slot, f64)]) -> Row {
        let (from, to) = (&stop.from.level, &stop.to.level);
        // What is left of the noise that was there.
        let kept = self.noise.left(ratio(from), ratio(to));
        let mut sum = vec![Term::new(to.sigma / from.sigma * kept, Src::X(0))];
        let weights = self.weights(past, ratio(to)).into_iter();
        sum.extend(past.iter().zip(weights).map(|((slot, _), weight)| Term::new(to.alpha * weight, Src::X0(*slot))));
        let std = to.sigma * ((1.0 - kept) * (1.0 + kept)).max(0.0).sqrt();
        let noisy = std > 0.0;
        sum.extend(noisy.then(|| Term::new(std, Src::Z(0))));
        Row::step(index, stop, past[0].0, sum, noisy.then_some(Draw::WHITE))
    }
}

impl Solver for ErSde {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let (stops, _) = walk(process, grid)?;
        check_direction(NAME, &stops, true)?;
        check_joined(NAME, &stops)?;
        let (name, rows) = self.table(&stops);
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        plan_raised(churn, NAME, process, grid, |stops| Ok(self.table(stops)))
    }
}

impl ErSde {
    /// Name and rows of the plan for these steps.
    fn table(&self, stops: &[Stop]) -> (String, Vec<Row>) {
        let mut rows = Vec::with_capacity(stops.len());
        // Slots and levels of the last answers, the latest first.
        let mut past: Vec<(Slot, f64)> = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            let (s, to) = (ratio(&stop.from.level), ratio(&stop.to.level));
            past.retain(|(_, before)| before.is_finite() && *before != s);
            past.insert(0, ((index % self.order) as Slot, s));
            past.truncate(self.order);
            // To no noise, and where a grid stands still, there is no polynomial to speak of.
            let used = if to == 0.0 || to == s { 1 } else { past.len() };
            rows.push(self.row(index, stop, &past[..used]));
        }
        (format!("{NAME} {}", self.order), rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Coef, HostAnswer};
    use crate::{Ddim, DpmSolver};
    use langevin_core::noise::Injected;
    use langevin_core::process::{Edm, RectifiedFlow};
    use langevin_core::{Key, Level};

    fn numbers(plan: &Plan) -> Vec<f64> {
        let terms = plan.rows().iter().flat_map(|row| &row.post[0].sum);
        terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
    }

    /// The lines of the published solver of order 3, with sums of very many values in place of 200.
    #[test]
    fn steps_are_the_published_ones() {
        let denoise = |x: f64, sigma: f64| 0.3 * x + (0.4 * x + sigma).sin();
        let model = |x: &[f64], at: &Level| {
            let x0 = denoise(x[0], at.sigma);
            HostAnswer { x0: vec![x0], eps: vec![(x[0] - x0) / at.sigma], variance: None }
        };
        let phi = |s: f64| s * (s.powf(0.3).exp() + 10.0);
        let sigmas = [10.0f64, 6.0, 3.0, 1.2, 0.4];
        let (mut x, mut noise, mut old, mut old_d) = (7.0, Injected::new(), 0.0, 0.0);
        for i in 0..4 {
            let (s, t, z) = (sigmas[i], sigmas[i + 1], 0.3 - 0.2 * i as f64);
            noise = noise.with(Key::step(i as u64, 0), 0..1, vec![z]).unwrap();
            let denoised = denoise(x, s);
            let r = phi(t) / phi(s);
            let mut next = r * x + (1.0 - r) * denoised;
            let (dt, count) = (t - s, 200_000);
            let sum = |f: &dyn Fn(f64) -> f64| {
                let at = |k: usize| t - (k as f64 + 0.5) * dt / count as f64;
                -(0..count).map(|k| f(at(k)) / phi(at(k))).sum::<f64>() * dt / count as f64
            };
            if i >= 1 {
                let d = (denoised - old) / (s - sigmas[i - 1]);
                next += (dt + sum(&|_| 1.0) * phi(t)) * d;
                if i >= 2 {
                    let u = (d - old_d) / ((s - sigmas[i - 2]) / 2.0);
                    next += (0.5 * dt * dt + sum(&|u| u - s) * phi(t)) * u;
                }
                old_d = d;
            }
            x = next + z * (t * t - s * s * r * r).sqrt();
            old = denoised;
        }
        let plan = ErSde::new(3).unwrap().plan(&Edm::default(), &Grid::times(sigmas.to_vec()).unwrap()).unwrap();
        let found = plan.run_host(vec![7.0], 0, &noise, model).unwrap();
        assert!((found[0] - x).abs() < 1e-9, "{} and {x}", found[0]);
    }

    /// Powers are exponential integrators of order 1 with noise of that strength.
    #[test]
    fn of_order_1_it_is_known_by_other_names() {
        let grid = Grid::karras(8, 7.0).unwrap();
        let edm = Edm::default();
        for tau_squared in [0.0, 0.6, 1.0] {
            let er = ErSde::new(1).unwrap().noise(NoiseScale::Power(1.0 + tau_squared)).unwrap();
            let known = DpmSolver::multistep(1).unwrap().sde(tau_squared).unwrap();
            let (a, b) = (numbers(&er.plan(&edm, &grid).unwrap()), numbers(&known.plan(&edm, &grid).unwrap()));
            assert!(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} and {b:?}");
        }
        let flow = ErSde::new(1).unwrap().noise(NoiseScale::Power(1.0)).unwrap().plan(&edm, &grid).unwrap();
        assert_eq!(flow.evaluations(), Ddim::new().plan(&edm, &grid).unwrap().evaluations());
    }

    /// `∫ u^{−p} du` and `∫ (u − s)·u^{−p} du`, in closed form.
    #[test]
    fn integrals_are_exact() {
        for (from, to) in [(10.0f64, 0.03f64), (1.0, 0.999), (80.0, 20.0)] {
            for p in [1.5, 2.0, 3.0] {
                let primitive = |q: f64| if q == 0.0 { (from / to).ln() } else { (from.powf(q) - to.powf(q)) / q };
                let unit = to.powf(p - 1.0);
                let exact = (unit * primitive(1.0 - p), unit * (primitive(2.0 - p) - from * primitive(1.0 - p)));
                let found = NoiseScale::Power(p).integrals(from, to);
                assert!((found.0 / exact.0 - 1.0).abs() < 1e-12, "{found:?} {exact:?}");
                assert!((found.1 - exact.1).abs() < 1e-12 * exact.0 * from, "{found:?} {exact:?}");
            }
        }
    }

    #[test]
    fn ends_are_limits() {
        let plan = ErSde::new(3).unwrap().plan(&RectifiedFlow::new(), &Grid::uniform(6)).unwrap();
        assert!(numbers(&plan).iter().all(|c| c.is_finite()));
        // All of the first state is forgotten, and replaced by noise.
        let level = plan.rows()[0].after.level;
        let first: Vec<f64> =
            plan.rows()[0].post[0].sum.iter().map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect();
        assert_eq!(first, [level.alpha, level.sigma]);
        let counts: Vec<usize> = plan.rows()[1..4].iter().map(|row| row.post[0].sum.len()).collect();
        assert_eq!(counts, [3, 4, 5]);
    }

    /// Where φ is beyond the range of numbers its ratios are not: near pure noise steps are those from pure noise.
    #[test]
    fn near_pure_noise_steps_are_finite() {
        let level = |ratio: f64| {
            let alpha = if ratio.is_infinite() { 0.0 } else { 1.0 / (1.0 + ratio) };
            Level { alpha, sigma: 1.0 - alpha, time: 1.0 - alpha }
        };
        let node = |ratio: f64| langevin_core::Node { t: level(ratio).sigma, level: level(ratio) };
        let noises = [NoiseScale::Exponential, NoiseScale::Power(1.0), NoiseScale::Power(1.6), NoiseScale::Power(80.0)];
        for noise in noises {
            let solver = ErSde::new(3).unwrap().noise(noise).unwrap();
            for ratios in [
                [1e40, 1e30, 1e12, 1e10, 4e9, 1e9, 50.0, 0.3, 0.0],
                [f64::INFINITY, 1e14, 5e13, 1e9, 1e8, 3.0, 2.0, 1.0, 0.1],
                [10.0, 1.0, 1e-3, 1e-4, 1e-5, 1e-6, 1e-9, 1e-12, 0.0],
            ] {
                let grid = Grid::levels(ratios.map(level).to_vec()).unwrap();
                let plan = solver.plan(&RectifiedFlow::new(), &grid).unwrap();
                assert_eq!(plan.steps(), 8, "{noise:?}");
                let bounded = numbers(&plan).into_iter().all(|c| c.abs() < 1e3);
                assert!(bounded, "{noise:?}: {:?}", numbers(&plan));
                // The marginal's noise is kept by each step: what was there and what is drawn make up the level's.
                for row in plan.rows() {
                    let number = |of: Src| {
                        row.post[0]
                            .sum
                            .iter()
                            .find(|term| term.of == of)
                            .map_or(0.0, |term| if let Coef::C(c) = term.c { c } else { f64::NAN })
                    };
                    let sigma = row.eval.unwrap().at.sigma;
                    let made = (number(Src::X(0)) * sigma).hypot(number(Src::Z(0)));
                    assert!((made - row.after.level.sigma).abs() < 1e-12, "{noise:?}");
                }
            }
            // A step that stands still, in pure noise and elsewhere.
            for ratio in [f64::INFINITY, 1e12, 3.0] {
                let stop = Stop { ask: level(ratio), from: node(ratio), to: node(ratio) };
                let row = solver.row(0, &stop, &[(0, super::ratio(&stop.from.level))]);
                let sum: Vec<_> = row.post[0].sum.iter().map(|term| (term.of, term.c)).collect();
                assert_eq!(sum, [(Src::X(0), Coef::C(1.0))], "{noise:?} at {ratio}");
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for order in [0, 4] {
            assert!(matches!(ErSde::new(order), Err(PlanError::Setting { setting: "order", .. })));
        }
        for bad in [0.9, f64::NAN, f64::INFINITY] {
            let error = ErSde::new(2).unwrap().noise(NoiseScale::Power(bad)).unwrap_err();
            assert!(matches!(error, PlanError::Setting { setting: "power of the noise scale", .. }), "{error}");
        }
    }
}
