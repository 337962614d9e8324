//! A small convolutional classifier of the digits: it judges the samples, and its features give the Fréchet distance.

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use indicatif::ProgressBar;
use langevin::data::{BatchOrder, DataSet, ImageSet};
use langevin::models::layers::{Conv2d, Conv2dConfig, Linear, LinearConfig};
use std::error::Error;

/// Width of the features that the Fréchet distance is taken in.
pub const FEATURES: usize = 32;

/// Two convolutions, one hidden layer: 8x8 images to 10 logits.
#[derive(Module, Debug)]
pub struct Classifier {
    conv1: Conv2d,
    conv2: Conv2d,
    hidden: Linear,
    output: Linear,
}

impl Classifier {
    fn init(device: &Device) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            conv1: Conv2dConfig::new(1, 24, 3).padding(1).init(device)?,
            conv2: Conv2dConfig::new(24, 48, 3).padding(1).stride(2).init(device)?,
            hidden: LinearConfig::new(48 * 16, FEATURES).init(device)?,
            output: LinearConfig::new(FEATURES, 10).init(device)?,
        })
    }

    /// The last hidden layer, `[batch, FEATURES]`.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let x = activation::relu(self.conv1.forward(images));
        let x = activation::relu(self.conv2.forward(x));
        activation::relu(self.hidden.forward(x.flatten::<2>(1, 3)))
    }

    /// Logits, `[batch, 10]`.
    pub fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.output.forward(self.features(images))
    }

    /// The share of images that are taken for the class asked for.
    pub fn recognised(&self, images: Tensor<4>, labels: &[usize]) -> Result<f64, Box<dyn Error>> {
        let found = self.logits(images).argmax(1).try_into_vec_as::<i64>()?;
        let right = found.iter().zip(labels).filter(|(found, label)| **found == **label as i64).count();
        Ok(right as f64 / labels.len() as f64)
    }

    /// Trains on the training part, with the images moved by up to one pixel.
    pub fn train(data: &ImageSet, steps: u64, seed: u64, device: &Device) -> Result<Self, Box<dyn Error>> {
        let device = device.clone().autodiff();
        device.seed(seed);
        let mut model = Self::init(&device)?;
        let mut optimizer = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(1e-2).init();
        let order = BatchOrder::new(data.len(), 64, seed)?;
        let bar = ProgressBar::new(steps).with_prefix("classifier");
        bar.set_style(super::sampling::bar_style());
        for step in 0..steps {
            let indices = order.batch(step);
            let images = data.batch(&indices, &device)?.x;
            let labels: Vec<i64> = indices.iter().map(|&index| data.labels()[index] as i64).collect();
            let rows = labels.len();
            let targets = Tensor::<1, Int>::from_data(TensorData::new(labels, [rows]), &device);
            let log = activation::log_softmax(model.logits(shifted(images, step)), 1);
            let loss = log.gather(1, targets.unsqueeze_dim(1)).mean().neg();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let rate = 3e-3 * (1.0 - step as f64 / steps as f64);
            model = optimizer.step(rate, model, gradients);
            bar.inc(1);
        }
        bar.finish();
        Ok(model.valid())
    }
}

/// The batch moved by one pixel in one of eight directions, or not at all.
fn shifted(images: Tensor<4>, step: u64) -> Tensor<4> {
    let [_, _, height, width] = images.dims();
    let (dy, dx) = ((step % 3) as usize, (step / 3 % 3) as usize);
    // The background is -1, not 0: pad the image raised by one.
    let padded = images.add_scalar(1.0).pad((1, 1, 1, 1), 0.0).sub_scalar(1.0);
    padded.narrow(2, dy, height).narrow(3, dx, width)
}
