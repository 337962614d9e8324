//! Denoising diffusion restoration models, DDRM (Kawar et al. 2022).

use super::fingerprint;
use crate::ddpm::check_direction;
use crate::ode::check_joined;
use crate::sampler::{Context, RunState, SampleError, Sampler, Step};
use crate::solver::{PlanError, has_zero_terminal_snr, prior_std};
use burn::tensor::Tensor;
use langevin_core::grid::Stop;
use langevin_core::inverse::{InverseError, LinearOperator, Measurement, SingularValues, Svd};
use langevin_core::{DenoiseError, Grid, Key, Level, Levels, Process, noise};

const NAME: &str = "DDRM";

/// DDRM: each coordinate of the operator's spectral space is sampled alone, from x̂_0, from the measurement, or from both.
///
/// With `A = U·S·Vᵀ`, in `y = x/α` and `κ = σ/α`, a step from κ' to κ draws each coordinate of `Vᵀ·y` from a normal law
/// (equations 7 and 8 of the paper), where `θ = Vᵀ·x̂_0`, `ȳ = S⁺·Uᵀ·y` and k is the noise of the measurement over the singular
/// value:
///
/// | coordinate | mean | variance |
/// |---|---|---|
/// | not measured, S = 0 | `θ + √(1 − η²)·κ/κ'·(x̄ − θ)` | `η²κ²` |
/// | measured less precisely than κ, `κ < k` | `θ + √(1 − η²)·κ/k·(ȳ − θ)` | `η²κ²` |
/// | measured more precisely, `κ >= k` | `(1 − η_b)·θ + η_b·ȳ` | `κ² − η_b²k²` |
///
/// A run starts from `N(ȳ, κ² − k²)` where k is at most the first κ, and from noise elsewhere: of a state that is given instead,
/// only its value over the prior's deviation counts, as noise.
///
/// No gradients, one evaluation a step, 20 steps in the paper. What to expect of the samples:
///
/// * Without noise in y and with η_b = 1, measured coordinates end at ȳ. If data is Gaussian and the other coordinates are
///   independent of them, the others go to the posterior as the steps grow fine with η = 0; with η > 0 they spread less.
/// * With noise in y it is not weighed against the data's own law as a posterior would: many fine steps draw measured coordinates
///   towards ȳ itself. Few steps, as in the paper, stay nearer.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::exact::{Posterior, correlated_mixture};
/// use langevin_core::grid::End;
/// use langevin_core::inverse::{Masking, Measurement};
/// use langevin_core::{Grid, Load, Prediction, noise::Seeded, process::VpSde};
/// use langevin_schedulers::{SamplerExt, inverse::Ddrm};
/// let device = Device::flex();
/// // Of points in the plane, x is known to be 0.8.
/// let first = Masking::new(Tensor::<2>::from_floats([[1.0, 0.0]], &device))?;
/// let measurement = Measurement::new(first, Tensor::from_floats([[0.8, 0.0]], &device), 0.0)?;
/// let sampler = Ddrm::new(&VpSde::default(), &Grid::uniform(20).ending(End::Clean), measurement)?;
/// let denoiser = correlated_mixture()?.denoiser(Prediction::Epsilon)?;
/// let noise = Seeded::new(42);
/// let x = sampler.start([4, 2], &denoiser, &noise, Load::on(&device))?.finish()?;
/// assert!((x.narrow(1, 0, 1) - 0.8).abs().max().into_scalar::<f32>() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Kawar et al. 2022, "Denoising diffusion restoration models".
#[derive(Clone, Debug)]
pub struct Ddrm<O, const D: usize> {
    stops: Vec<Stop>,
    prior_std: f64,
    measurement: Measurement<O, D>,
    /// `S⁺·Uᵀ·y`, `[rows, ..]` in the shape of samples.
    spectrum: Tensor<D>,
    values: SingularValues,
    eta: f64,
    eta_b: f64,
    fingerprint: u64,
    zero_terminal_snr: bool,
}

/// What a coordinate is made of: x̂_0, the state, the measurement, noise.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mix {
    x0: f64,
    state: f64,
    y: f64,
    noise: f64,
}

impl<O: LinearOperator<D>, const D: usize> Ddrm<O, D> {
    /// With η = 0.85 and η_b = 1, as in the paper.
    ///
    /// # Errors
    /// [`PlanError::Inverse`] if the operator does not know its decomposition; [`PlanError`] for grids that do not fall, whose
    /// steps do not join, or that visit a level without signal or begin at one without noise.
    pub fn new(process: &dyn Process, grid: &Grid, measurement: Measurement<O, D>) -> Result<Self, PlanError> {
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, true)?;
        check_joined(NAME, &stops)?;
        for node in stops.iter().map(|stop| &stop.from) {
            let Level { alpha, sigma, .. } = node.level;
            if !(alpha > 0.0 && sigma > 0.0) {
                let advice = "it divides by α and by σ; leave the level out, for instance with `Grid::between`";
                return Err(PlanError::Singular { solver: NAME, t: node.t, alpha, sigma, advice });
            }
        }
        let svd = measurement.operator().svd().ok_or(InverseError::NoSvd { method: NAME })?;
        let left = svd.left(measurement.y())?;
        let values = svd.singular_values(&left.dims()[1..])?;
        let spectrum = values.times(left, |s| if s > 0.0 { 1.0 / s } else { 0.0 })?;
        let start = stops[0].from;
        let mut this = Self {
            prior_std: prior_std(process, &start),
            stops,
            measurement,
            spectrum,
            values,
            eta: 0.85,
            eta_b: 1.0,
            fingerprint: 0,
            zero_terminal_snr: has_zero_terminal_snr(process),
        };
        this.fingerprint = this.print();
        Ok(this)
    }

    /// How much of the noise is drawn afresh in each step, in [0, 1].
    ///
    /// # Errors
    /// [`PlanError::Setting`] outside.
    pub fn eta(mut self, eta: f64) -> Result<Self, PlanError> {
        self.eta = share("eta", eta)?;
        self.fingerprint = self.print();
        Ok(self)
    }

    /// How much of the measurement is put into coordinates that are measured more precisely than the level, in [0, 1].
    ///
    /// # Errors
    /// [`PlanError::Setting`] outside.
    pub fn eta_b(mut self, eta_b: f64) -> Result<Self, PlanError> {
        self.eta_b = share("eta_b", eta_b)?;
        self.fingerprint = self.print();
        Ok(self)
    }

    /// The measurement.
    pub fn measurement(&self) -> &Measurement<O, D> {
        &self.measurement
    }

    fn print(&self) -> u64 {
        let level = |level: &Level| [level.alpha, level.sigma, level.time];
        let stops =
            self.stops.iter().flat_map(|stop| [level(&stop.ask), level(&stop.from.level), level(&stop.to.level)]);
        let settings = [self.eta, self.eta_b, self.measurement.noise(), self.prior_std];
        let y: Vec<f64> = self.spectrum.to_data().iter::<f64>().collect();
        fingerprint(stops.flatten().chain(settings).chain(self.values.values().iter().copied()).chain(y))
    }

    /// Noise of the measurement over the singular value: how precisely a coordinate was measured.
    fn imprecision(&self, singular: f64) -> f64 {
        if singular > 0.0 { self.measurement.noise() / singular } else { f64::INFINITY }
    }

    /// The first state, whose x̂_0 nobody knows.
    fn initial(&self, kappa: f64, singular: f64) -> Mix {
        let k = self.imprecision(singular);
        if k < kappa {
            Mix { x0: 0.0, state: 0.0, y: 1.0, noise: ((kappa - k) * (kappa + k)).sqrt() }
        } else {
            Mix { x0: 0.0, state: 0.0, y: 0.0, noise: kappa }
        }
    }

    /// The coordinate after a step from κ' to κ.
    fn mix(&self, before: f64, kappa: f64, singular: f64) -> Mix {
        let k = self.imprecision(singular);
        let kept = (1.0 - self.eta * self.eta).sqrt();
        let noise = self.eta * kappa;
        if singular == 0.0 {
            let state = kept * kappa / before;
            Mix { x0: 1.0 - state, state, y: 0.0, noise }
        } else if kappa < k {
            let y = kept * kappa / k;
            Mix { x0: 1.0 - y, state: 0.0, y, noise }
        } else {
            let b = self.eta_b * k;
            Mix { x0: 1.0 - self.eta_b, state: 0.0, y: self.eta_b, noise: ((kappa - b) * (kappa + b)).max(0.0).sqrt() }
        }
    }

    /// Coordinates times one part of their mixes; nothing if that is 0 for all.
    fn part(&self, of: Tensor<D>, weight: impl Fn(f64) -> f64) -> Result<Option<Tensor<D>>, SampleError> {
        if self.values.values().iter().all(|s| weight(*s) == 0.0) {
            return Ok(None);
        }
        Ok(Some(self.values.times(of, weight).map_err(DenoiseError::from)?))
    }

    fn svd(&self) -> Result<&dyn Svd<D>, SampleError> {
        let missing = InverseError::NoSvd { method: NAME };
        Ok(self.measurement.operator().svd().ok_or(missing).map_err(DenoiseError::from)?)
    }

    /// The measurement's coordinates as the samples' are.
    fn y(&self, like: &Tensor<D>) -> Tensor<D> {
        let y = if self.spectrum.dtype() == like.dtype() {
            self.spectrum.clone()
        } else {
            self.spectrum.clone().cast(like.dtype())
        };
        y.expand(like.dims())
    }
}

impl<O: LinearOperator<D>, const D: usize> Sampler<D> for Ddrm<O, D> {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        let index = state.steps();
        let Some(stop) = self.stops.get(index) else { return Ok(None) };
        let svd = self.svd()?;
        let inverse = DenoiseError::from;
        let mut x = state.x();
        self.measurement.check(&x.dims()).map_err(inverse)?;
        let ratio = |level: &Level| level.sigma / level.alpha;
        let (from, to) = (&stop.from.level, &stop.to.level);
        let before = ratio(from);
        if index == 0 {
            let z = svd.right(x.div_scalar(self.prior_std)).map_err(inverse)?;
            let y = self.part(self.y(&z), |s| self.initial(before, s).y)?;
            let spread = self.values.times(z, |s| self.initial(before, s).noise).map_err(inverse)?;
            let start = y.into_iter().fold(spread, Tensor::add);
            x = svd.right_inverse(start).map_err(inverse)?.mul_scalar(from.alpha);
        }
        let estimate = cx.ask(state, x.clone(), &Levels::Shared(stop.ask))?;
        let x0 = estimate.x0()?;
        let kappa = ratio(to);
        let mix = |s: f64| self.mix(before, kappa, s);
        let theta = svd.right(x0.clone()).map_err(inverse)?;
        let mut parts = Vec::new();
        parts.extend(self.part(self.y(&theta), |s| mix(s).y)?);
        let now = svd.right(x.clone().div_scalar(from.alpha)).map_err(inverse)?;
        parts.extend(self.part(now, |s| mix(s).state)?);
        if self.values.values().iter().any(|s| mix(*s).noise > 0.0) {
            let z = noise::like(cx.noise, &x, state.first_sample(), Key::step(index as u64, 0))?;
            parts.extend(self.part(z, |s| mix(s).noise)?);
        }
        let theta = self.values.times(theta, |s| mix(s).x0).map_err(inverse)?;
        let next = svd.right_inverse(parts.into_iter().fold(theta, Tensor::add)).map_err(inverse)?;
        state.set_x(next.mul_scalar(to.alpha));
        Ok(Some(state.step(Levels::Shared(*to), Some(x0))))
    }

    fn start_levels(&self) -> Levels {
        Levels::Shared(self.stops[0].from.level)
    }

    fn prior_std(&self) -> f64 {
        self.prior_std
    }

    fn name(&self) -> String {
        NAME.into()
    }

    fn total_steps(&self) -> Option<usize> {
        Some(self.stops.len())
    }

    fn zero_terminal_snr(&self) -> bool {
        self.zero_terminal_snr
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

fn share(setting: &'static str, given: f64) -> Result<f64, PlanError> {
    if (0.0..=1.0).contains(&given) {
        return Ok(given);
    }
    Err(PlanError::Setting { solver: NAME, setting, given, expected: "a number in [0, 1]" })
}
