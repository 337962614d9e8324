//! Adaptive steps of SDEs of one's own: against exact solutions along the same path, and exact laws.

use super::distance;
use burn::tensor::{DType, Device, Tensor};
use langevin_core::noise::{NoiseSource, Seeded};
use langevin_core::{Levels, Load};
use langevin_schedulers::sde::{AdaptiveSde, AdaptiveSimulation, EulerMaruyama, Sde};
use langevin_schedulers::{PlanError, Run, SavedRun};

const END: f64 = 1.5;

/// Geometric Brownian motion, which tells the slope of its diffusion or does not.
#[derive(Clone, Copy, Debug)]
struct Price {
    tells: bool,
}

const GROWTH: f64 = 0.3;
const VOLATILITY: f64 = 0.8;

impl Sde<2> for Price {
    fn drift(&self, x: Tensor<2>, _t: f64) -> Tensor<2> {
        x.mul_scalar(GROWTH)
    }
    fn diffusion(&self, x: Tensor<2>, _t: f64) -> Tensor<2> {
        x.mul_scalar(VOLATILITY)
    }
    fn diffusion_slope(&self, x: Tensor<2>, _t: f64) -> Option<Tensor<2>> {
        self.tells.then(|| x.full_like(VOLATILITY))
    }
}

/// An Ornstein-Uhlenbeck process with a moving rest and additive noise.
#[derive(Clone, Copy, Debug)]
struct Spring;

const STIFFNESS: f64 = 2.0;
const HEAT: f64 = 0.7;

impl Sde<2> for Spring {
    fn drift(&self, x: Tensor<2>, t: f64) -> Tensor<2> {
        x.sub_scalar(t).mul_scalar(-STIFFNESS)
    }
    fn diffusion(&self, x: Tensor<2>, _t: f64) -> Tensor<2> {
        x.full_like(HEAT)
    }
}

fn adaptive<S>(tolerance: f64, sde: S) -> AdaptiveSimulation<S> {
    let method = AdaptiveSde::new(tolerance, tolerance).and_then(|method| method.first_step(0.7)).expect("positive");
    method.simulate(sde, (0.0, END)).expect("a simulation")
}

fn states(batch: usize, value: f64) -> Tensor<2> {
    Tensor::full([batch, 1], value, (&Device::flex(), DType::F64))
}

fn numbers(x: &Tensor<2>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

/// The ends of a run, accepted steps and attempts of all samples together.
fn ends(mut run: Run<'_, 2>, batch: usize) -> (Vec<f64>, usize, usize) {
    let (mut accepted, mut before) = (0, vec![0.0; batch]);
    for step in run.by_ref() {
        let Levels::Each(levels) = step.expect("steps").levels else { panic!("one level for all") };
        for (before, level) in before.iter_mut().zip(levels) {
            accepted += usize::from(*before != level.time);
            *before = level.time;
        }
    }
    let attempts: f64 = run.state().numbers.chunks(5).map(|clock| clock[4]).sum();
    (numbers(&run.state().x()), accepted, attempts as usize)
}

/// `x·exp((a − ½σ²)T + σ·W(T))`, with the path's own W(T).
fn price(sample: u64, noise: &Seeded) -> f64 {
    let mut w = [0.0];
    noise.fill_path(sample, 0.0, END, &mut w).expect("delivers");
    ((GROWTH - 0.5 * VOLATILITY * VOLATILITY) * END + VOLATILITY * w[0]).exp()
}

/// With many rejections the price goes to the exact one along its own path, in the sense of Itô.
#[test]
fn prices_go_to_the_exact_solution_along_their_paths() {
    let noise = Seeded::new(5);
    let exact: Vec<f64> = (0..40).map(|sample| price(sample, &noise)).collect();
    for tells in [true, false] {
        let errors = [2e-1, 2e-2, 2e-3].map(|tolerance| {
            let simulation = adaptive(tolerance, Price { tells });
            let (x, accepted, attempts) = ends(simulation.run(0, states(40, 1.0), &noise).expect("a run"), 40);
            assert!(tolerance > 0.1 || attempts > accepted + 40, "{attempts} attempts for {accepted} steps");
            distance(&x, &exact) / 40f64.sqrt()
        });
        assert!(errors[1] < 0.4 * errors[0] && errors[2] < 0.4 * errors[1] && errors[2] < 0.02, "{tells}: {errors:?}");
    }
}

/// The spring goes to what very many steps of Euler-Maruyama make of the same path.
#[test]
fn springs_go_to_the_limit_of_fine_steps_along_their_paths() {
    let noise = Seeded::new(7);
    let fine = EulerMaruyama::new().path().simulate_uniform(Spring, (0.0, END), 1500).expect("a simulation");
    let exact = numbers(&fine.run(0, states(24, 1.0), &noise).expect("a run").finish().expect("states"));
    let errors = [3e-1, 3e-2, 3e-3].map(|tolerance| {
        let simulation = adaptive(tolerance, Spring);
        let (x, ..) = ends(simulation.run(0, states(24, 1.0), &noise).expect("a run"), 24);
        distance(&x, &exact) / 24f64.sqrt()
    });
    assert!(errors[1] < 0.5 * errors[0] && errors[2] < 0.5 * errors[1] && errors[2] < 0.01, "{errors:?}");
}

/// One clock for all: thousands of samples in one call.
fn tight<S>(sde: S) -> AdaptiveSimulation<S> {
    let method = AdaptiveSde::new(5e-3, 5e-3).and_then(|method| method.first_step(0.7)).expect("positive");
    method.batch_control().simulate(sde, (0.0, END)).expect("a simulation")
}

/// Mean and variance of samples within four standard errors of those of the exact law, and rejections do not bias.
#[test]
fn laws_are_the_exact_ones() {
    const COUNT: usize = 4000;
    let n = COUNT as f64;
    let check = |name: &str, values: Vec<f64>, mean: f64, variance: f64| {
        let found = values.iter().sum::<f64>() / n;
        let spread = values.iter().map(|x| (x - found).powi(2)).sum::<f64>() / n;
        let errors = [(found - mean) / (variance / n).sqrt(), (spread - variance) / (variance * (2.0 / n).sqrt())];
        assert!(errors.iter().all(|error| error.abs() < 4.0), "{name}: {errors:?} standard errors");
    };
    let noise = Seeded::new(11);
    let x = tight(Price { tells: true }).run(0, states(COUNT, 1.0), &noise).expect("a run").finish().expect("states");
    let logs = numbers(&x).iter().map(|x| x.ln()).collect();
    check("price", logs, (GROWTH - 0.5 * VOLATILITY * VOLATILITY) * END, VOLATILITY * VOLATILITY * END);
    let x = tight(Spring).run(0, states(COUNT, 1.0), &noise).expect("a run").finish().expect("states");
    // m' = −k(m − t) from 1 at 0: m = t − 1/k + (1 + 1/k)e^{−kt}.
    let decay = (-STIFFNESS * END).exp();
    let mean = END - 1.0 / STIFFNESS + (1.0 + 1.0 / STIFFNESS) * decay;
    check("spring", numbers(&x), mean, HEAT * HEAT / (2.0 * STIFFNESS) * (1.0 - decay * decay));
}

/// Samples of a batch are those that they are alone, and of a resumed run.
#[test]
fn batches_and_pauses_keep_the_bits() {
    let (simulation, noise) = (adaptive(3e-2, Price { tells: false }), Seeded::new(3));
    let run = |first, batch| simulation.run(first, states(batch, 1.0), &noise).expect("a run");
    let together = numbers(&run(4, 3).finish().expect("states"));
    let alone: Vec<f64> = (4..7).flat_map(|sample| numbers(&run(sample, 1).finish().expect("states"))).collect();
    assert_eq!(together, alone);
    let mut paused = run(4, 3);
    paused.by_ref().take(2).for_each(|step| drop(step.expect("a step")));
    let text = serde_json::to_string(&paused.save().expect("a saved run")).expect("data");
    let saved: SavedRun = serde_json::from_str(&text).expect("data");
    let load = Load::on(&Device::flex()).dtype(DType::F64);
    let resumed: Tensor<2> = simulation.resume_run(&saved, &noise, load).expect("resumes").finish().expect("states");
    assert_eq!(numbers(&resumed), together);
}

#[test]
fn times_and_settings_out_of_range_are_refused() {
    let method = || AdaptiveSde::new(1e-2, 1e-2).expect("positive");
    for times in [(-1.0, 1.0), (0.0, f64::INFINITY), (f64::NAN, 1.0), (1.0, 1.0)] {
        let error = method().simulate(Spring, times).map(drop).expect_err("refused");
        assert!(matches!(error, PlanError::Setting { setting: "time", .. }), "{times:?}: {error}");
    }
    let error = method().denoise_at_end().simulate(Spring, (0.0, 1.0)).map(drop).expect_err("refused");
    assert!(matches!(error, PlanError::Combination { .. }), "{error}");
}
