//! What can be wrong with an inverse problem.

/// An operator, a measurement or a setting that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InverseError {
    /// The measurement's noise level is no standard deviation.
    #[error("the noise level of a measurement is {given}, expected a standard deviation: a finite number, at least 0")]
    NoiseLevel {
        /// The value given.
        given: f64,
    },
    /// A mask with a value that is neither 0 nor 1.
    #[error("the mask has the value {given} at position {index}, expected 1 where the sample is known and 0 elsewhere")]
    Mask {
        /// Position in row-major order.
        index: usize,
        /// The value there.
        given: f64,
    },
    /// A tensor or a sample has the wrong shape.
    #[error("{what} has shape {given:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        given: Vec<usize>,
        /// What was expected, in words.
        expected: String,
    },
    /// A measurement or mask is for another number of samples.
    #[error("{what} has {rows} rows, the batch has {batch}: give one row, or one for each sample")]
    Rows {
        /// Which tensor.
        what: &'static str,
        /// Its rows.
        rows: usize,
        /// Rows of the batch.
        batch: usize,
    },
    /// An axis that the sample does not have, or that was named twice.
    #[error("axis {axis} of a sample of shape {sample:?} {problem}; axes are counted without the batch, from 0")]
    Axis {
        /// The axis given.
        axis: usize,
        /// Shape of a sample.
        sample: Vec<usize>,
        /// What is wrong with it, as a clause.
        problem: &'static str,
    },
    /// A factor that does not divide the axis it averages.
    #[error("axis {axis} has {size} values, which blocks of {factor} do not divide; take a factor of {size}")]
    Factor {
        /// The axis.
        axis: usize,
        /// Its size.
        size: usize,
        /// The factor given.
        factor: usize,
    },
    /// A kernel that no blur can use.
    #[error("the kernel along axis {axis} has {length} values and {problem}")]
    Kernel {
        /// The axis.
        axis: usize,
        /// Its length.
        length: usize,
        /// What is wrong with it, as a clause.
        problem: String,
    },
    /// A matrix that does not fit its axis, or has values that are not finite.
    #[error("the matrix along axis {axis} {problem}")]
    Matrix {
        /// The axis.
        axis: usize,
        /// What is wrong with it, as a clause.
        problem: String,
    },
    /// A method needs the singular value decomposition of an operator that has none.
    #[error(
        "{method} needs the singular value decomposition of the operator, which this one does not know: implement \
         `LinearOperator::svd`, or use DPS, which needs the transpose only"
    )]
    NoSvd {
        /// The method.
        method: &'static str,
    },
    /// A tensor with a NaN or an infinity.
    #[error("{what} has a value that is not finite at position {index}")]
    NotFinite {
        /// Which tensor.
        what: &'static str,
        /// Position in row-major order.
        index: usize,
    },
    /// A setting is out of range.
    #[error("{setting} is {given}, expected {expected}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        given: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
}

/// Fails unless the sample shape of `dims` (`[batch, ..]`) is `expected`.
pub(super) fn check_sample(what: &'static str, dims: &[usize], expected: &[usize]) -> Result<(), InverseError> {
    if dims.get(1..) == Some(expected) {
        return Ok(());
    }
    Err(InverseError::Shape { what, given: dims.to_vec(), expected: format!("[batch] followed by {expected:?}") })
}

/// Fails unless there is one row, or one for each sample.
pub(super) fn check_rows(what: &'static str, rows: usize, batch: usize) -> Result<(), InverseError> {
    if rows == 1 || rows == batch { Ok(()) } else { Err(InverseError::Rows { what, rows, batch }) }
}

/// Fails at the first value that is not finite.
pub(super) fn check_finite(what: &'static str, mut values: impl Iterator<Item = f64>) -> Result<(), InverseError> {
    match values.position(|value| !value.is_finite()) {
        Some(index) => Err(InverseError::NotFinite { what, index }),
        None => Ok(()),
    }
}
