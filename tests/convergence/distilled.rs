//! Solvers for networks that jump, with networks that jump as they should: all of what is new in a step is noise of its level,
//! and what the network says has the law of what it should be, so that the law is that of the data in any number of steps.

use crate::common::affine::{marginal, marginal_covariance, push_asking};
use crate::common::order::rms;
use crate::common::problem::gaussian;
use langevin::core::grid::Stop;
use langevin::core::{Grid, Level, Process};
use langevin::schedulers::Plan;

/// From a state to x̂_0 and ε̂.
type Answer<'a> = &'a dyn Fn(&[f64], &Level) -> [Vec<f64>; 2];

const CLEAN: Level = Level { alpha: 1.0, sigma: 0.0, time: 0.0 };

/// How far the mean and covariance at the end are from those of the data, at the level where it ends.
pub fn error(name: &str, plan: &Plan, process: &dyn Process, grid: &Grid) -> f64 {
    let data = gaussian();
    let stops = grid.stops(process).expect("a grid");
    let flow = |x: &[f64], from: &Level, to: &Level| data.flow(x, from, to).expect("a plane");
    let to_data = |x: &[f64], at: &Level| with_eps(x, flow(x, at, &CLEAN), at);
    let clean = process.time_range().0;
    // What LCM keeps of the state is made up for, at the time of the process where networks are told times below 0.
    let through_boundary = |x: &[f64], at: &Level| {
        let told = process.network_time(clean) >= 0.0;
        let time = if told { at.time } else { process.time_at_lambda(at.lambda()).expect("a time") };
        let norm = (10.0 * time).hypot(0.5);
        let (skip, out) = ((0.5 / norm).powi(2), 10.0 * time / norm);
        let jump = flow(x, at, &CLEAN);
        with_eps(x, jump.iter().zip(x).map(|(f, x)| (f - skip * x) / out).collect(), at)
    };
    // To the level that TCD goes to, at which its last step stays.
    let beyond = |to: f64| process.level(clean + 0.7 * (to - clean));
    let along = |x: &[f64], at: &Level| {
        // A level that is changed is near its own.
        let off = |stop: &Stop| (stop.ask.lambda() - at.lambda()).abs();
        let stop = stops.iter().min_by(|a, b| off(a).total_cmp(&off(b))).expect("a grid has steps");
        let goal = beyond(stop.to.t);
        let (f, det) = (flow(x, at, &goal), goal.alpha * at.sigma - goal.sigma * at.alpha);
        let solved = |of_f: f64, of_x: f64| f.iter().zip(x).map(|(f, x)| (of_f * f + of_x * x) / det).collect();
        [solved(at.sigma, -goal.sigma), solved(-at.alpha, goal.alpha)]
    };
    let last = stops[stops.len() - 1].to;
    let (answer, end): (Answer<'_>, Level) = match name {
        "LCM" => (&through_boundary, CLEAN),
        "TCD" => (&along, beyond(last.t)),
        _ => (&to_data, last.level),
    };
    let (mean, factor) = marginal(&data, &plan.start_node().level);
    let found = push_asking(plan, answer, &mean, &factor);
    let exact = [marginal(&data, &end).0, marginal_covariance(&data, &end)].concat();
    rms(&[found.mean.clone(), found.covariance()].concat(), &exact)
}

/// The ε̂ that belongs to an x̂_0.
fn with_eps(x: &[f64], x0: Vec<f64>, at: &Level) -> [Vec<f64>; 2] {
    let eps = x.iter().zip(&x0).map(|(x, x0)| (x - at.alpha * x0) / at.sigma).collect();
    [x0, eps]
}
