//! Grids: which levels a sampler visits.
//!
//! A [`Grid`] is a value that knows nothing of solvers. Put on a process it becomes a list of [`Stop`]s: where to ask the
//! network, where the step begins and where it goes.
//!
//! | grid | where it is evenly spaced | ends by default |
//! |---|---|---|
//! | [`leading`](Grid::leading), [`trailing`](Grid::trailing), [`linspace`](Grid::linspace) | whole steps of a chain | clean |
//! | [`uniform`](Grid::uniform) | t | range |
//! | [`quadratic`](Grid::quadratic) | √t | range |
//! | [`uniform_lambda`](Grid::uniform_lambda) | λ = ln(α/σ) | range |
//! | [`karras`](Grid::karras) | (σ/α)^(1/ρ) | clean |
//! | [`exponential`](Grid::exponential) | ln(σ/α), as in λ | clean |
//! | [`polyexponential`](Grid::polyexponential) | ln(σ/α) through a power ρ | clean |
//! | [`vp`](Grid::vp) | the time of a VP SDE that has these σ/α | clean |
//! | [`beta`](Grid::beta) | quantiles of a Beta distribution in t | clean |
//! | [`ays`](Grid::ays) | published tables of σ/α | clean |
//! | [`times`](Grid::times), [`levels`](Grid::levels) | given | range |
//!
//! On a chain every grid ends clean unless told otherwise. A grid of n steps that ends clean asks at n levels between the
//! ends of the range, both included, and then steps to the clean end; one that ends with the range has n + 1 levels, the
//! last of which is not asked.

mod ays;
mod beta;
mod chain_steps;
mod error;
mod spacing;
mod stops;
#[cfg(test)]
mod tests;

pub use ays::AysTable;
pub use error::GridError;

use crate::level::{Level, Node};
use crate::process::{LinearBeta, Process};
use serde::{Deserialize, Serialize};

/// One step of a sampler.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Where the network is asked: α and σ of `from`, usually with `from`'s own time.
    pub ask: Level,
    /// Where the step begins.
    pub from: Node,
    /// Where it arrives.
    pub to: Node,
}

/// Where the last step of a grid arrives.
///
/// | by default | grids |
/// |---|---|
/// | [`Clean`](Self::Clean) | every grid on a chain; elsewhere [`karras`](Grid::karras), [`exponential`](Grid::exponential), [`polyexponential`](Grid::polyexponential), [`vp`](Grid::vp), [`beta`](Grid::beta), [`ays`](Grid::ays) |
/// | [`Range`](Self::Range) | on continuous processes [`uniform`](Grid::uniform), [`quadratic`](Grid::quadratic), [`uniform_lambda`](Grid::uniform_lambda), [`times`](Grid::times), [`levels`](Grid::levels) |
///
/// [`Grid::ending`] sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// At clean data ([`Process::clean`]): σ = 0, or on a chain what its
    /// [`ChainEnd`](crate::process::ChainEnd) says.
    Clean,
    /// At the clean end of the range, or at the last of given times or levels.
    Range,
}

/// Which levels to visit, independently of process and solver.
///
/// Settings are checked when the grid meets a process, in [`stops`](Self::stops).
///
/// ```
/// use langevin_core::{Grid, process::{Betas, DiscreteChain, Edm}};
/// let chain = DiscreteChain::new(Betas::DDPM, 1000)?;
/// let stops = Grid::leading(4).stops(&chain)?;
/// assert_eq!(stops.iter().map(|s| s.ask.time).collect::<Vec<_>>(), [750.0, 500.0, 250.0, 0.0]);
/// assert_eq!(stops[3].to.level.sigma, 0.0);
///
/// let stops = Grid::karras(5, 7.0)?.stops(&Edm::default())?;
/// assert_eq!((stops[0].from.level.sigma, stops[4].to.level.sigma), (80.0, 0.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    kind: Kind,
    #[serde(default)]
    offset: usize,
    #[serde(default)]
    strided: bool,
    #[serde(default)]
    end: Option<End>,
    #[serde(default)]
    between: Option<(f64, f64)>,
    #[serde(default)]
    start: usize,
    #[serde(default)]
    inverted: bool,
}

/// The kinds of grids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Leading { n: usize },
    Trailing { n: usize },
    Linspace { n: usize },
    Uniform { n: usize },
    Quadratic { n: usize },
    UniformLambda { n: usize },
    Karras { n: usize, rho: f64 },
    Exponential { n: usize },
    Polyexponential { n: usize, rho: f64 },
    Vp { n: usize, beta_min: f64, beta_max: f64 },
    Beta { n: usize, a: f64, b: f64 },
    Ays { table: AysTable, n: usize },
    Times { times: Vec<f64> },
    Levels { levels: Vec<Level> },
}

/// What errors of its parameters are about.
const VP: &str = "the VP grid";

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Kind::Leading { .. } => "a leading grid",
            Kind::Trailing { .. } => "a trailing grid",
            Kind::Linspace { .. } => "a linspace grid",
            Kind::Uniform { .. } => "a uniform grid",
            Kind::Quadratic { .. } => "a quadratic grid",
            Kind::UniformLambda { .. } => "a uniform-lambda grid",
            Kind::Karras { .. } => "a Karras grid",
            Kind::Exponential { .. } => "an exponential grid",
            Kind::Polyexponential { .. } => "a polyexponential grid",
            Kind::Vp { .. } => "a VP grid",
            Kind::Beta { .. } => "a beta grid",
            Kind::Ays { .. } => "an align-your-steps grid",
            Kind::Times { .. } => "a grid of given times",
            Kind::Levels { .. } => "a grid of given levels",
        }
    }

    /// Steps asked for, or the length of a given list.
    fn steps(&self) -> usize {
        match self {
            Kind::Leading { n }
            | Kind::Trailing { n }
            | Kind::Linspace { n }
            | Kind::Uniform { n }
            | Kind::Quadratic { n }
            | Kind::UniformLambda { n }
            | Kind::Karras { n, .. }
            | Kind::Exponential { n }
            | Kind::Polyexponential { n, .. }
            | Kind::Vp { n, .. }
            | Kind::Beta { n, .. }
            | Kind::Ays { n, .. } => *n,
            Kind::Times { times } => times.len(),
            Kind::Levels { levels } => levels.len(),
        }
    }
}

fn check_positive(parameter: &'static str, given: f64, limit: f64) -> Result<(), GridError> {
    if given > 0.0 && given <= limit {
        return Ok(());
    }
    let expected = if limit.is_finite() { "a number in (0, 1000]" } else { "a positive number" };
    Err(GridError::Parameter { parameter, given, expected })
}

impl Grid {
    fn of(kind: Kind) -> Self {
        Self { kind, offset: 0, strided: false, end: None, between: None, start: 0, inverted: false }
    }

    /// Every (T div n)-th step of a chain from step 0 on (DDIM's and DDPM's original spacing); see [`offset`](Self::offset).
    /// Ends clean by default, as all grids on a chain.
    pub fn leading(n: usize) -> Self {
        Self::of(Kind::Leading { n })
    }

    /// Every (T/n)-th step of a chain, rounded half to even, counted back from the last (Lin et al. 2023, table 2).
    /// Ends clean by default, as all grids on a chain.
    pub fn trailing(n: usize) -> Self {
        Self::of(Kind::Trailing { n })
    }

    /// `n` equally spaced steps of a chain, first and last included, rounded half to even. One step is step 0, as published.
    /// Ends clean by default, as all grids on a chain.
    pub fn linspace(n: usize) -> Self {
        Self::of(Kind::Linspace { n })
    }

    /// Equal steps in process time.
    /// Ends with the range by default, on a chain clean.
    pub fn uniform(n: usize) -> Self {
        Self::of(Kind::Uniform { n })
    }

    /// Equal steps in √t (Song et al. 2020, appendix D.3).
    /// Ends with the range by default, on a chain clean.
    pub fn quadratic(n: usize) -> Self {
        Self::of(Kind::Quadratic { n })
    }

    /// Equal steps in λ (Lu et al. 2022, section 3).
    /// Ends with the range by default, on a chain clean.
    pub fn uniform_lambda(n: usize) -> Self {
        Self::of(Kind::UniformLambda { n })
    }

    /// Equal steps in `(σ/α)^(1/ρ)` (Karras et al. 2022, eq. 5; ρ = 7 there).
    /// Ends clean by default.
    ///
    /// # Errors
    /// [`GridError::Parameter`] unless `0 < rho <= 1000`.
    pub fn karras(n: usize, rho: f64) -> Result<Self, GridError> {
        check_positive("rho", rho, 1e3)?;
        Ok(Self::of(Kind::Karras { n, rho }))
    }

    /// Equal steps in `ln(σ/α)`: [`uniform_lambda`](Self::uniform_lambda) followed by a clean end.
    /// Ends clean by default.
    pub fn exponential(n: usize) -> Self {
        Self::of(Kind::Exponential { n })
    }

    /// `ln(σ/α)` falling as `r^ρ` with r from 1 to 0 in equal steps (k-diffusion's polyexponential schedule).
    /// Ends clean by default.
    ///
    /// # Errors
    /// [`GridError::Parameter`] unless `0 < rho <= 1000`.
    pub fn polyexponential(n: usize, rho: f64) -> Result<Self, GridError> {
        check_positive("rho", rho, 1e3)?;
        Ok(Self::of(Kind::Polyexponential { n, rho }))
    }

    /// Equal steps in the time of a VP SDE with β from `beta_min` to `beta_max` that has the same σ/α,
    /// `σ/α = √(exp(β_min·t + ½(β_max − β_min)·t²) − 1)` (Karras et al. 2022, table 1; 0.1 and 20 there). On that VP SDE it is
    /// [`uniform`](Self::uniform).
    /// Ends clean by default.
    ///
    /// ```
    /// use langevin_core::{Grid, grid::End, process::VpSde};
    /// let times = |grid: Grid| -> Result<Vec<f64>, langevin_core::GridError> {
    ///     Ok(grid.stops(&VpSde::default())?.iter().map(|stop| stop.from.t).collect())
    /// };
    /// let (vp, uniform) = (times(Grid::vp(4, 0.1, 20.0)?)?, times(Grid::uniform(4).ending(End::Clean))?);
    /// assert!(vp.iter().zip(&uniform).all(|(a, b)| (a - b).abs() < 1e-12));
    /// # Ok::<(), langevin_core::GridError>(())
    /// ```
    ///
    /// # Errors
    /// [`GridError::Process`] unless `0 <= beta_min <= beta_max`, both finite, `beta_max > 0`.
    pub fn vp(n: usize, beta_min: f64, beta_max: f64) -> Result<Self, GridError> {
        LinearBeta::new(VP, beta_min, beta_max)?;
        Ok(Self::of(Kind::Vp { n, beta_min, beta_max }))
    }

    /// Times at equally spaced quantiles of the Beta(a, b) distribution over the range (Lee et al. 2024; 0.6 and 0.6 there).
    /// Ends clean by default.
    ///
    /// # Errors
    /// [`GridError::Parameter`] unless `a` and `b` are in (0, 1000].
    pub fn beta(n: usize, a: f64, b: f64) -> Result<Self, GridError> {
        check_positive("a", a, 1e3)?;
        check_positive("b", b, 1e3)?;
        Ok(Self::of(Kind::Beta { n, a, b }))
    }

    /// The levels of a published align-your-steps table (Sabour et al. 2024), log-linearly interpolated for n other than 10.
    /// Ends clean by default.
    pub fn ays(table: AysTable, n: usize) -> Self {
        Self::of(Kind::Ays { table, n })
    }

    /// Given process times, falling. All are asked if the grid ends [clean](End::Clean) (the default on chains); otherwise
    /// the last is where sampling arrives.
    ///
    /// # Errors
    /// [`GridError::NotFinite`] for NaN and infinities, [`GridError::Direction`] unless strictly falling.
    pub fn times(times: Vec<f64>) -> Result<Self, GridError> {
        stops::check_times(&times)?;
        Ok(Self::of(Kind::Times { times }))
    }

    /// Given levels with rising λ, used as they are; only their process times are looked up. All are asked if the grid
    /// ends [clean](End::Clean) (the default on chains); otherwise the last is where sampling arrives. The last two may
    /// have one λ: published schedules end with a step that stands still. So may the first two of an
    /// [inverted](Self::inverted) grid.
    ///
    /// # Errors
    /// [`GridError::NotFinite`] for numbers that are none, [`GridError::Direction`] unless λ rises strictly.
    pub fn levels(levels: Vec<Level>) -> Result<Self, GridError> {
        stops::check_levels(&levels, true)?;
        Ok(Self::of(Kind::Levels { levels }))
    }

    /// Shifts a leading grid by `k` steps towards noise (`steps_offset` of published configurations).
    pub fn offset(mut self, k: usize) -> Self {
        self.offset = k;
        self
    }

    /// Each step goes to the asked time minus T div n, as published implementations of DDIM and PNDM do on chains, not to
    /// the next asked time. Where n does not divide T the steps of most grids then leave gaps or overlap: a solver that
    /// integrates refuses them.
    pub fn strided(mut self) -> Self {
        self.strided = true;
        self
    }

    /// Where the last step arrives. A grid of a chain's steps that ends with the range does not ask at step 0 if it would
    /// stand still there.
    pub fn ending(mut self, end: End) -> Self {
        self.end = Some(end);
        self
    }

    /// Restricts the grid to process times from `noisy` down to `clean`.
    pub fn between(mut self, noisy: f64, clean: f64) -> Self {
        self.between = Some((noisy, clean));
        self
    }

    /// Leaves out the first `index` steps: image-to-image, where sampling starts from a noised image.
    pub fn starting_at(mut self, index: usize) -> Self {
        self.start = index;
        self
    }

    /// Rising levels, from data to noise, for DDIM inversion (Song et al. 2020, section 5.4).
    ///
    /// The steps are those of the grid, each from its cleaner to its noisier level, so they join where the grid's do. The
    /// network is asked at the cleaner level of a step: on leading and trailing grids with the time of the noisier one, as
    /// published; on others with its own time, but for the clean end itself, where that of the noisier one is taken.
    ///
    /// A grid that is also [`strided`](Self::strided) goes from t − T div n to t at each asked t, as diffusers'
    /// `DDIMInverseScheduler` does; where n does not divide T a trailing one then has gaps.
    ///
    /// ```
    /// use langevin_core::{Grid, process::{Betas, DiscreteChain}};
    /// let chain = DiscreteChain::new(Betas::DDPM, 10)?;
    /// let times = |grid: Grid| -> Result<Vec<(f64, f64)>, langevin_core::GridError> {
    ///     Ok(grid.inverted().stops(&chain)?.iter().map(|stop| (stop.from.t, stop.to.t)).collect())
    /// };
    /// assert_eq!(times(Grid::trailing(4))?, [(-1.0, 1.0), (1.0, 4.0), (4.0, 7.0), (7.0, 9.0)]);
    /// assert_eq!(times(Grid::trailing(4).strided())?, [(-1.0, 1.0), (2.0, 4.0), (5.0, 7.0), (7.0, 9.0)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn inverted(mut self) -> Self {
        self.inverted = true;
        self
    }

    /// The steps on a process.
    ///
    /// # Errors
    /// [`GridError`], whenever the grid's settings contradict each other or do not fit the process.
    pub fn stops(&self, process: &dyn Process) -> Result<Vec<Stop>, GridError> {
        stops::resolve(self, process)
    }
}
