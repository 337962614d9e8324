//! ln p through the ODE, with the exact trace.

use crate::{ten_dimensions, tensor, values};
use langevin_core::exact::{Gaussian, Marginal, Posterior, correlated_mixture};
use langevin_core::grid::End;
use langevin_core::noise::Seeded;
use langevin_core::process::{Betas, DiscreteChain, Edm, Interpolation, RectifiedFlow, SubVpSde, VeSde, VpSde};
use langevin_core::{Grid, Level, Prediction, Process};
use langevin_metrics::{Likelihood, Quantization, Trace};
use langevin_schedulers::ode::{DormandPrince, Tableau};

const CLEAN: Level = Level { alpha: 1.0, sigma: 0.0, time: 0.0 };

fn processes() -> Vec<(&'static str, Box<dyn Process>)> {
    // Between the steps of a chain derivatives jump, and every jump takes an adaptive method some tries.
    let chain = || DiscreteChain::new(Betas::Linear { start: 5e-3, end: 0.6 }, 16).expect("a chain");
    let between = |interpolation| Box::new(chain().interpolation(interpolation).expect("a chain"));
    vec![
        ("VP", Box::new(VpSde::default())),
        ("sub-VP", Box::new(SubVpSde::default())),
        ("VE", Box::new(VeSde::default())),
        ("EDM", Box::new(Edm::default())),
        ("flow", Box::new(RectifiedFlow::new().range(1e-3, 0.999).expect("a range"))),
        ("chain, angle", between(Interpolation::Angle)),
        ("chain, sigma", between(Interpolation::Sigma)),
        ("chain, log alpha", between(Interpolation::LogAlpha)),
    ]
}

const PREDICTIONS: [Prediction; 7] = [
    Prediction::Epsilon,
    Prediction::Sample,
    Prediction::Velocity,
    Prediction::Score,
    Prediction::Flow,
    Prediction::Edm { sigma_data: 0.7 },
    Prediction::EdmVelocity { sigma_data: 0.7 },
];

fn gaussian() -> Gaussian {
    let covariance = vec![0.9, 0.3, -0.2, 0.1, 0.3, 0.5, 0.1, 0.0, -0.2, 0.1, 0.7, 0.2, 0.1, 0.0, 0.2, 0.4];
    Gaussian::new(vec![0.4, -1.0, 0.2, 0.1], covariance).expect("a Gaussian")
}

const POINTS: [f64; 8] = [0.7, -0.4, 1.1, 0.0, -0.9, -1.3, 0.2, 0.6];

/// On every process, and in states of two ranks: density and latent state are those of the closed form to 1e-6.
#[test]
fn gaussians_are_exact_on_every_process() {
    let data = gaussian();
    for (name, process) in processes() {
        let denoiser = data.clone().denoiser(Prediction::Velocity).unwrap();
        let likelihood = Likelihood::new(&process, Trace::Exact).unwrap().tolerance(1e-10, 1e-10).unwrap();
        let flat = likelihood.evaluate(tensor(&POINTS, [2, 4]), &denoiser, &Seeded::new(0)).unwrap();
        if name == "EDM" {
            let image = likelihood.evaluate(tensor(&POINTS, [2, 1, 2, 2]), &denoiser, &Seeded::new(0)).unwrap();
            assert_eq!((flat.log_p(), image.latent().dims()), (image.log_p(), [2, 1, 2, 2]));
        }
        let (start, end) = (process.level(likelihood.times().0), process.level(likelihood.times().1));
        let latents = values(&flat.latent());
        for (row, x) in POINTS.chunks(4).enumerate() {
            let latent = data.flow(x, &start, &end).unwrap();
            let size = 1.0 + end.sigma;
            for (got, expected) in latents[4 * row..].iter().zip(&latent) {
                assert!((got - expected).abs() < 1e-6 * size, "{name}: {got} {expected}");
            }
            let change = data.log_marginal(x, &start).unwrap() - data.log_marginal(&latent, &end).unwrap();
            let prior_std = process.prior_std();
            let square: f64 = latent.iter().map(|x| (x / prior_std).powi(2)).sum();
            let prior = -2.0 * (std::f64::consts::TAU * prior_std * prior_std).ln() - 0.5 * square;
            let got = flat.log_p()[row];
            assert!((got - prior - change).abs() < 1e-6, "{name}: {got} {}", prior + change);
            assert!((flat.prior()[row] - prior).abs() < 1e-6 && (flat.change()[row] - change).abs() < 1e-6, "{name}");
        }
    }
}

/// What the network predicts does not matter: conversions are part of the derivative.
#[test]
fn every_prediction_gives_the_same_density() {
    let mixture = correlated_mixture().unwrap();
    let x = tensor(&[0.3, -0.2, 1.5, 0.4, -1.3, 0.9], [3, 2]);
    for (name, process) in processes() {
        let mut expected: Option<Vec<f64>> = None;
        let likelihood = Likelihood::new(&process, Trace::Exact).unwrap().tolerance(2e-10, 2e-10).unwrap();
        for prediction in PREDICTIONS {
            let denoiser = mixture.clone().denoiser(prediction).unwrap();
            let density = likelihood.evaluate(x.clone(), &denoiser, &Seeded::new(0)).unwrap();
            let flow = density.gaps(&mixture).unwrap().flow;
            assert!(flow.iter().all(|gap| gap.abs() < 1e-6), "{name}, {prediction}: {flow:?}");
            let log_p = density.log_p();
            let first = expected.get_or_insert_with(|| log_p.clone());
            assert!(log_p.iter().zip(first).all(|(a, b)| (a - *b).abs() < 1e-6), "{name}, {prediction}");
        }
    }
}

/// A mixture whose Jacobians are full matrices, to 1e-4 nats.
#[test]
fn a_mixture_in_ten_dimensions_is_exact() {
    let mixture = ten_dimensions().unwrap();
    let x: Vec<f64> = mixture.sample(6, 3).concat();
    // On a chain, whose derivatives jump, it takes minutes.
    for (name, process) in processes().into_iter().filter(|(name, _)| !name.starts_with("chain")) {
        let denoiser = mixture.clone().denoiser(Prediction::Epsilon).unwrap();
        let likelihood = Likelihood::new(&process, Trace::Exact).unwrap().tolerance(1e-7, 1e-7).unwrap();
        let density = likelihood.evaluate(tensor(&x, [6, 10]), &denoiser, &Seeded::new(0)).unwrap();
        let gaps = density.gaps(&mixture).unwrap();
        assert!(gaps.flow.iter().all(|gap| gap.abs() < 1e-4), "{name}: {:?}", gaps.flow);
        // And so is ln p of the data itself, once truncation and prior gap are taken off.
        for (row, log_p) in density.log_p().into_iter().enumerate() {
            let exact = mixture.log_density(&x[10 * row..][..10], &CLEAN).unwrap();
            let corrected = log_p - gaps.truncation[row] + gaps.prior[row];
            assert!((corrected - exact).abs() < 1e-4, "{name}: {corrected} {exact}");
        }
    }
}

/// Fixed steps converge to the exact density with the order of the method.
#[test]
fn fixed_steps_have_the_order_of_the_method() {
    let mixture = correlated_mixture().unwrap();
    let process = VpSde::default();
    let x = [0.3, -0.2];
    for (tableau, order) in [(Tableau::heun(), 2.0_f64), (Tableau::rk4(), 4.0)] {
        let error = |steps: usize| {
            let grid = Grid::uniform_lambda(steps).ending(End::Range).between(0.9, 0.05);
            let likelihood = Likelihood::new(&process, Trace::Exact).unwrap().fixed(tableau.clone(), &grid).unwrap();
            assert!((likelihood.times().0 - 0.05).abs() < 1e-9 && (likelihood.times().1 - 0.9).abs() < 1e-9);
            let denoiser = mixture.clone().denoiser(Prediction::Velocity).unwrap();
            let density = likelihood.evaluate(tensor(&x, [1, 2]), &denoiser, &Seeded::new(0)).unwrap();
            assert_eq!((density.solver().accepted.clone(), density.solver().tolerance), (vec![steps], None));
            // Half as many steps are 2^p times as wrong.
            let (gap, estimate) =
                (density.gaps(&mixture).unwrap().flow[0].abs(), density.solver().error.clone().unwrap()[0]);
            let ratio = estimate / gap / (order.exp2() - 1.0);
            let shows = steps < 128 || (0.8..1.25).contains(&ratio);
            assert!(shows, "{} in {steps}: {estimate} of {gap}", tableau.name());
            gap
        };
        let slope = (error(64) / error(128)).log2();
        assert!((slope - order).abs() < 0.25, "{}: {slope}", tableau.name());
    }
}

/// Along a fixed grid of many steps the estimate is no less than the error, for every method and sample, and along one of few not less
/// than half; it can be left out, with its calls.
#[test]
fn the_solver_error_is_estimated_along_fixed_grids() {
    let mixture = correlated_mixture().unwrap();
    let x: Vec<f64> = mixture.sample(12, 5).concat();
    let denoiser = mixture.clone().denoiser(Prediction::Epsilon).unwrap();
    let grid = |steps| Grid::uniform_lambda(steps).ending(End::Range).between(0.9, 0.05);
    let of = |tableau: &Tableau, steps| {
        Likelihood::new(VpSde::default(), Trace::Exact).unwrap().fixed(tableau.clone(), &grid(steps)).unwrap()
    };
    for (tableau, odd, even) in [
        (Tableau::euler(), 41, 400),
        (Tableau::heun(), 21, 100),
        (Tableau::rk4(), 21, 40),
        (Tableau::dormand_prince(), 15, 20),
    ] {
        for steps in [odd, even] {
            let likelihood = of(&tableau, steps);
            let density = likelihood.evaluate(tensor(&x, [12, 2]), &denoiser, &Seeded::new(0)).unwrap();
            let estimates = density.solver().error.clone().unwrap();
            for (gap, estimate) in density.gaps(&mixture).unwrap().flow.iter().zip(&estimates) {
                // An estimate, not a bound: in long steps orders do not show yet.
                let factor = if steps == even { 1.0 } else { 2.0 };
                assert!(gap.abs() <= factor * estimate, "{} in {steps}: {gap} above {estimate}", tableau.name());
            }
            assert!(estimates.iter().all(|estimate| *estimate < 2.0), "{} in {steps}: {estimates:?}", tableau.name());
            let alone = likelihood.unestimated();
            let alone = alone.evaluate(tensor(&x, [12, 2]), &denoiser, &Seeded::new(0)).unwrap();
            assert_eq!((alone.solver().error.clone(), alone.log_p()), (None, density.log_p()));
            let halved = steps.div_ceil(2);
            assert_eq!(density.solver().evaluations * steps, alone.solver().evaluations * (steps + halved));
        }
        // One step has no half.
        let one = of(&tableau, 1).evaluate(tensor(&x, [12, 2]), &denoiser, &Seeded::new(0)).unwrap();
        assert_eq!(one.solver().error, None);
    }
}

/// The estimate of the solver's error is of its size at 1e-4 and above it below, falls with the tolerance, and is not
/// vacuous.
#[test]
fn the_solver_error_is_estimated() {
    let mixture = correlated_mixture().unwrap();
    let x: Vec<f64> = mixture.sample(12, 5).concat();
    let denoiser = mixture.clone().denoiser(Prediction::Epsilon).unwrap();
    let mut before = f64::INFINITY;
    for (tolerance, factor) in [(1e-4, 2.0), (1e-6, 1.0), (1e-8, 1.0)] {
        let likelihood =
            Likelihood::new(VpSde::default(), Trace::Exact).unwrap().tolerance(tolerance, tolerance).unwrap();
        let density = likelihood.evaluate(tensor(&x, [12, 2]), &denoiser, &Seeded::new(0)).unwrap();
        let solver = density.solver();
        assert_eq!(solver.tolerance, Some((tolerance, tolerance)));
        let estimates = solver.error.clone().unwrap();
        for (gap, estimate) in density.gaps(&mixture).unwrap().flow.iter().zip(&estimates) {
            // An estimate, not a bound: in long steps orders do not show yet.
            assert!(gap.abs() <= factor * estimate, "tolerance {tolerance}: {gap} above {estimate}");
        }
        let worst = estimates.iter().copied().fold(0.0, f64::max);
        assert!(worst < 300.0 * tolerance && worst < 0.2 * before, "tolerance {tolerance}: {worst} after {before}");
        before = worst;
        let attempts = solver.accepted.iter().zip(&solver.rejected).map(|(a, r)| a + r).max().unwrap();
        assert_eq!(solver.evaluations, 2 + 6 * attempts);
    }
}

/// Truncation and prior gap are what they are called, each by itself.
#[test]
fn truncation_and_prior_gap_are_separate_numbers() {
    let (mean, variance) = (0.8, 0.3);
    let data = Gaussian::new(vec![mean], vec![variance]).unwrap();
    let denoiser = data.clone().denoiser(Prediction::Epsilon).unwrap();
    let process = VpSde::default();
    let log_normal = |x: f64, mean: f64, variance: f64| {
        -0.5 * (std::f64::consts::TAU * variance).ln() - 0.5 * (x - mean).powi(2) / variance
    };
    let x = [0.1, 1.4];
    let at = |start: f64, end: f64| {
        let likelihood = Likelihood::new(&process, Trace::Exact).unwrap().tolerance(1e-10, 1e-10).unwrap();
        let likelihood = likelihood.between(start, end).unwrap();
        let density = likelihood.evaluate(tensor(&x, [2, 1]), &denoiser, &Seeded::new(0)).unwrap();
        let gaps = density.gaps(&data).unwrap();
        for (row, x) in x.iter().enumerate() {
            let (from, to) = (process.level(start), process.level(end));
            let spread = |level: &Level| level.alpha * level.alpha * variance + level.sigma * level.sigma;
            let truncated = log_normal(*x, from.alpha * mean, spread(&from)) - log_normal(*x, mean, variance);
            assert!((gaps.truncation[row] - truncated).abs() < 1e-10);
            let latent = to.alpha * mean + (x - from.alpha * mean) * (spread(&to) / spread(&from)).sqrt();
            let std = if end == 1.0 { 1.0 } else { to.sigma / process.sigma(1.0) };
            assert!((density.prior_std() - std).abs() < 1e-12);
            let gap = log_normal(latent, to.alpha * mean, spread(&to)) - log_normal(latent, 0.0, std * std);
            assert!((gaps.prior[row] - gap).abs() < 1e-7, "{} {gap}", gaps.prior[row]);
            assert!(gaps.flow[row].abs() < 1e-7);
            // Neither is in the other, and both are in ln p.
            let exact = log_normal(*x, mean, variance);
            assert!((density.log_p()[row] - exact - gaps.truncation[row] + gaps.prior[row]).abs() < 1e-7);
        }
        (gaps.truncation[0].abs(), gaps.prior[0].abs())
    };
    let (truncation, prior) = at(1e-3, 1.0);
    // Starting later truncates more, ending earlier opens the prior gap, and each leaves the other alone.
    let (later, same) = at(1e-2, 1.0);
    assert!(later > 5.0 * truncation && (same - prior).abs() < 0.2 * prior, "{later} {truncation}, {same} {prior}");
    let (same, earlier) = at(1e-3, 0.5);
    assert!(earlier > 5.0 * prior && (same - truncation).abs() < 1e-12, "{earlier} {prior}, {same} {truncation}");
}

/// The mean of the bound on the prior gap is KL(q(x_T|x)‖π) averaged over data, in closed form, and above the gap's mean.
#[test]
fn the_prior_gap_is_bounded_without_the_density() {
    let data = Gaussian::new(vec![0.8], vec![0.3]).unwrap();
    let denoiser = data.clone().denoiser(Prediction::Epsilon).unwrap();
    let x: Vec<f64> = (0..400).flat_map(|i| data.transform(&[normal(i)]).unwrap()).collect();
    let likelihood = Likelihood::new(VpSde::default(), Trace::Exact).unwrap().between(1e-3, 0.4).unwrap();
    let density = likelihood.evaluate(tensor(&x, [400, 1]), &denoiser, &Seeded::new(0)).unwrap();
    let (level, std) = (density.nodes().1.level, density.prior_std());
    for (x, kl) in x.iter().zip(density.prior_kl()) {
        // KL of two Gaussians in one dimension.
        let (mean, variance) = (level.alpha * x, level.sigma * level.sigma);
        let expected = (std / level.sigma).ln() + 0.5 * (variance + mean * mean) / (std * std) - 0.5;
        assert!((kl - expected).abs() < 1e-12, "{kl} {expected}");
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let gap = mean(&density.gaps(&data).unwrap().prior);
    assert!(gap > 0.01 && mean(&density.prior_kl()) > gap, "{gap}");
}

/// Midpoints of equal masses of a standard normal distribution, roughly: a sample without randomness.
fn normal(i: usize) -> f64 {
    let p = (i as f64 + 0.5) / 400.0;
    // Logistic approximation of the quantile, good to 2 %.
    (p / (1.0 - p)).ln() / 1.702
}

/// A sample's ln p does not depend on its batch, on the rows of a call, or on shared control if tolerances are small.
#[test]
fn samples_do_not_depend_on_their_batch() {
    let mixture = correlated_mixture().unwrap();
    let x: Vec<f64> = mixture.sample(4, 8).concat();
    let denoiser = mixture.denoiser(Prediction::Epsilon).unwrap();
    for trace in [Trace::Exact, Trace::rademacher(3), Trace::gaussian(3)] {
        let likelihood = Likelihood::new(VpSde::default(), trace).unwrap();
        let all = likelihood.evaluate(tensor(&x, [4, 2]), &denoiser, &Seeded::new(9)).unwrap();
        let two = likelihood.evaluate_at(2, tensor(&x[4..], [2, 2]), &denoiser, &Seeded::new(9)).unwrap();
        assert_eq!(all.change_by_probe()[2..], two.change_by_probe());
        let narrow = likelihood.clone().rows_at_once(5).unwrap();
        let narrow = narrow.evaluate(tensor(&x, [4, 2]), &denoiser, &Seeded::new(9)).unwrap();
        assert!(narrow.solver().evaluations > all.solver().evaluations);
        let pairs = all.log_p().into_iter().zip(narrow.log_p());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-12));
        let together = DormandPrince::new(1e-8, 1e-8).unwrap().batch_control();
        let together = likelihood.clone().adaptive(together).evaluate(tensor(&x, [4, 2]), &denoiser, &Seeded::new(9));
        let alone = likelihood.tolerance(1e-8, 1e-8).unwrap();
        let alone = alone.evaluate(tensor(&x, [4, 2]), &denoiser, &Seeded::new(9)).unwrap();
        for (a, b) in together.unwrap().log_p().into_iter().zip(alone.log_p()) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}

/// Quantized data is what its dequantization makes of it, with the offset of its bins; on average its bits are an upper
/// bound on those of its levels.
#[test]
fn bits_of_levels_bound_their_probability() {
    let data = Gaussian::new(vec![0.1], vec![0.09]).unwrap();
    let denoiser = data.clone().denoiser(Prediction::Epsilon).unwrap();
    let quantization = Quantization::with_levels(5).unwrap();
    let likelihood = Likelihood::new(VpSde::default(), Trace::Exact).unwrap();
    let (rows, noise) = (300, Seeded::new(12));
    for level in 1..4 {
        let x = tensor(&vec![quantization.value(level); rows], [rows, 1]);
        let bits = likelihood.clone().quantized(quantization).evaluate(x.clone(), &denoiser, &noise).unwrap();
        let by_hand = quantization.dequantize(x, 0, &noise).unwrap();
        let by_hand = likelihood.evaluate(by_hand, &denoiser, &noise).unwrap();
        assert_eq!(bits.log_p(), by_hand.log_p());
        let bits = bits.bits_per_dimension();
        for (bits, nats) in bits.iter().zip(by_hand.bits_per_dimension()) {
            assert!((bits - nats - 2.5f64.log2()).abs() < 1e-12, "five bins in a range of two");
        }
        // The mass of the level's bin by the midpoint rule.
        let (low, n) = (-1.0 + 0.4 * level as f64, 4000u16);
        let at = data.at(&CLEAN).unwrap();
        let middle = |i: usize| [low + 0.4 * (i as f64 + 0.5) / f64::from(n)];
        let mass: f64 =
            (0..usize::from(n)).map(|i| at.log_density(&middle(i)).unwrap().exp() * 0.4 / f64::from(n)).sum();
        let mean = bits.iter().sum::<f64>() / rows as f64;
        assert!(mean > -mass.log2() && mean < 1.0 - mass.log2(), "level {level}: {mean} bits, {mass}");
    }
}
