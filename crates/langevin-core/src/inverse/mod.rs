//! Inverse problems: samples that fit a measurement `y = A·x_0 + noise`.
//!
//! * [`operator`](LinearOperator): what A is: a mask, a blur, block means, matrices, your own;
//! * [`Measurement`]: y, A and the noise level, checked once;
//! * [`KnownRegion`]: inpainting by putting known values back, as a constraint, or in x̂_0 by [`Filled`];
//! * [`Dps`], [`PiGdm`]: denoisers whose score is that given the measurement, as nearly as they can, for any solver.
//!
//! Samplers of their own, DDRM and the published form of DPS, are in langevin-schedulers.

mod dps;
mod error;
mod known_region;
mod measurement;
mod operator;
mod pigdm;
mod residual;

pub use dps::Dps;
pub use error::InverseError;
pub use known_region::{Filled, KnownRegion};
pub use measurement::Measurement;
pub use operator::{Identity, LinearOperator, Masking, Separable, SingularValues, Svd, gaussian_kernel};
pub use pigdm::PiGdm;
pub use residual::Residual;
