//! Numbers to put into a network, and numbers about what comes out.

use burn::tensor::{Device, Distribution, Tensor};

/// Makes inputs of any shape: standard normal noise.
pub struct Inputs {
    device: Device,
}

impl Inputs {
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone() }
    }

    pub fn noise<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &self.device)
    }

    /// A time that every network knows: one.
    pub fn time(&self) -> Tensor<1> {
        Tensor::ones([1], &self.device)
    }
}

/// An output: its name, its shape, and its numbers in a row.
pub struct Output {
    name: String,
    shape: Vec<usize>,
    values: Tensor<1>,
}

pub fn output<const D: usize>(name: impl Into<String>, tensor: Tensor<D>) -> Output {
    let shape = tensor.dims().to_vec();
    let count: usize = shape.iter().product();
    Output { name: name.into(), shape, values: tensor.reshape([count]) }
}

/// A line about an output.
pub fn statistics(output: &Output) -> String {
    let values: Vec<f64> = output.values.to_data().iter::<f64>().collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let (least, most) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let finite = values.iter().filter(|v| v.is_finite()).count();
    let whole = if finite == values.len() { "all finite".to_owned() } else { format!("{finite} finite") };
    format!(
        "{} {:?}: mean {mean:.4}, deviation {deviation:.4}, from {least:.4} to {most:.4}, {whole}",
        output.name, output.shape
    )
}
