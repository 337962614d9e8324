//! Samples of stochastic solvers against the mean and covariance that their own plans predict.
//!
//! A solver with N steps does not reproduce the data's moments, so the data is not what its samples are compared with:
//! on Gaussian data a plan pushes mean and covariance exactly, and 10⁶ samples must agree with those within four
//! standard errors. A noise coefficient that is off by 1% must not. That the predictions go to the data's moments as N
//! grows closes the chain.

#![allow(clippy::print_stdout, reason = "how far the moments are off is worth seeing with --nocapture")]

#[path = "../common/mod.rs"]
mod common;
mod samplers;

use common::affine::{marginal, marginal_covariance};
use common::moments::{
    Increments, Moments, SAMPLES, STANDARD_ERRORS, Sums, distance, points, predicted, sampled, sampled_by, scale_noise,
};
use common::problem::{even_lambda, gaussian, processes};
use common::roster;
use common::solvers::{Ground, Row, rows};
use langevin::core::exact::Gaussian;
use langevin::core::grid::End;
use langevin::core::process::{Betas, DiscreteChain, Edm, RectifiedFlow, VeSde, VpSde};
use langevin::core::{Grid, Process};
use langevin::schedulers::Plan;
use std::collections::{BTreeMap, BTreeSet};

/// Where the hash of a case's name begins. Of 640 moments one is beyond four standard errors for about one such number in 25.
const SEEDS: u64 = 1000;

/// Stochastic solvers.
fn noisy() -> Vec<Row> {
    rows().into_iter().filter(|row| row.is_noisy() && !row.known).collect()
}

/// A plan that is sampled.
struct Sampled {
    name: String,
    /// The solver's type.
    of: &'static str,
    seed: u64,
    plan: Plan,
    /// Whether paths are those of the library, or their increments alone.
    whole_paths: bool,
}

impl Sampled {
    fn moments(&self, plan: &Plan, data: &Gaussian) -> Moments {
        if self.whole_paths {
            return sampled(plan, data, self.seed);
        }
        sampled_by(plan, data, &Increments::of(plan, self.seed), None)
    }

    /// How far noise that is off by 1% takes the predicted moments, in standard errors.
    fn visible(&self, data: &Gaussian) -> f64 {
        distance(&predicted(&scale_noise(&self.plan, 1.01), data), &predicted(&self.plan, data))
    }
}

/// Every stochastic solver on every process, in a few steps that end where noise still counts.
fn sampled_plans() -> Vec<Sampled> {
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000).expect("a chain");
    // Later steps of a chain are so clean that 1% of some solvers' noise moves no moment by what a million samples show.
    let steps = vec![900.0, 750.0, 620.0, 500.0, 400.0, 320.0];
    let mut on: Vec<(&str, Box<dyn Process>, Grid)> =
        vec![("chain", Box::new(chain), Grid::times(steps.clone()).expect("falling").ending(End::Range))];
    on.extend(processes().into_iter().map(|(name, process)| {
        let grid = even_lambda(&process, 6);
        (name, process, grid)
    }));
    let mut plans = Vec::new();
    let mut add = |name: String, row: &Row, plan: Plan, whole_paths: bool| {
        let seed = seed_of(&name);
        plans.push(Sampled { name, of: row.of, seed, plan, whole_paths });
    };
    for (process, on, grid) in on {
        for row in noisy() {
            let name = format!("{} on {process}", row.name);
            let plan = row.solver.plan(&on, &grid).unwrap_or_else(|error| panic!("{name}: {error}"));
            add(name, &row, plan, process == "VP");
        }
    }
    // What draws in a step to clean data is sampled there, too.
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000).expect("a chain");
    let grid = Grid::times(steps).expect("falling");
    for row in noisy().into_iter().filter(|row| row.ground == Ground::Chain) {
        let name = format!("{} on chain, to clean data", row.name);
        let plan = row.solver.plan(&chain, &grid).unwrap_or_else(|error| panic!("{name}: {error}"));
        if plan.rows().last().is_some_and(|row| !row.draws.is_empty()) {
            add(name, &row, plan, false);
        }
    }
    plans
}

/// A seed of its own for each name, whatever else is sampled.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(SEEDS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The moments of samples are those that the plan predicts; those of a plan whose noise is off by 1% are others.
#[test]
fn samples_have_the_moments_that_the_plan_predicts() {
    let data = gaussian();
    let plans = sampled_plans();
    let measured = common::parallel::each(plans.len(), |index| {
        let case = &plans[index];
        let samples = case.moments(&case.plan, &data);
        let off = distance(&predicted(&scale_noise(&case.plan, 1.01), &data), &samples);
        (distance(&predicted(&case.plan, &data), &samples), off, case.visible(&data))
    });
    let (mut wrong, mut worst) = (Vec::new(), 0.0f64);
    for (Sampled { name, .. }, (errors, off, visible)) in plans.iter().zip(measured) {
        println!("{name}: {errors:.2} standard errors, {off:.2} of {visible:.2} with noise off by 1%");
        worst = worst.max(errors);
        if !(errors < STANDARD_ERRORS) {
            wrong.push(format!("{name}: moments are {errors:.2} standard errors off"));
        }
        if !(off > STANDARD_ERRORS) {
            wrong.push(format!("{name}: noise off by 1% went unnoticed ({off:.2} standard errors of {visible:.2})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Standard errors that are too large would let anything pass.
    assert!(worst > 2.0, "{worst}");
}

/// The same for samplers that are no plans, whose moments are those of plans made of what they did.
#[test]
fn samples_of_samplers_have_the_moments_of_their_steps() {
    let data = gaussian();
    let cases = samplers::cases();
    let measured = common::parallel::each(cases.len(), |index| {
        // Samplers are not sent between threads: each makes its own.
        let case = samplers::cases().swap_remove(index);
        let (samples, right, off) = case.measure(&data, seed_of(&case.name));
        (distance(&right, &samples), off.map(|off| distance(&off, &samples)))
    });
    let mut wrong = Vec::new();
    for (case, (errors, off)) in cases.iter().zip(measured) {
        println!("{}: {errors:.2} standard errors, {off:.2?} with noise off by 1%", case.name);
        if !(errors < STANDARD_ERRORS) || off.is_some_and(|off| !(off > STANDARD_ERRORS)) {
            wrong.push(format!("{}: {errors:.2} standard errors, {off:.2?} with noise off by 1%", case.name));
        }
        assert_eq!(off.is_some(), case.noisy, "{}", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    roster::assert_complete(&roster::samplers(), cases.iter().map(|case| case.of), &samplers::ELSEWHERE);
}

/// The other way round: samples whose noise is off by 1% do not have the moments of the right plan. One plan of each type of
/// solver, the one in which it is seen best.
#[test]
fn a_noise_coefficient_that_is_off_by_one_percent_is_noticed() {
    let data = gaussian();
    let mut best: BTreeMap<&str, (f64, Sampled)> = BTreeMap::new();
    for case in sampled_plans().into_iter().filter(|case| !case.whole_paths) {
        let visible = case.visible(&data);
        if best.get(case.of).is_none_or(|(other, _)| *other < visible) {
            best.insert(case.of, (visible, case));
        }
    }
    let types: BTreeSet<&str> = noisy().iter().map(|row| row.of).collect();
    assert_eq!(best.keys().copied().collect::<BTreeSet<_>>(), types);
    let cases: Vec<_> = best.into_values().collect();
    let found = common::parallel::each(cases.len(), |index| {
        let case = &cases[index].1;
        let samples = case.moments(&scale_noise(&case.plan, 1.01), &data);
        distance(&predicted(&case.plan, &data), &samples)
    });
    for ((visible, Sampled { name, .. }), errors) in cases.iter().zip(found) {
        println!("{name}: {errors:.2} standard errors of {visible:.2}");
        assert!(errors > STANDARD_ERRORS, "{name}: noise off by 1% went unnoticed ({errors:.2} standard errors)");
    }
}

/// How near to the data's moments 256 steps come.
const NEAR: f64 = 0.05;

/// Solvers of order 1 whose error in 256 steps is still larger, from how many steps on their errors fall evenly, and why: the error
/// in four times as many must be a quarter.
const SLOW: [(&str, &str, usize, &str); 15] = [
    ("DPM-Solver++ 2S SDE on the grid, as diffusers", "VP", 256, TWICE),
    ("DPM-Solver++ 2S SDE on the grid, as diffusers", "EDM", 256, TWICE),
    ("DPM-Solver++ 2S SDE on the grid, as diffusers", "flow", 256, TWICE),
    ("DPM-Solver 2S SDE on the grid, as diffusers", "VP", 512, TWICE),
    ("DPM-Solver 2S SDE on the grid, as diffusers", "VE", 256, TWICE),
    ("DPM-Solver 2S SDE on the grid, as diffusers", "EDM", 512, TWICE),
    ("DPM-Solver 2S SDE on the grid, as diffusers", "flow", 512, TWICE),
    ("DPM-Solver++ 3S SDE on the grid, drawn anew", "VP", 256, THRICE),
    ("DPM-Solver++ 3S SDE on the grid, drawn anew", "VE", 256, THRICE),
    ("DPM-Solver++ 3S SDE on the grid, drawn anew", "EDM", 256, THRICE),
    ("DPM-Solver++ 3S SDE on the grid, drawn anew", "flow", 256, THRICE),
    ("reverse diffusion, probability flow, churn", "VP", 256, LESS),
    ("reverse diffusion, probability flow, churn", "VE", 256, LESS),
    ("reverse diffusion, probability flow, churn", "EDM", 256, LESS),
    ("reverse diffusion, probability flow, churn", "flow", 256, LESS),
];
const TWICE: &str =
    "how the noise of a stage acts on the step is left out, which is an error of weak order 1 over steps twice as long";
const THRICE: &str = "the same over steps three times as long";
const LESS: &str = "of the noise half the difference of σ² over the larger σ is taken away, which is less than the difference of σ by an \
                    error of weak order 1";

/// Whose errors in 16 steps are less than those in 64: variances are too small there, and too large in more.
const CROSSING: [(&str, &str); 1] = [("ER-SDE 3 without noise, churn", "VE")];

/// Down to clean data; the order of the errors is measured on every process by `tests/convergence`.
#[test]
fn predicted_moments_go_to_those_of_the_data() {
    let data = gaussian();
    let processes: [(&str, Box<dyn Process>); 4] = [
        ("VP", Box::new(VpSde::default())),
        ("VE", Box::new(VeSde::default())),
        ("EDM", Box::new(Edm::default())),
        ("flow", Box::new(RectifiedFlow::new().range(0.01, 0.99).expect("a range"))),
    ];
    let (mut wrong, mut slow_seen, mut crossing_seen) = (Vec::new(), 0, 0);
    for (on, process) in processes {
        for row in noisy().into_iter().filter(|row| row.own_law.is_none()) {
            let name = row.name;
            let off = |n: usize| {
                let plan = row.solver.plan(&process, &Grid::uniform_lambda(n).ending(End::Range)).expect("a plan");
                let found = predicted(&plan, &data);
                let (mean, covariance) = match plan.rows().last().expect("rows").after.level {
                    // A range of a flow on which σ/α is finite ends a hundredth before the data.
                    level if on == "flow" => (marginal(&data, &level).0, marginal_covariance(&data, &level)),
                    _ => (data.mean().to_vec(), data.covariance().to_vec()),
                };
                let mean = found.mean.iter().zip(&mean).map(|(a, b)| a - b);
                let covariance = found.covariance.iter().zip(&covariance).map(|(a, b)| a - b);
                mean.chain(covariance).collect::<Vec<f64>>()
            };
            // NaN if one of them is: `max` alone would pass over it.
            let largest =
                |most: f64, off: f64| if most.is_nan() || off.is_nan() { f64::NAN } else { most.max(off.abs()) };
            let error = |n| off(n).into_iter().fold(0.0, largest);
            let errors = [16, 64, 256].map(error);
            println!("{name} on {on}: {errors:?}");
            let is_near = match SLOW.iter().find(|(slow, process, ..)| (*slow, *process) == (name, on)) {
                None => errors[2] < NEAR,
                // Its order says how much nearer four times the steps come. Those that need no more are in the table by mistake.
                Some((_, _, from, reason)) => {
                    let [some, more] = [*from, 4 * from].map(error);
                    println!("    {some} and {more} in {from} steps and four times as many, because {reason}");
                    errors[2] >= NEAR && more < NEAR && (3.6..=4.4).contains(&(some / more))
                }
            };
            slow_seen += usize::from(SLOW.iter().any(|(slow, process, ..)| (*slow, *process) == (name, on)));
            // The variances are the first and the last of a covariance.
            let crosses = || [2, 5].into_iter().all(|at| off(16)[at] < 0.0 && off(64)[at] > 0.0);
            let falls_first = match CROSSING.contains(&(name, on)) {
                false => errors[1] < errors[0],
                true => errors[1] >= errors[0] && errors[1] < NEAR && crosses(),
            };
            crossing_seen += usize::from(CROSSING.contains(&(name, on)));
            if !(falls_first && errors[2] < errors[1] && is_near) {
                wrong.push(format!("{name} on {on}: {errors:?}, {:?}", error(1024)));
            }
        }
    }
    assert_eq!(slow_seen, SLOW.len(), "rows of SLOW are of no solver");
    assert_eq!(crossing_seen, CROSSING.len(), "rows of CROSSING are of no solver");
    assert!(wrong.is_empty(), "moments that do not go to the data's:\n{}", wrong.join("\n"));
}

/// Solvers without noise in any setting.
const QUIET: [&str; 3] = ["exponential::unic::UniC", "flow::heun::Heun", "ode::probability_flow::ProbabilityFlow"];

#[test]
fn every_solver_has_a_row() {
    let noisy = noisy();
    let is_noisy = |of: &str| noisy.iter().any(|row| row.of == of);
    let mut public = roster::solvers();
    // All rows of these are there, and none draws. They are named, so that one whose noise is lost is noticed.
    let rows = rows();
    let quiet: BTreeSet<&str> = rows.iter().filter(|row| !row.known && !is_noisy(row.of)).map(|row| row.of).collect();
    assert_eq!(quiet, BTreeSet::from(QUIET));
    public.retain(|name| !QUIET.contains(&name.as_str()));
    let known = [("jumps::repaint::RePaint", "tests/jumps.rs compares its law, with an image and a mask")];
    roster::assert_complete(&public, noisy.iter().map(|row| row.of), &known);
}
