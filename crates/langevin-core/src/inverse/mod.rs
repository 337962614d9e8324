//! Inverse problems: samples that fit a measurement `y = A·x_0 + noise`.
//!
//! * [`operator`](LinearOperator): what A is: a mask, a blur, block means, matrices, your own;
//! * [`Measurement`]: y, A and the noise level, checked once;
//! * [`KnownRegion`]: inpainting by putting known values back, as a constraint, or in x̂_0 by [`Filled`].

mod error;
mod known_region;
mod measurement;
mod operator;

pub use error::InverseError;
pub use known_region::{Filled, KnownRegion};
pub use measurement::Measurement;
pub use operator::{Identity, LinearOperator, Masking, Separable, SingularValues, Svd, gaussian_kernel};
