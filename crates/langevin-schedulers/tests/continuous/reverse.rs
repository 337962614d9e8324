//! The reverse SDE of every process: coefficients, moments, strong order along a path.

use super::simulation::{Errors, strong_order};
use super::{answer, mixture, order, processes, start};
use burn::tensor::{Device, Tensor};
use langevin_core::exact::Gaussian;
use langevin_core::grid::End;
use langevin_core::noise::{Injected, Key, NoiseSource, Seeded};
use langevin_core::process::{Betas, DiscreteChain, RectifiedFlow, VeSde, VpSde};
use langevin_core::{Grid, Levels, Load, Prediction, Process, denoiser};
use langevin_schedulers::plan::{Coef, HostAnswer, Plan, Row, Src};
use langevin_schedulers::{Ddim, EulerMaruyama, ReverseDiffusion, SampleError, SamplerExt, Solver};

fn values(x: &Tensor<2>) -> Vec<f64> {
    x.try_to_vec_as::<f64>().expect("a readable tensor")
}

/// What a row's only assignment does to a source.
fn coefficient(row: &Row, of: Src) -> f64 {
    let [set] = &row.post[..] else { panic!("one assignment") };
    let c = set.sum.iter().filter(|term| term.of == of).map(|term| match term.c {
        Coef::C(value) => value,
        _ => panic!("a number"),
    });
    c.sum()
}

#[test]
fn rows_are_the_formula_of_song() {
    // VP with β from 0.1 to 20: f = −β/2, g² = β, at the step's noisier end.
    let process = VpSde::default();
    let plan = EulerMaruyama::new().plan(&process, &Grid::times(vec![0.8, 0.5, 0.45]).expect("falls")).expect("plans");
    for (row, (t, dt)) in plan.rows().iter().zip([(0.8, 0.3), (0.5, 0.05)]) {
        let beta = 0.1 + t * 19.9;
        let b = 0.1 * t + 0.5 * 19.9 * t * t;
        let sigma = (1.0 - f64::exp(-b)).sqrt();
        assert!((coefficient(row, Src::X(0)) - (1.0 + 0.5 * beta * dt)).abs() < 1e-12);
        assert!((coefficient(row, Src::Eps(0)) + beta * dt / sigma).abs() < 1e-12);
        assert!((coefficient(row, Src::Z(0)) - (beta * dt).sqrt()).abs() < 1e-12);
    }
}

#[test]
fn unit_steps_divide_the_unit_interval() {
    let process = VpSde::default();
    let grid = Grid::times(vec![1.0, 0.6, 0.001]).expect("falls").ending(End::Clean);
    let plan = EulerMaruyama::new().unit_steps().plan(&process, &grid).expect("plans");
    assert_eq!(plan.steps(), 3);
    for (row, t) in plan.rows().iter().zip([1.0, 0.6, 0.001]) {
        let beta = 0.1 + t * 19.9;
        assert!((coefficient(row, Src::X(0)) - (1.0 + beta / 6.0)).abs() < 1e-12);
        assert!((coefficient(row, Src::Z(0)) - (beta / 3.0).sqrt()).abs() < 1e-12);
    }
}

#[test]
fn the_last_step_without_noise_is_its_mean() {
    let process = VeSde::default();
    let grid = Grid::uniform(3);
    let noise = Seeded::new(5);
    let problem = mixture();
    let run = |solver: EulerMaruyama| {
        let plan = solver.plan(&process, &grid).expect("plans");
        let mut states = Vec::new();
        plan.run_host_steps(
            vec![30.0, -20.0],
            0,
            &noise,
            |x, at| answer(&problem, x, at),
            |step| states.push(step.x.to_vec()),
        )
        .expect("runs");
        (plan, states)
    };
    let (plan, with) = run(EulerMaruyama::new());
    let (_, without) = run(EulerMaruyama::new().denoise_at_end());
    assert_eq!(with[..2], without[..2]);
    let mut z = [0.0; 2];
    noise.fill(0, Key::step(2, 0), &mut z).expect("delivers");
    let std = coefficient(&plan.rows()[2], Src::Z(0));
    for i in 0..2 {
        assert!((with[2][i] - without[2][i] - std * z[i]).abs() < 1e-12);
    }
}

/// Pushes mean and covariance of a state in the plane through a plan whose model is linear.
fn moments(plan: &Plan, problem: &Gaussian, mut mean: [f64; 2], mut cov: [[f64; 2]; 2]) -> [f64; 6] {
    for row in plan.rows() {
        let eps = |x: [f64; 2]| answer(problem, &x, &row.eval.expect("asks").at).eps;
        let zero = eps([0.0, 0.0]);
        let columns = [eps([1.0, 0.0]), eps([0.0, 1.0])];
        let (a, b, c) = (coefficient(row, Src::X(0)), coefficient(row, Src::Eps(0)), coefficient(row, Src::Z(0)));
        let identity = [[1.0, 0.0], [0.0, 1.0]];
        let m = |i: usize, j: usize| a * identity[i][j] + b * (columns[j][i] - zero[i]);
        mean = [0, 1].map(|i| m(i, 0) * mean[0] + m(i, 1) * mean[1] + b * zero[i]);
        let half = [0, 1].map(|i| [0, 1].map(|j| m(i, 0) * cov[0][j] + m(i, 1) * cov[1][j]));
        cov = [0, 1].map(|i| [0, 1].map(|j| half[i][0] * m(j, 0) + half[i][1] * m(j, 1) + c * c * identity[i][j]));
    }
    [mean[0], mean[1], cov[0][0], cov[0][1], cov[1][0], cov[1][1]]
}

fn gaussian() -> Gaussian {
    Gaussian::new(vec![0.5, -0.3], vec![0.4, 0.15, 0.15, 0.3]).expect("a covariance")
}

/// The true moments at a time.
fn marginal(process: &dyn Process, t: f64) -> ([f64; 2], [[f64; 2]; 2]) {
    let (a, v) = (process.alpha(t), process.sigma(t).powi(2));
    let a2 = a * a;
    ([0.5 * a, -0.3 * a], [[0.4 * a2 + v, 0.15 * a2], [0.15 * a2, 0.3 * a2 + v]])
}

#[test]
fn weak_order_is_one_on_every_process() {
    for (name, process, noisy, clean) in processes() {
        let (mean, cov) = marginal(&*process, noisy);
        let (exact_mean, exact_cov) = marginal(&*process, clean);
        let exact = [exact_mean[0], exact_mean[1], exact_cov[0][0], exact_cov[0][1], exact_cov[1][0], exact_cov[1][1]];
        for kind in 0..2 {
            let errors: Vec<f64> = [256, 512, 1024, 2048, 4096]
                .iter()
                .map(|n| {
                    let grid = Grid::uniform(*n).between(noisy, clean);
                    let plan = match kind {
                        0 => EulerMaruyama::new().plan(&*process, &grid),
                        _ => ReverseDiffusion::new().plan(&*process, &grid),
                    };
                    let reached = moments(&plan.expect("plans"), &gaussian(), mean, cov);
                    reached.iter().zip(exact).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
                })
                .collect();
            let order = order(&errors);
            assert!((order - 1.0).abs() < 0.1, "{name}, solver {kind}: order {order}, errors {errors:?}");
        }
    }
}

#[test]
fn strong_order_along_a_path_is_one() {
    // The noise is additive; the clock of the path is α²/σ².
    let problem = mixture();
    for (name, process, noisy, clean) in processes() {
        let run = |n: usize, sample: u64| {
            let grid = Grid::uniform(n).between(noisy, clean);
            let plan = EulerMaruyama::new().path().plan(&*process, &grid).expect("plans");
            let x = start(&*process, noisy);
            plan.run_host(x, sample, &Seeded::new(11), |x, at| answer(&problem, x, at)).expect("runs")
        };
        let Errors { order, interval, errors } = strong_order(30, &[16, 32, 64, 128, 256], 2048, run);
        assert!(interval.0 <= 1.05 && interval.1 >= 0.95, "{name}: order {order}, in {interval:?}, errors {errors:?}");
        assert!((order - 1.0).abs() < 0.15, "{name}: order {order}, errors {errors:?}");
    }
}

#[test]
fn paths_have_the_variance_of_white_noise() {
    let process = VpSde::default();
    let plan = EulerMaruyama::new().path().plan(&process, &Grid::uniform(8)).expect("plans");
    let white = EulerMaruyama::new().plan(&process, &Grid::uniform(8)).expect("plans");
    for (row, plain) in plan.rows().iter().zip(white.rows()) {
        let langevin_schedulers::plan::Draw::Path { from, until, .. } = row.draws[0] else { panic!("a path") };
        let std = coefficient(row, Src::Z(0)) * (until - from).sqrt();
        assert!((std - coefficient(plain, Src::Z(0))).abs() < 1e-12);
    }
    // The clock runs on without gaps.
    let ends = plan.rows().iter().map(|row| match row.draws[0] {
        langevin_schedulers::plan::Draw::Path { from, until, .. } => (from, until),
        _ => panic!("a path"),
    });
    let ends: Vec<_> = ends.collect();
    assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[0].0 < pair[0].1));
}

#[test]
fn reverse_diffusion_of_a_chain_is_equation_46() {
    // x_{i−1} = (2 − √(1−β))·x_i + β·score + √β·z on every step of a DDPM chain.
    let betas = [0.1, 0.2, 0.3, 0.15];
    let chain = DiscreteChain::new(Betas::Custom(betas.to_vec()), 4).expect("betas");
    let plan = ReverseDiffusion::new().plan(&chain, &Grid::leading(4)).expect("plans");
    for (row, i) in plan.rows().iter().zip([3, 2, 1, 0]) {
        let beta: f64 = betas[i];
        let left: f64 = betas[..=i].iter().map(|beta| 1.0 - beta).product();
        let sigma = (1.0 - left).sqrt();
        assert!((coefficient(row, Src::X(0)) - (2.0 - (1.0 - beta).sqrt())).abs() < 1e-12, "step {i}");
        assert!((coefficient(row, Src::Eps(0)) + beta / sigma).abs() < 1e-12, "step {i}");
        assert!((coefficient(row, Src::Z(0)) - beta.sqrt()).abs() < 1e-12, "step {i}");
    }
}

#[test]
fn the_stops_of_score_sde_step_through_a_geometric_sequence() {
    let process = VeSde::new(0.01, 100.0).expect("sigmas");
    let stops = ReverseDiffusion::score_sde_stops(&process, 5, 1e-3).expect("stops");
    for (i, stop) in stops.iter().enumerate() {
        let sigma = 100.0 * 0.1f64.powi(i as i32);
        assert!((stop.from.level.sigma / sigma - 1.0).abs() < 1e-12, "step {i}");
        let next = if i == 4 { 0.0 } else { 0.1 * sigma };
        assert!((stop.to.level.sigma - next).abs() < 1e-12 * sigma, "step {i}");
        // Asked at t = 1 − i·(1 − eps)/4, in f32.
        let asked = 0.01 * 1e4f64.powf(1.0 - i as f64 * 0.999 / 4.0);
        assert!((stop.ask.sigma / asked - 1.0).abs() < 1e-5, "step {i}");
    }
    let plan = ReverseDiffusion::new().plan_stops(&stops, 100.0).expect("plans");
    let score = -0.3;
    let noise = (0..5).try_fold(Injected::new(), |noise, i| noise.with(Key::step(i, 0), 0..1, vec![0.5]));
    let mut states = vec![7.0];
    plan.run_host_steps(
        vec![7.0],
        0,
        &noise.expect("records"),
        |_, at| HostAnswer { x0: vec![0.0], eps: vec![-score * at.sigma], variance: None },
        |step| states.push(step.x[0]),
    )
    .expect("runs");
    for i in 0..5 {
        let sigma = 100.0 * 0.1f64.powi(i as i32);
        let v = sigma * sigma * if i == 4 { 1.0 } else { 0.99 };
        let exact = states[i] + v * score + v.sqrt() * 0.5;
        assert!((states[i + 1] - exact).abs() < 1e-9 * sigma * sigma, "step {i}");
    }
}

#[test]
fn a_rectified_flow_has_a_reverse_sde_below_its_noisy_end() {
    // f = −1/(1 − t), g² = 2t/(1 − t).
    let plan = EulerMaruyama::new().plan(&RectifiedFlow::default(), &Grid::uniform(1).between(0.6, 0.5));
    let plan = plan.expect("plans");
    let row = &plan.rows()[0];
    assert!((coefficient(row, Src::X(0)) - (1.0 + 0.1 / 0.4)).abs() < 1e-12);
    assert!((coefficient(row, Src::Eps(0)) + 0.1 * 2.0 / 0.4).abs() < 1e-12);
    assert!((coefficient(row, Src::Z(0)) - (0.1 * 2.0 * 0.6 / 0.4f64).sqrt()).abs() < 1e-12);
}

#[test]
fn samples_of_a_plan_have_the_moments_that_it_predicts() {
    let process = VpSde::default();
    let plan = EulerMaruyama::new().plan(&process, &Grid::uniform(20)).expect("plans");
    let problem = Gaussian::new(vec![0.5, -0.3], vec![0.4, 0.15, 0.15, 0.3]).expect("a covariance");
    let predicted = moments(&plan, &problem, [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]);
    let noise = Seeded::new(3);
    let count = 20_000;
    let mut sums = [0.0; 5];
    for sample in 0..count {
        let mut x = vec![0.0; 2];
        noise.fill(sample, Key::INITIAL, &mut x).expect("delivers");
        let x = plan.run_host(x, sample, &noise, |x, at| answer(&problem, x, at)).expect("runs");
        let (a, b) = (x[0] - predicted[0], x[1] - predicted[1]);
        for (sum, value) in sums.iter_mut().zip([a, b, a * a, a * b, b * b]) {
            *sum += value / count as f64;
        }
    }
    let [_, _, aa, ab, _, bb] = predicted;
    let n = (count as f64).sqrt();
    let errors =
        [aa.sqrt() / n, bb.sqrt() / n, 2f64.sqrt() * aa / n, (aa * bb + ab * ab).sqrt() / n, 2f64.sqrt() * bb / n];
    for ((sum, exact), error) in sums.iter().zip([0.0, 0.0, aa, ab, bb]).zip(errors) {
        assert!((sum - exact).abs() < 4.0 * error, "{sum}, predicted {exact} ± {error}");
    }
}

/// Each step of a run: the preview, or that there is none.
fn previews(plan: &Plan, prediction: Prediction) -> Vec<Option<Vec<f64>>> {
    let (noise, denoiser) =
        (Seeded::new(2), denoiser::from_fn(prediction, |x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(0.9))));
    let run = plan.start([2, 3], &denoiser, &noise, Load::on(&Device::flex())).expect("a run");
    run.map(|step| step.expect("a step").x0.map(|x0| values(&x0))).collect()
}

/// Pure noise says nothing of the data to an ε network; a solver that reads ε̂ only goes on without a preview.
#[test]
fn a_preview_that_cannot_be_computed_is_left_out() {
    let plan = ReverseDiffusion::new().plan(&RectifiedFlow::new(), &Grid::uniform(5)).expect("a plan");
    assert_eq!(plan.rows()[0].eval.expect("an evaluation").at.alpha, 0.0);
    for prediction in [Prediction::Epsilon, Prediction::Score] {
        let there: Vec<bool> = previews(&plan, prediction).iter().map(Option::is_some).collect();
        assert_eq!(there, [false, true, true, true, true], "{prediction}");
    }
    assert!(previews(&plan, Prediction::Flow).iter().all(Option::is_some));
    // A plan that has seen no x̂_0 to report resumes like any other.
    let (noise, denoiser) = (Seeded::new(2), denoiser::from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| Ok(x)));
    let mut run = plan.start([2, 3], &denoiser, &noise, Load::on(&Device::flex())).expect("a run");
    run.next().expect("a step").expect("a step");
    let saved = run.save().expect("a saved run");
    let (whole, rest) =
        (run.finish(), plan.resume(&saved, &denoiser, &noise, Load::on(&Device::flex())).expect("a run").finish());
    assert_eq!(values(&whole.expect("samples")), values(&rest.expect("samples")));
    // A solver that computes with x̂_0 cannot do without.
    let ddim = Ddim::new().plan(&RectifiedFlow::new(), &Grid::uniform(5)).expect("a plan");
    let error =
        ddim.start([2, 3], &denoiser, &noise, Load::on(&Device::flex())).expect("a run").next().expect("an error");
    assert!(matches!(error, Err(SampleError::Prediction(_))));
}
