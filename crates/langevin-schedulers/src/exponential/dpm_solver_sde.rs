//! DPM-Solver++ for the reverse SDE with an inner stage.

use super::leg::{Basis, Leg};
use super::multistep::{finite, joined_stops, plan};
use super::tau::Tau;
use crate::plan::{Draw, Eval, Plan, Reg, Row, Set, Slot, Src, Term};
use crate::sde::clock;
use crate::sigma::{AncestralNoise, node_at_lambda};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Node, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "DPM-Solver++ SDE";

/// DPM-Solver++ of the reverse SDE, singlestep: a step to an inner stage, then the whole step with the answers at its
/// beginning and there. Two evaluations a step, weak order 2.
///
/// Both parts of a step begin at its beginning and both have noise, over overlapping times. The noise is therefore that of
/// one Brownian path per sample: two independent draws would leave out how the stage's noise acts on the step, and cost the
/// method its order. The clock of the path is `c = α²/σ²`, in which a step of the whole reverse SDE (η = 1) adds exactly
/// `(σ²/α)·(W(c_t) − W(c_s))`. (k-diffusion and diffusers take σ/α for the clock, which differs by higher order.)
///
/// A step to no noise, or from pure noise, has one evaluation. Published as `dpmpp_sde` and `DPMSolverSDEScheduler`.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, exponential::DpmSolverSde};
/// let plan = DpmSolverSde::new().plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
/// assert_eq!((plan.steps(), plan.evaluations(), plan.is_stochastic()), (10, 19, true));
/// assert!(DpmSolverSde::new().midpoint(0.0).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Lu et al. 2022b, "DPM-Solver++", algorithm 1 and appendix on SDEs; the split of noise is k-diffusion's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpmSolverSde {
    midpoint: f64,
    noise: AncestralNoise,
    /// In place of the split by η.
    #[serde(default)]
    tau: Option<Tau>,
}

impl Default for DpmSolverSde {
    fn default() -> Self {
        Self { midpoint: 0.5, noise: AncestralNoise::default(), tau: None }
    }
}

impl DpmSolverSde {
    /// With η = 1 and the stage half-way in λ.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the inner stage lies, as a share of the step in λ (k-diffusion's `r`). At 1 it is the step's end.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless above 0 and at most 1.
    pub fn midpoint(mut self, share: f64) -> Result<Self, PlanError> {
        self.midpoint = share;
        self.check()?;
        Ok(self)
    }

    /// With noise of relative size η, as in [`ancestral_step`](crate::sigma::ancestral_step): 1 is the reverse of the
    /// forward SDE, 0 the probability flow.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn eta(mut self, eta: f64) -> Result<Self, PlanError> {
        (self.noise.eta, self.tau) = (eta, None);
        self.check()?;
        Ok(self)
    }

    /// With noise of strength τ, which may change from step to step, in place of [`eta`](Self::eta): 1 is the reverse of
    /// the forward SDE as there, between 0 and 1 the two split a step differently.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless τ is 0 or more and finite everywhere.
    pub fn tau(mut self, tau: Tau) -> Result<Self, PlanError> {
        self.tau = Some(tau);
        self.check()?;
        Ok(self)
    }

    /// Factor on the added noise, `s_noise` of the published functions.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn noise(mut self, factor: f64) -> Result<Self, PlanError> {
        self.noise.factor = factor;
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), PlanError> {
        if !(self.midpoint > 0.0 && self.midpoint <= 1.0) {
            let (setting, expected) = ("the midpoint", "a share of the step above 0 and at most 1");
            return Err(PlanError::Setting { solver: NAME, setting, given: self.midpoint, expected });
        }
        self.tau.iter().try_for_each(|tau| tau.check(NAME))?;
        self.noise.check(NAME)
    }

    /// From a step's beginning to a level of it with answers of these weights, which sum to 1, and noise in register `z`.
    fn part(&self, stop: &Stop, to: &Level, answers: &[(Slot, f64)], z: Reg) -> (Vec<Term>, Option<Draw>) {
        let from = &stop.from.level;
        let (leg, std) = match &self.tau {
            Some(tau) => {
                let leg = Leg::new(Basis::Data, tau.squared(stop), *from, *to);
                (leg, leg.std() * self.noise.factor)
            }
            None => {
                let (goal, std) = self.noise.split_step(from, to);
                (Leg::new(Basis::Data, 0.0, *from, goal), std)
            }
        };
        let mut sum = vec![Term::new(leg.decay(), Src::X(0))];
        sum.extend(answers.iter().map(|(slot, share)| Term::new(leg.weight(0) * share, Src::X0(*slot))));
        if !(std > 0.0) {
            return (sum, None);
        }
        let (begin, until) = (clock(from), clock(to));
        sum.push(Term::new(std / (until - begin).sqrt(), Src::Z(z)));
        (sum, Some(Draw::Path { to: z, from: begin, until }))
    }

    fn rows(&self, process: &dyn Process, index: usize, stop: &Stop, rows: &mut Vec<Row>) -> Result<(), PlanError> {
        let (from, to) = (&stop.from.level, &stop.to.level);
        let (begin, end) = (from.lambda(), to.lambda());
        let row = |at, x, into, draw: Option<Draw>, (reg, sum): (Reg, Vec<Term>), after: Node| {
            finite(NAME, stop, &sum)?;
            let done = reg == 0;
            Ok::<Row, PlanError>(Row {
                draws: draw.into_iter().collect(),
                pre: vec![],
                eval: Some(Eval { at, x, into }),
                post: vec![Set::new(reg, sum)],
                step: done.then_some(index as u32),
                after,
                report: if done { vec![Term::new(1.0, Src::X0(into))] } else { vec![] },
            })
        };
        if !(end - begin).is_finite() || end == begin {
            let (sum, draw) = self.part(stop, to, &[(0, 1.0)], 0);
            rows.push(row(stop.ask, 0, 0, draw, (0, sum), stop.to)?);
            return Ok(());
        }
        let middle = if self.midpoint == 1.0 {
            stop.to
        } else {
            node_at_lambda(NAME, process, begin + self.midpoint * (end - begin))?
        };
        let (sum, draw) = self.part(stop, &middle.level, &[(0, 1.0)], 0);
        rows.push(row(stop.ask, 0, 0, draw, (1, sum), middle)?);
        let share = 0.5 / self.midpoint;
        let answers = [(0, 1.0 - share), (1, share)];
        let (sum, draw) = self.part(stop, to, &answers, 1);
        rows.push(row(middle.level, 1, 1, draw, (0, sum), stop.to)?);
        Ok(())
    }
}

impl Solver for DpmSolverSde {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let stops = joined_stops(NAME, process, grid, true)?;
        let mut rows = Vec::with_capacity(2 * stops.len());
        for (index, stop) in stops.iter().enumerate() {
            self.rows(process, index, stop, &mut rows)?;
        }
        let strength = if self.tau.is_some() { "tau".to_owned() } else { format!("eta {}", self.noise.eta) };
        plan(format!("{NAME} ({strength})"), process, &stops, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Coef, HostAnswer};
    use langevin_core::noise::Injected;
    use langevin_core::process::{Betas, DiscreteChain, Edm};

    /// The lines of the published function, in σ and x/α, with both increments given.
    #[test]
    fn steps_are_those_of_the_published_method() {
        let denoise = |x: f64, sigma: f64| 0.3 * x + (0.4 * x + sigma).sin();
        let model = |x: &[f64], at: &Level| {
            let x0 = denoise(x[0], at.sigma);
            HostAnswer { x0: vec![x0], eps: vec![(x[0] - x0) / at.sigma], variance: None }
        };
        let split = |from: f64, to: f64| {
            let up = (0.7 * (to * to * (from * from - to * to) / (from * from)).sqrt()).min(to);
            ((to * to - up * up).sqrt(), up)
        };
        let times = [10.0f64, 4.0, 1.5, 0.3];
        let solver = DpmSolverSde::new().eta(0.7).unwrap().noise(0.9).unwrap().midpoint(0.3).unwrap();
        let plan = solver.plan(&Edm::default(), &Grid::times(times.to_vec()).unwrap()).unwrap();
        let mut noise = Injected::new();
        for (k, draw) in plan.rows().iter().flat_map(|row| &row.draws).enumerate() {
            let Draw::Path { from, until, .. } = draw else { panic!("a path") };
            noise = noise.with_path((*from, *until), 0..1, vec![(0.2 + k as f64) * (until - from).sqrt()]).unwrap();
        }
        let mut x = 7.0;
        for (i, pair) in times.windows(2).enumerate() {
            let (from, to, z) = (pair[0], pair[1], 0.2 + 2.0 * i as f64);
            let middle = from.powf(0.7) * to.powf(0.3);
            let x0 = denoise(x, from);
            let (down, up) = split(from, middle);
            let inner = down / from * x + (1.0 - down / from) * x0 + 0.9 * up * z;
            let x0 = (1.0 - 0.5 / 0.3) * x0 + 0.5 / 0.3 * denoise(inner, middle);
            let (down, up) = split(from, to);
            x = down / from * x + (1.0 - down / from) * x0 + 0.9 * up * (z + 1.0);
        }
        let found = plan.run_host(vec![7.0], 0, &noise, model).unwrap();
        assert!((found[0] - x).abs() < 1e-11, "{} and {x}", found[0]);
        noise.finish().unwrap();
    }

    /// With η = 1 the noise is the increment of the path in its clock, unscaled but for the frame: v = α·x/σ².
    #[test]
    fn the_whole_sde_adds_the_path_itself() {
        let plan = DpmSolverSde::new().plan(&Edm::default(), &Grid::karras(6, 7.0).unwrap()).unwrap();
        for row in plan.rows().iter().filter(|row| !row.draws.is_empty()) {
            let Coef::C(found) = row.post[0].sum.last().unwrap().c else { panic!("a number") };
            let level = row.after.level;
            let exact = level.sigma * level.sigma / level.alpha;
            assert!((found / exact - 1.0).abs() < 1e-12, "{found} and {exact}");
        }
    }

    /// τ = 1 and η = 1 are one SDE, and one plan.
    #[test]
    fn both_strengths_of_the_whole_sde_agree() {
        let numbers = |solver: DpmSolverSde| -> Vec<f64> {
            let plan = solver.plan(&Edm::default(), &Grid::karras(6, 7.0).unwrap()).unwrap();
            let terms = plan.rows().iter().flat_map(|row| row.post[0].sum.clone());
            terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
        };
        let (a, b) = (numbers(DpmSolverSde::new()), numbers(DpmSolverSde::new().tau(Tau::Constant(1.0)).unwrap()));
        assert!(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12 * (1.0 + b.abs())));
    }

    #[test]
    fn ends_have_one_evaluation() {
        let chain = DiscreteChain::new(Betas::DDPM, 1000).unwrap().rescale_zero_terminal_snr().unwrap();
        let plan = DpmSolverSde::new().plan(&chain, &Grid::trailing(5)).unwrap();
        assert_eq!((plan.steps(), plan.evaluations()), (5, 8));
        assert!(plan.rows()[0].step.is_some() && plan.rows()[7].draws.is_empty());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            let solver = DpmSolverSde::new();
            assert!(matches!(solver.clone().eta(bad), Err(PlanError::Setting { setting: "eta", .. })));
            assert!(matches!(solver.clone().noise(bad), Err(PlanError::Setting { setting: "the noise factor", .. })));
            let tau = Tau::OfLambda(vec![(0.0, bad)]);
            assert!(matches!(solver.clone().tau(tau), Err(PlanError::Setting { setting: "tau", .. })));
            assert!(matches!(solver.midpoint(bad), Err(PlanError::Setting { setting: "the midpoint", .. })));
        }
        assert!(DpmSolverSde::new().midpoint(0.0).is_err() && DpmSolverSde::new().midpoint(1.0).is_ok());
    }
}
