//! Singular value decompositions on tensors.

use crate::inverse::error::{InverseError, check_rows};
use crate::level::{Level, Levels};
use burn::tensor::{Tensor, TensorData};

/// A decomposition `A = U·S·Vᵀ`, with one coordinate for each value of a sample.
///
/// V is orthogonal. Coordinates of samples, `Vᵀ·x`, and of measurements, `Uᵀ·y`, are arranged as samples are, `[batch, ..]`;
/// where a singular value is 0, the coordinate of a measurement has no meaning and nothing reads it.
pub trait Svd<const D: usize>: Send + Sync {
    /// `Vᵀ·x`: coordinates of samples.
    ///
    /// # Errors
    /// [`InverseError::Shape`] if `x` does not fit; the same holds for the others.
    fn right(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError>;

    /// `V·x̄`: samples from their coordinates.
    ///
    /// # Errors
    /// As [`right`](Self::right).
    fn right_inverse(&self, spectrum: Tensor<D>) -> Result<Tensor<D>, InverseError>;

    /// `Uᵀ·y`: coordinates of measurements.
    ///
    /// # Errors
    /// As [`right`](Self::right).
    fn left(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError>;

    /// The singular values, at least 0, for samples of a shape without the batch.
    ///
    /// # Errors
    /// As [`right`](Self::right).
    fn singular_values(&self, sample: &[usize]) -> Result<SingularValues, InverseError>;
}

/// Singular values on the host: one row for all samples, or one for each, in the row-major order of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SingularValues {
    rows: usize,
    values: Vec<f64>,
}

impl SingularValues {
    /// `rows` rows of as many values as a sample has.
    ///
    /// # Errors
    /// [`InverseError::Shape`] if the values do not divide evenly among the rows, [`InverseError::Setting`] for one that is
    /// negative or not finite.
    pub fn new(rows: usize, values: Vec<f64>) -> Result<Self, InverseError> {
        if rows == 0 || !values.len().is_multiple_of(rows) {
            let expected = format!("values for {rows} rows");
            return Err(InverseError::Shape {
                what: "the list of singular values",
                given: vec![values.len()],
                expected,
            });
        }
        if let Some(&given) = values.iter().find(|s| !(**s >= 0.0 && s.is_finite())) {
            let expected = "a finite number, at least 0";
            return Err(InverseError::Setting { setting: "a singular value", given, expected });
        }
        Ok(Self { rows, values })
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// How many of them are not 0, in the row that has most.
    pub fn rank(&self) -> usize {
        let numel = (self.values.len() / self.rows).max(1);
        self.values.chunks(numel).map(|row| row.iter().filter(|s| **s > 0.0).count()).max().unwrap_or(0)
    }

    /// Coordinates `[batch, ..]` times `f(s)`.
    ///
    /// # Errors
    /// [`InverseError::Rows`] if the values are for another number of samples.
    pub fn times<const D: usize>(
        &self,
        spectrum: Tensor<D>,
        f: impl Fn(f64) -> f64,
    ) -> Result<Tensor<D>, InverseError> {
        let weights = self.weights(&spectrum, None, |_, s| f(s))?;
        Ok(spectrum.mul(weights))
    }

    /// Coordinates `[batch, ..]` times `f(level, s)` with the level of each sample.
    ///
    /// # Errors
    /// [`InverseError::Rows`] if the values or the levels are for another number of samples.
    pub fn times_at<const D: usize>(
        &self,
        spectrum: Tensor<D>,
        levels: &Levels,
        f: impl Fn(&Level, f64) -> f64,
    ) -> Result<Tensor<D>, InverseError> {
        let weights = match levels {
            Levels::Shared(level) => self.weights(&spectrum, None, |_, s| f(level, s))?,
            Levels::Each(each) => {
                check_rows("the list of levels", each.len(), spectrum.dims()[0])?;
                self.weights(&spectrum, Some(each.len()), |row, s| f(&each[row], s))?
            }
        };
        Ok(spectrum.mul(weights))
    }

    /// `f(row, s)` as a tensor that multiplies `like`, with `rows` rows, or as many as there are.
    fn weights<const D: usize>(
        &self,
        like: &Tensor<D>,
        rows: Option<usize>,
        f: impl Fn(usize, f64) -> f64,
    ) -> Result<Tensor<D>, InverseError> {
        let mut shape = like.dims();
        check_rows("the list of singular values", self.rows, shape[0])?;
        let numel: usize = shape[1..].iter().product();
        if numel * self.rows != self.values.len() {
            let expected = format!("{} values a sample", self.values.len() / self.rows);
            return Err(InverseError::Shape { what: "the list of coordinates", given: shape.to_vec(), expected });
        }
        shape[0] = rows.unwrap_or(1).max(self.rows);
        let values = (0..shape[0]).flat_map(|row| {
            let own = if self.rows == 1 { 0 } else { row };
            let of_level = if rows == Some(1) { 0 } else { row };
            self.values[own * numel..(own + 1) * numel].iter().map(move |s| (of_level, *s))
        });
        let values: Vec<f64> = values.map(|(row, s)| f(row, s)).collect();
        Ok(Tensor::from_data(TensorData::new(values, shape), (&like.device(), like.dtype())))
    }
}
