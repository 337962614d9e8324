//! Samples on the host, checked.

use crate::MetricError;
use burn::tensor::Tensor;
use langevin_core::Denoiser;

/// The values of a tensor in `f64`.
pub(crate) fn values<const D: usize>(x: &Tensor<D>) -> Result<Vec<f64>, MetricError> {
    let data = x.clone().try_into_data().map_err(|error| MetricError::Read { message: error.to_string() })?;
    Ok(data.iter::<f64>().collect())
}

/// Checks that all values are finite; `values` are rows behind one another.
pub(crate) fn check_finite(
    what: &'static str,
    values: &[f64],
    rows: usize,
    advice: &'static str,
) -> Result<(), MetricError> {
    let numel = (values.len() / rows.max(1)).max(1);
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(MetricError::NotFinite { what, sample: at / numel, advice }),
        None => Ok(()),
    }
}

/// Checks samples and the denoiser before anything is computed; returns the values of the samples.
pub(crate) fn check_samples<const D: usize>(
    metric: &'static str,
    first: u64,
    x: &Tensor<D>,
    denoiser: &dyn Denoiser<D>,
) -> Result<Vec<f64>, MetricError> {
    let dims = x.dims();
    if dims.contains(&0) {
        return Err(MetricError::EmptyShape { shape: dims.to_vec() });
    }
    if first.checked_add(dims[0] as u64).is_none() {
        return Err(MetricError::SampleNumbers { first, rows: dims[0] });
    }
    if denoiser.memory() > 0 {
        return Err(MetricError::Unsupported {
            metric,
            what: "a denoiser that remembers",
            advice: "its answers are no function of the state alone; measure the denoiser inside it",
        });
    }
    denoiser.check(&dims)?;
    let values = values(x)?;
    check_finite("the data", &values, dims[0], "clean the data first")?;
    Ok(values)
}
