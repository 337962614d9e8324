//! Samplers that are no plans: their steps depend on what they see.

use super::problem::{ends, even_lambda};
use super::solvers::type_of;
use burn::tensor::{DType, Device, Tensor};
use langevin::core::inverse::{Masking, Measurement};
use langevin::core::process::VpSde;
use langevin::schedulers::exponential::DpmAdaptive;
use langevin::schedulers::inverse::{Ddrm, DpsSteps};
use langevin::schedulers::sde::{AdaptiveSde, from_fn};
use langevin::schedulers::{
    Ddim, DormandPrince, EulerMaruyama, Picard, PredictorCorrector, ReverseDiffusion, Sampler, Solver,
};

/// A sampler with its settings.
pub struct Entry {
    pub name: &'static str,
    /// The public type, as in [`type_of`].
    pub of: &'static str,
    pub sampler: Box<dyn Sampler<2>>,
}

fn entry<S: Sampler<2> + 'static>(name: &'static str, sampler: S) -> Entry {
    Entry { name, of: type_of::<S>(), sampler: Box::new(sampler) }
}

/// All of them, on samples of `width` values.
pub fn samplers(width: usize, dtype: DType) -> Vec<Entry> {
    samplers_on(&Device::flex(), width, dtype)
}

/// As [`samplers`], for samples on a device.
pub fn samplers_on(device: &Device, width: usize, dtype: DType) -> Vec<Entry> {
    let vp = VpSde::default();
    let (noisy, clean) = ends(&vp);
    let plan = |solver: &dyn Solver| solver.plan(&vp, &even_lambda(&vp, 6)).expect("a plan");
    let dpm = |eta| {
        let method = DpmAdaptive::new(1e-3, 1e-3).and_then(|method| method.eta(eta)).expect("settings");
        method.between(VpSde::default(), noisy, clean).expect("a run")
    };
    let prince = DormandPrince::new(1e-3, 1e-3).expect("tolerances");
    let sde = AdaptiveSde::new(1e-2, 1e-2).expect("tolerances").between(VpSde::default(), noisy, clean).expect("a run");
    let alone = PredictorCorrector::alone(&vp, &even_lambda(&vp, 6), 0.16, 2).expect("settings");
    let alone = alone.shares(vec![0.9, 0.8, 1.0, 0.7, 1.0, 0.9]).expect("one a step");
    let diffusion = plan(&ReverseDiffusion::new());
    let noisy_plan = plan(&Ddim::new().eta(0.5).expect("in range"));
    // Every other value is measured.
    let row = |values: fn(usize) -> f64| {
        let values: Vec<f64> = (0..width).map(values).collect();
        Tensor::<1>::from_data(values.as_slice(), (device, dtype)).reshape([1, width])
    };
    let measurement = || {
        let mask = Masking::new(row(|i| ((i + 1) % 2) as f64)).expect("a mask");
        Measurement::new(mask, row(|i| 0.4 - 0.7 * (i % 3) as f64), 0.1).expect("a measurement")
    };
    let spring = from_fn(|x: Tensor<2>, t| x.mul_scalar(-1.0 - t), |x: Tensor<2>, _| x.sin().mul_scalar(0.3));
    let dampened = from_fn(|x: Tensor<2>, _| x.mul_scalar(-1.0), |x: Tensor<2>, _| x.sin().mul_scalar(0.3));
    let adaptive = AdaptiveSde::new(1e-2, 1e-2).expect("tolerances").simulate(dampened, (0.0, 1.0));
    vec![
        entry("predictor-corrector", PredictorCorrector::new(diffusion, 0.16, 2).expect("settings")),
        entry("Langevin corrections alone", alone),
        entry("Dormand-Prince", prince.between(VpSde::default(), noisy, clean).expect("a sampler")),
        entry("adaptive DPM-Solver", dpm(0.0)),
        entry("adaptive DPM-Solver, η = 0.5", dpm(0.5)),
        entry("adaptive SDE steps", sde),
        entry("DDRM", Ddrm::new(&vp, &even_lambda(&vp, 6), measurement()).expect("a sampler")),
        entry("DPS, steps", DpsSteps::new(noisy_plan.clone(), measurement(), 0.3).expect("a step size")),
        entry("Picard over DDIM", Picard::over(noisy_plan, 4).expect("settings")),
        entry("a user's SDE, adaptive steps", adaptive.expect("a simulation")),
        entry(
            "a user's SDE, Euler-Maruyama",
            EulerMaruyama::new().simulate_uniform(spring, (0.0, 1.0), 8).expect("a simulation"),
        ),
    ]
}
