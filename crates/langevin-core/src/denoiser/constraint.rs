//! Constraints: maps of the state after each committed step.

use super::{After, Constraint, DenoiseError};
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
    fn apply(&self, x: Tensor<D>, _after: &After<'_>) -> Result<Tensor<D>, DenoiseError> {
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
    fn apply(&self, x: Tensor<D>, after: &After<'_>) -> Result<Tensor<D>, DenoiseError> {
        let expected = x.dims();
        let y = (self.f)(x, after.levels);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::noise::Seeded;
    use burn::tensor::Device;

    fn apply(constraint: &impl Constraint<2>, x: Tensor<2>) -> Result<Tensor<2>, DenoiseError> {
        let levels = Level { alpha: 0.6, sigma: 0.8, time: 0.0 }.into();
        constraint.apply(x, &After { levels: &levels, step: 0, first_sample: 0, noise: &Seeded::new(0) })
    }

    #[test]
    fn clamp_keeps_values_in_its_interval() {
        let x = Tensor::<2>::from_floats([[-3.0, -0.5], [0.25, 7.0]], &Device::flex());
        let y = apply(&Clamp::new(-1.0, 2.0).unwrap(), x).unwrap();
        assert_eq!(y.into_data().as_slice::<f32>().unwrap(), [-1.0, -0.5, 0.25, 2.0]);
    }

    #[test]
    fn clamp_needs_ordered_bounds() {
        for (low, high) in [(1.0, -1.0), (f64::NAN, 1.0), (0.0, f64::NAN)] {
            assert!(matches!(Clamp::new(low, high), Err(DenoiseError::Setting { .. })));
        }
        assert!(Clamp::new(0.5, 0.5).is_ok());
    }

    #[test]
    fn closures_see_the_levels_and_keep_the_shape() {
        let x = Tensor::<2>::ones([2, 3], &Device::flex());
        let scale = constraint_fn(|x: Tensor<2>, levels: &Levels| levels.map(|l| l.sigma).times(x));
        let y = apply(&scale, x.clone()).unwrap();
        assert_eq!(y.into_data().as_slice::<f32>().unwrap(), [0.8f32; 6]);
        let cut = constraint_fn(|x: Tensor<2>, _: &Levels| x.narrow(0, 0, 1));
        let error = apply(&cut, x).unwrap_err();
        assert!(matches!(error, DenoiseError::Shape { given, .. } if given == [1, 3]));
    }
}
