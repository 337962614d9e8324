//! Ancestral steps: down further than asked, and up again by noise.

use super::frame::{first_row, landing, walk};
use crate::ddpm::{check_direction, ratio};
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::sigma::churn::Start;
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Process};
use serde::{Deserialize, Serialize};
use std::fmt;

const NAME: &str = "Euler ancestral";

/// Splits a step from σ/α = `from` to `to` into one down to `down` and noise of deviation `up`, with
/// `up = min(to, η·√(to²·(from² − to²)/from²))` and `down² + up² = to²`.
///
/// `from` may be infinite (pure noise). For η = 1 the two together are the posterior of the step.
///
/// ```
/// let (down, up) = langevin_schedulers::sigma::ancestral_step(5.0, 3.0, 1.0);
/// assert!((down - 1.8).abs() < 1e-12 && (up - 2.4).abs() < 1e-12);
/// ```
pub fn ancestral_step(from: f64, to: f64, eta: f64) -> (f64, f64) {
    let share = to / from;
    let up = (eta * to * ((1.0 - share) * (1.0 + share)).max(0.0).sqrt()).min(to);
    (((to - up) * (to + up)).sqrt(), up)
}

/// In which coordinate an ancestral step is split into a way down and noise.
///
/// Down and noise always make up the level of the step's end, `down² + up² = to²` in σ/α, so that samplers with exact ways down
/// keep the data's law in both. For short steps η is the strength of the noise in one and its square in the other: with
/// [`Ratio`](Self::Ratio) the limit is the reverse SDE with noise of strength τ = η, with [`Share`](Self::Share) τ = √η.
/// Both know any process: the coordinates are functions of σ/α.
///
/// ```
/// use langevin_schedulers::sigma::{AncestralSplit, ancestral_step};
/// // From σ = 0.8 to 0.6 on a flow, whose α is 1 − σ: down to 0.6·0.6/0.8 = 0.45.
/// let (from, to) = (0.8 / 0.2, 0.6 / 0.4);
/// let (down, up) = AncestralSplit::Share.step(from, to, 1.0);
/// assert!((down - 0.45 / 0.55).abs() < 1e-12 && (down.hypot(up) - to).abs() < 1e-12);
/// assert_eq!(AncestralSplit::Ratio.step(from, to, 1.0), ancestral_step(from, to, 1.0));
/// ```
///
/// # References
/// `Ratio` is k-diffusion's; `Share` on a flow is that of ComfyUI's `sample_euler_ancestral_RF` and diffusers'
/// `LTXEulerAncestralRFScheduler`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AncestralSplit {
    /// In the ratio `s = σ/α`: [`ancestral_step`].
    #[default]
    Ratio,
    /// In the share of noise `u = σ/(α + σ)`, which is σ on a flow: down to `u_to·(1 + (u_to/u − 1)·η)`, and not below 0.
    Share,
}

impl AncestralSplit {
    /// The way down and the deviation of the noise, all in σ/α. `from` may be infinite (pure noise), η is at least 0.
    pub fn step(self, from: f64, to: f64, eta: f64) -> (f64, f64) {
        match self {
            Self::Ratio => ancestral_step(from, to, eta),
            Self::Share => {
                // 1 − u_to/u = (1 − to/from)/(1 + to), and u = s/(1 + s).
                let drop = (eta * (1.0 - to / from) / (1.0 + to)).clamp(0.0, 1.0);
                let down = to * (1.0 - drop) / (1.0 + to * drop);
                (down, ((to - down) * (to + down)).max(0.0).sqrt())
            }
        }
    }
}

/// The settings of ancestral solvers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Noise {
    pub eta: f64,
    pub factor: f64,
    #[serde(default)]
    pub split: AncestralSplit,
}

impl Default for Noise {
    fn default() -> Self {
        Self { eta: 1.0, factor: 1.0, split: AncestralSplit::Ratio }
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eta {}", self.eta)?;
        if self.split == AncestralSplit::Share { write!(f, ", split in σ/(α+σ)") } else { Ok(()) }
    }
}

impl Noise {
    /// No noise: a step goes all the way down.
    pub fn none() -> Self {
        Self { eta: 0.0, ..Self::default() }
    }

    pub fn check(&self, solver: &'static str) -> Result<(), PlanError> {
        for (setting, given) in [("eta", self.eta), ("the noise factor", self.factor)] {
            if !(given >= 0.0 && given.is_finite()) {
                return Err(PlanError::Setting { solver, setting, given, expected: "a finite number, at least 0" });
            }
        }
        Ok(())
    }

    /// The level that a step goes down to, and the deviation of the noise that follows, in x.
    pub fn split_step(&self, from: &Level, to: &Level) -> (Level, f64) {
        let (down, up) = self.split.step(ratio(from), ratio(to), self.eta);
        (Level { sigma: to.alpha * down, ..*to }, to.alpha * up * self.factor)
    }

    /// As [`split_step`](Self::split_step), but never down further than to σ/α = `floor`, which is not above the step's end.
    pub fn split_above(&self, from: &Level, to: &Level, floor: f64) -> (Level, f64) {
        let goal = ratio(to);
        let down = self.split.step(ratio(from), goal, self.eta).0.max(floor.min(goal));
        let up = ((goal - down) * (goal + down)).max(0.0).sqrt();
        (Level { sigma: to.alpha * down, ..*to }, to.alpha * up * self.factor)
    }
}

/// Adds noise to a row's sum.
pub(super) fn with_noise(row: &mut Row, std: f64) {
    if std > 0.0 {
        row.draws.push(Draw::WHITE);
        for set in &mut row.post {
            set.sum.push(Term::new(std, Src::Z(0)));
        }
    }
}

/// Euler's method with ancestral noise: `x_s = α_s·(x̂_0 + down·ε̂ + up·z)`, split by [`ancestral_step`] in σ/α.
///
/// One evaluation a step, weak order 1. For η up to 1 and factor 1 it is DDIM with noise; η beyond adds noise until all
/// of the next level is noise that is new. [`split`](Self::split) chooses another coordinate for the split.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::EulerAncestral};
/// let plan = EulerAncestral::new().eta(0.6)?.plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
/// assert!(plan.is_stochastic());
/// assert!(EulerAncestral::new().eta(-1.0).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song et al. 2021, "Score-based generative modeling through stochastic differential equations", appendix F; the split
/// is k-diffusion's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EulerAncestral {
    noise: Noise,
}

impl EulerAncestral {
    /// With η = 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// With noise of relative size η; 0 is [`Euler`](super::Euler).
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn eta(mut self, eta: f64) -> Result<Self, PlanError> {
        self.noise.eta = eta;
        self.noise.check(NAME)?;
        Ok(self)
    }

    /// Factor on the added noise; 1 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn noise(mut self, factor: f64) -> Result<Self, PlanError> {
        self.noise.factor = factor;
        self.noise.check(NAME)?;
        Ok(self)
    }

    /// In which coordinate steps are split; in σ/α unless said otherwise.
    ///
    /// ```
    /// use langevin_core::{Grid, grid::End, process::RectifiedFlow};
    /// use langevin_schedulers::{Solver, sigma::{AncestralSplit, EulerAncestral}};
    /// let solver = EulerAncestral::new().split(AncestralSplit::Share); // ComfyUI's on flows
    /// let plan = solver.plan(&RectifiedFlow::new(), &Grid::uniform(10).ending(End::Range))?;
    /// assert!(plan.is_stochastic());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(mut self, split: AncestralSplit) -> Self {
        self.noise.split = split;
        self
    }
}

impl Solver for EulerAncestral {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.noise.check(NAME)?;
        let (stops, _) = walk(process, grid)?;
        check_direction(NAME, &stops, true)?;
        let row = |(index, stop): (usize, &Stop)| {
            let (down, std) = self.noise.split_step(&stop.from.level, &stop.to.level);
            let mut row = first_row(Start::still(stop), 0, Some((index, stop.to, landing(&down, 0, &[]))));
            with_noise(&mut row, std);
            row
        };
        let rows = stops.iter().enumerate().map(row).collect();
        let name = format!("{NAME} ({})", self.noise);
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddim::Ddim;
    use crate::plan::{Coef, HostAnswer};
    use langevin_core::Key;
    use langevin_core::noise::Injected;
    use langevin_core::process::{Edm, RectifiedFlow, VpSde};

    fn numbers(plan: &Plan) -> Vec<Vec<(Src, f64)>> {
        let term = |term: &Term| (term.of, if let Coef::C(c) = term.c { c } else { f64::NAN });
        plan.rows().iter().map(|row| row.post[0].sum.iter().map(term).collect()).collect()
    }

    #[test]
    fn up_to_eta_1_it_is_ddim() {
        for eta in [0.0, 0.4, 1.0] {
            let processes: [&dyn Process; 2] = [&VpSde::default(), &Edm::default()];
            for process in processes {
                let grid = Grid::uniform_lambda(9);
                let a = EulerAncestral::new().eta(eta).unwrap().plan(process, &grid).unwrap();
                let b = Ddim::new().eta(eta).unwrap().plan(process, &grid).unwrap();
                for (a, b) in numbers(&a).into_iter().zip(numbers(&b)) {
                    assert_eq!(a.len(), b.len());
                    for ((src, a), (other, b)) in a.into_iter().zip(b) {
                        assert!(src == other && (a - b).abs() < 1e-12 * (1.0 + b.abs()), "{src}: {a} and {b}");
                    }
                }
            }
        }
    }

    /// The published step on a flow, in its own symbols.
    #[test]
    fn a_split_of_shares_on_a_flow_is_the_published_one() {
        let flow = RectifiedFlow::new();
        let times = [1.0, 0.8, 0.45, 0.1, 0.0];
        let grid = Grid::times(times.to_vec()).unwrap();
        for (eta, s_noise) in [(1.0, 1.0), (0.6, 1.1), (0.0, 1.0)] {
            let solver = EulerAncestral::new().eta(eta).and_then(|solver| solver.noise(s_noise)).unwrap();
            let plan = solver.split(AncestralSplit::Share).plan(&flow, &grid).unwrap();
            let velocity = |x: f64, sigma: f64| 0.3 * x + (0.4 * x + sigma).sin();
            let model = |x: &[f64], at: &Level| {
                let v = velocity(x[0], at.sigma);
                HostAnswer { x0: vec![x[0] - at.sigma * v], eps: vec![x[0] + at.alpha * v], variance: None }
            };
            let draws = [0.7, -1.2, 0.4];
            let mut noise = Injected::new();
            let mut x = 1.3;
            for (i, pair) in times.windows(2).enumerate() {
                let (from, to) = (pair[0], pair[1]);
                let x0 = x - from * velocity(x, from);
                let down = to * (1.0 + (to / from - 1.0) * eta);
                let (alpha, alpha_down) = (1.0 - to, 1.0 - down);
                x = down / from * x + (1.0 - down / from) * x0;
                let renoise = (to * to - down * down * (alpha / alpha_down).powi(2)).max(0.0).sqrt();
                x *= alpha / alpha_down;
                if to > 0.0 && eta > 0.0 {
                    x += renoise * s_noise * draws[i];
                    noise = noise.with(Key::step(i as u64, 0), 0..1, vec![draws[i]]).unwrap();
                }
            }
            let found = plan.run_host(vec![1.3], 0, &noise, model).unwrap()[0];
            assert!((found - x).abs() < 1e-12, "eta {eta}: {found} and {x}");
        }
    }

    #[test]
    fn splits_keep_the_level() {
        for (from, to) in [(f64::INFINITY, 4.0), (10.0, 4.0), (4.0, 3.9), (1.0, 0.0), (2.0, 2.0)] {
            for eta in [0.0, 0.5, 1.0, 3.0] {
                for split in [AncestralSplit::Ratio, AncestralSplit::Share] {
                    let (down, up) = split.step(from, to, eta);
                    let kept = (down.hypot(up) - to).abs() < 1e-14 && down >= 0.0 && up >= 0.0;
                    assert!(kept && (eta > 0.0 || down == to), "{split:?} {from} {to} {eta}");
                }
            }
        }
        assert_eq!(ancestral_step(f64::INFINITY, 4.0, 1.0), (0.0, 4.0));
        // All noise is new beyond this.
        assert_eq!(ancestral_step(10.0, 4.0, 3.0), (0.0, 4.0));
        assert_eq!(AncestralSplit::Share.step(10.0, 4.0, 9.0), (0.0, 4.0));
    }
}
