//! The drift-diffusion model of two-choice decisions (Ratcliff 1978): evidence `dx = v dt + dW` is gathered until it
//! reaches one of two bounds, ±a. Which one is the choice, when is the reaction time.

use crate::compare;
use crate::plot::{BLUE, Mark, ORANGE, Panel, Series, draw, histogram};
use langevin::prelude::*;
use langevin::schedulers::sde;
use plotters::style::RED;
use std::error::Error;
use std::f64::consts::PI;
use std::path::Path;

/// Drift, for the right choice, and half the distance of the bounds, in units of the noise a second.
const DRIFT: f64 = 0.8;
const BOUND: f64 = 1.0;
/// Seconds for seeing and acting.
const NON_DECISION: f64 = 0.3;
const DT: f64 = 0.005;
const STEPS: usize = 1600;

/// Density of the decision times at the upper bound (`drift` up) or, with the opposite drift, at the lower one: the
/// series for large times (Feller 1968, XIV.6), good from 0.05 s on.
fn density(t: f64, drift: f64) -> f64 {
    let width = 2.0 * BOUND;
    let term = |k: u32| {
        let k = f64::from(k);
        k * (-k * k * PI * PI * t / (2.0 * width * width)).exp() * (k * PI / 2.0).sin()
    };
    let scale = PI / (width * width) * (drift * BOUND - drift * drift * t / 2.0).exp();
    scale * (1..60).map(term).sum::<f64>()
}

pub fn run(paths: usize, seed: u64, device: &Device, picture: &Path) -> Result<(), Box<dyn Error>> {
    println!("drift-diffusion model of decisions, {paths} trials");
    let evidence = sde::from_fn(|x: Tensor<2>, _t| x.full_like(DRIFT), |x: Tensor<2>, _t| x.ones_like());
    let simulation = EulerMaruyama::new().simulate_uniform(evidence, (0.0, DT * STEPS as f64), STEPS)?;
    // A walk in steps misses crossings between them. Bounds that are 0.5826·√dt nearer have, to first order, the
    // crossing times of the continuous ones (Broadie, Glasserman & Kou 1997).
    let bound = BOUND - 0.5826 * DT.sqrt();

    let [mut right, mut wrong] = [Vec::new(), Vec::new()];
    let mut undecided: Vec<usize> = (0..paths).collect();
    let noise = Seeded::new(seed);
    let run = simulation.run(0, Tensor::<2>::zeros([paths, 1], device), &noise)?;
    for (step, time) in run.zip(&simulation.times()[1..]) {
        let states = step?.x.try_into_vec_as::<f64>()?;
        undecided.retain(|trial| {
            let state = states[*trial];
            if state.abs() < bound {
                return true;
            }
            let times = if state > 0.0 { &mut right } else { &mut wrong };
            // It crossed somewhere in the step.
            times.push(time - DT / 2.0);
            false
        });
        if undecided.is_empty() {
            break;
        }
    }

    let count = paths as f64;
    let exact = 1.0 / (1.0 + (-2.0 * DRIFT * BOUND).exp());
    let error = (exact * (1.0 - exact) / count).sqrt();
    compare("share of right choices", right.len() as f64 / count, exact, 4.0 * error + 0.002)?;
    // Both kinds of choices take equally long: a property of this model.
    let exact = BOUND / DRIFT * (DRIFT * BOUND).tanh();
    for (what, times) in [("right", &right), ("wrong", &wrong)] {
        let (mean, deviation) = crate::moments(times);
        let within = 4.0 * deviation / (times.len() as f64).sqrt() + 0.005;
        compare(&format!("mean decision time of {what} choices, in s"), mean, exact, within)?;
    }
    println!("  undecided after {} s: {}", DT * STEPS as f64, undecided.len());

    let range = 0.0..3.0;
    let bars = |times: &[f64], sign: f64| {
        let reactions: Vec<f64> = times.iter().map(|time| time + NON_DECISION).collect();
        let (width, bars) = histogram(&reactions, &range, 60, paths);
        (width, bars.into_iter().map(|(x, y)| (x, sign * y)).collect())
    };
    let line = |drift, sign: f64| {
        let time = |i: u32| 0.05 + f64::from(i) * 0.01;
        (0..=265).map(|i| (time(i) + NON_DECISION, sign * density(time(i), drift))).collect()
    };
    let ((width, right), (_, wrong)) = (bars(&right, 1.0), bars(&wrong, -1.0));
    let series = |name, color, mark, points| Series { name, color, mark, points };
    let series = vec![
        series("right choices", BLUE, Mark::Bars(width), right),
        series("wrong choices, downwards", ORANGE, Mark::Bars(width), wrong),
        series("exact", RED, Mark::Line, line(DRIFT, 1.0)),
        series("", RED, Mark::Line, line(-DRIFT, -1.0)),
    ];
    let (title, axes) = ("reaction times of a decision", ["reaction time, s", "density"]);
    draw(&[Panel { title, axes, x: range, y: -0.5..1.4, series }], picture)
}
