//! A network of one's own, made of the library's layers: trained on real digits in a precision of choice, and sampled.
//!
//! `cargo run --release --example own_network [-- --precision bf16 --device wgpu]`
//!
//! Writes `out/own_network/samples.png`. The book's chapter on networks of one's own goes through it.

// `derive(Module)` speaks of `burn`; a program that has it among its dependencies needs no such line.
use langevin::burn;

use burn::module::Module;
use clap::{Parser, ValueEnum};
use langevin::data::{ImageGrid, digits};
use langevin::models::layers::{
    Activation, Attention, AttentionConfig, Conv2d, Conv2dConfig, Embedding, EmbeddingConfig, GroupNorm,
    GroupNormConfig, Resample, ResnetBlock2d, ResnetBlock2dConfig, SinusoidalEmbedding, TimestepEmbedding,
    TimestepEmbeddingConfig,
};
use langevin::models::{ModelError, Tap};
use langevin::prelude::*;
use langevin::train::{Objective, Precision, Times, Trainer};
use std::path::PathBuf;
use std::time::Instant;

/// Digits.
const CLASSES: usize = 10;

/// A small UNet: down to half the size, attention there, and up again with what was there before.
#[derive(Module, Debug)]
struct Net {
    conv_in: Conv2d,
    time: TimestepEmbedding,
    classes: Embedding,
    down: ResnetBlock2d,
    attention: Attention,
    up: ResnetBlock2d,
    last: ResnetBlock2d,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    width: usize,
}

impl Net {
    fn new(width: usize, device: &Device) -> Result<Self, ModelError> {
        let block = |input, output, resample| {
            ResnetBlock2dConfig::new(input, output, 4 * width).groups(8).resample(resample).init(device)
        };
        Ok(Self {
            conv_in: Conv2dConfig::new(1, width, 3).padding(1).init(device)?,
            time: TimestepEmbeddingConfig::new(width, 4 * width).init(device)?,
            // One row more: "no class", for classifier-free guidance.
            classes: EmbeddingConfig::new(CLASSES + 1, 4 * width).init(device)?,
            down: block(width, 2 * width, Resample::Halve)?,
            attention: AttentionConfig::new(2 * width, 4, width / 2).init(device)?,
            up: block(2 * width, width, Resample::Double)?,
            last: block(2 * width, width, Resample::Keep)?,
            norm_out: GroupNormConfig::new(8, width).init(device)?,
            conv_out: Conv2dConfig::new(width, 1, 3).padding(1).init(device)?,
            width,
        })
    }

    /// The network, and what its layers return to whom it may concern.
    fn run(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        labels: &Labels,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, DenoiseError> {
        let batch = x.dims()[0];
        // Whatever the state is of, the layers compute in the type of the parameters; features of the time are made in f32.
        let (given, dtype) = (x.dtype(), self.conv_in.weight.val().dtype());
        let features = SinusoidalEmbedding::new(self.width).forward(time).cast(dtype);
        let classes = labels.expand(batch)?.indices(CLASSES, true, &x.device())?;
        let told = tap.scope("time", |tap| self.time.forward(features, tap)) + self.classes.forward(classes);
        let told = Activation::Silu.forward(told);

        let skip = self.conv_in.forward(x.cast(dtype));
        tap.see("conv_in", &skip);
        let h = tap.scope("down", |tap| self.down.forward(skip.clone(), Some(&told), tap));
        let h = tap.scope("attention", |tap| self.attention.forward_image(h, tap));
        let h = tap.scope("up", |tap| self.up.forward(h, Some(&told), tap));
        let h = tap.scope("last", |tap| self.last.forward(Tensor::cat(vec![h, skip], 1), Some(&told), tap));
        let y = self.conv_out.forward(self.norm_out.forward_activated(h, Activation::Silu));
        tap.see("conv_out", &y);
        Ok(y.cast(given))
    }
}

impl Network<4> for Net {
    type Cond = Labels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, labels: &Labels) -> Result<Tensor<4>, DenoiseError> {
        self.run(x, time, labels, &mut Tap::none())
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn first_not_finite(&self, x: Tensor<4>, time: Tensor<1>, labels: &Labels) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.run(x, time, labels, tap))?.1)
    }

    fn known_classes(&self) -> Option<usize> {
        Some(CLASSES)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        match sample {
            [1, height, width] if height % 2 == 0 && width % 2 == 0 && height * width > 0 => Ok(()),
            _ => Err(DenoiseError::Shape {
                what: "the images".into(),
                given: sample.to_vec(),
                expected: "[batch, 1, height, width] with even sides".into(),
            }),
        }
    }

    fn check_condition(&self, labels: &Labels) -> Result<(), DenoiseError> {
        labels.rows_of(CLASSES, true)?;
        Ok(())
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Number {
    F32,
    Bf16,
    F16,
}

#[derive(Parser)]
struct Options {
    /// Where to compute.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What the network computes in while it trains; its parameters stay in f32. For GPUs: the CPU rounds what it computes in f32.
    #[arg(long, value_enum, default_value = "f32")]
    precision: Number,
    /// Training steps.
    #[arg(long, default_value_t = 600)]
    steps: u64,
    /// Channels in the outer blocks, a multiple of 8.
    #[arg(long, default_value_t = 32)]
    width: usize,
    /// Folder for the picture.
    #[arg(long, default_value = "out/own_network")]
    out: PathBuf,
}

fn main() -> Result<(), Report> {
    let options = Options::parse();
    let device = device(&options.device)?;
    std::fs::create_dir_all(&options.out)?;
    let started = Instant::now();

    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
    let objective = Objective::new(chain.clone(), Prediction::Velocity)?.times(Times::Stratified)?;
    let network = Net::new(options.width, &device)?;
    let image = Tensor::<4>::zeros([32, 1, 8, 8], &device);
    println!(
        "{} parameters; the first layer convolves by {:?}",
        network.num_params(),
        network.conv_in.algorithm(&image)
    );
    let trained = Trainer::new(network, objective)
        .precision(match options.precision {
            Number::F32 => Precision::Full,
            Number::Bf16 => Precision::Bf16,
            Number::F16 => Precision::F16,
        })
        .steps(options.steps)
        .batch_size(32)
        .learning_rate(2e-3)
        .warmup(options.steps / 10)
        .cosine()
        .ema(0.99)
        .condition_dropout(0.1)
        .fit(&digits()?)?;

    // Twelve of each class, with guidance away from what has none.
    let labels = Labels::of((0..12 * CLASSES).map(|i| i / 12));
    let denoiser = trained.for_sampling().denoiser(Prediction::Velocity, labels)?;
    let guided = denoiser.guided(Labels::none(1), 1.5)?;
    let plan = Ddim::new().plan(&chain, &Grid::trailing(30))?;
    let images = plan.start([12 * CLASSES, 1, 8, 8], &guided, &Seeded::new(0), Load::on(&device))?.finish()?;
    let path = options.out.join("samples.png");
    ImageGrid::new(12)?.upscale(4)?.padding(2).save(&images, &path)?;
    if trained.left_out > 0 {
        println!("{} steps were left out, whose gradients overflowed", trained.left_out);
    }
    println!("{:.0} seconds; samples are in {}", started.elapsed().as_secs_f64(), path.display());
    Ok(())
}
