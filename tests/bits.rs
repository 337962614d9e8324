//! One seed, one result: the same bits for a batch and its samples alone, on one thread and on many, and across a pause
//! that is written down; and Brownian-driven solvers, which stay close for other numbers of steps.
//!
//! Every solver is here: the plans of `common::solvers`, and the samplers of `common::samplers`.

#![allow(clippy::print_stdout, reason = "bits for another process, and distances, are the result")]

mod common;

use burn::tensor::{DType, Device, Tensor};
use common::order::rms;
use common::problem::{ask_mixture, ends, even_lambda, mixture};
use common::roster;
use common::samplers;
use common::solvers::{plans, rows};
use langevin::core::noise::Seeded;
use langevin::core::process::VpSde;
use langevin::core::{DenoiseError, Denoiser, Estimate, Load, NoiseSource, Prediction, Process, Query};
use langevin::schedulers::exponential::{DpmSolverSde, SecondOrder};
use langevin::schedulers::plan::Draw;
use langevin::schedulers::{DpmSolver, EulerMaruyama, Plan, Sampler, SamplerExt, SavedRun, Solver};
use std::process::Command;

/// A denoiser that works on each value alone, so that any difference is one of the solvers.
struct Elementwise;

impl Denoiser<2> for Elementwise {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let (x, levels) = (query.x, query.levels);
        let shift = levels.times(&x).mul_scalar(0.01).add_scalar(0.2).reshape([-1, 1]);
        let wave = x.clone().mul_scalar(1.3).add(shift).sin();
        let output = x.clone().mul_scalar(0.3).add(wave.mul_scalar(0.7));
        let variance = x.clone().mul_scalar(0.7).cos().mul_scalar(0.4).add_scalar(0.5);
        Ok(Estimate::new(x, output, levels.clone(), Prediction::Velocity).with_variance(variance))
    }
}

/// Every sampler of samples of so many values: all plans, and those that are none.
fn samplers(width: usize) -> Vec<(String, Box<dyn Sampler<2>>)> {
    let plans = plans().into_iter().map(|(name, plan)| (name, Box::new(plan) as Box<dyn Sampler<2>>));
    plans
        .chain(samplers::samplers(width, DType::F32).into_iter().map(|entry| (entry.name.to_owned(), entry.sampler)))
        .collect()
}

#[test]
fn every_solver_has_a_row() {
    let known = [
        ("jumps::repaint::RePaint", "tests/jumps.rs shows it, with an image and a mask"),
        ("plus_plus::PlusPlus", "tests/guidance.rs shows it, with two answers"),
    ];
    let rows = rows();
    let here = rows.iter().filter(|row| !row.known && !row.split).map(|row| row.of);
    roster::assert_complete(&roster::solvers(), here, &known);
    let images = [("consistency::scalewise::Scalewise", "tests/diffusers shows it, with images")];
    let samplers = samplers::samplers(2, DType::F32);
    roster::assert_complete(&roster::samplers(), samplers.iter().map(|entry| entry.of), &images);
}

const SEED: u64 = 41;

fn load() -> Load {
    Load::on(&Device::flex())
}

fn bits(x: &Tensor<2>) -> Vec<u32> {
    x.try_to_vec_as::<f32>().expect("a readable tensor").into_iter().map(f32::to_bits).collect()
}

fn run(sampler: &dyn Sampler<2>, first: u64, shape: [usize; 2]) -> Vec<u32> {
    let noise = Seeded::new(SEED);
    bits(&sampler.start_at(first, shape, &Elementwise, &noise, load()).expect("a run").finish().expect("samples"))
}

#[test]
fn batches_and_pauses_keep_the_bits() {
    let noise = Seeded::new(SEED);
    for (name, sampler) in samplers(7) {
        let sampler = sampler.as_ref();
        let together = run(sampler, 3, [5, 7]);
        let alone: Vec<u32> = (3..8).flat_map(|sample| run(sampler, sample, [1, 7])).collect();
        assert_eq!(together, alone, "{name}: a batch is not its samples");
        assert_ne!(together[..7], together[7..14], "{name}: samples are one and the same");

        let mut paused = sampler.start_at(3, [5, 7], &Elementwise, &noise, load()).expect("a run");
        for step in paused.by_ref().take(3) {
            step.expect("a step");
        }
        let text = serde_json::to_string(&paused.save().expect("a saved run")).expect("a saved run is data");
        drop(paused);
        let saved: SavedRun = serde_json::from_str(&text).expect("a saved run is data");
        let resumed = sampler.resume(&saved, &Elementwise, &noise, load()).expect("a resumed run");
        assert_eq!(bits(&resumed.finish().expect("samples")), together, "{name}: a pause changes the samples");
    }
}

const CHILD: &str = "LANGEVIN_TEST_PRINTS_BITS";
/// Enough values that backends and noise share the work between threads.
const LARGE: [usize; 2] = [16, 4096];

/// Prints a line for each sampler; started by the next test in processes of its own.
#[test]
fn print_bits_for_another_process() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    for (name, sampler) in samplers(LARGE[1]) {
        // FNV-1a over all bits.
        let step = |hash: u64, bits: &u32| (hash ^ u64::from(*bits)).wrapping_mul(0x0100_0000_01b3);
        let hash = run(sampler.as_ref(), 0, LARGE).iter().fold(0xcbf2_9ce4_8422_2325, step);
        println!("bits {hash:016x} {name}");
    }
}

#[test]
fn one_thread_and_many_have_the_same_bits() {
    let program = std::env::current_exe().expect("this program");
    let lines = |threads: &str| -> Vec<String> {
        let mut child = Command::new(&program);
        child.args(["--exact", "print_bits_for_another_process", "--nocapture"]);
        let output = child.env(CHILD, "1").env("RAYON_NUM_THREADS", threads).output().expect("a process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().filter(|line| line.starts_with("bits ")).map(str::to_owned).collect()
    };
    let (one, many) = (lines("1"), lines("7"));
    assert_eq!(one.len(), samplers(LARGE[1]).len(), "a line for each sampler");
    for (one, many) in one.iter().zip(&many) {
        assert_eq!(one, many);
    }
    let mut hashes: Vec<&str> = one.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    // Some solvers are one another under another name, such as Euler in σ/α and LMS of order 1.
    assert!(hashes.len() * 10 > one.len() * 8, "{} different results of {}", hashes.len(), one.len());
}

fn is_along_a_path(plan: &Plan) -> bool {
    plan.rows().iter().flat_map(|row| &row.draws).any(|draw| matches!(draw, Draw::Path { .. }))
}

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
    let (mut along, mut white) = (0, 0);
    let sde = |order| DpmSolver::multistep(order).and_then(|solver| solver.sde(1.0)).expect("settings");
    let solvers: Vec<(&str, Box<dyn Solver>)> = vec![
        ("Euler-Maruyama along a path", Box::new(EulerMaruyama::new().path())),
        ("DPM-Solver++ 1M SDE along a path", Box::new(sde(1).path())),
        ("DPM-Solver++ 2M SDE along a path", Box::new(sde(2).path())),
        ("DPM-Solver++ 3M SDE along a path", Box::new(sde(3).path())),
        ("DPM-Solver++ 2M SDE, Heun, along a path", Box::new(sde(2).second_order(SecondOrder::Heun).path())),
        ("DPM-Solver++ SDE", Box::new(DpmSolverSde::new())),
        ("Euler-Maruyama", Box::new(EulerMaruyama::new())),
        ("DPM-Solver++ 2M SDE", Box::new(sde(2))),
    ];
    for (name, solver) in &solvers {
        let plan = solver.plan(&vp, &even_lambda(&vp, 20)).expect("a plan");
        let distance = apart(solver.as_ref(), 20, 40);
        if is_along_a_path(&plan) {
            let finer = apart(solver.as_ref(), 80, 160);
            println!("{name}: 20 and 40 steps are {distance:.4} apart, 80 and 160 {finer:.4}");
            assert!(distance < 0.1, "{name}: {distance}");
            assert!(finer < 0.5 * distance, "{name}: {finer} after {distance}");
            along += 1;
        } else {
            println!("{name}, white noise: 20 and 40 steps are {distance:.4} apart");
            assert!(distance > 0.2, "{name}: {distance}");
            white += 1;
        }
    }
    assert!(along >= 6 && white >= 2, "{along} and {white}");
}
