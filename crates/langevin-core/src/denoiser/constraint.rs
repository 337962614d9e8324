//! Constraints: maps of the state after each committed step.

use super::{Constraint, DenoiseError};
use crate::level::Levels;
use burn::tensor::Tensor;

/// Keeps every value of the state in an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    low: f64,
    high: f64,
}

impl Clamp {
    /// The interval `[low, high]`.
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless `low <= high`.
    pub fn new(low: f64, high: f64) -> Result<Self, DenoiseError> {
        if !(low <= high) {
            return Err(DenoiseError::Setting {
                setting: "lower bound of a clamp",
                given: low,
                expected: "at most the upper bound",
            });
        }
        Ok(Self { low, high })
    }
}

impl<const D: usize> Constraint<D> for Clamp {
    fn apply(&self, x: Tensor<D>, _levels: &Levels) -> Result<Tensor<D>, DenoiseError> {
        Ok(x.clamp(self.low, self.high))
    }
}

/// A closure of (state, levels) as a constraint.
pub fn constraint_fn<const D: usize, F>(f: F) -> ConstraintFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Tensor<D> + Send + Sync,
{
    ConstraintFn { f }
}

/// Made by [`constraint_fn`].
#[derive(Clone, Debug)]
pub struct ConstraintFn<F> {
    f: F,
}

impl<const D: usize, F> Constraint<D> for ConstraintFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Tensor<D> + Send + Sync,
{
    fn apply(&self, x: Tensor<D>, levels: &Levels) -> Result<Tensor<D>, DenoiseError> {
        let expected = x.dims();
        let y = (self.f)(x, levels);
        if y.dims() != expected {
            return Err(DenoiseError::Shape {
                what: "the constraint's result".into(),
                given: y.dims().to_vec(),
                expected: format!("{expected:?}, the shape of the state"),
            });
        }
        Ok(y)
    }
}
