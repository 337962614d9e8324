//! The class or label of each sample.

use burn::tensor::{DType, Device, Int, Tensor};
use langevin_core::{Condition, DenoiseError};

use super::rows_of;
use crate::error::ModelError;

/// The class, or another label, of each sample: the condition of [`UNet2d`](crate::UNet2d) and
/// [`Mlp`](crate::Mlp).
///
/// One row stands for any number of samples; more rows must match the batch. A row may have no class: networks
/// with a "no class" embedding take that for classifier-free guidance, networks without classes take nothing else.
///
/// # Example
///
/// ```
/// use langevin_core::Condition;
/// use langevin_models::Labels;
///
/// let labels = Labels::of([3, 7]);
/// assert_eq!(labels.rows(), Some(2));
/// let both = Labels::cat(&[&Labels::none(2), &labels])?;
/// assert_eq!(both.classes(), Some(&[None, None, Some(3), Some(7)][..]));
/// // network.denoiser(prediction, labels)?.guided(Labels::none(2), 2.0)?;
/// # Ok::<(), langevin_core::DenoiseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Labels(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Classes(Vec<Option<usize>>),
    Values(Vec<f64>),
    Embeddings(Box<Tensor<2>>),
}

impl Labels {
    /// The class index of each sample.
    #[must_use]
    pub fn of(classes: impl IntoIterator<Item = usize>) -> Self {
        Self::optional(classes.into_iter().map(Some))
    }

    /// No class for any of `rows` samples: the unconditional half of guidance, and the only condition of a
    /// network without classes.
    #[must_use]
    pub fn none(rows: usize) -> Self {
        Self(Kind::Classes(vec![None; rows]))
    }

    /// The class index of each sample, or none, as label dropout in training needs it.
    #[must_use]
    pub fn optional(classes: impl IntoIterator<Item = Option<usize>>) -> Self {
        Self(Kind::Classes(classes.into_iter().collect()))
    }

    /// A number for each sample, embedded as a time is: for networks with class embedding `timestep`.
    #[must_use]
    pub fn values(values: impl IntoIterator<Item = f64>) -> Self {
        Self(Kind::Values(values.into_iter().collect()))
    }

    /// A vector for each sample, added to the time embedding: for networks with class embedding `identity`.
    ///
    /// # Shapes
    ///
    /// - embeddings: `[batch, time embedding]`
    #[must_use]
    pub fn embeddings(embeddings: Tensor<2>) -> Self {
        Self(Kind::Embeddings(Box::new(embeddings)))
    }

    /// The classes, if this holds classes.
    #[must_use]
    pub fn classes(&self) -> Option<&[Option<usize>]> {
        match &self.0 {
            Kind::Classes(classes) => Some(classes),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match &self.0 {
            Kind::Classes(classes) if classes.iter().all(Option::is_none) => "no classes",
            Kind::Classes(_) => "classes",
            Kind::Values(_) => "values",
            Kind::Embeddings(_) => "embeddings",
        }
    }

    fn count(&self) -> usize {
        match &self.0 {
            Kind::Classes(classes) => classes.len(),
            Kind::Values(values) => values.len(),
            Kind::Embeddings(tensor) => tensor.dims()[0],
        }
    }

    /// The rows for a batch: as many as samples, a single one repeated.
    pub(crate) fn for_batch(&self, batch: usize) -> Result<Self, ModelError> {
        let rows = self.count();
        if rows == batch && batch > 0 {
            return Ok(self.clone());
        }
        if rows != 1 || batch == 0 {
            return Err(ModelError::Rows { given: rows, batch });
        }
        Ok(Self(match &self.0 {
            Kind::Classes(classes) => Kind::Classes(vec![classes[0]; batch]),
            Kind::Values(values) => Kind::Values(vec![values[0]; batch]),
            Kind::Embeddings(tensor) => {
                let width = tensor.dims()[1];
                Kind::Embeddings(Box::new((**tensor).clone().expand([batch, width])))
            }
        }))
    }

    /// Some rows.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        Self(match &self.0 {
            Kind::Classes(classes) => Kind::Classes(rows.iter().map(|row| classes[*row]).collect()),
            Kind::Values(values) => Kind::Values(rows.iter().map(|row| values[*row]).collect()),
            Kind::Embeddings(tensor) => Kind::Embeddings(Box::new(rows_of(tensor, rows))),
        })
    }

    /// Parts behind one another.
    pub(super) fn join(parts: &[&Self]) -> Result<Self, ModelError> {
        let Some((first, rest)) = parts.split_first() else {
            return Ok(Self::none(0));
        };
        let mut joined = (*first).clone();
        for part in rest {
            match (&mut joined.0, &part.0) {
                (Kind::Classes(left), Kind::Classes(right)) => left.extend(right),
                (Kind::Values(left), Kind::Values(right)) => left.extend(right),
                (Kind::Embeddings(left), Kind::Embeddings(right)) if left.dims()[1] == right.dims()[1] => {
                    **left = Tensor::cat(vec![(**left).clone(), (**right).clone().cast(left.dtype())], 0);
                }
                _ => {
                    return Err(ModelError::MixedConditions { left: joined.kind(), right: part.kind() });
                }
            }
        }
        Ok(joined)
    }

    /// The rows of an embedding table, `[rows]`: class indices, with "no class" as row `classes` if the table has it (`null`).
    ///
    /// # Errors
    ///
    /// As [`rows_of`](Self::rows_of).
    pub fn indices(&self, classes: usize, null: bool, device: &Device) -> Result<Tensor<1, Int>, ModelError> {
        Ok(Tensor::from_data(self.rows_of(classes, null)?.as_slice(), device))
    }

    /// Those rows on the host: what can be checked without a device.
    ///
    /// # Errors
    ///
    /// [`ModelError`] for a class that is out of range, "no class" where the table lacks it, and labels that are no classes.
    pub fn rows_of(&self, classes: usize, null: bool) -> Result<Vec<i64>, ModelError> {
        let Kind::Classes(labels) = &self.0 else {
            return Err(self.wrong_kind("classes"));
        };
        let mut rows = Vec::with_capacity(labels.len());
        for (row, label) in labels.iter().enumerate() {
            rows.push(match *label {
                Some(label) if label < classes => label as i64,
                Some(label) => {
                    return Err(ModelError::ClassOutOfRange { row, label, classes });
                }
                None if null => classes as i64,
                None => return Err(ModelError::NoNullClass { row }),
            });
        }
        Ok(rows)
    }

    /// The numbers, `[rows]`, for networks that embed them as a time.
    ///
    /// # Errors
    ///
    /// [`ModelError`] for labels that are no numbers, and numbers that are not finite.
    pub fn numbers(&self, device: &Device) -> Result<Tensor<1>, ModelError> {
        Ok(Tensor::from_data(self.checked_values()?, (device, DType::F32)))
    }

    /// Those numbers on the host.
    pub(crate) fn checked_values(&self) -> Result<&[f64], ModelError> {
        let Kind::Values(values) = &self.0 else {
            return Err(self.wrong_kind("values: `Labels::values`"));
        };
        if let Some((row, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(ModelError::NotFinite { row, value });
        }
        Ok(values)
    }

    /// The vectors, `[rows, width]`, for networks that add them as they are.
    ///
    /// # Errors
    ///
    /// [`ModelError`] for labels that are no vectors, or of another width.
    pub fn vectors(&self, width: usize) -> Result<Tensor<2>, ModelError> {
        let Kind::Embeddings(tensor) = &self.0 else {
            return Err(self.wrong_kind("embeddings: `Labels::embeddings`"));
        };
        if tensor.dims()[1] != width {
            return Err(ModelError::Shape {
                what: "class embeddings",
                given: tensor.dims().to_vec(),
                expected: format!("[batch, {width}]"),
            });
        }
        Ok((**tensor).clone())
    }

    /// Checks that there is nothing to tell, for networks without classes.
    pub(crate) fn nothing(&self) -> Result<(), ModelError> {
        match &self.0 {
            Kind::Classes(classes) if classes.iter().all(Option::is_none) => Ok(()),
            _ => Err(self.wrong_kind("no classes: `Labels::none`")),
        }
    }

    fn wrong_kind(&self, expected: &'static str) -> ModelError {
        ModelError::ConditionKind { given: self.kind(), expected }
    }
}

impl Condition for Labels {
    fn rows(&self) -> Option<usize> {
        Some(self.count())
    }

    fn expand(&self, rows: usize) -> Result<Self, DenoiseError> {
        Ok(self.for_batch(rows)?)
    }

    fn cat(parts: &[&Self]) -> Result<Self, DenoiseError> {
        Ok(Self::join(parts)?)
    }
}

impl From<ModelError> for DenoiseError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Shape { what, given, expected } => Self::Shape { what: what.into(), given, expected },
            ModelError::Rows { given, batch } => Self::ConditionRows { condition: given, batch },
            ModelError::ClassOutOfRange { label, classes, .. } => Self::Class { given: label, classes },
            other => Self::Condition { problem: format!("refused its input: {other}") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    fn rows(tensor: Tensor<1, Int>) -> Vec<i64> {
        tensor.to_data_as::<i64>().as_slice::<i64>().unwrap().to_vec()
    }

    #[test]
    fn no_class_is_the_row_after_the_classes() {
        let labels = Labels::optional([Some(2), None, Some(0)]);
        assert_eq!(rows(labels.indices(3, true, &flex()).unwrap()), [2, 3, 0]);
    }

    #[test]
    fn one_row_is_repeated() {
        let labels = Labels::of([4]).for_batch(3).unwrap();
        assert_eq!(labels.classes().unwrap(), [Some(4); 3]);
        let values = Labels::values([0.5]).for_batch(2).unwrap();
        assert_close(&values.numbers(&flex()).unwrap(), &[0.5, 0.5], 0.0);
        let vectors = Labels::embeddings(Tensor::from_data([[1.0, 2.0]], &flex()));
        let vectors = vectors.for_batch(2).unwrap().vectors(2).unwrap();
        assert_close(&vectors, &[1.0, 2.0, 1.0, 2.0], 0.0);
    }

    #[test]
    fn rows_must_match_the_batch() {
        let error = Labels::of([1, 2]).for_batch(3).unwrap_err();
        assert!(matches!(error, ModelError::Rows { given: 2, batch: 3 }));
        assert!(matches!(
            Labels::of([1, 2]).expand(3).unwrap_err(),
            DenoiseError::ConditionRows { condition: 2, batch: 3 }
        ));
    }

    #[test]
    fn parts_of_one_kind_concatenate() {
        let device = flex();
        let both = Labels::cat(&[&Labels::values([1.0]), &Labels::values([2.0, 3.0])]).unwrap();
        assert_close(&both.numbers(&device).unwrap(), &[1.0, 2.0, 3.0], 0.0);
        let (a, b) = (tensor([1, 2], 0.1, &device), tensor([2, 2], 0.5, &device));
        let both = Labels::cat(&[&Labels::embeddings(a.clone()), &Labels::embeddings(b.clone())]);
        let expected = [values(&a), values(&b)].concat();
        assert_close(&both.unwrap().vectors(2).unwrap(), &expected, 0.0);
    }

    #[test]
    fn parts_of_different_kinds_do_not() {
        let error = Labels::join(&[&Labels::of([1]), &Labels::values([2.0])]).unwrap_err();
        assert!(matches!(error, ModelError::MixedConditions { left: "classes", right: "values" }));
        let widths = [2, 3].map(|w| Labels::embeddings(Tensor::zeros([1, w], &flex())));
        assert!(Labels::join(&[&widths[0], &widths[1]]).is_err());
    }

    #[test]
    fn classes_are_checked() {
        let device = flex();
        let error = Labels::of([0, 3]).indices(3, true, &device).unwrap_err();
        assert!(matches!(error, ModelError::ClassOutOfRange { row: 1, label: 3, classes: 3 }));
        assert!(matches!(DenoiseError::from(error), DenoiseError::Class { given: 3, classes: 3 }));
        let error = Labels::none(1).indices(3, false, &device).unwrap_err();
        assert!(matches!(error, ModelError::NoNullClass { row: 0 }));
        let error = Labels::values([0.1]).indices(3, true, &device).unwrap_err();
        assert!(matches!(error, ModelError::ConditionKind { given: "values", .. }));
        let error = Labels::of([0]).nothing().unwrap_err();
        assert!(matches!(error, ModelError::ConditionKind { given: "classes", .. }));
        Labels::none(4).nothing().unwrap();
    }

    #[test]
    fn numbers_are_checked() {
        let error = Labels::values([0.0, f64::NAN]).numbers(&flex()).unwrap_err();
        assert!(matches!(error, ModelError::NotFinite { row: 1, .. }));
        assert!(Labels::of([1]).numbers(&flex()).is_err());
        let vectors = Labels::embeddings(Tensor::zeros([2, 3], &flex()));
        assert!(matches!(vectors.vectors(4).unwrap_err(), ModelError::Shape { .. }));
        assert!(Labels::of([1]).vectors(4).is_err());
    }
}
