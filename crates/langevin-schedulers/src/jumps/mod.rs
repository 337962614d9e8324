//! Solvers that jump back to noisier levels and come down again.
//!
//! Both take any solver that plans, on any process. What is known beforehand is when they jump, so they are plans
//! themselves: a jump is a row without an evaluation.
//!
//! * [`RePaint`] fills in what is missing of an image, and jumps so that what is filled in agrees with what is known.
//! * [`Restart`] adds noise to the path of a deterministic solver, which forgets the errors made before.

mod pieces;
mod repaint;
mod restart;

pub use repaint::RePaint;
pub use restart::Restart;

use crate::plan::{Draw, Reg, Row, Set, Src, Term};
use crate::solver::PlanError;
use langevin_core::process::Transition;
use langevin_core::{Level, Node};

/// The row that raises the state to `to` by the forward transition between two levels.
fn rise(solver: &'static str, (from, until): (&Level, &Level), to: Node, register: Reg) -> Result<Row, PlanError> {
    let Transition { scale, variance } = Transition::between(from, until);
    if !(scale.is_finite() && variance.is_finite()) {
        let (alpha, sigma) = (from.alpha, from.sigma);
        let advice = "no forward step begins where α = 0; jump from a cleaner level";
        return Err(PlanError::Singular { solver, t: to.t, alpha, sigma, advice });
    }
    let noise = Term::new(variance.sqrt(), Src::Z(register));
    Ok(Row {
        draws: if variance > 0.0 { vec![Draw::White { to: register, lane: 0 }] } else { Vec::new() },
        pre: Vec::new(),
        eval: None,
        post: vec![Set::new(0, [Term::new(scale, Src::X(0)), noise])],
        step: Some(0),
        after: to,
        report: Vec::new(),
    })
}

/// Numbers the steps.
fn number(rows: &mut [Row]) {
    for (step, row) in rows.iter_mut().filter(|row| row.step.is_some()).enumerate() {
        row.step = Some(step as u32);
    }
}
