//! Errors of plans against what is known exactly.

use crate::common::order::rms;
use crate::common::problem::{LAMBDA, STARTS, ask_gaussian, ask_mixture, ends, gaussian, mixture};
use crate::common::reference;
use langevin::core::Process;
use langevin::core::noise::Injected;
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Coef, HostAnswer, Src, Term};
use std::sync::OnceLock;

/// Error of x/α at the end on the mixture, over several starting points.
pub fn path_error(process: &dyn Process, plan: &Plan) -> f64 {
    let (data, exact) = (mixture(), exact_paths());
    let (noisy, clean) = ends(process);
    let (start, end) = (process.level(noisy), process.level(clean));
    let mut found = Vec::new();
    for y in STARTS {
        let x = y.iter().map(|y| y * start.sigma).collect();
        let x = plan.run_host(x, 0, &Injected::new(), ask_mixture(&data)).expect("a host run");
        found.extend(x.iter().map(|x| x / end.alpha));
    }
    rms(&found, exact)
}

/// As [`path_error`], from pure noise on Gaussian data.
pub fn noise_error(process: &dyn Process, plan: &Plan) -> f64 {
    let data = gaussian();
    let (start, end) = (process.level(process.time_range().1), process.level(ends(process).1));
    let (mut found, mut exact) = (Vec::new(), Vec::new());
    for y in STARTS {
        let x: Vec<f64> = y.iter().map(|y| y * start.sigma).collect();
        exact.extend(data.flow(&x, &start, &end).expect("a plane").iter().map(|x| x / end.alpha));
        let x = plan.run_host(x, 0, &Injected::new(), ask_gaussian(&data)).expect("a host run");
        found.extend(x.iter().map(|x| x / end.alpha));
    }
    rms(&found, &exact)
}

/// Error of x/σ at the noisy end, over the same paths walked from data to noise.
pub fn upward_error(process: &dyn Process, plan: &Plan) -> f64 {
    let (data, exact) = (mixture(), exact_paths());
    let (noisy, clean) = ends(process);
    let (start, end) = (process.level(clean), process.level(noisy));
    let mut found = Vec::new();
    for y in exact.chunks(STARTS[0].len()) {
        let x = y.iter().map(|y| y * start.alpha).collect();
        let x = plan.run_host(x, 0, &Injected::new(), ask_mixture(&data)).expect("a host run");
        found.extend(x.iter().map(|x| x / end.sigma));
    }
    rms(&found, STARTS.as_flattened())
}

/// As [`path_error`], with the exact state after each of the first `before` steps.
pub fn started_error(process: &dyn Process, plan: &Plan, before: usize) -> f64 {
    let data = mixture();
    let (noisy, clean) = ends(process);
    let (start, end) = (process.level(noisy), process.level(clean));
    let mut found = Vec::new();
    for y in STARTS {
        let mut ask = ask_mixture(&data);
        let mut x: Vec<f64> = y.iter().map(|y| y * start.sigma).collect();
        let y = y.map(|y| y * start.sigma / start.alpha);
        let mut answers: Vec<Option<HostAnswer>> = vec![None, None, None, None, None, None];
        let mut kept = x.clone();
        for (index, row) in plan.rows().iter().enumerate() {
            let eval = row.eval.expect("one evaluation a step");
            answers[usize::from(eval.into)] = Some(ask(&x, &eval.at));
            for (n, set) in row.post.iter().enumerate() {
                // A corrector writes the state where the row begins, which is exact here, once more.
                let corrects = set.to == 0 && n + 1 < row.post.len();
                let sum = combine(&set.sum, [&x, &kept], &answers);
                match set.to {
                    0 if corrects && index <= before => {}
                    0 => x = sum,
                    _ => kept = sum,
                }
            }
            if index < before {
                let level = row.after.level;
                let exact = reference::flow(&data, &y, (LAMBDA.0, level.lambda()), 4);
                x = exact.iter().map(|y| y * level.alpha).collect();
            }
        }
        found.extend(x.iter().map(|x| x / end.alpha));
    }
    rms(&found, exact_paths())
}

fn combine(sum: &[Term], states: [&[f64]; 2], answers: &[Option<HostAnswer>]) -> Vec<f64> {
    let mut next = vec![0.0; states[0].len()];
    for term in sum {
        let Coef::C(c) = term.c else { panic!("a number") };
        let answer = |slot: u8| answers[usize::from(slot)].as_ref().expect("asked");
        let values = match term.of {
            Src::X(reg) => states[usize::from(reg)],
            Src::X0(slot) => &answer(slot).x0,
            Src::Eps(slot) => &answer(slot).eps,
            other => panic!("no {other:?} in a multistep plan without noise"),
        };
        next.iter_mut().zip(values).for_each(|(next, value)| *next += c * value);
    }
    next
}

/// Where the starting points end, as x/α: the same for every process.
pub fn exact_paths() -> &'static [f64] {
    static PATHS: OnceLock<Vec<f64>> = OnceLock::new();
    PATHS.get_or_init(|| paths(96))
}

pub fn paths(steps: usize) -> Vec<f64> {
    let ratio = (-LAMBDA.0).exp();
    STARTS.iter().flat_map(|y| reference::flow(&mixture(), &y.map(|y| y * ratio), LAMBDA, steps)).collect()
}
