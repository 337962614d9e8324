//! Vectors in memory, with or without labels.

use burn::tensor::{Device, Tensor, TensorData};

use crate::rows::{check_count, check_labels, gather};
use crate::{Batch, DataError, DataSet, Split, stratified_split};

/// Vectors in host memory: `[n, dim]`, with a class for each or without classes.
///
/// # Example
///
/// ```
/// use langevin_data::VectorSet;
///
/// let set = VectorSet::new(vec![10.0, 1.0, 30.0, 2.0], [2, 2])?.standardize()?;
/// assert_eq!(set.vector(0)?, [-1.0, -1.0]);
/// assert_eq!(set.standardization().mean(), [20.0, 1.5]);
/// assert_eq!(set.standardization().std(), [10.0, 0.5]);
/// # Ok::<(), langevin_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSet {
    values: Vec<f32>,
    dim: usize,
    labels: Option<(Vec<usize>, usize)>,
    standardization: Standardization,
}

impl VectorSet {
    /// A set without classes from `values`, row-major of `shape` `[n, dim]`.
    ///
    /// # Errors
    ///
    /// [`Empty`](DataError::Empty), [`ZeroExtent`](DataError::ZeroExtent), [`ValueCount`](DataError::ValueCount),
    /// [`NonFinite`](DataError::NonFinite).
    pub fn new(values: Vec<f32>, shape: [usize; 2]) -> Result<Self, DataError> {
        check_count("the vector set", &shape, values.len())?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(DataError::NonFinite { index, value: values[index] });
        }
        let standardization = Standardization { mean: vec![0.0; shape[1]], std: vec![1.0; shape[1]] };
        Ok(Self { values, dim: shape[1], labels: None, standardization })
    }

    /// The same set with one label in `0..classes` for each vector.
    ///
    /// # Errors
    ///
    /// [`LabelCount`](DataError::LabelCount), [`LabelOutOfRange`](DataError::LabelOutOfRange).
    pub fn with_labels(mut self, labels: Vec<usize>, classes: usize) -> Result<Self, DataError> {
        check_labels(self.len(), &labels, classes)?;
        self.labels = Some((labels, classes));
        Ok(self)
    }

    /// Moves and scales each column to mean 0 and variance 1 (the variance that divides by `n`).
    ///
    /// [`standardization`](Self::standardization) then leads back to the values that [`VectorSet::new`] was given.
    ///
    /// # Errors
    ///
    /// [`DataError::ConstantColumn`] for a column that has one value only.
    pub fn standardize(mut self) -> Result<Self, DataError> {
        let n = self.len() as f64;
        for column in 0..self.dim {
            let values = || self.values.iter().skip(column).step_by(self.dim);
            let first = self.values[column];
            if values().all(|&value| value == first) {
                return Err(DataError::ConstantColumn { column });
            }
            let mean = values().map(|&value| f64::from(value)).sum::<f64>() / n;
            let variance = values().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / n;
            let std = variance.sqrt();
            for value in self.values.iter_mut().skip(column).step_by(self.dim) {
                *value = ((f64::from(*value) - mean) / std) as f32;
            }
            // The set may have been standardized before: the two affine maps become one.
            let kept = &mut self.standardization;
            kept.mean[column] += kept.std[column] * mean;
            kept.std[column] *= std;
        }
        Ok(self)
    }

    /// The map from the units of this set to those that [`VectorSet::new`] was given.
    pub fn standardization(&self) -> &Standardization {
        &self.standardization
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Whether there are no vectors (never: such a set cannot be made).
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The number of columns.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The number of classes, or `None` for a set without labels.
    pub fn classes(&self) -> Option<usize> {
        self.labels.as_ref().map(|(_, classes)| *classes)
    }

    /// All values, row-major of `[n, dim]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All labels, or `None` for a set without labels.
    pub fn labels(&self) -> Option<&[usize]> {
        self.labels.as_ref().map(|(labels, _)| labels.as_slice())
    }

    /// One vector, of `dim` values.
    ///
    /// # Errors
    ///
    /// [`DataError::IndexOutOfRange`].
    pub fn vector(&self, index: usize) -> Result<&[f32], DataError> {
        let len = self.len();
        self.values.chunks_exact(self.dim).nth(index).ok_or(DataError::IndexOutOfRange { index, len })
    }

    /// A set of the vectors at `indices`, in that order, in the same units.
    ///
    /// # Errors
    ///
    /// [`DataError::Empty`] for no indices, [`DataError::IndexOutOfRange`].
    pub fn subset(&self, indices: &[usize]) -> Result<Self, DataError> {
        let values = gather("the subset", &self.values, self.dim, indices)?;
        let labels = self.labels_at(indices).zip(self.classes());
        Ok(Self { values, dim: self.dim, labels, standardization: self.standardization.clone() })
    }

    /// Splits off a test set, with the same share of each class in both parts: see [`stratified_split`]. A set without
    /// labels is split as one class.
    ///
    /// # Errors
    ///
    /// [`DataError::SplitFraction`], [`DataError::EmptyPart`].
    pub fn split(&self, fraction: f64, seed: u64) -> Result<Split<Self>, DataError> {
        let split = match &self.labels {
            Some((labels, classes)) => stratified_split(labels, *classes, fraction, seed)?,
            None => stratified_split(&vec![0; self.len()], 1, fraction, seed)?,
        };
        Ok(Split { train: self.subset(&split.train)?, test: self.subset(&split.test)? })
    }

    fn labels_at(&self, indices: &[usize]) -> Option<Vec<usize>> {
        let labels = self.labels()?;
        Some(indices.iter().map(|&index| labels[index]).collect())
    }
}

impl DataSet<2> for VectorSet {
    fn len(&self) -> usize {
        self.len()
    }

    fn classes(&self) -> Option<usize> {
        self.classes()
    }

    fn batch(&self, indices: &[usize], device: &Device) -> Result<Batch<2>, DataError> {
        let values = gather("the batch", &self.values, self.dim, indices)?;
        let x = Tensor::from_data(TensorData::new(values, [indices.len(), self.dim]), device);
        Ok(Batch { x, labels: self.labels_at(indices) })
    }
}

/// Mean and standard deviation of each column before it was standardized: `raw = mean + std * standardized`.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardization {
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Standardization {
    /// The mean of each column.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The standard deviation of each column, greater than 0.
    pub fn std(&self) -> &[f64] {
        &self.std
    }

    /// Raw vectors `[n, dim]` to standardized ones: `(x - mean) / std`.
    ///
    /// # Errors
    ///
    /// [`DataError::Columns`] if `x` has another number of columns.
    pub fn apply(&self, x: Tensor<2>) -> Result<Tensor<2>, DataError> {
        let (mean, std) = (self.row(&self.mean, &x)?, self.row(&self.std, &x)?);
        Ok((x - mean) / std)
    }

    /// Standardized vectors `[n, dim]`, such as samples of a model, to raw ones: `mean + std x`.
    ///
    /// # Errors
    ///
    /// [`DataError::Columns`] if `x` has another number of columns.
    pub fn undo(&self, x: Tensor<2>) -> Result<Tensor<2>, DataError> {
        let (mean, std) = (self.row(&self.mean, &x)?, self.row(&self.std, &x)?);
        Ok(x * std + mean)
    }

    /// `Σ ln std`: ln p of a raw vector is that of the standardized one minus this.
    ///
    /// ```
    /// let set = langevin_data::VectorSet::new(vec![0.0, 0.0, 4.0, 10.0], [2, 2])?.standardize()?;
    /// // Standard deviations 2 and 5.
    /// assert!((set.standardization().log_det() - 10f64.ln()).abs() < 1e-12);
    /// # Ok::<(), langevin_data::DataError>(())
    /// ```
    pub fn log_det(&self) -> f64 {
        self.std.iter().map(|std| libm::log(*std)).sum()
    }

    /// One number a column as `[1, dim]`, with the device and the float type of `x`.
    fn row(&self, numbers: &[f64], x: &Tensor<2>) -> Result<Tensor<2>, DataError> {
        let [_, given] = x.dims();
        let expected = numbers.len();
        if given != expected {
            return Err(DataError::Columns { expected, given });
        }
        let data = TensorData::new(numbers.to_vec(), [1, expected]);
        Ok(Tensor::from_data(data, (&x.device(), x.dtype())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> VectorSet {
        // Columns with means 2, -10 and population standard deviations sqrt(2/3), 0.1 sqrt(2/3).
        let values = vec![1.0, -10.1, 2.0, -10.0, 3.0, -9.9];
        VectorSet::new(values, [3, 2]).unwrap().with_labels(vec![0, 1, 0], 2).unwrap()
    }

    #[test]
    fn standardized_columns_have_mean_0_and_variance_1() {
        let set = set().standardize().unwrap();
        let edge = 1.5f32.sqrt();
        for (value, expected) in set.values().iter().zip([-edge, -edge, 0.0, 0.0, edge, edge]) {
            assert!((value - expected).abs() < 1e-4, "{:?}", set.values());
        }
        let (mean, std) = (set.standardization().mean(), set.standardization().std());
        let spread = (2.0f64 / 3.0).sqrt();
        assert!((mean[0] - 2.0).abs() < 1e-12 && (mean[1] + 10.0).abs() < 1e-6, "{mean:?}");
        assert!((std[0] - spread).abs() < 1e-12 && (std[1] - 0.1 * spread).abs() < 1e-6, "{std:?}");
    }

    #[test]
    fn a_density_of_raw_vectors_is_that_of_standardized_ones_less_the_logarithms() {
        // Normal with the moments of each column, against the standard normal of the standardized value.
        let set = set().standardize().unwrap();
        let normal = |z: f64, std: f64| -0.5 * z * z - libm::log(std) - 0.5 * libm::log(std::f64::consts::TAU);
        let std = [(2.0f64 / 3.0).sqrt(), 0.1 * (2.0f64 / 3.0).sqrt()];
        let raw = normal(1.5f64.sqrt(), std[0]) + normal(0.0, std[1]);
        let standardized = normal(1.5f64.sqrt(), 1.0) + normal(0.0, 1.0);
        assert!((standardized - set.standardization().log_det() - raw).abs() < 1e-5);
        // Values as they came have nothing to take off.
        assert_eq!(VectorSet::new(vec![1.0, 2.0], [2, 1]).unwrap().standardization().log_det(), 0.0);
    }

    #[test]
    fn standardization_is_undone_even_when_done_twice() {
        let device = Device::flex();
        let raw = set();
        let twice = raw.clone().standardize().unwrap().standardize().unwrap();
        let x = DataSet::batch(&twice, &[0, 1, 2], &device).unwrap().x;
        let back = twice.standardization().undo(x.clone()).unwrap();
        for (a, b) in back.clone().try_into_vec_as::<f32>().unwrap().iter().zip(raw.values()) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        let again = twice.standardization().apply(back).unwrap().try_into_vec_as::<f32>().unwrap();
        for (a, b) in again.iter().zip(twice.values()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn subsets_and_splits_keep_labels_and_units() {
        let set = set().standardize().unwrap();
        let subset = set.subset(&[2, 1]).unwrap();
        assert_eq!(subset.vector(0).unwrap(), set.vector(2).unwrap());
        assert_eq!((subset.labels(), subset.classes()), (Some(&[0, 1][..]), Some(2)));
        assert_eq!(subset.standardization(), set.standardization());

        let plain = VectorSet::new((0..20).map(|i| i as f32).collect(), [10, 2]).unwrap();
        let split = plain.split(0.7, 3).unwrap();
        assert_eq!((split.train.len(), split.test.len(), split.train.classes()), (7, 3, None));
        let mut all = [split.train.values(), split.test.values()].concat();
        all.sort_by(f32::total_cmp);
        assert_eq!(all, plain.values());
    }

    #[test]
    fn bad_input_is_rejected() {
        let new = |values: &[f32], shape| VectorSet::new(values.to_vec(), shape).unwrap_err();
        assert!(matches!(new(&[], [0, 2]), DataError::Empty { what: "the vector set" }));
        assert!(matches!(new(&[], [2, 0]), DataError::ZeroExtent { .. }));
        assert!(matches!(new(&[1.0; 3], [2, 2]), DataError::ValueCount { expected: 4, given: 3, .. }));
        assert!(matches!(new(&[1.0, f32::INFINITY], [1, 2]), DataError::NonFinite { index: 1, .. }));
        assert!(matches!(set().with_labels(vec![0], 1), Err(DataError::LabelCount { samples: 3, labels: 1 })));
        let error = set().with_labels(vec![0, 1, 2], 2).unwrap_err();
        assert!(matches!(error, DataError::LabelOutOfRange { index: 2, label: 2, classes: 2 }), "{error}");
        assert!(matches!(set().vector(3), Err(DataError::IndexOutOfRange { index: 3, len: 3 })));
        assert!(matches!(set().subset(&[]), Err(DataError::Empty { .. })));
        let batch = DataSet::batch(&set(), &[3], &Device::flex());
        assert!(matches!(batch, Err(DataError::IndexOutOfRange { index: 3, len: 3 })));
    }

    #[test]
    fn constant_columns_are_rejected() {
        // A third of 0.1 summed three times is not 0.1 in floating point: the check must not rely on a zero variance.
        let error = VectorSet::new(vec![1.0, 0.1, 2.0, 0.1, 3.0, 0.1], [3, 2]).unwrap().standardize().unwrap_err();
        assert!(matches!(error, DataError::ConstantColumn { column: 1 }), "{error}");
    }

    #[test]
    fn vectors_of_another_dim_are_rejected() {
        let x = Tensor::<2>::zeros([1, 3], &Device::flex());
        let set = set();
        let statistics = set.standardization();
        assert!(matches!(statistics.undo(x.clone()), Err(DataError::Columns { expected: 2, given: 3 })));
        assert!(matches!(statistics.apply(x), Err(DataError::Columns { expected: 2, given: 3 })));
    }
}
