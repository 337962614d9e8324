//! What `examples/quickstart` samples, with a network that has learned nothing.

#[path = "../../examples/quickstart/sampling.rs"]
mod sampling;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Device;
use langevin::data::digits;
use langevin::models::UNet2d;
use langevin::prelude::*;
use langevin::schedulers::SampleError;
use sampling::{Method, methods, nearest, network, sample};

/// Weights four times as large: whatever they are, answers are out of range then, unless they are thresholded.
struct Larger;

impl ModuleMapper for Larger {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weight| weight * 4.0)
    }
}

fn unet() -> UNet2d {
    network().init(&Device::flex()).expect("a network").map(&mut Larger)
}

fn four() -> Vec<Method> {
    methods(&DiscreteChain::new(Betas::SquaredCosine, 1000).expect("a chain")).expect("four plans")
}

fn largest(x: Tensor<4>) -> f32 {
    let values = x.try_into_vec_as::<f32>().expect("readable");
    assert!(values.iter().all(|value| value.is_finite()));
    values.into_iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// Each class once, in two parts that are sampled at once. Where the last answer is the sample, and is thresholded, pixels are
/// in range, which those of this network would not be.
#[test]
fn the_quickstart_samples_four_ways() {
    let (network, device) = (unet(), Device::flex());
    let mut seen = Vec::new();
    for method in four() {
        let (name, plan) = (method.name, &method.plan);
        let sampled = sample(&network, &method, 1, 0, 2, &device).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((sampled.images.dims(), sampled.labels), ([10, 1, 8, 8], (0..10).collect()), "{name}");
        assert_eq!(sampled.evaluations, plan.evaluations(), "{name}");
        assert!(sampled.seconds > 0.0, "{name}");
        // A row of states for each class.
        let path = sampled.path.map(|path| path.dims());
        assert_eq!(path, (method.file == "ddim").then_some([110, 1, 8, 8]), "{name}");
        // It knows no digit.
        let train = digits().expect("embedded");
        assert!(nearest(&sampled.images, train.pixels()).expect("as large") > 1.0, "{name}");
        let ends_clean = plan.rows().last().is_some_and(|row| row.after.level.sigma == 0.0);
        let (most, in_range) = (largest(sampled.images), ends_clean && plan.reads_clean());
        assert_eq!(most <= 1.0, in_range, "{name}: {most}");
        seen.push((method.file, plan.reads_clean(), in_range));
    }
    let expected = [
        ("ddpm", true, true),
        ("ddim", true, true),
        ("euler_maruyama", false, false),
        ("probability_flow", true, false),
    ];
    assert_eq!(seen, expected);
}

/// The threshold is where a sampler reads what it changes, and every answer there is in range; elsewhere it is refused.
#[test]
fn the_quickstart_thresholds_where_it_is_read() {
    let (network, noise, labels) = (unet(), Seeded::new(0), [3, 7]);
    for method in four() {
        let (name, plan) = (method.name, &method.plan);
        let load = || Load::on(&Device::flex());
        let denoiser = sampling::denoiser(&network, plan, &labels).expect("binds");
        let run = plan.start([2, 1, 8, 8], &denoiser, &noise, load()).expect("a run");
        let answers = run.take(4).filter_map(|step| step.expect("a step").x0);
        let answers: Vec<f32> = answers.map(largest).collect();
        assert_eq!(answers.len(), 4, "{name}");
        assert_eq!(answers.iter().all(|most| *most <= 1.0), plan.reads_clean(), "{name}: {answers:?}");
        let bound = network.denoiser(Prediction::Velocity, Labels::of(labels)).expect("binds");
        let thresholded = bound.thresholded(Threshold::Static { range: 1.0 }).expect("a range");
        let refused = plan.start([2, 1, 8, 8], &thresholded, &noise, load()).map(drop).err();
        let unseen = matches!(&refused, Some(SampleError::Unseen { .. }));
        assert_eq!((unseen, refused.is_none()), (!plan.reads_clean(), plan.reads_clean()), "{name}: {refused:?}");
    }
}
