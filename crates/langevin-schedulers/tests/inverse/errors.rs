//! One test for each kind of bad input.

use super::{Problem, load, mixture, one_value, tensor};
use burn::tensor::Tensor;
use langevin_core::denoiser::{EnergyGuided, energy_fn, from_fn};
use langevin_core::exact::Posterior;
use langevin_core::grid::End;
use langevin_core::inverse::{Dps, Filled, InverseError, KnownRegion, LinearOperator, Masking, Measurement, PiGdm};
use langevin_core::noise::Seeded;
use langevin_core::process::{RectifiedFlow, VpSde};
use langevin_core::{DenoiseError, Denoiser, Grid, Level, Levels, Prediction, Query};
use langevin_schedulers::inverse::{Ddrm, DpsSteps};
use langevin_schedulers::{Ddim, PlanError, SampleError, SamplerExt, Solver};

fn ask(denoiser: &dyn Denoiser<2>, x: Tensor<2>, level: Level) -> DenoiseError {
    let levels = Levels::Shared(level);
    let query = Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) };
    denoiser.denoise(query).map(|_| ()).expect_err("bad input")
}

const MIDDLE: Level = Level { alpha: 0.6, sigma: 0.8, time: 0.5 };

fn plane() -> Tensor<2> {
    tensor(&[vec![0.3, -0.2], vec![1.0, 0.5]])
}

/// Knows its transpose only.
struct Doubling;

impl LinearOperator<2> for Doubling {
    fn measured_shape(&self, sample: &[usize]) -> Result<Vec<usize>, InverseError> {
        Ok(sample.to_vec())
    }
    fn apply(&self, x: Tensor<2>) -> Result<Tensor<2>, InverseError> {
        Ok(x.mul_scalar(2.0))
    }
    fn transpose(&self, y: Tensor<2>) -> Result<Tensor<2>, InverseError> {
        Ok(y.mul_scalar(2.0))
    }
}

#[test]
fn step_sizes_of_dps_that_are_not_positive() {
    let problem = Problem::correlated(0.0);
    for given in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = Dps::with_weight(problem.denoiser(), problem.measurement(), given).map(|_| ()).expect_err("bad");
        assert!(matches!(error, InverseError::Setting { setting: "the step size of DPS", .. }), "{error}");
        let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(5)).expect("a plan");
        let error = DpsSteps::new(plan, problem.measurement(), given).map(|_| ()).expect_err("bad");
        assert!(matches!(error, PlanError::Setting { setting: "the step size", .. }), "{error}");
    }
    // The likelihood of a measurement without noise has no gradient.
    let error = Dps::new(problem.denoiser(), problem.measurement()).map(|_| ()).expect_err("no noise");
    assert!(error.to_string().contains("Dps::with_weight"), "{error}");
}

#[test]
fn settings_of_pigdm_out_of_range() {
    let problem = Problem::correlated(0.1);
    let pigdm = || PiGdm::new(problem.denoiser(), problem.measurement()).expect("a decomposition");
    for given in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = pigdm().data_deviation(given).map(|_| ()).expect_err("bad");
        assert!(matches!(error, InverseError::Setting { setting: "the deviation of the data", .. }), "{error}");
        let error = pigdm().scale(given).map(|_| ()).expect_err("bad");
        assert!(matches!(error, InverseError::Setting { setting: "the guidance scale of ΠGDM", .. }), "{error}");
    }
}

#[test]
fn settings_of_ddrm_out_of_range() {
    let problem = Problem::correlated(0.1);
    let ddrm = || Ddrm::new(&VpSde::default(), &Grid::uniform(5), problem.measurement()).expect("a sampler");
    for given in [-0.1, 1.1, f64::NAN] {
        let error = ddrm().eta(given).map(|_| ()).expect_err("bad");
        assert!(matches!(error, PlanError::Setting { setting: "eta", .. }), "{error}");
        let error = ddrm().eta_b(given).map(|_| ()).expect_err("bad");
        assert!(matches!(error, PlanError::Setting { setting: "eta_b", .. }), "{error}");
    }
}

#[test]
fn grids_that_ddrm_cannot_walk() {
    let problem = Problem::correlated(0.1);
    let on_flow = Ddrm::new(&RectifiedFlow::new(), &Grid::uniform(5), problem.measurement()).map(|_| ());
    assert!(matches!(on_flow, Err(PlanError::Singular { solver: "DDRM", .. })), "{on_flow:?}");
    let rising = Grid::uniform(5).ending(End::Range).inverted();
    let rising = Ddrm::new(&VpSde::default(), &rising, problem.measurement()).map(|_| ());
    assert!(matches!(rising, Err(PlanError::Direction { solver: "DDRM", .. })), "{rising:?}");
}

#[test]
fn operators_without_a_decomposition() {
    let measurement = || Measurement::new(Doubling, tensor(&[vec![0.1, 0.2]]), 0.1).expect("a measurement");
    let denoiser = mixture().denoiser(Prediction::Epsilon).expect("a denoiser");
    let error = PiGdm::new(&denoiser, measurement()).map(|_| ()).expect_err("no decomposition");
    assert_eq!(error, InverseError::NoSvd { method: "ΠGDM" });
    let error = Ddrm::new(&VpSde::default(), &Grid::uniform(5), measurement()).map(|_| ()).expect_err("none");
    assert_eq!(error, PlanError::Inverse(InverseError::NoSvd { method: "DDRM" }));
    // DPS needs none.
    let dps = Dps::new(&denoiser, measurement()).expect("noise");
    let levels = Levels::Shared(MIDDLE);
    let query = Query { x: plane(), levels: &levels, past: &[], noise: &Seeded::new(0) };
    assert!(dps.denoise(query).is_ok());
}

/// A measurement that no sample could give, before any run; and one of another batch, when a run starts or in DDRM's
/// first step.
#[test]
fn measurements_of_other_samples() {
    let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(5)).expect("a plan");
    let (noise, inner) = (Seeded::new(0), || mixture().denoiser(Prediction::Epsilon).expect("a denoiser"));
    let of = |y: Tensor<2>| Measurement::new(one_value(), y, 0.1).expect("values");
    let wide =
        Measurement::new(one_value(), tensor(&[vec![0.1, 0.2]]), 0.1).map(|_| ()).expect_err("one value a sample");
    assert!(matches!(wide, InverseError::Shape { what: "the measurement", .. }), "{wide}");

    let three = || of(tensor(&[vec![0.1], vec![0.2], vec![0.3]]));
    let rows = |error: &InverseError| matches!(error, InverseError::Rows { rows: 3, batch: 2, .. });
    let dps = Dps::new(inner(), three()).expect("noise");
    let pigdm = PiGdm::new(inner(), three()).expect("a decomposition");
    for denoiser in [&dps as &dyn Denoiser<2>, &pigdm] {
        let error = plan.start([2, 2], denoiser, &noise, load()).map(|_| ()).expect_err("does not fit");
        let SampleError::Denoise(DenoiseError::Inverse(error)) = error else { panic!("{error}") };
        assert!(rows(&error), "{error}");
    }
    let steps = DpsSteps::new(plan.clone(), three(), 0.3).expect("a step size");
    let denoiser = inner();
    let error = steps.start([2, 2], &denoiser, &noise, load()).expect("a run").finish().map(|_| ());
    let Err(SampleError::Denoise(DenoiseError::Inverse(error))) = error else { panic!("{error:?}") };
    assert!(rows(&error), "{error}");
    let sampler = Ddrm::new(&VpSde::default(), &Grid::uniform(5), three()).expect("a sampler");
    let error = sampler.start([2, 2], &denoiser, &noise, load()).expect("a run").finish().map(|_| ());
    let Err(SampleError::Denoise(DenoiseError::Inverse(error))) = error else { panic!("{error:?}") };
    assert!(rows(&error), "{error}");
    let region = KnownRegion::new(Masking::new(tensor(&[vec![1.0; 3]])).expect("a mask"), tensor(&[vec![0.0; 3]]));
    let filled = Filled::new(inner(), region.expect("fits"));
    let error = plan.start([2, 2], &filled, &noise, load()).map(|_| ()).expect_err("does not fit");
    assert!(matches!(error, SampleError::Denoise(DenoiseError::Inverse(InverseError::Shape { .. }))), "{error}");
}

#[test]
fn energies_of_the_wrong_shape() {
    let inner = || mixture().denoiser(Prediction::Epsilon).expect("a denoiser");
    let each = energy_fn(|x: Tensor<2>, _: &Levels| Ok(x.sum_dim(1).narrow(0, 0, 1).squeeze_dim(1)));
    let total = energy_fn(|x: Tensor<2>, _: &Levels| Ok(x.sum()));
    for denoiser in [
        Box::new(EnergyGuided::of_state(inner(), &each)) as Box<dyn Denoiser<2>>,
        Box::new(EnergyGuided::of_clean(inner(), &total)),
        Box::new(EnergyGuided::classifier(inner(), &each)),
    ] {
        let error = ask(&denoiser, plane(), MIDDLE);
        assert!(matches!(&error, DenoiseError::Shape { given, .. } if *given == [1]), "{error}");
        assert!(error.to_string().contains("the list of energies has shape [1], expected [2]"), "{error}");
    }
    for scale in [f64::NAN, f64::INFINITY] {
        let error = EnergyGuided::of_state(inner(), &each).scale(scale).map(|_| ()).expect_err("bad");
        assert!(matches!(error, DenoiseError::Setting { .. }), "{error}");
    }
}

#[test]
fn gradients_that_are_not_finite() {
    let inner = || mixture().denoiser(Prediction::Epsilon).expect("a denoiser");
    // The slope of a square root at 0.
    let root = energy_fn(|x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(0.0).sqrt().sum_dim(1).squeeze_dim(1)));
    let steep = |x: Tensor<2>, _: &Levels| Ok(x.clone().mul_scalar(0.0).sqrt().add(x));
    let measurement = || Measurement::new(one_value(), tensor(&[vec![0.7]]), 0.1).expect("a measurement");
    let broken = || from_fn(Prediction::Sample, steep);
    for denoiser in [
        Box::new(EnergyGuided::of_state(inner(), &root).checked()) as Box<dyn Denoiser<2>>,
        Box::new(EnergyGuided::of_clean(inner(), &root).checked()),
        Box::new(Dps::new(broken(), measurement()).expect("noise").checked()),
        Box::new(PiGdm::new(broken(), measurement()).expect("a decomposition").checked()),
    ] {
        let error = ask(&denoiser, plane(), MIDDLE);
        assert!(matches!(error, DenoiseError::GradientNotFinite { .. }), "{error}");
    }
    // Unchecked, the end of the run says so.
    let unchecked = EnergyGuided::of_state(inner(), &root);
    let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(5)).expect("a plan");
    let error = plan.start([2, 2], &unchecked, &Seeded::new(0), load()).expect("a run").finish().map(|_| ());
    assert_eq!(error, Err(SampleError::NotFinite { step: 5 }));
}

#[test]
fn guidance_where_there_is_no_signal() {
    let measurement = Measurement::new(one_value(), tensor(&[vec![0.7]]), 0.1).expect("a measurement");
    let flow = mixture().denoiser(Prediction::Flow).expect("a denoiser");
    let noise = Level { alpha: 0.0, sigma: 1.0, time: 1.0 };
    for denoiser in [
        Box::new(Dps::new(&flow, measurement.clone()).expect("noise")) as Box<dyn Denoiser<2> + '_>,
        Box::new(PiGdm::new(&flow, measurement).expect("a decomposition")),
    ] {
        let error = ask(&denoiser, plane(), noise);
        assert_eq!(error, DenoiseError::PureNoise { sigma: 1.0, time: 1.0 });
    }
}

#[test]
fn answers_that_autodiff_cannot_follow() {
    let host = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.zeros_like().inner()));
    let measurement = Measurement::new(one_value(), tensor(&[vec![0.7]]), 0.1).expect("a measurement");
    let error = ask(&Dps::new(&host, measurement).expect("noise"), plane(), MIDDLE);
    assert!(matches!(error, DenoiseError::NoGradient { .. }), "{error}");
    let inner = mixture().denoiser(Prediction::Epsilon).expect("a denoiser");
    let constant = energy_fn(|x: Tensor<2>, _: &Levels| Ok(x.inner().sum_dim(1).squeeze_dim(1)));
    let error = ask(&EnergyGuided::of_state(inner, constant), plane(), MIDDLE);
    assert_eq!(error, DenoiseError::NoGradient { what: "the number to differentiate" });
}

/// A gradient through something that follows a gradient would lack a part, or not be there.
#[test]
fn gradients_through_gradients_are_refused_before_the_first_step() {
    let data = mixture().denoiser(Prediction::Epsilon).expect("a denoiser");
    let measurement = || Measurement::new(one_value(), tensor(&[vec![0.7]]), 0.1).expect("a measurement");
    let energy = || energy_fn(|x: Tensor<2>, _: &Levels| Ok(x.sin().sum_dim(1).squeeze_dim(1)));
    let followers: [(&str, Box<dyn Denoiser<2> + '_>); 4] = [
        ("DPS", Box::new(Dps::new(&data, measurement()).expect("noise"))),
        ("ΠGDM", Box::new(PiGdm::new(&data, measurement()).expect("a decomposition"))),
        ("guidance by an energy of the state", Box::new(EnergyGuided::of_state(&data, energy()))),
        ("guidance by an energy of x̂_0", Box::new(EnergyGuided::of_clean(&data, energy()))),
    ];
    let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(5).between(0.9, 0.1)).expect("a plan");
    let steps = DpsSteps::new(plan.clone(), measurement(), 0.1).expect("a step size");
    let noise = Seeded::new(0);
    for (name, inner) in &followers {
        assert_eq!(inner.beyond_autodiff(), Some(*name));
        let names = |error: SampleError, what: &str| {
            let SampleError::Denoise(DenoiseError::Combination { first, second, .. }) = error else {
                panic!("{error}")
            };
            assert_eq!((first, second), (what, *name));
        };
        names(steps.start_from(0, plane(), inner, &noise).map(drop).expect_err("refused"), "DPS");
        let outer: [(&str, Box<dyn Denoiser<2> + '_>); 3] = [
            ("DPS", Box::new(Dps::new(inner, measurement()).expect("noise"))),
            ("ΠGDM", Box::new(PiGdm::new(inner, measurement()).expect("a decomposition"))),
            ("guidance by an energy of x̂_0", Box::new(EnergyGuided::of_clean(inner, energy()))),
        ];
        for (what, outer) in &outer {
            names(plan.start_from(0, plane(), outer, &noise).map(drop).expect_err("refused"), what);
            // Whoever asks it without a run is told, too.
            let error = ask(outer, plane(), MIDDLE);
            assert!(matches!(error, DenoiseError::Combination { second, .. } if second == *name), "{error}");
        }
        // Through what is inside an energy of the state no gradient goes.
        let state = EnergyGuided::of_state(inner, energy());
        assert!(plan.start_from(0, plane(), &state, &noise).expect("starts").finish().is_ok());
        // Combinators in between forward it.
        let mask = Masking::new(tensor(&[vec![1.0, 0.0]])).expect("a mask");
        let between = Filled::new(inner, KnownRegion::new(mask, tensor(&[vec![0.7, 0.0]])).expect("a region"));
        names(steps.start_from(0, plane(), &between, &noise).map(drop).expect_err("refused"), "DPS");
    }
}
