//! Guidance by gradients of energies and of classifiers.

use super::{DenoiseError, Denoiser, Estimate, Query, check_autodiff, from_fn, gradient};
use crate::level::Levels;
use crate::prediction::Prediction;
use burn::tensor::Tensor;

/// A number for each sample that guidance makes small. Closures become energies through [`energy_fn`].
pub trait Energy<const D: usize>: Send + Sync {
    /// The energies, `[batch]`, of samples `[batch, ..]` at their levels, by tensor operations: x carries an autodiff graph.
    /// Networks inside are to be in their sampling form ([`Network::for_sampling`](super::Network::for_sampling), or
    /// `.valid()`), so that no gradients of parameters are computed.
    ///
    /// # Errors
    /// [`DenoiseError`] if the samples do not fit.
    fn energy(&self, x: Tensor<D>, levels: &Levels) -> Result<Tensor<1>, DenoiseError>;
}

impl<const D: usize, E: Energy<D> + ?Sized> Energy<D> for &E {
    fn energy(&self, x: Tensor<D>, levels: &Levels) -> Result<Tensor<1>, DenoiseError> {
        (**self).energy(x, levels)
    }
}

impl<const D: usize, E: Energy<D> + ?Sized> Energy<D> for Box<E> {
    fn energy(&self, x: Tensor<D>, levels: &Levels) -> Result<Tensor<1>, DenoiseError> {
        (**self).energy(x, levels)
    }
}

/// A closure of (samples, levels) as an energy.
pub fn energy_fn<const D: usize, F>(f: F) -> EnergyFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Result<Tensor<1>, DenoiseError> + Send + Sync,
{
    EnergyFn { f }
}

/// Made by [`energy_fn`].
#[derive(Clone, Debug)]
pub struct EnergyFn<F> {
    f: F,
}

impl<const D: usize, F> Energy<D> for EnergyFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Result<Tensor<1>, DenoiseError> + Send + Sync,
{
    fn energy(&self, x: Tensor<D>, levels: &Levels) -> Result<Tensor<1>, DenoiseError> {
        (self.f)(x, levels)
    }
}

/// Where an energy is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Of the state x.
    State,
    /// Of x̂_0, and through the denoiser.
    Clean,
}

impl At {
    fn name(self) -> &'static str {
        match self {
            At::State => "guidance by an energy of the state",
            At::Clean => "guidance by an energy of x̂_0",
        }
    }
}

/// A denoiser guided by the gradient of an energy E, under any solver: the score gains `−w·∇E`.
///
/// * [`of_state`](Self::of_state): E(x, t) knows the noisy state. If `−E` is `ln p(y|x)` up to a constant, samples are those given
///   y (w = 1); [`classifier`](Self::classifier) takes the logarithm of a probability itself (Dhariwal & Nichol 2021,
///   algorithms 1 and 2). Costs a backward pass through the energy, none through the denoiser.
/// * [`of_clean`](Self::of_clean): E(x̂_0) knows clean samples only. Its gradient goes through the denoiser, which costs a
///   backward pass of it. It is that of samples from `p(x_0)·exp(−w·E(x_0))` only as far as x̂_0 is certain (as in DPS, Chung et al.
///   2023): samples spread less than those.
///
/// Several energies of the state are several of these around one another, and one of the state may be around one of x̂_0. Several
/// of x̂_0 are one that is their sum, for autodiff has no second gradients.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::denoiser::{EnergyGuided, energy_fn};
/// use langevin_core::exact::{Posterior, correlated_mixture};
/// use langevin_core::{Denoiser, Level, Prediction, Query, noise::Seeded};
/// // Towards x̂_0 on the unit circle.
/// let circle = energy_fn(|x0: Tensor<2>, _levels: &_| {
///     let radius = x0.powf_scalar(2.0).sum_dim(1).sqrt();
///     Ok(radius.sub_scalar(1.0).powf_scalar(2.0).squeeze_dim(1))
/// });
/// let inner = correlated_mixture()?.denoiser(Prediction::Velocity)?;
/// let guided = EnergyGuided::of_clean(inner, circle).scale(4.0)?;
/// let (x, levels) = (Tensor::<2>::ones([4, 2], &Device::flex()), Level { alpha: 0.9, sigma: 0.44, time: 0.5 }.into());
/// let estimate = guided.denoise(Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) })?;
/// assert_eq!(estimate.x0()?.dims(), [4, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EnergyGuided<T, E> {
    inner: T,
    energy: E,
    at: At,
    /// −1 for an energy, 1 for a logarithm of a probability.
    sign: f64,
    scale: f64,
    checked: bool,
}

impl<T, E> EnergyGuided<T, E> {
    /// By an energy of the noisy state, which is told the levels.
    pub fn of_state(inner: T, energy: E) -> Self {
        Self { inner, energy, at: At::State, sign: -1.0, scale: 1.0, checked: false }
    }

    /// By an energy of x̂_0.
    pub fn of_clean(inner: T, energy: E) -> Self {
        Self { inner, energy, at: At::Clean, sign: -1.0, scale: 1.0, checked: false }
    }

    /// By a classifier of noisy states: `energy` answers with `ln p(y|x)` of the class that is wanted, instead of an energy.
    pub fn classifier(inner: T, log_probability: E) -> Self {
        Self { inner, energy: log_probability, at: At::State, sign: 1.0, scale: 1.0, checked: false }
    }

    /// Multiplies the gradient by w; 1 unless said otherwise. Classifiers are often given 1 to 10, for samples that are more
    /// typical of their class and less different from one another.
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless w is finite.
    pub fn scale(mut self, scale: f64) -> Result<Self, DenoiseError> {
        if !scale.is_finite() {
            let (setting, expected) = ("scale of the guidance by gradients", "a finite number");
            return Err(DenoiseError::Setting { setting, given: scale, expected });
        }
        self.scale = scale;
        Ok(self)
    }

    /// Reads a flag from the device for every answer and fails where the gradient is not finite. Without it only the end of a
    /// run looks.
    pub fn checked(mut self) -> Self {
        self.checked = true;
        self
    }
}

impl<T: Denoiser<D>, E: Energy<D>, const D: usize> Denoiser<D> for EnergyGuided<T, E> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let levels = query.levels;
        let sum = |x: Tensor<D>| {
            let batch = x.dims()[0];
            let energies = self.energy.energy(x, levels)?;
            if energies.dims() != [batch] {
                return Err(DenoiseError::Shape {
                    what: "the list of energies".into(),
                    given: energies.dims().to_vec(),
                    expected: format!("[{batch}], one for each sample"),
                });
            }
            Ok(energies.sum())
        };
        let (estimate, gradient) = match self.at {
            At::Clean => {
                let graded = gradient(&self.inner, query, |estimate| sum(estimate.x0()?))?;
                (graded.estimate, graded.gradient)
            }
            At::State => {
                let state = from_fn(Prediction::Sample, |x: Tensor<D>, _: &Levels| Ok(x));
                let again = Query { x: query.x.clone(), levels, past: query.past, noise: query.noise };
                let gradient = gradient(&state, again, |estimate| sum(estimate.x()))?.gradient;
                (self.inner.denoise(query)?, gradient)
            }
        };
        if self.checked {
            check_gradient("the energy", &gradient)?;
        }
        let gain = levels.map(|level| self.sign * self.scale * level.sigma * level.sigma);
        estimate.add_score(gain.times(gradient))
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn is_split(&self) -> bool {
        self.inner.is_split()
    }

    fn beyond_autodiff(&self) -> Option<&'static str> {
        Some(self.at.name())
    }

    fn beyond_output(&self) -> Option<&'static str> {
        self.inner.beyond_output()
    }

    fn beyond_eps(&self) -> Option<&'static str> {
        match self.at {
            At::State => self.inner.beyond_eps(),
            // The energy of x̂_0 is part of ε̂.
            At::Clean => None,
        }
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        if self.at == At::Clean {
            check_autodiff(self.at.name(), &self.inner)?;
        }
        self.inner.check(shape)
    }
}

/// Fails if a gradient has a NaN or an infinity: reads one flag from the device.
pub(crate) fn check_gradient<const D: usize>(of: &'static str, gradient: &Tensor<D>) -> Result<(), DenoiseError> {
    match gradient.clone().is_finite().all().try_into_scalar::<bool>() {
        Ok(true) => Ok(()),
        Ok(false) => Err(DenoiseError::GradientNotFinite { of }),
        Err(error) => Err(DenoiseError::Read { message: error.to_string() }),
    }
}
