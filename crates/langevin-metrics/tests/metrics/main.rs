//! Densities and bounds against problems whose answers are known.

mod bound;
mod density;
mod errors;
mod networks;
mod probes;

use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin_core::exact::{ExactError, GaussianMixture};
use langevin_core::noise::{Key, NoiseSource, Seeded};

/// A tensor in f64 on the CPU.
pub fn tensor<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (&Device::flex(), DType::F64))
}

/// The values of a tensor.
pub fn values<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

/// Three Gaussians in ten dimensions, each with a full covariance of its own.
pub fn ten_dimensions() -> Result<GaussianMixture, ExactError> {
    const D: usize = 10;
    let noise = Seeded::new(77);
    let draw = |sample: u64, count: usize| {
        let mut out = vec![0.0; count];
        noise.fill(sample, Key::INITIAL, &mut out).expect("seeded noise");
        out
    };
    let covariance = |sample: u64| {
        let a = draw(sample, D * D);
        let entry = |n: usize| {
            let (i, j) = (n / D, n % D);
            let product: f64 = (0..D).map(|k| a[i * D + k] * a[j * D + k]).sum();
            0.05 * product + if i == j { 0.05 } else { 0.0 }
        };
        // Computed once for each pair, so that it is symmetric to the bit.
        (0..D * D).map(|n| entry(if n / D <= n % D { n } else { n % D * D + n / D })).collect()
    };
    let means = (10..13).map(|sample| draw(sample, D).iter().map(|z| 0.6 * z).collect()).collect();
    GaussianMixture::new(vec![0.5, 0.3, 0.2], means, (0..3).map(covariance).collect())
}
