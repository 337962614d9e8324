//! One seed, one result: the same bits for a batch and its samples alone, on one thread and on many, and across pauses
//! that are written down, one after every step; and Brownian-driven solvers, which stay close for other numbers of steps.
//!
//! Every solver is here, every sampler, and every method for tokens: `kinds` has them.

#![allow(clippy::print_stdout, reason = "bits for another process, and distances, are the result")]

mod common;
#[path = "bits/kinds.rs"]
mod kinds;

use common::order::rms;
use common::parallel::{LINE, is_another_process, lines_of_another_process};
use common::problem::{ask_mixture, ends, even_lambda, mixture};
use common::roster;
use common::solvers::{Ground, rows};
use kinds::{Ask, Kind};
use langevin::core::noise::Seeded;
use langevin::core::process::VpSde;
use langevin::core::{NoiseSource, Process};
use langevin::schedulers::exponential::SecondOrder;
use langevin::schedulers::plan::Draw;
use langevin::schedulers::{DpmSolver, Plan, Solver};
use std::collections::BTreeSet;

#[test]
fn every_solver_has_a_row() {
    let kinds = kinds::all(2);
    let here: BTreeSet<&str> = kinds.iter().filter_map(|kind| kind.of).collect();
    let public = [roster::solvers(), roster::samplers(), roster::token_methods()].into_iter().flatten().collect();
    roster::assert_complete(&public, here, &[]);
}

const SEED: u64 = 41;

#[test]
fn batches_and_pauses_keep_the_bits() {
    for Kind { name, of, run } in kinds::all(7) {
        let together = run(&Ask { first: 3, samples: 5, paused: false });
        let alone: Vec<u32> = (3..8).flat_map(|first| run(&Ask { first, samples: 1, paused: false })).collect();
        assert_eq!(together, alone, "{name}: a batch is not its samples");
        let size = together.len() / 5;
        let samples: BTreeSet<&[u32]> = together.chunks(size).collect();
        // A few tokens of few kinds may be drawn twice.
        let least = if of.is_some_and(|of| of.starts_with("discrete::")) { 2 } else { 5 };
        assert!(samples.len() >= least, "{name}: samples are one and the same");
        let resumed = run(&Ask { first: 3, samples: 5, paused: true });
        assert_eq!(resumed, together, "{name}: pauses change the samples");
    }
}

/// Enough values that backends and noise share the work between threads.
const LARGE: Ask = Ask { first: 0, samples: 16, paused: false };
const WIDE: usize = 4096;

/// Prints a line for each sampler; started by the next test in processes of its own.
#[test]
fn print_bits_for_another_process() {
    if !is_another_process() {
        return;
    }
    for kind in kinds::all(WIDE) {
        // FNV-1a over all bits.
        let step = |hash: u64, bits: &u32| (hash ^ u64::from(*bits)).wrapping_mul(0x0100_0000_01b3);
        let hash = (kind.run)(&LARGE).iter().fold(0xcbf2_9ce4_8422_2325, step);
        println!("{LINE}{hash:016x} {}", kind.name);
    }
}

#[test]
fn one_thread_and_many_have_the_same_bits() {
    let lines = |threads| lines_of_another_process("print_bits_for_another_process", threads);
    let (one, many) = (lines(1), lines(7));
    assert_eq!(one.len(), kinds::all(WIDE).len(), "a line for each sampler");
    for (one, many) in one.iter().zip(&many) {
        assert_eq!(one, many);
    }
    let mut hashes: Vec<&str> = one.iter().filter_map(|line| line.split(' ').next()).collect();
    hashes.sort_unstable();
    hashes.dedup();
    // Some solvers are one another under another name, such as Euler in σ/α and LMS of order 1.
    assert!(hashes.len() * 10 > one.len() * 8, "{} different results of {}", hashes.len(), one.len());
}

fn is_along_a_path(plan: &Plan) -> bool {
    plan.rows().iter().flat_map(|row| &row.draws).any(|draw| matches!(draw, Draw::Path { .. }))
}

/// The data's components are some 1.5 apart and 0.5 wide. Errors of 20 steps, each a fifth of a unit of λ, are a few
/// hundredths of that, of the largest 0.08.
const STEPS: f64 = 0.1;
/// Other noise is a distance of the data's own width, whatever the steps.
const NOISE: f64 = 0.2;

/// Whose errors of 20 steps are larger, as two or three levels of their grids make one step, and how many times as many are compared.
const LONGER: [(&str, usize); 3] = [
    ("DPM-Solver 2S SDE on the grid", 3),
    ("DPM-Solver 3S SDE on the grid", 3),
    ("DPM-Solver++ 3S SDE on the grid, whole polynomial", 2),
];

/// Solvers along a Brownian path see the same noise with other numbers of steps: 20 steps and 40 end close together, for
/// white noise they do not.
#[test]
fn brownian_driven_solvers_stay_close_for_other_numbers_of_steps() {
    let (data, vp) = (mixture(), VpSde::default());
    let start = vp.level(ends(&vp).0);
    let end = |solver: &dyn Solver, n: usize, sample: u64| -> Vec<f64> {
        let noise = Seeded::new(SEED);
        let mut x = vec![0.0; 2];
        noise.fill(sample, langevin::core::Key::INITIAL, &mut x).expect("seeded noise");
        x.iter_mut().for_each(|x| *x *= start.sigma);
        let plan = solver.plan(&vp, &even_lambda(&vp, n)).expect("a plan");
        plan.run_host(x, sample, &noise, ask_mixture(&data)).expect("a host run")
    };
    // Median over samples: few of them end in another component of the mixture.
    let apart = |solver: &dyn Solver, a: usize, b: usize| -> f64 {
        let distance = |sample| rms(&end(solver, a, sample), &end(solver, b, sample));
        let mut distances: Vec<f64> = (0..65).map(distance).collect();
        distances.sort_unstable_by(f64::total_cmp);
        distances[32]
    };
    let heun = DpmSolver::multistep(2).and_then(|solver| solver.sde(1.0)).expect("settings");
    let heun = heun.second_order(SecondOrder::Heun).path();
    let table = rows();
    let solvers = table
        .iter()
        .filter(|row| !row.known && row.ground == Ground::Continuous)
        .map(|row| (row.name, row.solver.as_ref()));
    let (mut along, mut white) = (0, 0);
    for (name, solver) in solvers.chain([("DPM-Solver++ 2M SDE, Heun, path", &heun as &dyn Solver)]) {
        let plan = solver.plan(&vp, &even_lambda(&vp, 20)).expect("a plan");
        if !plan.is_stochastic() {
            continue;
        }
        let times = LONGER.iter().find(|(longer, _)| *longer == name).map_or(1, |(_, times)| *times);
        let distance = apart(solver, 20 * times, 40 * times);
        if is_along_a_path(&plan) {
            let finer = apart(solver, 80 * times, 160 * times);
            println!("{name}: 20 and 40 steps are {distance:.4} apart, 80 and 160 {finer:.4}, times {times}");
            assert!(times == 1 || apart(solver, 20, 40) >= STEPS, "{name} needs no more steps");
            assert!(distance < STEPS, "{name}: {distance}");
            // Of strong order 1 two doublings leave a quarter; twice that, as the first pair is of long steps.
            assert!(finer < 0.5 * distance, "{name}: {finer} after {distance}");
            along += 1;
        } else {
            println!("{name}, white noise: 20 and 40 steps are {distance:.4} apart");
            assert!(distance > NOISE, "{name}: {distance}");
            white += 1;
        }
    }
    assert!(along >= 12 && white >= 80, "{along} and {white}");
}
