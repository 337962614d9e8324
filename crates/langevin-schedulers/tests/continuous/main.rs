//! The probability-flow ODE and stochastic differential equations, against problems with known solutions.

mod adaptive;
mod adaptive_sde;
mod adaptive_simulation;
mod dpm_adaptive;
mod errors;
mod fixed;
mod reverse;
mod simulation;

use langevin_core::exact::{Posterior, correlated_mixture};
use langevin_core::process::{Edm, RectifiedFlow, SubVpSde, VeSde, VpSde};
use langevin_core::{Level, Process};
use langevin_schedulers::plan::HostAnswer;
use std::thread;

/// Every continuous process, with a stretch of its time over which its coefficients are smooth.
fn processes() -> Vec<(&'static str, Box<dyn Process>, f64, f64)> {
    vec![
        ("VP", Box::new(VpSde::default()), 0.9, 0.1),
        ("sub-VP", Box::new(SubVpSde::default()), 0.7, 0.15),
        ("VE", Box::new(VeSde::default()), 0.8, 0.5),
        ("EDM", Box::new(Edm::default()), 2.0, 0.4),
        ("flow", Box::new(RectifiedFlow::default()), 0.95, 0.1),
    ]
}

/// Runs of consecutive samples side by side: the first of each and how many. What a sample is does not depend on its batch.
fn side_by_side<T: Send>(count: usize, run: impl Fn(u64, usize) -> T + Sync) -> Vec<T> {
    let size = count.div_ceil(thread::available_parallelism().map_or(1, usize::from));
    thread::scope(|scope| {
        let run = &run;
        let part = |first: usize| scope.spawn(move || run(first as u64, size.min(count - first)));
        let parts: Vec<_> = (0..count).step_by(size).map(part).collect();
        parts.into_iter().map(|part| part.join().expect("no panic")).collect()
    })
}

/// The exact answer of a problem.
fn answer<P: Posterior>(problem: &P, x: &[f64], level: &Level) -> HostAnswer {
    let (mut x0, mut eps) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    problem.posterior(x, level, &mut x0, &mut eps).expect("the level is fine");
    HostAnswer { x0, eps, variance: None }
}

/// The right-hand side of the probability-flow ODE.
fn slope<P: Posterior>(problem: &P, process: &dyn Process, t: f64, x: &[f64], out: &mut [f64]) {
    let HostAnswer { x0, eps, .. } = answer(problem, x, &process.level(t));
    for (out, (x0, eps)) in out.iter_mut().zip(x0.iter().zip(eps)) {
        *out = process.alpha_dot(t) * x0 + process.sigma_dot(t) * eps;
    }
}

fn mixture() -> langevin_core::exact::GaussianMixture {
    correlated_mixture().expect("constants")
}

/// The start of a run, of the size that states have there.
fn start(process: &dyn Process, t: f64) -> Vec<f64> {
    let level = process.level(t);
    let size = (level.alpha.powi(2) + level.sigma.powi(2)).sqrt();
    vec![0.8 * size, -0.5 * size]
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// The slope of log error against log steps over the last three doublings whose errors are above 1e-11.
fn order(errors: &[f64]) -> f64 {
    let above: Vec<f64> = errors.iter().copied().take_while(|error| *error > 1e-11).collect();
    assert!(above.len() >= 4, "too few errors above 1e-11: {errors:?}");
    let y: Vec<f64> = above[above.len() - 4..].iter().map(|error| -error.log2()).collect();
    // Least squares at x = −1.5, −0.5, 0.5, 1.5.
    (1.5 * (y[3] - y[0]) + 0.5 * (y[2] - y[1])) / 5.0
}
