//! SDEs of one's own: strong orders against exact solutions along the same path, and the tensor side.

use burn::tensor::{DType, Device, Tensor};
use langevin_core::Load;
use langevin_core::noise::{NoiseSource, Seeded};
use langevin_schedulers::SavedRun;
use langevin_schedulers::sde::{EulerMaruyama, HostSde, Milstein, Sde, Simulation};

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
    /// Whether it tells the slope of its diffusion.
    tells: bool,
}

impl Sde<2> for Price {
    fn drift(&self, x: Tensor<2>, _t: f64) -> Tensor<2> {
        x.mul_scalar(self.growth)
    }
    fn diffusion(&self, x: Tensor<2>, _t: f64) -> Tensor<2> {
        x.mul_scalar(self.volatility)
    }
    fn diffusion_slope(&self, x: Tensor<2>, _t: f64) -> Option<Tensor<2>> {
        self.tells.then(|| x.full_like(self.volatility))
    }
}

impl HostSde for Price {
    fn drift(&self, x: &[f64], _t: f64, out: &mut [f64]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = self.growth * x);
    }
    fn diffusion(&self, x: &[f64], _t: f64, out: &mut [f64]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = self.volatility * x);
    }
    fn diffusion_slope(&self, _x: &[f64], _t: f64, out: &mut [f64]) -> bool {
        out.fill(self.volatility);
        self.tells
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

const PRICE: Price = Price { growth: 0.5, volatility: 0.9, tells: false };

/// The strong order on geometric Brownian motion, against `x_0·exp((μ − s²/2)·t + s·W(t))` with the W of the run.
fn price_order<S: HostSde>(simulation: impl Fn(usize) -> Simulation<S>) -> Errors {
    let noise = Seeded::new(1);
    let exact: Vec<Vec<f64>> = (0..400)
        .map(|path| {
            let mut w = [0.0];
            noise.fill_path(path, 0.0, 1.0, &mut w).expect("delivers");
            vec![(0.5 - 0.405 + 0.9 * w[0]).exp()]
        })
        .collect();
    let run = |n: usize, path: u64| simulation(n).run_host(path, vec![1.0], &noise, |_, _| {}).expect("runs");
    strong_order_against(&COUNTS, &exact, run)
}

#[test]
fn strong_order_with_multiplicative_noise_is_one_half() {
    let Errors { order, interval, errors } =
        price_order(|n| EulerMaruyama::new().path().simulate_uniform(PRICE, (0.0, 1.0), n).expect("times"));
    assert!(interval.0 <= 0.5 && interval.1 >= 0.5, "order {order} in {interval:?}, errors {errors:?}");
    assert!((order - 0.5).abs() < 0.1, "order {order}, errors {errors:?}");
}

#[test]
fn milstein_has_strong_order_one_with_multiplicative_noise() {
    let milstein = Milstein::new().path();
    for tells in [true, false] {
        let price = Price { tells, ..PRICE };
        let Errors { order, interval, errors } =
            price_order(|n| milstein.simulate_uniform(price, (0.0, 1.0), n).expect("times"));
        assert!(interval.0 <= 1.05 && interval.1 >= 0.95, "order {order} in {interval:?}, errors {errors:?}");
        assert!((order - 1.0).abs() < 0.1, "order {order}, errors {errors:?}");
    }
}

/// With G = s·x the difference is exact up to rounding; with G = x² it is not, and both are the formulas.
#[test]
fn milstein_steps_are_the_formulas() {
    struct Square;
    impl HostSde for Square {
        fn drift(&self, _x: &[f64], _t: f64, out: &mut [f64]) {
            out.fill(0.25);
        }
        fn diffusion(&self, x: &[f64], _t: f64, out: &mut [f64]) {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = x * x);
        }
    }
    let (noise, h, x) = (Seeded::new(3), 0.04, 1.5);
    let mut z = [0.0];
    noise.fill(0, langevin_core::Key::step(0, 0), &mut z).expect("delivers");
    let dw = 0.2 * z[0];
    let stepped = |simulation: Simulation<Square>| simulation.run_host(0, vec![x], &noise, |_, _| {}).expect("runs")[0];
    for times in [vec![0.0, h], vec![h, 0.0]] {
        let dt = times[1] - times[0];
        let difference = ((x + x * x * 0.2f64).powi(2) - x * x) / 0.2;
        let expected = x + 0.25 * dt + x * x * dw + 0.5 * difference * (dw * dw - h);
        let got = stepped(Milstein::new().simulate(Square, times).expect("times"));
        assert!((got - expected).abs() < 1e-13, "{got}, expected {expected}");
    }
}

/// `dx = 1 dt + (2 + sin x) dW` has no closed law: Milstein against its own fine run.
#[test]
fn milstein_has_strong_order_one_with_any_diffusion() {
    struct Wave;
    impl HostSde for Wave {
        fn drift(&self, _x: &[f64], _t: f64, out: &mut [f64]) {
            out.fill(1.0);
        }
        fn diffusion(&self, x: &[f64], _t: f64, out: &mut [f64]) {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = 0.5 * (2.0 + x.sin()));
        }
    }
    let noise = Seeded::new(8);
    for (from, to) in [(0.0, 1.0), (1.0, 0.0)] {
        let run = |n: usize, path: u64| {
            let simulation = Milstein::new().path().simulate_uniform(Wave, (from, to), n).expect("times");
            simulation.run_host(path, vec![1.0], &noise, |_, _| {}).expect("runs")
        };
        let Errors { order, errors, .. } = strong_order(100, &COUNTS[1..5], 4096, run);
        assert!((order - 1.0).abs() < 0.12, "order {order}, errors {errors:?}");
    }
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

/// Every way to simulate a price.
fn simulations(times: &[f64]) -> Vec<Simulation<Price>> {
    let price = Price { growth: 0.1, volatility: 0.3, tells: false };
    let (em, milstein) = (EulerMaruyama::new(), Milstein::new());
    let all = [
        em.simulate(price, times.to_vec()),
        em.path().simulate(price, times.to_vec()),
        milstein.simulate(price, times.to_vec()),
        milstein.clone().path().simulate(price, times.to_vec()),
        milstein.simulate(Price { tells: true, ..price }, times.to_vec()),
    ];
    all.into_iter().map(|simulation| simulation.expect("times")).collect()
}

#[test]
fn tensors_follow_the_host() {
    let noise = Seeded::new(6);
    for simulation in simulations(&[0.0, 0.1, 0.4, 1.0]) {
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
    let noise = Seeded::new(6);
    let times: Vec<f64> = (0..10).map(|i| f64::from(i) / 9.0).collect();
    for simulation in simulations(&times) {
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
