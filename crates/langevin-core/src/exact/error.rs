//! What can be wrong with an exact problem, or with a question to it.

/// A problem that cannot be, or a question it cannot answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExactError {
    /// A mixture without components.
    #[error("a mixture needs at least one component")]
    NoComponents,
    /// Lists of different lengths.
    #[error("{what} has {found} entries, expected {expected}")]
    Length {
        /// Which list.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length expected.
        expected: usize,
    },
    /// A weight that is not positive.
    #[error("weight {component} of the mixture is {given}, expected a positive number")]
    Weight {
        /// Which component.
        component: usize,
        /// Its weight.
        given: f64,
    },
    /// Weights that do not sum to one.
    #[error("the weights of the mixture sum to {sum}, expected 1; divide each by the sum")]
    WeightSum {
        /// Their sum.
        sum: f64,
    },
    /// A mean, deviation or covariance entry that is not a usable number.
    #[error("{what} has the entry {given}, expected {expected}")]
    Value {
        /// Which list.
        what: &'static str,
        /// The entry.
        given: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// A covariance that is not symmetric.
    #[error("the covariance has {upper} at ({row}, {column}) and {lower} at ({column}, {row}), it must be symmetric")]
    NotSymmetric {
        /// Row of the upper entry.
        row: usize,
        /// Column of the upper entry.
        column: usize,
        /// The upper entry.
        upper: f64,
        /// The lower entry.
        lower: f64,
    },
    /// A covariance that is not positive definite.
    #[error("the covariance has the eigenvalue {eigenvalue}, it must be positive definite")]
    NotPositiveDefinite {
        /// Its smallest eigenvalue.
        eigenvalue: f64,
    },
    /// A level without signal and without noise, or with negative coefficients.
    #[error("the level has alpha = {alpha}, sigma = {sigma}; both must be finite and at least 0, not both 0")]
    Level {
        /// α of the level.
        alpha: f64,
        /// σ of the level.
        sigma: f64,
    },
    /// Jacobians of different kinds or sizes.
    #[error(
        "the Jacobians of the problem do not fit together: both must be full, numel² entries a sample, or both diagonal, \
         numel entries"
    )]
    MixedJacobians,
}

use crate::level::Level;

/// The level, if its coefficients can be used.
pub(super) fn check_level(level: &Level) -> Result<(), ExactError> {
    let Level { alpha, sigma, .. } = *level;
    if alpha >= 0.0 && sigma >= 0.0 && alpha + sigma > 0.0 && (alpha + sigma).is_finite() {
        Ok(())
    } else {
        Err(ExactError::Level { alpha, sigma })
    }
}

pub(super) fn check_len(what: &'static str, found: usize, expected: usize) -> Result<(), ExactError> {
    if found == expected { Ok(()) } else { Err(ExactError::Length { what, found, expected }) }
}

/// Weights that are positive and sum to one.
pub(super) fn check_weights(weights: &[f64]) -> Result<(), ExactError> {
    if weights.is_empty() {
        return Err(ExactError::NoComponents);
    }
    for (component, &given) in weights.iter().enumerate() {
        if !(given > 0.0 && given.is_finite()) {
            return Err(ExactError::Weight { component, given });
        }
    }
    let sum: f64 = weights.iter().sum();
    if (sum - 1.0).abs() > 1e-9 { Err(ExactError::WeightSum { sum }) } else { Ok(()) }
}
