//! The one explicit source of randomness.
//!
//! A noise value is a function of (seed, sample id, domain, key, element): no generator state exists anywhere,
//! so the same sample gets the same noise in any batch, on any thread count, before and after a pause.

mod box_muller;
mod cells;
mod chacha;
mod device;
mod injected;
mod parallel;
mod path;
mod seeded;

pub(crate) use cells::Draw;
pub use device::DeviceNoise;
pub use injected::Injected;
pub use seeded::Seeded;
pub(crate) use seeded::TAG_EXACT;

use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What noise is for. Domains never share values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Domain {
    /// The first state of a run.
    Initial,
    /// White noise inside a step.
    Step,
    /// Increments of a Brownian path.
    Path,
    /// Noising of a known region.
    KnownRegion,
    /// Probe vectors of trace estimators.
    Probe,
    /// Dequantization of data.
    Dequantize,
    /// Sampling inside an autoencoder.
    Autoencoder,
    /// Dropout and other noise of training.
    Training,
}

/// Which draw is meant: a domain, an index (the row of a plan, the step of a training run) and a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// What the noise is for.
    pub domain: Domain,
    /// Row of the plan or step of the run; never a count of draws.
    pub index: u64,
    /// Distinguishes several draws at one index.
    pub lane: u32,
}

impl Key {
    /// The draw that starts a run.
    pub const INITIAL: Self = Self { domain: Domain::Initial, index: 0, lane: 0 };

    /// Lane `lane` of row `index` of a plan.
    pub const fn step(index: u64, lane: u32) -> Self {
        Self { domain: Domain::Step, index, lane }
    }

    /// Lane `lane` of the noise that row `index` of a plan gives to a known region.
    pub const fn known(index: u64, lane: u32) -> Self {
        Self { domain: Domain::KnownRegion, index, lane }
    }
}

/// Why noise could not be delivered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoiseError {
    /// Recorded noise lacks a draw.
    #[error("recorded noise has no draw for {key:?} of sample {sample}; record it, or use seeded noise")]
    Missing {
        /// The draw asked for.
        key: Key,
        /// The sample it was asked for.
        sample: u64,
    },
    /// Recorded noise has another size.
    #[error("recorded noise for {key:?} has {found} values a sample, {expected} were asked for")]
    Size {
        /// The draw asked for.
        key: Key,
        /// Values asked for.
        expected: usize,
        /// Values recorded.
        found: usize,
    },
    /// More values than there is memory for.
    #[error(
        "{rows} samples of {numel} values are more than there is memory for: take a smaller shape or a smaller batch"
    )]
    TooMany {
        /// Samples asked for.
        rows: u64,
        /// Values of each.
        numel: usize,
    },
    /// Recorded noise lacks a path increment.
    #[error(
        "recorded noise has no path increment over [{from}, {until}] of sample {sample}; record it, or use seeded noise"
    )]
    MissingPath {
        /// The sample it was asked for.
        sample: u64,
        /// Start of the interval.
        from: f64,
        /// End of the interval.
        until: f64,
    },
    /// Values to record that do not make rows of equal length.
    #[error("{values} recorded values for {key:?} cannot be divided evenly among {samples} samples")]
    Uneven {
        /// The draw.
        key: Key,
        /// Values given.
        values: usize,
        /// Samples given.
        samples: u64,
    },
    /// One draw was recorded twice.
    #[error("the draw {key:?} of sample {sample} was recorded twice; give each draw its own index or lane")]
    Duplicate {
        /// The draw.
        key: Key,
        /// The sample.
        sample: u64,
    },
    /// Recorded draws were never used.
    #[error("{count} recorded draws were not used, the first is {first:?}: the noise belongs to another plan")]
    LeftOver {
        /// How many.
        count: usize,
        /// The first of them.
        first: Key,
    },
    /// The source makes tensors on a device only.
    #[error("device noise has no host values; use seeded noise for f64 runs and for Brownian paths")]
    HostUnsupported,
    /// The source has no Brownian path.
    #[error("this noise source has no Brownian path; use seeded noise, or a solver that draws white noise")]
    PathUnsupported,
    /// A path was asked for an interval that is not inside its range or runs backwards.
    #[error("a Brownian path was asked for [{from}, {until}]; it needs 0 <= from <= until <= 2^512")]
    Interval {
        /// Start of the interval.
        from: f64,
        /// End of the interval.
        until: f64,
    },
    /// The tensor could not be made in this dtype.
    #[error("noise is made in floating-point dtypes, not in {dtype:?}")]
    DType {
        /// The dtype asked for.
        dtype: DType,
    },
}

/// A source of standard normal noise.
///
/// [`fill`](Self::fill) is the definition; the tensor methods follow from it.
pub trait NoiseSource: Send + Sync {
    /// Writes the standard normal values of one draw of one sample.
    ///
    /// # Errors
    /// [`NoiseError`] if the source cannot deliver this draw.
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError>;

    /// Writes uniform values in `(0, 1)` of one draw of one sample: the normal ones through their distribution function,
    /// unless a source knows better.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    fn fill_uniform(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        self.fill(sample, key, out)?;
        out.iter_mut().for_each(|z| *z = 0.5 * libm::erfc(-*z * std::f64::consts::FRAC_1_SQRT_2));
        Ok(())
    }

    /// Writes the increment `W(until) − W(from)` of the sample's own Brownian motion, whose clock runs over
    /// `[0, ∞)`; increments over adjacent intervals add up.
    ///
    /// # Errors
    /// [`NoiseError::PathUnsupported`] unless the source has paths.
    fn fill_path(&self, sample: u64, from: f64, until: f64, out: &mut [f64]) -> Result<(), NoiseError> {
        let _ = (sample, from, until, out);
        Err(NoiseError::PathUnsupported)
    }

    /// Standard normal values, `[samples, numel]`: row `i` belongs to sample `samples.start + i`.
    ///
    /// # Errors
    /// As [`fill`](Self::fill), and [`NoiseError::DType`] for dtypes that are not floats.
    fn normal(
        &self,
        samples: Range<u64>,
        key: Key,
        numel: usize,
        out: (&Device, DType),
    ) -> Result<Tensor<2>, NoiseError> {
        host_tensor::<f64>(samples.clone(), numel, out, |values| {
            each_row(samples, numel, values, |sample, row| self.fill(sample, key, row))
        })
    }

    /// Path increments, `[samples, numel]`.
    ///
    /// # Errors
    /// As [`fill_path`](Self::fill_path).
    fn path(
        &self,
        samples: Range<u64>,
        (from, until): (f64, f64),
        numel: usize,
        out: (&Device, DType),
    ) -> Result<Tensor<2>, NoiseError> {
        host_tensor::<f64>(samples.clone(), numel, out, |values| {
            each_row(samples, numel, values, |sample, row| self.fill_path(sample, from, until, row))
        })
    }
}

impl<T: NoiseSource + ?Sized> NoiseSource for &T {
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        (**self).fill(sample, key, out)
    }
    fn fill_uniform(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        (**self).fill_uniform(sample, key, out)
    }
    fn fill_path(&self, sample: u64, from: f64, until: f64, out: &mut [f64]) -> Result<(), NoiseError> {
        (**self).fill_path(sample, from, until, out)
    }
    fn normal(&self, s: Range<u64>, key: Key, n: usize, out: (&Device, DType)) -> Result<Tensor<2>, NoiseError> {
        (**self).normal(s, key, n, out)
    }
    fn path(&self, s: Range<u64>, i: (f64, f64), n: usize, out: (&Device, DType)) -> Result<Tensor<2>, NoiseError> {
        (**self).path(s, i, n, out)
    }
}

/// White noise of the shape of `x` for consecutive samples that start at `first`.
///
/// # Errors
/// As [`NoiseSource::normal`].
pub fn like<const D: usize>(
    source: &dyn NoiseSource,
    x: &Tensor<D>,
    first: u64,
    key: Key,
) -> Result<Tensor<D>, NoiseError> {
    let dims = x.dims();
    let numel = dims[1..].iter().product();
    let noise = source.normal(first..first + dims[0] as u64, key, numel, (&x.device(), x.dtype()))?;
    Ok(noise.reshape(dims))
}

/// Path increments of the shape of `x` for consecutive samples that start at `first`.
///
/// # Errors
/// As [`NoiseSource::path`].
pub fn path_like<const D: usize>(
    source: &dyn NoiseSource,
    x: &Tensor<D>,
    first: u64,
    interval: (f64, f64),
) -> Result<Tensor<D>, NoiseError> {
    let dims = x.dims();
    let numel = dims[1..].iter().product();
    let noise = source.path(first..first + dims[0] as u64, interval, numel, (&x.device(), x.dtype()))?;
    Ok(noise.reshape(dims))
}

/// Zeros for `numel` values of each sample, one sample after another, if there is memory for them.
///
/// # Errors
/// [`NoiseError::TooMany`] if there is not.
///
/// ```
/// use langevin_core::noise;
///
/// assert_eq!(noise::zeros::<i64>(&(3..5), 2)?, [0; 4]);
/// assert!(noise::zeros::<i64>(&(0..u64::MAX), 2).is_err());
/// # Ok::<(), noise::NoiseError>(())
/// ```
pub fn zeros<T: Clone + Default>(samples: &Range<u64>, numel: usize) -> Result<Vec<T>, NoiseError> {
    let rows = samples.end.saturating_sub(samples.start);
    let count = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(numel));
    // Asked for without a panic first; the memory itself comes zeroed from the system below.
    let count = count.filter(|count| Vec::<T>::new().try_reserve_exact(*count).is_ok());
    Ok(vec![T::default(); count.ok_or(NoiseError::TooMany { rows, numel })?])
}

/// A tensor `[samples, numel]` from values that `fill` writes row by row.
fn host_tensor<T: Element + Default>(
    samples: Range<u64>,
    numel: usize,
    (device, dtype): (&Device, DType),
    fill: impl FnOnce(&mut [T]) -> Result<(), NoiseError>,
) -> Result<Tensor<2>, NoiseError> {
    if !dtype.is_float() {
        return Err(NoiseError::DType { dtype });
    }
    let mut values = zeros(&samples, numel)?;
    let rows = samples.end.saturating_sub(samples.start) as usize;
    if numel > 0 {
        fill(&mut values)?;
    }
    Ok(Tensor::from_data(TensorData::new(values, [rows, numel]), (device, dtype)))
}

/// Calls `fill` for each sample and its row.
fn each_row(
    samples: Range<u64>,
    numel: usize,
    values: &mut [f64],
    fill: impl Fn(u64, &mut [f64]) -> Result<(), NoiseError>,
) -> Result<(), NoiseError> {
    samples.zip(values.chunks_mut(numel)).try_for_each(|(sample, row)| fill(sample, row))
}
