//! DPM-Solver-2 as a midpoint method in σ/α, deterministic and ancestral.

use super::ancestral::{AncestralSplit, Noise, with_noise};
use super::churn::{self, Churn, Start};
use super::frame::{finish, first_row, inner_row, is_plain, landing, middle, node_at, walk};
use crate::ddpm::{check_direction, falls, ratio};
use crate::ode::check_joined;
use crate::plan::{Plan, Row, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::{Grid, Level, Node, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "DPM2";
const ANCESTRAL: &str = "DPM2 ancestral";

/// The midpoint method for `d(x/α) = ε̂ d(σ/α)`, with the middle taken in ln(σ/α): a step of Euler half the way, then the
/// whole way with the slope found there. Two evaluations a step, order 2.
///
/// A step to σ = 0 or from α = 0 is one of Euler. Published as `dpm_2` and KDPM2.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::Dpm2};
/// let plan = Dpm2::new().plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
/// assert_eq!((plan.steps(), plan.evaluations()), (10, 19));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Lu et al. 2022, "DPM-Solver", algorithm 1, of which this is a variant with Euler's weights; k-diffusion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpm2 {
    churn: Option<Churn>,
}

impl Dpm2 {
    /// Without churn.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds noise before each step.
    pub fn churn(mut self, churn: Churn) -> Self {
        self.churn = Some(churn);
        self
    }
}

/// [`Dpm2`] with ancestral noise: the step goes to the lower level of
/// [`ancestral_step`](super::ancestral_step), and noise makes up for it. Two evaluations a step. With another
/// [`split`](Self::split) the midpoint is one in that coordinate, too.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::Dpm2Ancestral};
/// let plan = Dpm2Ancestral::new().plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
/// assert_eq!((plan.evaluations(), plan.is_stochastic()), (19, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// As [`Dpm2`] and [`EulerAncestral`](super::EulerAncestral).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpm2Ancestral {
    noise: Noise,
}

impl Dpm2Ancestral {
    /// With η = 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// With noise of relative size η; 0 is [`Dpm2`].
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn eta(mut self, eta: f64) -> Result<Self, PlanError> {
        self.noise.eta = eta;
        self.noise.check(ANCESTRAL)?;
        Ok(self)
    }

    /// Factor on the added noise; 1 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn noise(mut self, factor: f64) -> Result<Self, PlanError> {
        self.noise.factor = factor;
        self.noise.check(ANCESTRAL)?;
        Ok(self)
    }

    /// In which coordinate steps are split; in σ/α unless said otherwise. With [`AncestralSplit::Share`] the way down is the
    /// midpoint method for `dz/du = ε̂ − x̂_0` in `z = x/(α + σ)` over `u = σ/(α + σ)`, with the middle taken in ln u, which on a
    /// flow is ComfyUI's `sample_dpm_2_ancestral_RF`.
    pub fn split(mut self, split: AncestralSplit) -> Self {
        self.noise.split = split;
        self
    }
}

/// The rows of a step that goes to the level `goal` on its way to `to`.
fn rows(
    (solver, split): (&'static str, AncestralSplit),
    process: &dyn Process,
    index: usize,
    start: Start,
    (goal, to): (&Level, Node),
    rows: &mut Vec<Row>,
) -> Result<(), PlanError> {
    let level = start.level;
    // A share of noise has a logarithm at α = 0, too.
    let starts_in_noise = split == AncestralSplit::Share && goal.sigma > 0.0;
    if is_plain(&level, goal) && !starts_in_noise {
        rows.push(first_row(start, 0, Some((index, to, landing(goal, 0, &[])))));
        return Ok(());
    }
    let (half, sum) = match split {
        AncestralSplit::Ratio => {
            let sum = landing(goal, 0, &[(1, ratio(goal) - ratio(&level))]);
            (middle(ratio(&level), ratio(goal)), sum)
        }
        AncestralSplit::Share => {
            let (from, until) = (share(&level), share(goal));
            let half = middle(from, until);
            let scale = goal.alpha + goal.sigma;
            // z + (u_goal − u)·(ε̂ − x̂_0), of the state before and the answers half-way.
            let sum = vec![
                Term::new(scale * (1.0 - from), Src::X0(0)),
                Term::new(scale * from, Src::Eps(0)),
                Term::new(scale * (from - until), Src::X0(1)),
                Term::new(scale * (until - from), Src::Eps(1)),
            ];
            (half / (1.0 - half), sum)
        }
    };
    let half = node_at(solver, process, half)?;
    rows.push(first_row(start, 0, None));
    let second = inner_row(half, half.level, landing(&half.level, 0, &[]), 1);
    rows.push(finish(second, index, to, sum));
    Ok(())
}

/// The share of noise.
fn share(level: &Level) -> f64 {
    level.sigma / (level.alpha + level.sigma)
}

impl Solver for Dpm2 {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let (stops, steps) = walk(process, grid)?;
        self.churn.iter().try_for_each(Churn::check)?;
        check_direction(NAME, &stops, self.churn.is_some() || falls(&stops))?;
        check_joined(NAME, &stops)?;
        let mut table = Vec::with_capacity(2 * stops.len());
        for (index, stop) in stops.iter().enumerate() {
            let start = churn::start(self.churn.as_ref(), NAME, process, stop, steps)?;
            rows((NAME, AncestralSplit::Ratio), process, index, start, (&stop.to.level, stop.to), &mut table)?;
        }
        let name = churn::name(NAME, self.churn.as_ref());
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), table)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        churn::add(churn, (self, self.churn.is_some()), Self::churn, process, grid)
    }
}

impl Solver for Dpm2Ancestral {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.noise.check(ANCESTRAL)?;
        let (stops, _) = walk(process, grid)?;
        check_direction(ANCESTRAL, &stops, true)?;
        check_joined(ANCESTRAL, &stops)?;
        let mut table = Vec::with_capacity(2 * stops.len());
        for (index, stop) in stops.iter().enumerate() {
            let (down, std) = self.noise.split_step(&stop.from.level, &stop.to.level);
            let named = (ANCESTRAL, self.noise.split);
            rows(named, process, index, Start::still(stop), (&down, stop.to), &mut table)?;
            if let Some(last) = table.last_mut() {
                with_noise(last, std);
            }
        }
        let name = format!("{ANCESTRAL} ({})", self.noise);
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), table)?.on(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::HostAnswer;
    use langevin_core::Key;
    use langevin_core::noise::Injected;
    use langevin_core::process::{Edm, RectifiedFlow};

    /// The published step on a flow, in its own symbols.
    #[test]
    fn ancestral_steps_of_shares_are_those_of_the_published_method() {
        let flow = RectifiedFlow::new();
        let times = [1.0, 0.7, 0.3, 0.05, 0.0];
        let velocity = |x: f64, sigma: f64| 0.3 * x + (0.4 * x + sigma).sin();
        let model = |x: &[f64], at: &Level| {
            let v = velocity(x[0], at.sigma);
            HostAnswer { x0: vec![x[0] - at.sigma * v], eps: vec![x[0] + at.alpha * v], variance: None }
        };
        for (eta, s_noise) in [(1.0, 1.1), (0.4, 1.0)] {
            let solver = Dpm2Ancestral::new().eta(eta).and_then(|solver| solver.noise(s_noise)).unwrap();
            let grid = Grid::times(times.to_vec()).unwrap();
            let plan = solver.split(AncestralSplit::Share).plan(&flow, &grid).unwrap();
            assert_eq!(plan.evaluations(), 7);
            let (mut noise, mut x) = (Injected::new(), 1.3);
            for (i, pair) in times.windows(2).enumerate() {
                let (from, to) = (pair[0], pair[1]);
                let down = to * (1.0 + (to / from - 1.0) * eta);
                let slope = velocity(x, from);
                if to == 0.0 {
                    x -= from * slope;
                    continue;
                }
                let middle = (from * down).sqrt();
                x += (down - from) * velocity(x + (middle - from) * slope, middle);
                let kept = (1.0 - to) / (1.0 - down);
                let renoise = (to * to - (down * kept).powi(2)).sqrt();
                let drawn = 0.9 - i as f64;
                x = kept * x + renoise * s_noise * drawn;
                noise = noise.with(Key::step(2 * i as u64 + 1, 0), 0..1, vec![drawn]).unwrap();
            }
            let found = plan.run_host(vec![1.3], 0, &noise, model).unwrap()[0];
            assert!((found - x).abs() < 1e-12, "eta {eta}: {found} and {x}");
        }
    }

    /// The published step, in its own symbols.
    #[test]
    fn steps_are_those_of_the_published_method() {
        let edm = Edm::default();
        let denoise = |x: f64, sigma: f64| 0.3 * x + (0.4 * x + sigma).sin();
        let times = [10.0f64, 4.0, 1.5, 0.3];
        let model = |x: &[f64], at: &Level| {
            let x0 = denoise(x[0], at.sigma);
            HostAnswer { x0: vec![x0], eps: vec![(x[0] - x0) / at.sigma], variance: None }
        };
        let grid = Grid::times(times.to_vec()).unwrap();
        let mut x = 7.0;
        for pair in times.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let middle = (0.5 * (from.ln() + to.ln())).exp();
            let half = x + (middle - from) * (x - denoise(x, from)) / from;
            x += (to - from) * (half - denoise(half, middle)) / middle;
        }
        for solver in [&Dpm2::new() as &dyn Solver, &Dpm2Ancestral::new().eta(0.0).unwrap()] {
            let plan = solver.plan(&edm, &grid).unwrap();
            let found = plan.run_host(vec![7.0], 0, &Injected::new(), model).unwrap();
            assert!((found[0] - x).abs() < 1e-12, "{} and {x}", found[0]);
        }
    }
}
