//! DPM-Solver and DPM-Solver++, multistep.

use super::leg::{Basis, Leg};
use super::multistep::{Past, allowed_order, joined_stops, plan, row};
use super::tau::Tau;
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::sde::clock;
use crate::sigma::{AncestralNoise, Churn, plan_raised};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "DPM-Solver";

/// How the slope of a second-order step is weighted. Both have order 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecondOrder {
    /// As if the answer half-way stood for the whole step.
    #[default]
    Midpoint,
    /// As the straight line it is, integrated exactly.
    Heun,
}

/// How much of the second difference a third-order step takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThirdOrder {
    /// All of it: order 3 once started.
    #[default]
    Whole,
    /// Half of it, as the published code of Lu et al. and k-diffusion do: order 2.
    Half,
    /// Half of it, and in the data basis of the SDE α_t times it less, as diffusers does: weak order 1 and strong order ½ there.
    HalfLess,
}

/// The multistep solvers of Lu et al.: DPM-Solver++ (2M, 3M) in the data basis, DPM-Solver in the noise basis, and both
/// for the reverse SDE (2M SDE).
///
/// One evaluation a step. The first steps have rising order; a step to a clean end has order 1. Without noise they also run
/// upwards, from data to noise, on a grid that is `.inverted()`; only the noise basis begins at σ = 0.
///
/// ```
/// use langevin_core::{Grid, process::{Betas, DiscreteChain}};
/// use langevin_schedulers::{Solver, exponential::DpmSolver};
/// let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000)?;
/// let plan = DpmSolver::multistep(2)?.plan(&chain, &Grid::karras(20, 7.0)?)?; // "DPM++ 2M Karras"
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Lu et al. 2022a, "DPM-Solver"; Lu et al. 2022b, "DPM-Solver++", algorithm 2 and appendix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DpmSolver {
    order: usize,
    basis: Basis,
    second: SecondOrder,
    lower_below: usize,
    /// τ², the strength of the noise.
    tau_squared: f64,
    /// Takes its place where it is given.
    #[serde(default)]
    tau: Option<Tau>,
    noise_scale: f64,
    path: bool,
    third: ThirdOrder,
    euler_final: bool,
    /// Goes down further and up again by noise.
    #[serde(default)]
    ancestral: Option<AncestralNoise>,
}

impl DpmSolver {
    /// Of order 1 to 3, deterministic, in the data basis.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for other orders.
    pub fn multistep(order: usize) -> Result<Self, PlanError> {
        let solver = Self {
            order,
            basis: Basis::Data,
            second: SecondOrder::Midpoint,
            lower_below: 0,
            tau_squared: 0.0,
            tau: None,
            noise_scale: 1.0,
            path: false,
            third: ThirdOrder::Whole,
            euler_final: false,
            ancestral: None,
        };
        solver.check()?;
        Ok(solver)
    }

    /// Integrates the other answer: [`Basis::Noise`] is DPM-Solver without ++.
    pub fn basis(mut self, basis: Basis) -> Self {
        self.basis = basis;
        self
    }

    /// Weights second-order steps in another way.
    pub fn second_order(mut self, kind: SecondOrder) -> Self {
        self.second = kind;
        self
    }

    /// Lowers the order in the last steps, down to 1, of grids with fewer than this many steps; 0 never. diffusers has 15.
    pub fn lower_order_below(mut self, steps: usize) -> Self {
        self.lower_below = steps;
        self
    }

    /// Solves the reverse SDE with noise of strength η: 1 is the reverse of the forward SDE, 0 the probability flow. In ε̂ a step to no
    /// noise leaves noise of size √η·σ in the samples: end such grids where little is left, or take x̂_0.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `eta` is 0 or more and finite.
    pub fn sde(mut self, eta: f64) -> Result<Self, PlanError> {
        (self.tau_squared, self.tau) = (eta, None);
        self.check()?;
        Ok(self)
    }

    /// Solves the reverse SDE with noise of strength τ, which may change from step to step, in place of
    /// [`sde`](Self::sde), whose η is τ².
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless τ is 0 or more and finite everywhere.
    pub fn tau(mut self, tau: Tau) -> Result<Self, PlanError> {
        self.tau = Some(tau);
        self.check()?;
        Ok(self)
    }

    /// Scales all noise (k-diffusion's `s_noise`).
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `scale` is 0 or more and finite.
    pub fn noise_scale(mut self, scale: f64) -> Result<Self, PlanError> {
        self.noise_scale = scale;
        self.check()?;
        Ok(self)
    }

    /// With ancestral noise of relative size η, for orders 1 and 2 (ComfyUI's "res_multistep_ancestral"): each step goes to the
    /// lower level of [`ancestral_step`](crate::sigma::ancestral_step) along the probability flow, and noise makes up for it.
    ///
    /// As published the slope is the difference of two answers over the last way down, and not over the distance of their
    /// levels, which the noise has shortened. The weak order is that of the solver.
    ///
    /// ```
    /// use langevin_core::{Grid, process::Edm};
    /// use langevin_schedulers::{DpmSolver, Solver, exponential::SecondOrder};
    /// let solver = DpmSolver::multistep(2)?.second_order(SecondOrder::Heun).ancestral(1.0)?;
    /// let plan = solver.plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
    /// assert_eq!((plan.evaluations(), plan.is_stochastic()), (10, true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `eta` is 0 or more and finite.
    pub fn ancestral(mut self, eta: f64) -> Result<Self, PlanError> {
        self.ancestral = Some(AncestralNoise { eta, ..AncestralNoise::default() });
        self.check()?;
        Ok(self)
    }

    /// Draws noise along one Brownian path per sample in the clock α²/σ², so that runs with different numbers of steps
    /// converge to the same sample. In ε̂ a step to no noise has noise, too: that is white, since the path goes on for ever there.
    pub fn path(mut self) -> Self {
        self.path = true;
        self
    }

    /// Makes the last step one of order 1 on grids of any length.
    pub fn euler_at_final(mut self, euler: bool) -> Self {
        self.euler_final = euler;
        self
    }

    /// Weights third-order steps in another way.
    pub fn third_order(mut self, kind: ThirdOrder) -> Self {
        self.third = kind;
        self
    }

    fn check(&self) -> Result<(), PlanError> {
        let bad = |setting, given, expected| Err(PlanError::Setting { solver: NAME, setting, given, expected });
        if !(1..=3).contains(&self.order) {
            return bad("order", self.order as f64, "1, 2 or 3");
        }
        if !(self.tau_squared >= 0.0 && self.tau_squared.is_finite()) {
            return bad(
                "eta",
                self.tau_squared,
                "a number that is not negative: 0 adds no noise, 1 is the reverse SDE",
            );
        }
        if !(self.noise_scale >= 0.0 && self.noise_scale.is_finite()) {
            return bad("noise scale", self.noise_scale, "a number that is not negative");
        }
        self.ancestral.iter().try_for_each(|noise| noise.check(NAME))?;
        self.tau.iter().try_for_each(|tau| tau.check(NAME))
    }

    /// What ancestral noise does not go with.
    fn check_company(&self) -> Result<(), PlanError> {
        let (second, reason) = match &self.ancestral {
            Some(_) if self.is_noisy() => ("noise of the SDE", "each is all the noise of a step; take one of the two"),
            Some(_) if self.path => ("noise along a path", "it is drawn anew in each step"),
            Some(_) if self.order > 2 => ("DPM-Solver of order 3", "its slopes are those of orders 1 and 2"),
            _ => return Ok(()),
        };
        Err(PlanError::Combination { first: "ancestral noise".into(), second: second.into(), reason })
    }

    /// Whether noise of the SDE is asked for.
    fn is_noisy(&self) -> bool {
        self.tau.is_some() || self.tau_squared > 0.0
    }

    /// The way of a step before ancestral noise, and the deviation of that noise.
    fn leg(&self, stop: &Stop) -> (Leg, f64) {
        let tau_squared = self.tau.as_ref().map_or(self.tau_squared, |tau| tau.squared(stop));
        let (from, to) = (stop.from.level, stop.to.level);
        let (goal, up) = self.ancestral.as_ref().map_or((to, 0.0), |noise| noise.split_step(&from, &to));
        (Leg::new(self.basis, tau_squared, from, goal), up)
    }

    /// The weights of the answers, newest first. The two last ones are `gap` apart in λ.
    fn weights(&self, leg: &Leg, past: &Past, order: usize, gap: f64) -> Vec<f64> {
        let w = |k| leg.weight(k);
        if order == 1 {
            return vec![w(0)];
        }
        let r0 = gap / leg.h;
        if order == 2 {
            let slope = match self.second {
                SecondOrder::Midpoint => 0.5 * w(0),
                SecondOrder::Heun => w(1),
            };
            return vec![w(0) + slope / r0, -slope / r0];
        }
        let r1 = (past.lambda(1) - past.lambda(2)) / leg.h;
        // Differences of answers: d0 = (m0 − m1)/r0, d1 = (m1 − m2)/r1; slope and curvature are combinations of them.
        let share = r0 / (r0 + r1);
        let second = match self.third {
            ThirdOrder::Whole => 2.0 * w(2),
            ThirdOrder::HalfLess if leg.is_noisy() && self.basis == Basis::Data => w(2) - leg.reached_alpha(),
            ThirdOrder::Half | ThirdOrder::HalfLess => w(2),
        };
        let curvature = second / (r0 + r1);
        let of_d0 = w(1) * (1.0 + share) + curvature;
        let of_d1 = -w(1) * share - curvature;
        vec![w(0) + of_d0 / r0, -of_d0 / r0 + of_d1 / r1, -of_d1 / r1]
    }

    /// The draw of a step's noise and its term.
    fn noise(&self, (leg, up): (&Leg, f64), stop: &Stop) -> Option<(Draw, Term)> {
        let std = self.noise_scale * (leg.std() + up);
        if std == 0.0 {
            return None;
        }
        let (from, until) = (clock(&stop.from.level), clock(&stop.to.level));
        // To no noise the path goes on for ever, and no other step sees that part of it.
        if !self.path || until.is_infinite() {
            return Some((Draw::WHITE, Term::new(std, Src::Z(0))));
        }
        Some((Draw::Path { to: 0, from, until }, Term::new(std / (until - from).sqrt(), Src::Z(0))))
    }
}

impl DpmSolver {
    /// Name and rows of the plan for these steps.
    fn table(&self, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        self.check_company()?;
        let mut past = Past::new(self.order);
        let mut rows = Vec::new();
        // The last way down: with ancestral noise the published slope takes it for the distance of the answers.
        let mut last_way = 0.0;
        for (index, stop) in stops.iter().enumerate() {
            let (leg, up) = self.leg(stop);
            past.ask(stop.from.level.lambda());
            let order = allowed_order(self.order, index, stops, self.lower_below).min(past.usable());
            let order = if self.euler_final && index + 1 == stops.len() { 1 } else { order };
            let order = if leg.h.is_finite() { order } else { 1 };
            let gap = match self.ancestral {
                Some(_) => last_way,
                None if order > 1 => past.lambda(0) - past.lambda(1),
                None => 0.0,
            };
            last_way = leg.h;
            let weights = (leg.decay(), self.weights(&leg, &past, order, gap));
            rows.push(row(NAME, (index, stop), (self.basis, &past), weights, self.noise((&leg, up), stop))?);
        }
        let plus = if self.basis == Basis::Data { "++" } else { "" };
        let sde = match self.tau {
            Some(_) => " SDE (tau)".to_owned(),
            None if self.tau_squared > 0.0 => format!(" SDE (eta {})", self.tau_squared),
            None => self.ancestral.as_ref().map_or_else(String::new, |noise| format!(" ancestral ({noise})")),
        };
        Ok((format!("{NAME}{plus} {}M{sde}", self.order), rows))
    }
}

impl Solver for DpmSolver {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let noisy = self.is_noisy() || self.ancestral.as_ref().is_some_and(|noise| noise.eta > 0.0);
        let stops = joined_stops(NAME, process, grid, noisy)?;
        let (name, rows) = self.table(&stops)?;
        plan(name, process, &stops, rows)
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        plan_raised(churn, NAME, process, grid, |stops| self.table(stops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Coef;
    use langevin_core::process::{Betas, DiscreteChain, Edm};

    fn numbers(plan: &Plan, row: usize) -> Vec<f64> {
        let terms = plan.rows()[row].post[0].sum.iter();
        terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
    }

    /// Lu et al. 2022b, algorithm 2, in its own symbols.
    #[test]
    fn steps_of_order_2_are_the_formula_of_the_paper() {
        let plan = DpmSolver::multistep(2).unwrap().plan(&Edm::default(), &Grid::karras(6, 7.0).unwrap()).unwrap();
        let sigma: Vec<f64> = plan.rows().iter().map(|row| row.eval.unwrap().at.sigma).collect();
        for i in 1..5 {
            let t = |k: usize| -sigma[k].ln();
            let (h, h_last) = (t(i + 1) - t(i), t(i) - t(i - 1));
            let r = h_last / h;
            let step = -(-h).exp_m1();
            let expected = [sigma[i + 1] / sigma[i], step * (1.0 + 0.5 / r), -step * 0.5 / r];
            let found = numbers(&plan, i);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} and {expected:?}");
        }
        // The last step goes to clean data.
        assert_eq!(numbers(&plan, 5), [1.0]);
    }

    /// Noise makes up for what the state loses: both together keep the level's variance.
    #[test]
    fn noise_fills_the_level() {
        for eta in [0.3, 1.0] {
            let plan = DpmSolver::multistep(1).unwrap().sde(eta).unwrap();
            let plan = plan.plan(&Edm::default(), &Grid::karras(6, 7.0).unwrap()).unwrap();
            for row in &plan.rows()[..5] {
                let (from, to) = (row.eval.unwrap().at.sigma, row.after.level.sigma);
                let [of_x, _, std] = row.post[0].sum[..] else { panic!("three terms") };
                let (Coef::C(of_x), Coef::C(std)) = (of_x.c, std.c) else { panic!("numbers") };
                assert!(((of_x * from).powi(2) + std * std - to * to).abs() < 1e-12 * to * to);
            }
        }
        let quiet = DpmSolver::multistep(2).unwrap().sde(1.0).unwrap().noise_scale(0.0).unwrap();
        assert!(!quiet.plan(&Edm::default(), &Grid::karras(4, 7.0).unwrap()).unwrap().is_stochastic());
    }

    /// In ε̂ a step to no noise has noise of its own, which is of no interval of the path that ends.
    #[test]
    fn the_last_noise_in_epsilon_is_white() {
        for order in [1, 2, 3] {
            let white = DpmSolver::multistep(order).unwrap().basis(Basis::Noise).sde(0.8).unwrap();
            let (edm, grid) = (Edm::default(), Grid::karras(6, 7.0).unwrap());
            let (along, white) = (white.clone().path().plan(&edm, &grid).unwrap(), white.plan(&edm, &grid).unwrap());
            let is_white = |row: &Row| matches!(row.draws[..], [Draw::White { .. }]);
            let found: Vec<bool> = along.rows().iter().map(is_white).collect();
            assert_eq!(found, [false, false, false, false, false, true]);
            // √0.8·σ of it, as without a path.
            assert_eq!(along.rows()[5], white.rows()[5]);
            let sigma = along.rows()[5].eval.unwrap().at.sigma;
            assert!((numbers(&along, 5).pop().unwrap() - 0.8f64.sqrt() * sigma).abs() < 1e-12);
        }
        // In x̂_0 there is none.
        let plan = DpmSolver::multistep(2).unwrap().sde(0.8).unwrap().path();
        let plan = plan.plan(&Edm::default(), &Grid::karras(6, 7.0).unwrap()).unwrap();
        assert!(plan.rows()[5].draws.is_empty());
    }

    /// A step of strength τ is one of an SDE of constant strength, with η = τ².
    #[test]
    fn tau_is_the_strength_of_each_step() {
        let grid = Grid::karras(8, 7.0).unwrap();
        let tau = Tau::OfLambda(vec![(-1.0, 0.0), (1.0, 1.2)]);
        let mixed = DpmSolver::multistep(2).unwrap().tau(tau).unwrap().plan(&Edm::default(), &grid).unwrap();
        for (i, row) in mixed.rows().iter().enumerate() {
            let middle = 0.5 * (row.eval.unwrap().at.lambda() + row.after.level.lambda());
            let middle = if middle.is_finite() { middle } else { row.eval.unwrap().at.lambda() };
            let tau = (0.6 * (middle + 1.0)).clamp(0.0, 1.2);
            let whole = DpmSolver::multistep(2).unwrap().sde(tau * tau).unwrap().plan(&Edm::default(), &grid).unwrap();
            let (a, b) = (numbers(&mixed, i), numbers(&whole, i));
            assert!(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-9), "{i}: {a:?} and {b:?}");
        }
        assert!(mixed.rows()[0].draws.is_empty() && !mixed.rows()[6].draws.is_empty());
    }

    #[test]
    fn pure_noise_is_left_in_the_data_basis_only() {
        let chain = DiscreteChain::new(Betas::DDPM, 1000).unwrap().rescale_zero_terminal_snr().unwrap();
        let solver = DpmSolver::multistep(3).unwrap();
        let plan = solver.plan(&chain, &Grid::trailing(8)).unwrap();
        // Pure noise is at λ = −∞ and carries no polynomial: the first two steps have order 1.
        assert_eq!((numbers(&plan, 0).len(), numbers(&plan, 1).len(), numbers(&plan, 2).len()), (2, 2, 3));
        let error = solver.basis(Basis::Noise).plan(&chain, &Grid::trailing(8)).unwrap_err();
        assert!(matches!(error, PlanError::Singular { alpha: 0.0, .. }), "{error}");
    }

    /// Upwards a noisy solver is refused, and so is clean data in the data basis; the noise basis leaves it.
    #[test]
    fn only_without_noise_it_runs_upwards() {
        use langevin_core::process::RectifiedFlow;
        let up = Grid::karras(6, 7.0).unwrap().ending(langevin_core::grid::End::Range).inverted();
        let solver = DpmSolver::multistep(2).unwrap();
        assert_eq!(solver.plan(&Edm::default(), &up).unwrap().start_node().level.sigma, 0.002);
        let error = solver.clone().sde(1.0).unwrap().plan(&Edm::default(), &up).unwrap_err();
        assert!(matches!(error, PlanError::Direction { expected: "falling", step: 0, .. }), "{error}");
        let (flow, whole) = (RectifiedFlow::new(), Grid::uniform(5).inverted());
        let error = solver.plan(&flow, &whole).unwrap_err();
        assert!(error.to_string().contains("take the noise basis"), "{error}");
        let plan = solver.basis(Basis::Noise).plan(&flow, &whole).unwrap();
        // Into pure noise, as out of clean data, a step has order 1.
        let lengths: Vec<usize> = (0..5).map(|row| numbers(&plan, row).len()).collect();
        assert_eq!(lengths, [2, 2, 3, 3, 1]);
        assert_eq!(numbers(&plan, 4), [1.0]);
    }

    #[test]
    fn short_grids_end_with_lower_orders_when_asked() {
        let chain = DiscreteChain::new(Betas::DDPM, 1000).unwrap();
        let terms = |lower| {
            let plan = DpmSolver::multistep(3).unwrap().lower_order_below(lower);
            let plan = plan.plan(&chain, &Grid::leading(6).ending(langevin_core::grid::End::Range)).unwrap();
            (0..plan.steps()).map(|row| numbers(&plan, row).len() - 1).collect::<Vec<_>>()
        };
        assert_eq!(terms(0), [1, 2, 3, 3, 3]);
        assert_eq!(terms(15), [1, 2, 3, 2, 1]);
    }

    /// ComfyUI's "res_multistep_ancestral" in σ/α: b₁ and b₂ of h·φ₁(−h) and h·φ₂(−h), with c₂ of the last way down.
    #[test]
    fn ancestral_steps_are_the_published_formula() {
        use crate::sigma::ancestral_step;
        let solver = DpmSolver::multistep(2).unwrap().second_order(SecondOrder::Heun).ancestral(0.8).unwrap();
        let plan = solver.plan(&Edm::default(), &Grid::karras(6, 7.0).unwrap()).unwrap();
        let sigma: Vec<f64> = plan.rows().iter().map(|row| row.eval.unwrap().at.sigma).collect();
        for i in 1..5 {
            let (down, up) = ancestral_step(sigma[i], sigma[i + 1], 0.8);
            let (last, _) = ancestral_step(sigma[i - 1], sigma[i], 0.8);
            let h = (sigma[i] / down).ln();
            let c2 = (last / sigma[i - 1]).ln() / h;
            let phi1 = (-h).exp_m1() / -h;
            let phi2 = (phi1 - 1.0) / -h;
            let expected = [(-h).exp(), h * (phi1 - phi2 / c2), h * phi2 / c2, up];
            let found = numbers(&plan, i);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} and {expected:?}");
        }
        // Without noise it is the solver itself.
        let quiet = DpmSolver::multistep(2).unwrap();
        let (vp, grid) = (langevin_core::process::VpSde::default(), Grid::uniform(6));
        let plain = quiet.plan(&vp, &grid).unwrap();
        assert_eq!(quiet.ancestral(0.0).unwrap().plan(&vp, &grid).unwrap().rows(), plain.rows());
    }

    #[test]
    fn ancestral_noise_is_all_the_noise_of_order_2() {
        let solver = |order: usize| DpmSolver::multistep(order).unwrap().ancestral(1.0).unwrap();
        let refused = [solver(3), solver(2).sde(1.0).unwrap(), solver(2).path()];
        for solver in refused {
            let error = solver.plan(&Edm::default(), &Grid::karras(6, 7.0).unwrap()).unwrap_err();
            assert!(matches!(&error, PlanError::Combination { first, .. } if first == "ancestral noise"), "{error}");
        }
        assert!(matches!(
            DpmSolver::multistep(2).unwrap().ancestral(-1.0),
            Err(PlanError::Setting { setting: "eta", .. })
        ));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for order in [0, 4] {
            assert!(matches!(DpmSolver::multistep(order), Err(PlanError::Setting { setting: "order", .. })));
        }
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            let solver = DpmSolver::multistep(2).unwrap();
            assert!(matches!(solver.clone().sde(bad), Err(PlanError::Setting { setting: "eta", .. })));
            assert!(matches!(solver.clone().noise_scale(bad), Err(PlanError::Setting { setting: "noise scale", .. })));
            assert!(matches!(solver.tau(Tau::Constant(bad)), Err(PlanError::Setting { setting: "tau", .. })));
        }
    }
}
