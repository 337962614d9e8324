//! One test for each setting and each kind of data that is refused.

use crate::tensor;
use burn::tensor::{Device, Tensor};
use langevin_core::denoiser::from_fn;
use langevin_core::exact::{ExactError, Gaussian, Posterior};
use langevin_core::grid::End;
use langevin_core::noise::{Injected, Seeded};
use langevin_core::process::{Betas, ChainEnd, DiscreteChain, RectifiedFlow, VpSde};
use langevin_core::{DenoiseError, Denoiser, Estimate, Grid, Levels, NoiseError, Prediction, Query};
use langevin_metrics::{Decoder, Likelihood, LogDensity, MetricError, Quantization, Trace, VariationalBound};
use langevin_schedulers::ode::Tableau;
use langevin_schedulers::{PlanError, SampleError, Variance};

fn likelihood() -> Likelihood<VpSde> {
    Likelihood::new(VpSde::default(), Trace::Exact).unwrap()
}

fn setting<T: std::fmt::Debug>(result: Result<T, MetricError>) -> &'static str {
    match result {
        Err(MetricError::Setting { setting, .. } | MetricError::Plan(PlanError::Setting { setting, .. })) => setting,
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_out_of_range() {
    for trace in [Trace::rademacher(0), Trace::gaussian(0)] {
        assert_eq!(setting(Likelihood::new(VpSde::default(), trace)), "number of probes");
    }
    for bad in [0.0, -1e-5, f64::NAN, f64::INFINITY] {
        assert_eq!(setting(likelihood().tolerance(bad, 1e-5)), "relative tolerance");
        assert_eq!(setting(likelihood().tolerance(1e-5, bad)), "absolute tolerance");
        assert_eq!(setting(likelihood().prior_std(bad)), "standard deviation of the prior");
    }
    assert_eq!(setting(likelihood().rows_at_once(0)), "rows of one call");
    let bound = || VariationalBound::of_chain(&chain(), Decoder::Continuous).unwrap();
    assert_eq!(setting(bound().draws(0)), "number of draws");
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(setting(bound().decoder_variance(bad)), "variance of the decoder");
    }
}

#[test]
fn times_that_cannot_be_integrated() {
    assert_eq!(setting(likelihood().between(0.5, 0.1)), "end of the integration");
    assert_eq!(setting(likelihood().between(0.5, 0.5)), "end of the run");
    for (start, end) in [(0.01, 2.0), (f64::NAN, 0.5), (0.5, f64::NAN), (-1.0, 0.5)] {
        let error = likelihood().between(start, end);
        assert!(matches!(error, Err(MetricError::Plan(PlanError::TimeRange { .. }))), "{error:?}");
    }
    let clean = Grid::uniform(10).ending(End::Clean);
    let error = likelihood().fixed(Tableau::heun(), &clean);
    assert!(matches!(error, Err(MetricError::Plan(PlanError::TimeRange { .. }))), "{error:?}");
    let error = likelihood().fixed(Tableau::heun(), &Grid::uniform(10).ending(End::Range).inverted());
    assert!(matches!(error, Err(MetricError::Plan(PlanError::Combination { .. }))), "{error:?}");
    let error = likelihood().fixed(Tableau::heun(), &Grid::uniform(0));
    assert!(matches!(error, Err(MetricError::Plan(PlanError::Grid(_)))), "{error:?}");
}

fn denoiser() -> impl Denoiser<2> {
    Gaussian::new(vec![0.0, 0.0], vec![1.0, 0.3, 0.3, 0.5]).unwrap().denoiser(Prediction::Epsilon).unwrap()
}

fn evaluate(x: Tensor<2>) -> Result<LogDensity<2>, MetricError> {
    likelihood().evaluate(x, &denoiser(), &Seeded::new(0))
}

#[test]
fn samples_that_cannot_be_measured() {
    let error = evaluate(tensor(&[0.0; 6], [2, 3])).unwrap_err();
    assert!(matches!(error, MetricError::Denoise(DenoiseError::Shape { given, .. }) if given == [2, 3]));
    for shape in [[0, 2], [2, 0]] {
        let error = evaluate(Tensor::zeros(shape, &Device::flex())).unwrap_err();
        assert!(matches!(error, MetricError::EmptyShape { shape: given } if given == shape));
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = evaluate(tensor(&[0.0, 0.0, bad, 0.0], [2, 2])).unwrap_err();
        assert!(matches!(error, MetricError::NotFinite { what: "the data", sample: 1, .. }));
        let bound = VariationalBound::of_chain(&chain(), Decoder::Continuous).unwrap();
        let error = bound.evaluate(tensor(&[0.0, 0.0, bad, 0.0], [2, 2]), &denoiser(), &Seeded::new(0)).unwrap_err();
        assert!(matches!(error, MetricError::NotFinite { what: "the data", sample: 1, .. }));
    }
    let error = likelihood().evaluate_at(u64::MAX, tensor(&[0.0; 4], [2, 2]), &denoiser(), &Seeded::new(0));
    assert!(matches!(error, Err(MetricError::SampleNumbers { rows: 2, .. })));
    let quantized = likelihood().quantized(Quantization::bits(8).unwrap());
    let on_levels = |values: &[f64]| quantized.evaluate(tensor(values, [1, 2]), &denoiser(), &Seeded::new(0));
    assert!(matches!(on_levels(&[1.0, -1.01]), Err(MetricError::OutOfRange { given: -1.01, .. })));
    assert!(matches!(on_levels(&[1.0, 0.0]), Err(MetricError::NotALevel { given: 0.0, levels: 256, .. })));
    assert!(on_levels(&[1.0, -1.0]).is_ok());
    let bound = VariationalBound::of_chain(&chain(), Decoder::Discretized(Quantization::bits(8).unwrap())).unwrap();
    let error = bound.evaluate(tensor(&[1.0, 0.0], [1, 2]), &denoiser(), &Seeded::new(0));
    assert!(matches!(error, Err(MetricError::NotALevel { .. })));
}

/// A denoiser that remembers its last answer.
struct Remembers;

impl Denoiser<2> for Remembers {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        Ok(Estimate::new(query.x.clone(), query.x, query.levels.clone(), Prediction::Sample))
    }
    fn memory(&self) -> usize {
        1
    }
}

#[test]
fn denoisers_that_cannot_be_measured() {
    let x = || tensor(&[0.1, 0.2], [1, 2]);
    let noise = Seeded::new(0);
    let error = likelihood().evaluate(x(), &Remembers, &noise).unwrap_err();
    assert!(matches!(error, MetricError::Unsupported { metric: "a likelihood", .. }));
    let bound = VariationalBound::of_chain(&chain(), Decoder::Continuous).unwrap();
    let error = bound.evaluate(x(), &Remembers, &noise).unwrap_err();
    assert!(matches!(error, MetricError::Unsupported { metric: "a variational bound", .. }));
    // One that leaves the graph would have a trace of zero.
    let host = from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| Ok(x.detach()));
    let error = likelihood().evaluate(x(), &host, &noise).unwrap_err();
    assert!(matches!(error, MetricError::Sample(SampleError::Denoise(DenoiseError::NoGradient { .. }))), "{error:?}");
    let nan = from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(f64::NAN)));
    let error = likelihood().evaluate(x(), &nan, &noise).unwrap_err();
    assert!(matches!(error, MetricError::Sample(SampleError::NotFinite { .. })), "{error:?}");
    let fixed = likelihood().fixed(Tableau::euler(), &Grid::uniform(3).ending(End::Range)).unwrap();
    let error = fixed.evaluate(x(), &nan, &noise).unwrap_err();
    assert!(matches!(error, MetricError::NotFinite { what: "the latent state", sample: 0, .. }), "{error:?}");
    let error = bound.evaluate(x(), &nan, &noise).unwrap_err();
    assert!(matches!(error, MetricError::NotFinite { sample: 0, .. }), "{error:?}");
    // The raw variance that a learned variance reads is not there.
    let learned = bound.clone().variance(Variance::LearnedRange).evaluate(x(), &denoiser(), &noise).unwrap_err();
    assert_eq!(learned, MetricError::Denoise(DenoiseError::NoVariance));
    let missing = Likelihood::new(VpSde::default(), Trace::rademacher(1)).unwrap();
    let error = missing.evaluate(x(), &denoiser(), &Injected::new()).unwrap_err();
    assert!(matches!(error, MetricError::Noise(NoiseError::Missing { .. })));
}

#[test]
fn predictions_that_do_not_determine_the_flow() {
    // At α = 0 an ε prediction says nothing of x_0.
    let flow = Likelihood::new(RectifiedFlow::new().range(0.0, 1.0).unwrap(), Trace::Exact).unwrap();
    let error = flow.evaluate(tensor(&[0.1, 0.2], [1, 2]), &denoiser(), &Seeded::new(0)).unwrap_err();
    assert!(matches!(error, MetricError::Sample(SampleError::Denoise(DenoiseError::Prediction(_)))), "{error:?}");
}

#[test]
fn intervals_that_cannot_be_had() {
    let one = Likelihood::new(VpSde::default(), Trace::rademacher(1)).unwrap();
    let density = one.evaluate(tensor(&[0.1, 0.2], [1, 2]), &denoiser(), &Seeded::new(0)).unwrap();
    assert!(matches!(density.interval(0.9), Err(MetricError::Unsupported { what: "one probe", .. })));
    assert!(matches!(density.standard_error(), Err(MetricError::Unsupported { .. })));
    for bad in [0.0, 1.0, -0.5, f64::NAN] {
        assert_eq!(setting(density.interval(bad)), "confidence");
    }
    let other = Gaussian::new(vec![0.0; 3], vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
    assert!(matches!(density.gaps(&other), Err(MetricError::Exact(ExactError::Length { .. }))));
}

fn chain() -> DiscreteChain {
    DiscreteChain::new(Betas::Linear { start: 1e-3, end: 0.2 }, 20).expect("a chain")
}

#[test]
fn grids_without_a_bound() {
    let new = |grid: &Grid| VariationalBound::new(&chain(), grid, Decoder::Continuous).map(|bound| bound.steps());
    assert_eq!(new(&Grid::leading(20)), Ok(20));
    assert!(matches!(new(&Grid::leading(20).ending(End::Range)), Err(MetricError::Unsupported { .. })));
    let strided = new(&Grid::linspace(7).strided());
    assert!(matches!(strided, Err(MetricError::Plan(PlanError::Gap { .. }))), "{strided:?}");
    let inverted = new(&Grid::leading(20).inverted());
    assert!(matches!(inverted, Err(MetricError::Plan(_))), "{inverted:?}");
    assert!(matches!(new(&Grid::leading(21)), Err(MetricError::Plan(PlanError::Grid(_)))));
    let noisy = chain().ending(ChainEnd::FirstStep);
    let error = VariationalBound::of_chain(&noisy, Decoder::Continuous).map(|bound| bound.steps());
    assert!(error.is_err(), "{error:?}");
}

/// At t = 1 of a rectified flow nothing is left of the data: the noise says nothing of it, velocity and flow do.
#[test]
fn without_signal_at_the_end_only_epsilon_needs_a_smaller_range() {
    let data = Gaussian::new(vec![0.8], vec![0.3]).unwrap();
    let likelihood = Likelihood::new(RectifiedFlow::new(), Trace::Exact).unwrap().tolerance(1e-8, 1e-8).unwrap();
    let answer = |prediction| {
        let denoiser = data.clone().denoiser(prediction).unwrap();
        likelihood.evaluate(tensor(&[0.1], [1, 1]), &denoiser, &Seeded::new(0))
    };
    let exact = -0.5 * (0.7f64.powi(2) / 0.3 + (std::f64::consts::TAU * 0.3).ln());
    for prediction in [Prediction::Velocity, Prediction::Flow] {
        let log_p = answer(prediction).unwrap().log_p()[0];
        assert!((log_p - exact).abs() < 1e-5, "{prediction:?}: {log_p} {exact}");
    }
    let error = answer(Prediction::Epsilon).unwrap_err();
    assert!(matches!(error, MetricError::Sample(_) | MetricError::Denoise(_) | MetricError::Prediction(_)), "{error}");
}
