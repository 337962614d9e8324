//! Memory of long runs, in a process of its own: other tests would disturb the figures.

#![allow(clippy::print_stdout, reason = "the growth of memory is the result")]

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin::core::noise::Seeded;
use langevin::core::process::{Betas, DiscreteChain};
use langevin::core::{DenoiseError, Grid, Load, Network, Prediction};
use langevin::models::{Labels, Mlp, MlpConfig};
use langevin::schedulers::{Ddpm, SamplerExt, Solver};

/// Resident memory of this process in MiB.
#[cfg(target_os = "linux")]
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("resident pages");
    pages * 4096.0 / (1024.0 * 1024.0)
}

/// A network that forgets to leave training when it samples.
#[derive(Clone, Debug)]
struct Forgetful(Mlp);

impl Network<2> for Forgetful {
    type Cond = Labels;
    fn forward(&self, x: Tensor<2>, time: Tensor<1>, cond: &Labels) -> Result<Tensor<2>, DenoiseError> {
        self.0.forward(x, time, cond)
    }
    fn for_sampling(&self) -> Self {
        self.clone()
    }
}

/// Growth of memory in MiB over DDPM steps `warm_up..steps` with a network bound as given.
#[cfg(target_os = "linux")]
fn growth<N: Network<2, Cond = Labels>>(net: &N, device: &Device, warm_up: usize, steps: usize) -> f64 {
    let chain = DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, steps).expect("a chain");
    let plan = Ddpm::new().plan(&chain, &Grid::leading(steps)).expect("a plan");
    let denoiser = net.denoiser(Prediction::Velocity, Labels::none(1)).expect("a denoiser");
    let noise = Seeded::new(0);
    let mut run = plan.start([256, 2], &denoiser, &noise, Load::on(device)).expect("a run");
    let mut before = 0.0;
    for index in 0..steps {
        if index == warm_up {
            before = resident();
        }
        run.next().expect("a step").expect("a step");
    }
    resident() - before
}

/// A thousand steps from a network in training hold no graph; a network that stays in training holds one.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_flat_over_a_thousand_steps_from_a_training_network() {
    let device = Device::flex().autodiff();
    let net = MlpConfig::new(2).hidden(128).layers(3).init(&device).expect("a network").train();
    let flat = growth(&net, &Device::flex(), 100, 1100);
    assert!(flat < 8.0, "memory grew by {flat:.1} MiB over 1,000 steps");
    // The same measurement sees the graph of a network that is not taken out of training.
    let graph = growth(&Forgetful(net), &device, 10, 110);
    println!("1,000 steps: {flat:.2} MiB; 100 steps with a graph: {graph:.1} MiB");
    assert!(graph > 32.0, "100 steps that keep their graph grew memory by {graph:.1} MiB only");
}
