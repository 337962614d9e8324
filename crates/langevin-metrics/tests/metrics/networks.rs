//! Gradients through networks in their sampling form.

use crate::values;
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin_core::denoiser::{gradient, pull_back};
use langevin_core::noise::{Key, Seeded};
use langevin_core::process::VpSde;
use langevin_core::{Denoiser, Grid, Levels, Network, Prediction, Process, Query, grid::End, noise};
use langevin_metrics::{Likelihood, Trace};
use langevin_models::{Labels, MlpConfig, UNet2dConfig};
use langevin_schedulers::ode::Tableau;

fn normal<const D: usize>(shape: [usize; D], index: u64) -> Tensor<D> {
    let like = Tensor::<D>::zeros(shape, (&Device::flex(), DType::F32));
    noise::like(&Seeded::new(5), &like, 0, Key::step(index, 0)).expect("seeded noise")
}

/// `Σ x̂_0·v` differentiated by the network against central differences along a random direction, and dropout asleep.
fn check_gradient<const D: usize>(name: &str, denoiser: &dyn Denoiser<D>, shape: [usize; D]) {
    let levels = Levels::Each((0..shape[0]).map(|row| VpSde::default().level(0.2 + 0.3 * row as f64)).collect());
    let noise = Seeded::new(0);
    let (x, v, direction) = (normal(shape, 0), normal(shape, 1), normal(shape, 2));
    let query = |x: Tensor<D>| Query { x, levels: &levels, past: &[], noise: &noise };
    let graded = pull_back(denoiser, query(x.clone()), |_| Ok(v.clone())).expect("a gradient");
    assert!(!graded.gradient.is_autodiff() && !graded.estimate.output().is_autodiff(), "{name}");
    // Asked on a device with autodiff, the network answers as it does without: nothing in it is in training.
    let plain = denoiser.denoise(query(x.clone())).expect("an answer");
    for (a, b) in values(&plain.output()).iter().zip(values(&graded.estimate.output())) {
        assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{name}: {a} {b}");
    }
    let number = |h: f64| -> f64 {
        let moved = x.clone().add(direction.clone().mul_scalar(h));
        let x0 = denoiser.denoise(query(moved)).expect("an answer").x0().expect("determined");
        values(&x0).iter().zip(values(&v)).map(|(x0, v)| x0 * v).sum()
    };
    let h = 1e-2;
    let slope = (8.0 * (number(h) - number(-h)) - number(2.0 * h) + number(-2.0 * h)) / (12.0 * h);
    let along: f64 = values(&graded.gradient).iter().zip(values(&direction)).map(|(g, d)| g * d).sum();
    assert!((along - slope).abs() < 1e-3 * (1.0 + slope.abs()), "{name}: {along} {slope}");
    // Part of it comes through the network, not only through the conversion to x̂_0.
    let through =
        gradient(denoiser, query(x), |estimate| Ok(estimate.output().mul(Tensor::from_inner(v.clone())).sum()));
    let through = values(&through.expect("a gradient").gradient).iter().map(|g| g.abs()).fold(0.0, f64::max);
    assert!(through > 1e-3, "{name}: the network passes no gradient");
}

#[test]
fn gradients_flow_through_networks_that_sample() {
    let device = Device::flex();
    device.seed(3);
    let mlp = MlpConfig::new(6).hidden(32).layers(2).time_scale(1000.0).classes(3).init(&device).unwrap().train();
    let labels = Labels::of([0, 2]);
    let bound = mlp.denoiser(Prediction::Epsilon, labels).unwrap();
    check_gradient("MLP", &bound, [2, 6]);
    check_gradient("guided MLP", &bound.guided(Labels::none(1), 2.0).unwrap(), [2, 6]);
    // In training, with dropout that would change every answer if it were awake.
    let unet = UNet2dConfig::images(1, 8).channels(&[16, 32]).attention_at(&[1]).dropout(0.5).init(&device).unwrap();
    check_gradient("UNet", &unet.train().denoiser(Prediction::Velocity, Labels::none(1)).unwrap(), [2, 1, 8, 8]);
}

/// The exact trace of a network's flow is the mean of Hutchinson's over all pairs of orthogonal probes, and conditions
/// with a row for each sample work, although they fit no larger batch.
#[test]
fn densities_of_networks() {
    let device = Device::flex();
    device.seed(4);
    let mlp = MlpConfig::new(2).hidden(32).layers(2).time_scale(1000.0).classes(3).init(&device).unwrap();
    let grid = Grid::uniform_lambda(8).ending(End::Range);
    let likelihood = |trace| Likelihood::new(VpSde::default(), trace).unwrap().fixed(Tableau::heun(), &grid).unwrap();
    let x = normal([3, 2], 7);
    let shared = mlp.denoiser(Prediction::Velocity, Labels::of([1])).unwrap();
    let each = mlp.denoiser(Prediction::Velocity, Labels::of([1, 1, 1])).unwrap();
    let exact = likelihood(Trace::Exact).evaluate(x.clone(), &shared, &Seeded::new(0)).unwrap();
    let by_row = likelihood(Trace::Exact).evaluate(x.clone(), &each, &Seeded::new(0)).unwrap();
    // 16 stages, and 8 of half as many steps: with one condition in one call each, with three in one for each axis.
    assert_eq!((exact.solver().evaluations, by_row.solver().evaluations), (24, 48));
    for (a, b) in exact.log_p().iter().zip(by_row.log_p()) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    let probed = likelihood(Trace::gaussian(4000)).evaluate(x, &shared, &Seeded::new(0)).unwrap();
    for ((low, high), exact) in probed.interval(0.9999).unwrap().into_iter().zip(exact.log_p()) {
        assert!(low <= exact && exact <= high && high - low < 1.0, "{exact} not in [{low}, {high}]");
    }
}

/// The density of a network's flow integrates to one: a check that knows nothing of traces.
#[test]
fn densities_of_networks_integrate_to_one() {
    let device = Device::flex();
    device.seed(6);
    let mlp = MlpConfig::new(1).hidden(16).layers(1).time_scale(1000.0).init(&device).unwrap();
    let denoiser = mlp.denoiser(Prediction::Velocity, Labels::none(1)).unwrap();
    let (n, width) = (801u16, 16.0);
    let step = 2.0 * width / f64::from(n - 1);
    let x: Vec<f64> = (0..n).map(|i| -width + step * f64::from(i)).collect();
    let x = Tensor::<2>::from_data(TensorData::new(x, [usize::from(n), 1]), (&device, DType::F32));
    let likelihood = Likelihood::new(VpSde::default(), Trace::Exact).unwrap().tolerance(1e-5, 1e-5).unwrap();
    let density = likelihood.evaluate(x, &denoiser, &Seeded::new(0)).unwrap();
    let mass: f64 = density.log_p().iter().map(|log_p| log_p.exp() * step).sum();
    assert!((mass - 1.0).abs() < 1e-3, "{mass}");
}
