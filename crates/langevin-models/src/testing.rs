//! Helpers of the unit tests.

use burn::tensor::{Device, Tensor};

/// The device on which the unit tests run.
pub fn flex() -> Device {
    Device::flex()
}

/// The entries of a tensor as f64.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data_as::<f64>().as_slice::<f64>().expect("converted to f64").to_vec()
}

/// Checks every entry: |given - expected| <= tolerance · (1 + |expected|). A NaN fails.
#[track_caller]
pub fn assert_close<const D: usize>(tensor: &Tensor<D>, expected: &[f64], tolerance: f64) {
    let given = values(tensor);
    assert_eq!(given.len(), expected.len(), "number of entries");
    for (i, (g, e)) in given.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * (1.0 + e.abs()), "entry {i}: {g}, expected {e}");
    }
}

/// `n` numbers without structure in [-1, 1], the same on every call.
pub fn range(n: usize, seed: f64) -> Vec<f64> {
    (0..n).map(|i| ((i as f64 + 1.0) * 12.9898 * (seed + 0.1)).sin()).collect()
}

/// A tensor with the entries of [`range`].
pub fn tensor<const D: usize>(shape: [usize; D], seed: f64, device: &Device) -> Tensor<D> {
    let n = shape.iter().product();
    Tensor::<1>::from_data(range(n, seed).as_slice(), device).reshape(shape)
}
