//! What a data set looks like in a few numbers.

use crate::{DataError, FileError, ImageSet, Problem, VectorSet, atomic};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Numbers about a data set, to be kept beside it or beside what was trained on it.
///
/// ```
/// let statistics = langevin_data::digits()?.statistics();
/// assert_eq!(statistics.samples, 1797);
/// assert_eq!(statistics.per_class[3], 183);
/// // Most of a page is white: pixels have mean -0.39 and standard deviation 0.75.
/// assert!((statistics.mean[0] + 0.389).abs() < 1e-3 && (statistics.std[0] - 0.752).abs() < 1e-3);
/// # Ok::<(), langevin_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// The number of samples.
    pub samples: usize,
    /// The shape of one sample.
    pub shape: Vec<usize>,
    /// The samples of each class; empty without classes.
    pub per_class: Vec<usize>,
    /// The mean of each channel or column.
    pub mean: Vec<f64>,
    /// The standard deviation (dividing by n) of each channel or column.
    pub std: Vec<f64>,
    /// The lowest value of each channel or column.
    pub min: Vec<f32>,
    /// The highest value of each channel or column.
    pub max: Vec<f32>,
}

impl Statistics {
    /// Of `values`, `[samples, channels, extent]` in rows.
    fn of(values: &[f32], channels: usize, extent: usize) -> [Vec<f64>; 4] {
        let [mut mean, mut std, mut min, mut max] = [const { Vec::new() }; 4];
        for channel in 0..channels {
            let of_channel =
                || values.chunks_exact(extent).skip(channel).step_by(channels).flatten().map(|v| f64::from(*v));
            let count = (values.len() / channels) as f64;
            let average = of_channel().sum::<f64>() / count;
            mean.push(average);
            std.push((of_channel().map(|v| (v - average).powi(2)).sum::<f64>() / count).sqrt());
            min.push(of_channel().fold(f64::INFINITY, f64::min));
            max.push(of_channel().fold(f64::NEG_INFINITY, f64::max));
        }
        [mean, std, min, max]
    }

    /// Writes them as JSON; an old file stays until the new one is complete.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), DataError> {
        let path = path.as_ref();
        let json = serde_json::to_vec_pretty(self).map_err(|error| FileError::new(path, json(&error)))?;
        atomic::write(path, &json)
    }

    /// Reads them back.
    ///
    /// # Errors
    ///
    /// [`DataError::File`] if there is no such file, or it holds something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let read = std::fs::read(path);
        let bytes = read.map_err(|source| FileError::new(path, Problem::Io { action: "read", source }))?;
        Ok(serde_json::from_slice(&bytes).map_err(|error| FileError::new(path, json(&error)))?)
    }
}

fn json(error: &serde_json::Error) -> Problem {
    Problem::Header { given: error.to_string(), expected: "statistics as JSON" }
}

fn count(labels: &[usize], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for label in labels {
        counts[*label] += 1;
    }
    counts
}

impl ImageSet {
    /// Mean, standard deviation and range of each channel, and how many images each class has.
    pub fn statistics(&self) -> Statistics {
        let [channels, height, width] = self.image_shape();
        let [mean, std, min, max] = Statistics::of(self.pixels(), channels, height * width);
        let per_class = self.classes().map_or(vec![], |classes| count(self.labels(), classes));
        let [min, max] = [min, max].map(|values| values.into_iter().map(|v| v as f32).collect());
        Statistics { samples: self.len(), shape: self.image_shape().to_vec(), per_class, mean, std, min, max }
    }
}

impl VectorSet {
    /// Mean, standard deviation and range of each column, and how many vectors each class has.
    pub fn statistics(&self) -> Statistics {
        let [mean, std, min, max] = Statistics::of(self.values(), self.dim(), 1);
        let per_class = self.labels().zip(self.classes()).map_or(vec![], |(labels, classes)| count(labels, classes));
        let [min, max] = [min, max].map(|values| values.into_iter().map(|v| v as f32).collect());
        Statistics { samples: self.len(), shape: vec![self.dim()], per_class, mean, std, min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_channels_and_columns() {
        // Two images of two channels of 1 by 2 pixels.
        let pixels = vec![0.0, 0.5, -1.0, -1.0, 1.0, 0.5, 1.0, 1.0];
        let images = ImageSet::new(pixels, [2, 2, 1, 2], vec![1, 1], 3).unwrap().statistics();
        assert_eq!((images.samples, images.shape.as_slice()), (2, &[2, 1, 2][..]));
        assert_eq!((images.mean.as_slice(), images.std.as_slice()), (&[0.5, 0.0][..], &[0.125f64.sqrt(), 1.0][..]));
        assert_eq!((images.min.as_slice(), images.max.as_slice()), (&[0.0, -1.0][..], &[1.0, 1.0][..]));
        assert_eq!(images.per_class, [0, 2, 0]);
        let vectors = VectorSet::new(vec![1.0, 10.0, 3.0, 10.0], [2, 2]).unwrap().statistics();
        assert_eq!((vectors.mean, vectors.std, vectors.per_class), (vec![2.0, 10.0], vec![1.0, 0.0], vec![]));
    }

    #[test]
    fn files_come_back_or_say_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.json");
        assert!(matches!(Statistics::load(&path), Err(DataError::File(FileError { problem: Problem::Io { .. }, .. }))));
        let statistics = crate::digits().unwrap().statistics();
        statistics.save(&path).unwrap();
        assert_eq!(Statistics::load(&path).unwrap(), statistics);
        std::fs::write(&path, "{\"samples\": 3}").unwrap();
        let error = Statistics::load(&path).unwrap_err();
        assert!(matches!(&error, DataError::File(FileError { problem: Problem::Header { .. }, .. })), "{error}");
    }
}
