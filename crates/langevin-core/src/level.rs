//! Levels: where on a process a question is asked.

use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// One noise level: signal coefficient α, noise coefficient σ and the number the network is told.
///
/// The three are independent. `time` is usually a function of (α, σ), but not always: some published
/// schedules round it, so that two levels share one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Signal coefficient α ≥ 0 of `x = α·x_0 + σ·ε`.
    pub alpha: f64,
    /// Noise coefficient σ ≥ 0.
    pub sigma: f64,
    /// What the network is fed (a step in `0..T`, a time in `[0, 1]`, `ln(σ)/4`, … as it was trained).
    pub time: f64,
}

impl Level {
    /// Half the logarithm of the signal-to-noise ratio, `λ = ln(α/σ)`; `±∞` at the ends.
    ///
    /// ```
    /// let level = langevin_core::Level { alpha: 1.0, sigma: 1.0, time: 0.5 };
    /// assert_eq!(level.lambda(), 0.0);
    /// ```
    pub fn lambda(&self) -> f64 {
        libm::log(self.alpha) - libm::log(self.sigma)
    }
}

/// A [`Level`] together with the process time `t` it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Process time in the process's own units.
    pub t: f64,
    /// The level there.
    pub level: Level,
}

/// The levels of a batch: one for all samples, or one for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Levels {
    /// All samples share this level.
    Shared(Level),
    /// Sample `i` is at level `i`.
    Each(Vec<Level>),
}

impl From<Level> for Levels {
    fn from(level: Level) -> Self {
        Levels::Shared(level)
    }
}

impl Levels {
    /// A number computed from each level, ready to scale tensors.
    pub fn map(&self, f: impl Fn(&Level) -> f64) -> Scalars {
        match self {
            Levels::Shared(level) => Scalars::Shared(f(level)),
            Levels::Each(levels) => Scalars::Each(levels.iter().map(f).collect()),
        }
    }

    /// As [`map`](Self::map), for a computation that can fail.
    ///
    /// # Errors
    /// The first error `f` returns.
    pub fn try_map<E>(&self, f: impl Fn(&Level) -> Result<f64, E>) -> Result<Scalars, E> {
        Ok(match self {
            Levels::Shared(level) => Scalars::Shared(f(level)?),
            Levels::Each(levels) => Scalars::Each(levels.iter().map(f).collect::<Result<_, E>>()?),
        })
    }

    /// How many samples the levels are for; `None` when they fit any batch.
    pub fn rows(&self) -> Option<usize> {
        match self {
            Levels::Shared(_) => None,
            Levels::Each(levels) => Some(levels.len()),
        }
    }

    /// The levels of `copies` batches behind one another.
    pub fn repeat(&self, copies: usize) -> Self {
        match self {
            Levels::Shared(level) => Levels::Shared(*level),
            Levels::Each(levels) => Levels::Each(levels.repeat(copies)),
        }
    }

    /// The numbers the network is fed, `[batch]`, in f32 whatever the dtype of `x`: half precision cannot tell step 999
    /// from 1000. (In f64 for states in f64.)
    pub fn times<const D: usize>(&self, x: &Tensor<D>) -> Tensor<1> {
        let batch = x.dims()[0];
        let dtype = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        match self.map(|level| level.time) {
            Scalars::Shared(time) => Tensor::full([batch], time, (&x.device(), dtype)),
            Scalars::Each(times) => {
                let data = TensorData::new(times, [batch]);
                Tensor::from_data(data, (&x.device(), dtype))
            }
        }
    }
}

/// A coefficient: one number for a whole batch, or one for each sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalars {
    /// The same number for all samples.
    Shared(f64),
    /// Number `i` for sample `i`.
    Each(Vec<f64>),
}

impl Scalars {
    /// Whether all of them are 0.
    pub fn is_zero(&self) -> bool {
        match self {
            Scalars::Shared(value) => *value == 0.0,
            Scalars::Each(values) => values.iter().all(|value| *value == 0.0),
        }
    }

    /// `x` with each sample multiplied by its number; `x` is `[batch, ..]`, `D >= 1`.
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// use langevin_core::level::Scalars;
    /// let x = Tensor::<2>::ones([2, 3], &Device::flex());
    /// let y = Scalars::Each(vec![1.0, 2.0]).times(x);
    /// assert_eq!(y.sum().into_scalar::<f32>(), 9.0);
    /// ```
    pub fn times<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Scalars::Shared(1.0) => x,
            Scalars::Shared(value) => x.mul_scalar(*value),
            Scalars::Each(values) => {
                let mut shape = [1; D];
                shape[0] = values.len();
                let data = TensorData::new(values.clone(), shape);
                let column = Tensor::from_data(data, (&x.device(), x.dtype()));
                x.mul(column)
            }
        }
    }
}
