//! SDEs of one's own: strong orders against exact solutions along the same path, and the tensor side.

use burn::tensor::{DType, Device, Tensor};
use langevin_core::Load;
use langevin_core::noise::{NoiseSource, Seeded};
use langevin_schedulers::SavedRun;
use langevin_schedulers::sde::{EulerMaruyama, HostSde, Sde};

/// A measured strong order with a bootstrap interval.
#[derive(Debug)]
pub struct Errors {
    pub order: f64,
    /// 95 % interval over resampled paths.
    pub interval: (f64, f64),
    /// Root mean square errors.
    pub errors: Vec<f64>,
}

/// The slope of a straight line through (ln n, −ln error).
fn regression(counts: &[usize], errors: &[f64]) -> f64 {
    let x: Vec<f64> = counts.iter().map(|n| (*n as f64).ln()).collect();
    let y: Vec<f64> = errors.iter().map(|e| -e.ln()).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(&x), mean(&y));
    let covariance: f64 = x.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum();
    covariance / x.iter().map(|x| (x - mx).powi(2)).sum::<f64>()
}

/// Strong order from squared errors `[level][path]`.
fn measured(counts: &[usize], squares: &[Vec<f64>]) -> Errors {
    let paths = squares[0].len();
    let rms = |pick: &dyn Fn(usize) -> usize| -> Vec<f64> {
        let level = |squares: &Vec<f64>| ((0..paths).map(|i| squares[pick(i)]).sum::<f64>() / paths as f64).sqrt();
        squares.iter().map(level).collect()
    };
    let errors = rms(&|i| i);
    let mut orders: Vec<f64> = (0..400u64)
        .map(|round| {
            let mut z = vec![0.0; paths];
            // Uniform picks from normal values, through their fractional parts.
            let key = langevin_core::Key::step(round, 0);
            Seeded::new(99).fill(0, key, &mut z).expect("delivers");
            let picks: Vec<usize> = z.iter().map(|z| ((z * 1e6).rem_euclid(1.0) * paths as f64) as usize).collect();
            regression(counts, &rms(&|i| picks[i].min(paths - 1)))
        })
        .collect();
    orders.sort_by(f64::total_cmp);
    Errors { order: regression(counts, &errors), interval: (orders[10], orders[389]), errors }
}

/// Strong order of `run(steps, path)` against a run of `fine` steps on the same path.
pub fn strong_order(paths: u64, counts: &[usize], fine: usize, run: impl Fn(usize, u64) -> Vec<f64>) -> Errors {
    let exact: Vec<Vec<f64>> = (0..paths).map(|path| run(fine, path)).collect();
    strong_order_against(counts, &exact, run)
}

fn strong_order_against(counts: &[usize], exact: &[Vec<f64>], run: impl Fn(usize, u64) -> Vec<f64>) -> Errors {
    let square = |n: usize, path: usize| {
        let x = run(n, path as u64);
        x.iter().zip(&exact[path]).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    };
    let squares: Vec<Vec<f64>> = counts.iter().map(|n| (0..exact.len()).map(|i| square(*n, i)).collect()).collect();
    measured(counts, &squares)
}

/// Geometric Brownian motion.
#[derive(Clone, Copy)]
struct Price {
    growth: f64,
    volatility: f64,
}

impl Sde<2> for Price {
    fn drift(&self, x: Tensor<2>, _t: f64) -> Tensor<2> {
        x.mul_scalar(self.growth)
    }
    fn diffusion(&self, x: Tensor<2>, _t: f64) -> Tensor<2> {
        x.mul_scalar(self.volatility)
    }
}

impl HostSde for Price {
    fn drift(&self, x: &[f64], _t: f64, out: &mut [f64]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = self.growth * x);
    }
    fn diffusion(&self, x: &[f64], _t: f64, out: &mut [f64]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = self.volatility * x);
    }
}

/// An Ornstein-Uhlenbeck process whose bath warms up: `dx = −2·x dt + (1 + t) dW`.
struct Spring;

impl HostSde for Spring {
    fn drift(&self, x: &[f64], _t: f64, out: &mut [f64]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = -2.0 * x);
    }
    fn diffusion(&self, _x: &[f64], t: f64, out: &mut [f64]) {
        out.fill(1.0 + t);
    }
}

const COUNTS: [usize; 6] = [16, 32, 64, 128, 256, 512];

#[test]
fn strong_order_with_multiplicative_noise_is_one_half() {
    let price = Price { growth: 0.5, volatility: 0.9 };
    let noise = Seeded::new(1);
    // x_0·exp((μ − s²/2)·t + s·W(t)), in the clock of W itself.
    let exact: Vec<Vec<f64>> = (0..400)
        .map(|path| {
            let mut w = [0.0];
            noise.fill_path(path, 0.0, 1.0, &mut w).expect("delivers");
            vec![(0.5 - 0.405 + 0.9 * w[0]).exp()]
        })
        .collect();
    let run = |n: usize, path: u64| {
        let simulation = EulerMaruyama::new().path().simulate_uniform(price, (0.0, 1.0), n).expect("times");
        simulation.run_host(path, vec![1.0], &noise, |_, _| {}).expect("runs")
    };
    let Errors { order, interval, errors } = strong_order_against(&COUNTS, &exact, run);
    assert!(interval.0 <= 0.5 && interval.1 >= 0.5, "order {order} in {interval:?}, errors {errors:?}");
    assert!((order - 0.5).abs() < 0.1, "order {order}, errors {errors:?}");
}

#[test]
fn strong_order_with_additive_noise_is_one_both_ways_in_time() {
    let noise = Seeded::new(2);
    for (from, to) in [(0.0, 1.0), (1.0, 0.0)] {
        let run = |n: usize, path: u64| {
            let simulation = EulerMaruyama::new().path().simulate_uniform(Spring, (from, to), n).expect("times");
            simulation.run_host(path, vec![1.0], &noise, |_, _| {}).expect("runs")
        };
        let Errors { order, interval, errors } = strong_order(100, &COUNTS, 8192, run);
        assert!(interval.0 <= 1.05 && interval.1 >= 0.95, "order {order} in {interval:?}, errors {errors:?}");
        assert!((order - 1.0).abs() < 0.1, "order {order}, errors {errors:?}");
    }
}

#[test]
fn mean_and_variance_of_a_spring_are_those_of_the_scheme() {
    // x' = (1 − 2h)·x + (1 + t)·√h·z: both moments are recursions.
    let (n, h) = (10, 0.1);
    let (mut mean, mut variance) = (1.0, 0.0);
    for i in 0..n {
        mean *= 1.0 - 2.0 * h;
        variance = variance * (1.0 - 2.0 * h) * (1.0 - 2.0 * h) + (1.0 + f64::from(i) * h).powi(2) * h;
    }
    let simulation = EulerMaruyama::new().simulate_uniform(Spring, (0.0, 1.0), 10).expect("times");
    let noise = Seeded::new(4);
    let count = 100_000;
    let x = simulation.run_host(0, vec![1.0; count], &noise, |_, _| {}).expect("runs");
    let found = x.iter().sum::<f64>() / count as f64;
    let spread = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64;
    let root = (count as f64).sqrt();
    assert!((found - mean).abs() < 4.0 * variance.sqrt() / root, "{found}, expected {mean}");
    assert!((spread / variance - 1.0).abs() < 4.0 * 2f64.sqrt() / root, "{spread}, expected {variance}");
}

fn prices(dtype: DType) -> Tensor<2> {
    Tensor::from_data([[1.0, 2.0], [0.5, 0.1], [3.0, 1.5]], (&Device::flex(), dtype))
}

fn numbers(x: &Tensor<2>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

#[test]
fn tensors_follow_the_host() {
    let price = Price { growth: 0.1, volatility: 0.3 };
    let noise = Seeded::new(6);
    for em in [EulerMaruyama::new(), EulerMaruyama::new().path()] {
        let simulation = em.simulate(price, vec![0.0, 0.1, 0.4, 1.0]).expect("times");
        let run = simulation.run(7, prices(DType::F64), &noise).expect("starts");
        assert_eq!(run.total_steps(), Some(3));
        let steps: Vec<_> = run.map(|step| step.expect("steps")).collect();
        for (sample, row) in [[1.0, 2.0], [0.5, 0.1], [3.0, 1.5]].iter().enumerate() {
            let mut states = Vec::new();
            let each = |t: f64, x: &[f64]| states.push((t, x.to_vec()));
            simulation.run_host(7 + sample as u64, row.to_vec(), &noise, each).expect("runs");
            for (step, (t, state)) in steps.iter().zip(&states) {
                let langevin_core::Levels::Shared(level) = &step.levels else { panic!("one time for all") };
                assert_eq!(level.time, *t);
                let got = &numbers(&step.x)[2 * sample..2 * sample + 2];
                assert!(got.iter().zip(state).all(|(a, b)| (a - b).abs() < 1e-14), "{got:?}, host {state:?}");
            }
        }
    }
}

#[test]
fn samples_alone_and_resumed_runs_have_the_same_bits() {
    let price = Price { growth: 0.1, volatility: 0.3 };
    let noise = Seeded::new(6);
    for em in [EulerMaruyama::new(), EulerMaruyama::new().path()] {
        let simulation = em.simulate_uniform(price, (0.0, 1.0), 9).expect("times");
        let whole = simulation.run(0, prices(DType::F32), &noise).expect("starts").finish().expect("runs");
        let alone = simulation.run(1, prices(DType::F32).narrow(0, 1, 1), &noise).expect("starts");
        assert_eq!(numbers(&alone.finish().expect("runs")), numbers(&whole)[2..4]);

        let mut run = simulation.run(0, prices(DType::F32), &noise).expect("starts");
        for _ in 0..4 {
            run.next().expect("goes on").expect("steps");
        }
        let saved = serde_json::to_string(&run.save().expect("saves")).expect("is data");
        let saved: SavedRun = serde_json::from_str(&saved).expect("is a run");
        let resumed = simulation.resume_run::<2>(&saved, &noise, Load::on(&Device::flex())).expect("resumes");
        assert_eq!(numbers(&resumed.finish().expect("runs")), numbers(&whole));
    }
}
