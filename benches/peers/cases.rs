//! What is timed: the arithmetic of each solver without a network, and seeded noise.
//!
//! `solvers.json` names the solvers by diffusers' configurations, which the other side of `peers` reads too.

use burn::tensor::{Device, Tensor};
use langevin::burn;
use langevin::core::noise::Seeded;
use langevin::core::{Denoiser, Key, Load, NoiseSource, Prediction, denoiser};
use langevin::schedulers::{Plan, SamplerExt, diffusers};
use serde_json::{Map, Value};
use std::time::Instant;

/// A batch of latents.
pub const STATES: [usize; 4] = [16, 4, 64, 64];
/// A batch of small images.
pub const IMAGES: [usize; 4] = [64, 3, 32, 32];
/// Steps of a run.
pub const STEPS: usize = 50;

/// A solver's plan, and an answer that costs nothing.
pub struct Case {
    plan: Plan,
    x: Tensor<4>,
    output: Tensor<4>,
    prediction: Prediction,
    noise: Seeded,
}

/// The solvers by name.
pub fn cases() -> Vec<(String, Case)> {
    let solvers: Map<String, Value> = serde_json::from_str(include_str!("../solvers.json")).expect("solvers.json");
    solvers.into_iter().map(|(name, config)| (name, Case::new(&config.to_string()))).collect()
}

impl Case {
    fn new(config: &str) -> Self {
        let scheduler = diffusers::from_config(config).expect("a configuration");
        let noise = Seeded::new(0);
        let normal = |sample: u64| {
            let samples = sample..sample + STATES[0] as u64;
            let numel = STATES[1..].iter().product();
            let (device, dtype) = (Device::flex(), burn::tensor::DType::F32);
            noise.normal(samples, Key::INITIAL, numel, (&device, dtype)).expect("seeded noise").reshape(STATES)
        };
        Self {
            plan: scheduler.plan(STEPS).expect("a plan"),
            x: normal(0),
            output: normal(1000),
            prediction: scheduler.prediction(),
            noise,
        }
    }

    /// A denoiser that returns the same tensor each time.
    pub fn denoiser(&self) -> impl Denoiser<4> + '_ {
        denoiser::from_fn(self.prediction, |_x: Tensor<4>, _levels| Ok(self.output.clone()))
    }

    /// One run from the same state: the seconds of each of its steps.
    pub fn run(&self, denoiser: &dyn Denoiser<4>) -> Vec<f64> {
        let mut run = self.plan.start_from(0, self.x.clone(), denoiser, &self.noise).expect("a run starts");
        let mut times = Vec::with_capacity(self.plan.steps());
        loop {
            let start = Instant::now();
            match run.next() {
                // The step is dropped before the clock stops, as a loop drops it.
                Some(step) => drop(step.expect("a step")),
                None => return times,
            }
            times.push(start.elapsed().as_secs_f64());
        }
    }
}

/// A batch of seeded noise.
pub fn noise(index: u64) -> Tensor<2> {
    let samples = 0..IMAGES[0] as u64;
    let numel = IMAGES[1..].iter().product();
    let load = Load::on(&Device::flex());
    Seeded::new(0).normal(samples, Key::step(index, 0), numel, load.options()).expect("seeded noise")
}
