//! What solvers that look back have in common, and the interpolation through earlier answers.

use super::leg::{Basis, Leg};
use super::phi::factorial;
use super::tau::Tau;
use crate::ddpm::{check_direction, falls};
use crate::ode::check_joined;
use crate::plan::{Draw, Plan, Row, Slot, Src, Term};
use crate::solver::{PlanError, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};

impl Basis {
    /// The answer of a slot in this basis.
    pub(super) fn answer(self, slot: Slot) -> Src {
        match self {
            Basis::Data => Src::X0(slot),
            Basis::Noise => Src::Eps(slot),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Basis::Data => "data",
            Basis::Noise => "noise",
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
    Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
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

/// The leg of a step with noise of this strength, or none.
pub(super) fn leg(basis: Basis, tau: Option<&Tau>, stop: &Stop) -> Leg {
    Leg::new(basis, tau.map_or(0.0, |tau| tau.squared(stop)), stop.from.level, stop.to.level)
}

/// The draw of a leg's noise and its term, where there is any.
pub(super) fn noise(leg: &Leg) -> Option<(Draw, Term)> {
    let std = leg.std();
    (std != 0.0).then(|| (Draw::WHITE, Term::new(std, Src::Z(0))))
}

/// A row that asks where the step begins and then goes: `decay·x + Σ weight·answer`, the latest answer first, and noise.
pub(super) fn row(
    solver: &'static str,
    (index, stop): (usize, &Stop),
    (basis, past): (Basis, &Past),
    (decay, weights): (f64, Vec<f64>),
    noise: Option<(Draw, Term)>,
) -> Result<Row, PlanError> {
    let mut sum = vec![Term::new(decay, Src::X(0))];
    let answers = weights.into_iter().enumerate();
    sum.extend(answers.map(|(back, weight)| Term::new(weight, basis.answer(past.slot(back)))));
    sum.extend(noise.map(|(_, term)| term));
    finite(solver, stop, &sum)?;
    Ok(Row::step(index, stop, past.slot(0), sum, noise.map(|(draw, _)| draw)))
}
