//! A noise schedule of one's own, under every solver, on a problem whose answer is known.
//!
//! `cargo run --release --example custom_process`
//!
//! A process is four functions of time and the range that they are good for. λ and its inverse, the reverse SDE, the
//! probability flow and the posterior follow from them, so whatever works on the processes of the library works on this
//! one. The program samples a mixture of three Gaussians with each solver and prints how far mean and covariance of the
//! samples are from the mixture's, and how far samples of deterministic solvers are from the exact flow. It fails if
//! anything is too far.

use langevin::core::exact::{GaussianMixture, Posterior, correlated_mixture};
use langevin::prelude::*;
use std::error::Error;

/// Variance-preserving, with a logistic share of signal: `α² = 1/(1 + e^u)` with `u = k(t − ½)`. λ falls evenly, and
/// the drift of the reverse SDE stays below k: nothing is singular anywhere in `[0, 1]`.
#[derive(Clone, Debug)]
struct Logistic {
    k: f64,
}

impl Process for Logistic {
    fn alpha(&self, t: f64) -> f64 {
        (1.0 + (self.k * (t - 0.5)).exp()).powf(-0.5)
    }
    fn sigma(&self, t: f64) -> f64 {
        (1.0 + (self.k * (0.5 - t)).exp()).powf(-0.5)
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        -0.5 * self.k * self.alpha(t) * self.sigma(t).powi(2)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        0.5 * self.k * self.sigma(t) * self.alpha(t).powi(2)
    }
    fn time_range(&self) -> (f64, f64) {
        (0.0, 1.0)
    }
}

/// Samples of each solver.
const SAMPLES: usize = 4096;
/// As many of them are compared with the exact flow.
const FOLLOWED: usize = 256;
/// How far mean and covariance may be off in any entry. The standard error of so many exact samples is about 0.015.
const MOMENTS: f64 = 0.07;

/// A solver and, if it is deterministic, how far its samples may be from the exact flow in root mean square.
struct Entry {
    name: &'static str,
    sampler: Box<dyn Sampler<2>>,
    distance: Option<f64>,
}

fn solvers(process: &Logistic) -> Result<Vec<Entry>, Box<dyn Error>> {
    let plan = |solver: &dyn Solver, steps| solver.plan(process, &Grid::uniform(steps));
    let row = |name, sampler: Box<dyn Sampler<2>>, distance| Entry { name, sampler, distance };
    // Norms of the batch: in the plane those of a single sample vary too much.
    let corrected = PredictorCorrector::new(plan(&ReverseDiffusion::new(), 200)?, 0.16, 1)?.batch_norms();
    let adaptive = DormandPrince::new(1e-6, 1e-6)?.over(process.clone())?;
    Ok(vec![
        row("DDPM", Box::new(plan(&Ddpm::new(), 200)?), None),
        row("DDIM", Box::new(plan(&Ddim::new(), 100)?), Some(0.03)),
        row("DDIM, eta 0.5", Box::new(plan(&Ddim::new().eta(0.5)?, 200)?), None),
        row("Euler-Maruyama", Box::new(plan(&EulerMaruyama::new(), 400)?), None),
        row("reverse diffusion", Box::new(plan(&ReverseDiffusion::new(), 400)?), None),
        row("predictor-corrector", Box::new(corrected), None),
        row("probability flow, Euler", Box::new(plan(&ProbabilityFlow::euler(), 100)?), Some(0.01)),
        row("probability flow, Heun", Box::new(plan(&ProbabilityFlow::heun(), 50)?), Some(1e-3)),
        row("probability flow, RK4", Box::new(plan(&ProbabilityFlow::rk4(), 25)?), Some(1e-4)),
        row("adaptive Dormand-Prince", Box::new(adaptive), Some(1e-5)),
    ])
}

/// The flow by another process, so that a wrong derivative shows: from one level to another it is the same on all that
/// preserve the variance.
fn exact_flow(process: &Logistic) -> Result<Plan, Box<dyn Error>> {
    let vp = VpSde::default().range(1e-5, 1.0)?;
    let [noisy, clean] = [1.0, 0.0].map(|t| vp.time_at_lambda(process.lambda(t)));
    Ok(ProbabilityFlow::rk4().plan(&vp, &Grid::uniform_lambda(400).between(noisy?, clean?))?)
}

/// The largest errors of an entry of mean and covariance.
fn moments(x: &Tensor<2>, exact: &GaussianMixture) -> Result<(f64, f64), Box<dyn Error>> {
    let mean = x.clone().mean_dim(0);
    let centred = x.clone() - mean.clone();
    let covariance = centred.clone().transpose().matmul(centred).div_scalar(x.dims()[0] as f64 - 1.0);
    let largest = |values: Vec<f64>, exact: Vec<f64>| {
        values.iter().zip(&exact).map(|(value, exact)| (value - exact).abs()).fold(0.0, f64::max)
    };
    Ok((
        largest(mean.try_into_vec_as::<f64>()?, exact.mean()),
        largest(covariance.try_into_vec_as::<f64>()?, exact.covariance()),
    ))
}

fn main() -> Result<(), Report> {
    let load = Load::on(&device("cpu")?).dtype(DType::F64);
    let process = Logistic { k: 20.0 };
    println!("{process:?}: λ from {:.1} to {:.1}\n", process.lambda(0.0), process.lambda(1.0));

    let exact = correlated_mixture()?;
    let denoiser = exact.clone().denoiser(Prediction::Epsilon)?;
    let noise = Seeded::new(7);
    // Noise belongs to the number of a sample: these are the first samples of every larger batch.
    let plan = Ddim::new().plan(&process, &Grid::uniform(1))?;
    let start = plan.start([FOLLOWED, 2], &denoiser, &noise, load.clone())?.state().x();
    let flow = exact_flow(&process)?.start_from(0, start, &denoiser, &noise)?.finish()?;

    println!("{:<25} {:>11} {:>8} {:>10} {:>13}", "solver", "evaluations", "mean", "covariance", "to exact flow");
    let data = exact.sample(SAMPLES, 7).concat();
    let data = Tensor::<1>::from_data(data.as_slice(), load.options()).reshape([SAMPLES, 2]);
    let (mean, covariance) = moments(&data, &exact)?;
    println!("{:<25} {:>11} {mean:>8.4} {covariance:>10.4}", "(exact samples)", "");
    let mut failures = Vec::new();
    for Entry { name, sampler, distance: bound } in solvers(&process)? {
        let end = sampler.start([SAMPLES, 2], &denoiser, &noise, load.clone())?.finish_state()?;
        let (evaluations, x) = (end.evaluations(), end.x());
        let (mean, covariance) = moments(&x, &exact)?;
        print!("{name:<25} {evaluations:>11} {mean:>8.4} {covariance:>10.4}");
        let mut too_far = mean > MOMENTS || covariance > MOMENTS;
        if let Some(bound) = bound {
            let distance = (x.narrow(0, 0, FOLLOWED) - flow.clone()).square().mean().sqrt().try_into_scalar::<f64>()?;
            print!(" {distance:>13.1e}");
            too_far |= distance > bound;
        }
        println!();
        if too_far {
            failures.push(name);
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(format!("too far off: {}", failures.join("; ")).into()) }
}
