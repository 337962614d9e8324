//! What solvers that look back have in common, and the interpolation through earlier answers.

use super::leg::{Basis, Leg};
use super::phi::factorial;
use crate::ddpm::{check_direction, falls};
use crate::ode::check_joined;
use crate::plan::{Eval, Plan, Row, Set, Slot, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

impl Basis {
    /// The answer of a slot in this basis.
    pub(super) fn answer(self, slot: Slot) -> Src {
        match self {
            Basis::Data => Src::X0(slot),
            Basis::Noise => Src::Eps(slot),
        }
    }
}

/// The answers that a step can look back on: this step's and those before, newest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// λ and slot.
    answers: Vec<(f64, Slot)>,
    depth: usize,
    asked: usize,
}

impl Past {
    /// Keeps the last `depth` answers.
    pub fn new(depth: usize) -> Self {
        Self { answers: Vec::new(), depth, asked: 0 }
    }

    /// The slot of the answer at λ, which becomes the newest.
    pub fn ask(&mut self, lambda: f64) -> Slot {
        let slot = (self.asked % self.depth) as Slot;
        self.asked += 1;
        self.answers.insert(0, (lambda, slot));
        self.answers.truncate(self.depth);
        slot
    }

    /// How many of the newest answers can carry a polynomial: their λ are finite, and no two are one.
    pub fn usable(&self) -> usize {
        let lambda = |back: usize| self.answers[back].0;
        let sound = |back: &usize| lambda(*back).is_finite() && (*back == 0 || lambda(*back) != lambda(back - 1));
        (0..self.answers.len()).take_while(sound).count().max(1)
    }

    pub fn slot(&self, back: usize) -> Slot {
        self.answers[back].1
    }

    pub fn lambda(&self, back: usize) -> f64 {
        self.answers[back].0
    }
}

/// Weights of answers at `nodes`, in units of h from the step's beginning, whose interpolating polynomial is integrated
/// exactly.
pub(super) fn interpolate(leg: &Leg, nodes: &[f64]) -> Vec<f64> {
    let weight = |j: usize| {
        // The coefficients of the j-th Lagrange polynomial in v, and ∫ weight·v^k = k!·weight(k).
        let mut polynomial = vec![1.0];
        for (i, node) in nodes.iter().enumerate().filter(|(i, _)| *i != j) {
            let scale = 1.0 / (nodes[j] - nodes[i]);
            let mut next = vec![0.0; polynomial.len() + 1];
            for (k, a) in polynomial.iter().enumerate() {
                next[k + 1] += a * scale;
                next[k] -= a * node * scale;
            }
            polynomial = next;
        }
        polynomial.iter().enumerate().map(|(k, a)| a * factorial(k) * leg.weight(k)).sum()
    };
    (0..nodes.len()).map(weight).collect()
}

/// The stops of a grid without gaps; with noise it has to fall.
pub(super) fn joined_stops(
    solver: &'static str,
    process: &dyn Process,
    grid: &Grid,
    noisy: bool,
) -> Result<Vec<Stop>, PlanError> {
    let stops = grid.stops(process)?;
    check_direction(solver, &stops, noisy || falls(&stops))?;
    check_joined(solver, &stops)?;
    Ok(stops)
}

/// A plan from rows that begin at the first stop.
pub(super) fn plan(name: String, process: &dyn Process, stops: &[Stop], rows: Vec<Row>) -> Result<Plan, PlanError> {
    Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?)
}

/// `numerator` or an error if a level makes it no number.
pub(super) fn finite(solver: &'static str, stop: &Stop, terms: &[Term]) -> Result<(), PlanError> {
    let sound = |term: &Term| match term.c {
        crate::plan::Coef::C(c) => c.is_finite(),
        _ => true,
    };
    if terms.iter().all(sound) {
        return Ok(());
    }
    let level = stop.from.level;
    Err(PlanError::Singular {
        solver,
        t: stop.from.t,
        alpha: level.alpha,
        sigma: level.sigma,
        advice: if level.sigma == 0.0 {
            "x̂_0 has no finite weight there; take the noise basis, or leave this time out of the grid"
        } else {
            "the answer in this basis has no finite weight there; take the data basis, or leave this time out of the grid"
        },
    })
}

/// Exponential multistep integration with the polynomial through the last answers (Zhang & Chen 2023, "Fast sampling of
/// diffusion models with exponential integrator", their tAB-DEIS with the polynomial in λ).
///
/// In the noise basis it is diffusers' `DEISMultistepScheduler`; in the data basis the exact form of DPM-Solver++
/// multistep. Order p after p − 1 starting steps of rising order.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{Solver, exponential::Deis};
/// let plan = Deis::new(3)?.plan(&VpSde::default(), &Grid::uniform(20))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deis {
    order: usize,
    basis: Basis,
    lower_below: usize,
}

const DEIS: &str = "DEIS";

impl Deis {
    /// Of order 1 to 4, in the noise basis.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for other orders.
    pub fn new(order: usize) -> Result<Self, PlanError> {
        let solver = Self { order, basis: Basis::Noise, lower_below: 0 };
        solver.check()?;
        Ok(solver)
    }

    /// Integrates the other answer.
    pub fn basis(mut self, basis: Basis) -> Self {
        self.basis = basis;
        self
    }

    /// Lowers the order in the last steps, down to 1, of grids with fewer than this many steps; 0 never. diffusers has 15.
    pub fn lower_order_below(mut self, steps: usize) -> Self {
        self.lower_below = steps;
        self
    }

    fn check(&self) -> Result<(), PlanError> {
        if (1..=4).contains(&self.order) {
            return Ok(());
        }
        Err(PlanError::Setting { solver: DEIS, setting: "order", given: self.order as f64, expected: "1, 2, 3 or 4" })
    }
}

impl Solver for Deis {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let stops = joined_stops(DEIS, process, grid, false)?;
        let mut past = Past::new(self.order);
        let mut rows = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            let leg = Leg::new(self.basis, 0.0, stop.from.level, stop.to.level);
            let slot = past.ask(stop.from.level.lambda());
            let order = allowed_order(self.order, index, &stops, self.lower_below).min(past.usable());
            let nodes: Vec<f64> = (0..order).map(|back| (past.lambda(back) - past.lambda(0)) / leg.h).collect();
            let nodes = if order == 1 { vec![0.0] } else { nodes };
            let mut sum = vec![Term::new(leg.decay(), Src::X(0))];
            for (back, weight) in interpolate(&leg, &nodes).into_iter().enumerate() {
                sum.push(Term::new(weight, self.basis.answer(past.slot(back))));
            }
            finite(DEIS, stop, &sum)?;
            rows.push(row(index, stop, slot, sum));
        }
        plan(format!("{DEIS} of order {} ({})", self.order, self.basis.name()), process, &stops, rows)
    }
}

impl Basis {
    pub(super) fn name(self) -> &'static str {
        match self {
            Basis::Data => "data",
            Basis::Noise => "noise",
        }
    }
}

/// The order that a step may have: one more in every step from the start, one to clean data or pure noise, and less
/// towards the end of short grids.
pub(super) fn allowed_order(order: usize, index: usize, stops: &[Stop], lower_below: usize) -> usize {
    let left = stops.len() - index;
    let started = order.min(index + 1);
    let (from, to) = (stops[index].from.level, stops[index].to.level);
    // To no noise or no data, and where a grid ends by standing still, there is no polynomial to speak of.
    if to.sigma == 0.0 || to.alpha == 0.0 || to.lambda() == from.lambda() {
        return 1;
    }
    if stops.len() < lower_below { started.min(left) } else { started }
}

/// A row that asks where the step begins and then goes.
pub(super) fn row(index: usize, stop: &Stop, slot: Slot, sum: Vec<Term>) -> Row {
    Row {
        draws: Vec::new(),
        pre: Vec::new(),
        eval: Some(Eval { at: stop.ask, x: 0, into: slot }),
        post: vec![Set::new(0, sum)],
        step: Some(index as u32),
        after: stop.to,
        report: vec![Term::new(1.0, Src::X0(slot))],
    }
}
