//! Checks and look-ups that sets of images and of vectors share: both are rows of equal size in one vector.

use crate::DataError;

/// Checks that `given` values are `shape`, whose first extent counts samples.
pub(crate) fn check_count(what: &'static str, shape: &[usize], given: usize) -> Result<(), DataError> {
    if shape[0] == 0 {
        return Err(DataError::Empty { what });
    }
    if shape.contains(&0) {
        return Err(DataError::ZeroExtent { shape: shape.to_vec() });
    }
    // A product too large for a usize is larger than any count that was given.
    let expected = shape.iter().fold(1usize, |product, &extent| product.saturating_mul(extent));
    if given != expected {
        return Err(DataError::ValueCount { shape: shape.to_vec(), expected, given });
    }
    Ok(())
}

/// Checks that there is one label in `0..classes` for each sample.
pub(crate) fn check_labels(samples: usize, labels: &[usize], classes: usize) -> Result<(), DataError> {
    if labels.len() != samples {
        return Err(DataError::LabelCount { samples, labels: labels.len() });
    }
    match labels.iter().position(|&label| label >= classes) {
        Some(index) => Err(DataError::LabelOutOfRange { index, label: labels[index], classes }),
        None => Ok(()),
    }
}

/// The rows of `size` values at `indices`, one after another.
pub(crate) fn gather(
    what: &'static str,
    values: &[f32],
    size: usize,
    indices: &[usize],
) -> Result<Vec<f32>, DataError> {
    if indices.is_empty() {
        return Err(DataError::Empty { what });
    }
    let len = values.len() / size;
    let mut rows = Vec::with_capacity(indices.len() * size);
    for &index in indices {
        if index >= len {
            return Err(DataError::IndexOutOfRange { index, len });
        }
        rows.extend_from_slice(&values[index * size..(index + 1) * size]);
    }
    Ok(rows)
}
