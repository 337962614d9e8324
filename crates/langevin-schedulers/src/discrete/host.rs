//! Small tensors on the host. Which of a sample's positions are taken, and whether it is ready, is decided there: a
//! step of such a method reads a few numbers a position from the device, after the network has answered.

use crate::sampler::SampleError;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

fn read(error: impl std::fmt::Display) -> SampleError {
    SampleError::Read { message: error.to_string() }
}

/// Tokens in row-major order.
pub(super) fn tokens(x: &Tensor<2, Int>) -> Result<Vec<i64>, SampleError> {
    Ok(data(x)?.iter::<i64>().collect())
}

/// Tokens as they are kept in saved runs.
pub(super) fn data(x: &Tensor<2, Int>) -> Result<TensorData, SampleError> {
    x.try_to_data().map_err(read)
}

/// Numbers of any float type in row-major order; those of `f64` as they are.
pub(super) fn numbers<const D: usize>(x: Tensor<D>) -> Result<Vec<f64>, SampleError> {
    let x = if x.dtype() == DType::F64 { x } else { x.cast(DType::F32) };
    Ok(x.try_to_data().map_err(read)?.iter::<f64>().collect())
}

/// A single flag.
pub(super) fn flag(x: &Tensor<1, Bool>) -> Result<bool, SampleError> {
    x.clone().try_into_scalar::<bool>().map_err(read)
}

/// Tokens on the device.
pub(super) fn to_tokens(values: Vec<i64>, shape: [usize; 2], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Flags on the device.
pub(super) fn to_flags(values: Vec<bool>, shape: [usize; 2], device: &Device) -> Tensor<2, Bool> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Positions in the order of their values, the smallest first; equal ones in order.
pub(super) fn ascending(positions: impl Iterator<Item = usize>, value: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut order: Vec<usize> = positions.collect();
    order.sort_by(|a, b| value(*a).total_cmp(&value(*b)));
    order
}
