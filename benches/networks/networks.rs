//! Whole networks: forward, a training step, a run of a solver.

use crate::case::{Case, Setting, cast, probe, random};
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{DType, Tensor};
use langevin::data::ImageSet;
use langevin::models::{Labels, Tap, TextCondition, UNet2d, UNet2dConditionalConfig, UNet2dConfig};
use langevin::prelude::*;
use langevin::train::{AdamW, Objective, Precision, Trainer};

const OK: &str = "a valid configuration";
const GROUP: &str = "network";
const STABLE_DIFFUSION: &str =
    include_str!("../../crates/langevin-models/tests/published/stable-diffusion-v1-5-unet.json");

/// The networks that are timed.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, build) in [("ddpm-unet", ddpm as Build), ("small-unet", small)] {
        cases.push(forward(name, build));
        cases.push(training_step(name, build));
        cases.push(Case::new(GROUP, format!("{name} trainer, 20 steps"), move |s| {
            // What is trained stays in `f32`, whatever the network computes in.
            let (network, x, _) = build(&Setting { dtype: DType::F32, ..s.clone() });
            let [batch, channels, height, width] = x.dims();
            let precision = match s.dtype {
                DType::F16 => Precision::F16,
                DType::BF16 => Precision::Bf16,
                _ => Precision::Full,
            };
            let images = 4 * batch;
            let pixels = random([images, channels, height, width], s).cast(DType::F32).clamp(-1.0, 1.0);
            let data = ImageSet::new(
                pixels.into_data().try_to_vec().expect("f32"),
                [images, channels, height, width],
                vec![0; images],
                1,
            );
            let data = data.expect("images");
            let (device, steps) = (s.device.clone(), if s.tiny { 1 } else { 20 });
            Box::new(move || {
                let chain = DiscreteChain::new(Betas::SquaredCosine, 1000).expect("a chain");
                let objective = Objective::new(chain, Prediction::Epsilon).expect("an objective");
                let trainer = Trainer::new(network.clone(), objective).steps(steps).batch_size(batch).workers(1);
                let trainer = trainer.condition_dropout(1.0).learning_rate(1e-4).precision(precision).quiet();
                let trained = trainer.fit(&data).expect("a trained network");
                Tensor::from_data([trained.history[trained.history.len() - 1].1], &device)
            })
        }));
    }
    cases.extend([
        Case::new(GROUP, "ddpm-unet DDIM 50", |s| {
            let (network, x, _) = ddpm(s);
            let steps = if s.tiny { 2 } else { 50 };
            let chain = DiscreteChain::new(Betas::SquaredCosine, 1000).expect("a chain");
            let plan = Ddim::new().plan(&chain, &Grid::trailing(steps)).expect("a plan");
            let rows = x.dims()[0];
            let (x, network) = (x.cast(DType::F32), network.valid());
            Box::new(move || {
                let denoiser = network.denoiser(Prediction::Sample, Labels::none(rows)).expect("a denoiser");
                let noise = Seeded::new(0);
                let run = plan.start_from(0, x.clone(), &denoiser, &noise).expect("a run starts");
                probe(run.finish().expect("samples"))
            })
        }),
        // As many evaluations as the solver makes: the difference is what the solver costs.
        Case::new(GROUP, "ddpm-unet 50 forward", |s| {
            let (network, x, time) = ddpm(s);
            let (network, labels) = (network.valid(), Labels::none(x.dims()[0]));
            let steps = if s.tiny { 2 } else { 50 };
            let x = x.cast(DType::F32);
            Box::new(move || {
                let evaluate = |x: Tensor<4>, _| {
                    network.forward_with(x, time.clone(), &labels, &mut Tap::none()).expect("a valid input")
                };
                probe((0..steps).fold(x.clone(), evaluate))
            })
        }),
        Case::new(GROUP, "sd-unet forward", |s| {
            let mut config = UNet2dConditionalConfig::from_json(STABLE_DIFFUSION).expect(OK);
            let (batch, side) = match (s.tiny, s.on_cpu) {
                (true, _) => (1, 8),
                (_, true) => (1, 64),
                _ => (2, 64),
            };
            let batch = s.batch.unwrap_or(batch);
            if s.tiny {
                config = config.channels(&[32, 32, 32, 32]);
            }
            let context = config.encoder.context;
            let network = cast(config.init(&s.device).expect(OK), s).valid();
            let x = random([batch, 4, side, side], s);
            let text = TextCondition::new(random([batch, 77, context], s));
            let time = Tensor::<1>::from_data([500.0], &s.device);
            Box::new(move || {
                let y = network.forward_with(x.clone(), time.clone(), &text, &mut Tap::none());
                probe(y.expect("a valid input"))
            })
        }),
    ]);
    cases
}

/// A pass of a network.
pub fn forward(name: &str, build: impl Fn(&Setting) -> (UNet2d, Tensor<4>, Tensor<1>) + 'static) -> Case {
    Case::new(GROUP, format!("{name} forward"), move |s| {
        let (network, x, time) = build(s);
        let (network, labels) = (network.valid(), Labels::none(x.dims()[0]));
        Box::new(move || {
            let y = network.forward_with(x.clone(), time.clone(), &labels, &mut Tap::none());
            probe(y.expect("a valid input"))
        })
    })
}

/// A pass, the way back, and an update.
pub fn training_step(name: &str, build: impl Fn(&Setting) -> (UNet2d, Tensor<4>, Tensor<1>) + 'static) -> Case {
    Case::new(GROUP, format!("{name} training step"), move |s| {
        let (network, x, time) = build(s);
        let mut network = Some(network.train());
        let mut optimizer = ModuleOptimizer::from(AdamW { epsilon: 1e-3, ..AdamW::default() });
        let labels = Labels::none(x.dims()[0]);
        let target = Tensor::from_inner(random(x.dims(), s));
        let (x, time) = (Tensor::from_inner(x), Tensor::from_inner(time));
        Box::new(move || {
            let trained = network.take().expect("a network");
            let y = trained.forward_with(x.clone(), time.clone(), &labels, &mut Tap::none());
            let loss = (y.expect("a valid input") - target.clone()).cast(DType::F32).square().mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &trained);
            network = Some(optimizer.step(1e-4, trained, gradients));
            probe(loss)
        })
    })
}

/// Builds a network and a batch for it: images and times.
type Build = fn(&Setting) -> (UNet2d, Tensor<4>, Tensor<1>);

/// The network of Ho, Jain, Abbeel 2020 for CIFAR-10, 35.7 million parameters, with a batch for it.
fn ddpm(s: &Setting) -> (UNet2d, Tensor<4>, Tensor<1>) {
    let (batch, side, channels): (usize, usize, &[usize]) = match (s.tiny, s.on_cpu) {
        (true, _) => (1, 8, &[8, 8, 8, 8]),
        (_, true) => (4, 32, &[128, 256, 256, 256]),
        _ => (64, 32, &[128, 256, 256, 256]),
    };
    let config = UNet2dConfig::images(3, side).channels(channels).layers(2).attention_at(&[1]);
    with_batch(config, [s.batch.unwrap_or(batch), 3, side, side], s)
}

/// A network of a size that is trained on a processor, 2.8 million parameters: images of 16x16 pixels, attention at 8x8.
fn small(s: &Setting) -> (UNet2d, Tensor<4>, Tensor<1>) {
    let (batch, channels, groups): (usize, &[usize], usize) =
        if s.tiny { (1, &[8, 8], 8) } else { (8, &[64, 128], 32) };
    let config = UNet2dConfig::images(3, 16).channels(channels).layers(1).attention_at(&[1]).norm_groups(groups);
    with_batch(config, [s.batch.unwrap_or(batch), 3, 16, 16], s)
}

/// The network of a configuration, and a batch for it.
pub fn with_batch(config: UNet2dConfig, shape: [usize; 4], s: &Setting) -> (UNet2d, Tensor<4>, Tensor<1>) {
    let network = cast(config.init(&s.device).expect(OK), s);
    let times: Vec<f32> = (0..shape[0]).map(|i| (i * 997 % 1000) as f32).collect();
    (network, random(shape, s), Tensor::from_data(times.as_slice(), &s.device))
}
