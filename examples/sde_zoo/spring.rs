//! An Ornstein-Uhlenbeck process, `dx = −θx dt + s dW`: a spring in a heat bath.

use crate::plot::{BLUE, GRAY, Mark, ORANGE, Panel, Series, draw};
use crate::{compare, moments};
use langevin::prelude::*;
use langevin::schedulers::sde;
use std::error::Error;
use std::path::Path;

const STIFFNESS: f64 = 1.5;
const HEAT: f64 = 0.8;
const START: f64 = 2.0;
const END: f64 = 3.0;
const STEPS: usize = 300;

/// Exact mean and standard deviation at time t.
fn law(t: f64) -> (f64, f64) {
    let decay = (-STIFFNESS * t).exp();
    (START * decay, (HEAT * HEAT / (2.0 * STIFFNESS) * (1.0 - decay * decay)).sqrt())
}

pub fn run(paths: usize, seed: u64, device: &Device, picture: &Path) -> Result<(), Box<dyn Error>> {
    println!("Ornstein-Uhlenbeck process, {paths} paths");
    // Two closures are an equation.
    let spring = sde::from_fn(|x: Tensor<2>, _t| x.mul_scalar(-STIFFNESS), |x: Tensor<2>, _t| x.full_like(HEAT));
    let simulation = EulerMaruyama::new().simulate_uniform(spring, (0.0, END), STEPS)?;
    let noise = Seeded::new(seed);
    let start = Tensor::<2>::full([paths, 1], START, device);

    let mut shown = vec![vec![(0.0, START)]; 12];
    let [mut mean, mut above, mut below] = [(); 3].map(|()| vec![(0.0, START)]);
    // A run is an iterator over its steps.
    for (step, time) in simulation.run(0, start, &noise)?.zip(&simulation.times()[1..]) {
        let states = step?.x.try_into_vec_as::<f64>()?;
        for (path, state) in shown.iter_mut().zip(&states) {
            path.push((*time, *state));
        }
        let (m, s) = moments(&states);
        mean.push((*time, m));
        above.push((*time, m + s));
        below.push((*time, m - s));
    }
    for at in [STEPS / 6, STEPS] {
        let (time, found) = mean[at];
        let (exact, deviation) = law(time);
        // Four standard errors, and the error of the step: of order 1.
        let within = 4.0 * deviation / (paths as f64).sqrt() + STIFFNESS * END / STEPS as f64 * exact.abs();
        compare(&format!("mean at time {time:.1}"), found, exact, within)?;
        let within = 4.0 * deviation / (2.0 * paths as f64).sqrt() + STIFFNESS * END / STEPS as f64 * deviation;
        compare(&format!("standard deviation at time {time:.1}"), above[at].1 - found, deviation, within)?;
    }

    let exact = |sign: f64| {
        let point = |i: usize| {
            let t = END * i as f64 / 100.0;
            (t, law(t).0 + sign * law(t).1)
        };
        (0..=100).map(point).collect::<Vec<_>>()
    };
    let line = |name, color, points| Series { name, color, mark: Mark::Line, points };
    let mut series: Vec<_> = shown.into_iter().map(|path| line("", GRAY, path)).collect();
    series.push(line("mean ± deviation of the paths", BLUE, mean));
    series.extend([above, below].map(|points| line("", BLUE, points)));
    let dots = |sign| exact(sign).into_iter().step_by(10).collect();
    for (name, sign) in [("exact", 0.0), ("", 1.0), ("", -1.0)] {
        series.push(Series { name, color: ORANGE, mark: Mark::Dots, points: dots(sign) });
    }
    let (title, axes) = ("Ornstein-Uhlenbeck", ["time", "state"]);
    draw(&[Panel { title, axes, x: 0.0..END, y: -1.5..2.8, series }], picture)
}
