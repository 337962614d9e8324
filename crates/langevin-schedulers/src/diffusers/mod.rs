//! Scheduler configurations as diffusers publishes them (`scheduler_config.json`).
//!
//! A configuration becomes a [`Configured`] value: process, prediction, thresholding, grid and solver. Every key is
//! honoured or an error. The grids of diffusers ignore how many steps they are asked for until then, so
//! [`Configured::plan`] takes the number of steps.

mod keys;
mod score_sde;

pub use score_sde::{SCORE_SDE_CLASSES, ScoreSde, score_sde_from_config};

use crate::ddim::Ddim;
use crate::ddpm::{Ddpm, Variance};
use crate::plan::Plan;
use crate::solver::{PlanError, Solver};
use keys::Keys;
use langevin_core::denoiser::Threshold;
use langevin_core::process::{Betas, ChainEnd, DiscreteChain};
use langevin_core::{Grid, GridError, Prediction, ProcessError};

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Not a JSON object.
    #[error("the scheduler configuration is not readable: {message}")]
    Json {
        /// What the parser said.
        message: String,
    },
    /// No `_class_name`.
    #[error("the scheduler configuration names no class: expected the key '_class_name'")]
    NoClass,
    /// A scheduler that is not there.
    #[error("scheduler class '{class}' is not supported; supported are {known}")]
    Class {
        /// The class given.
        class: String,
        /// The classes known.
        known: String,
    },
    /// A key that the class does not have.
    #[error("{class} has no option '{key}'; its options are {known}")]
    UnknownKey {
        /// The class.
        class: String,
        /// The key.
        key: String,
        /// The keys it has.
        known: String,
    },
    /// A value that an option cannot take.
    #[error("option '{key}' of {class} is {given}, expected {expected}")]
    Value {
        /// The class.
        class: String,
        /// The option.
        key: &'static str,
        /// Its value.
        given: String,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// Two options that exclude each other.
    #[error("options '{first}' and '{second}' of {class} contradict each other: {reason}")]
    Contradiction {
        /// The class.
        class: String,
        /// One option.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// Why they do.
        reason: &'static str,
    },
    /// The process cannot be built.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The grid cannot be built.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// The solver's settings are out of range.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// How timesteps are spread over the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spacing {
    Leading,
    Trailing,
    Linspace,
}

/// The solver a configuration names.
#[derive(Clone, Debug, PartialEq)]
enum Method {
    Ddpm(Ddpm),
    Ddim(Ddim),
    DdimInverse,
}

/// A scheduler read from its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Configured {
    chain: DiscreteChain,
    prediction: Prediction,
    threshold: Option<Threshold>,
    spacing: Spacing,
    offset: usize,
    method: Method,
}

/// Classes that [`from_config`] reads.
pub const CLASSES: [&str; 3] = ["DDPMScheduler", "DDIMScheduler", "DDIMInverseScheduler"];

/// Reads a `scheduler_config.json`.
///
/// # Errors
/// [`ConfigError`] for files that cannot be read, classes and options that are not there, and contradictions.
///
/// ```
/// let scheduler = langevin_schedulers::diffusers::from_config(
///     r#"{"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "clip_sample": false}"#,
/// )?;
/// assert_eq!(scheduler.plan(50)?.steps(), 50);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn from_config(json: &str) -> Result<Configured, ConfigError> {
    let mut keys = Keys::parse(json)?;
    let class = keys.class().to_owned();
    let (variance, ending, inverse) = match class.as_str() {
        "DDPMScheduler" => (Some(variance(&mut keys)?), ChainEnd::Clean, false),
        "DDIMScheduler" => (None, ending(&mut keys)?, false),
        "DDIMInverseScheduler" => (None, ending(&mut keys)?, true),
        _ => return Err(ConfigError::Class { class, known: CLASSES.join(", ") }),
    };
    let (chain, zero_snr) = chain(&mut keys, ending)?;
    let prediction = prediction(&mut keys)?;
    if zero_snr && prediction == Prediction::Epsilon {
        return Err(ConfigError::Contradiction {
            class,
            first: "rescale_betas_zero_snr",
            second: "prediction_type",
            reason: "with zero terminal SNR the first state is pure noise, from which an epsilon prediction says \
                     nothing about the sample; use v_prediction or sample",
        });
    }
    let threshold = threshold(&mut keys, inverse)?;
    let (spacing, offset) = spacing(&mut keys)?;
    let method = match variance {
        Some(variance) => Method::Ddpm(Ddpm::new().variance(variance).noise_at_end(true)),
        None if inverse => Method::DdimInverse,
        None => Method::Ddim(Ddim::new()),
    };
    keys.finish()?;
    Ok(Configured { chain, prediction, threshold, spacing, offset, method })
}

impl Configured {
    /// The noise process.
    pub fn process(&self) -> &DiscreteChain {
        &self.chain
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// How x̂_0 is kept in range: give it to
    /// [`thresholded`](langevin_core::denoiser::DenoiserExt::thresholded).
    pub fn threshold(&self) -> Option<Threshold> {
        self.threshold
    }

    /// Whether the solver reads variance channels from the network's output.
    pub fn learns_variance(&self) -> bool {
        matches!(&self.method, Method::Ddpm(ddpm) if ddpm.learns_variance())
    }

    /// Sets DDIM's η, an argument of diffusers' `step`.
    ///
    /// # Errors
    /// [`ConfigError::Plan`] outside [0, 1], [`ConfigError::Value`] for other solvers than DDIM.
    pub fn eta(mut self, eta: f64) -> Result<Self, ConfigError> {
        match &mut self.method {
            Method::Ddim(ddim) => *ddim = std::mem::take(ddim).eta(eta)?,
            _ if eta == 0.0 => {}
            _ => {
                return Err(ConfigError::Value {
                    class: "this scheduler".to_owned(),
                    key: "eta",
                    given: eta.to_string(),
                    expected: "no eta: only DDIMScheduler takes one",
                });
            }
        }
        Ok(self)
    }

    /// The grid of `steps` steps; whether the chain can hold it is checked when it is laid there.
    pub fn grid(&self, steps: usize) -> Grid {
        let grid = match self.spacing {
            Spacing::Leading => Grid::leading(steps).offset(self.offset),
            Spacing::Trailing => Grid::trailing(steps),
            Spacing::Linspace => Grid::linspace(steps),
        };
        match self.method {
            Method::Ddpm(_) => grid,
            Method::Ddim(_) => grid.strided(),
            Method::DdimInverse => grid.inverted(),
        }
    }

    /// The plan of `steps` steps.
    ///
    /// # Errors
    /// [`PlanError`] if the chain has fewer steps, or the grid leaves it.
    pub fn plan(&self, steps: usize) -> Result<Plan, PlanError> {
        self.plan_on(&self.grid(steps))
    }

    /// The plan on a grid of one's own, for instance [`Grid::times`] for given timesteps.
    ///
    /// # Errors
    /// [`PlanError`] if the grid does not fit the chain.
    pub fn plan_on(&self, grid: &Grid) -> Result<Plan, PlanError> {
        match &self.method {
            Method::Ddpm(ddpm) => ddpm.plan(&self.chain, grid),
            Method::Ddim(ddim) => ddim.plan(&self.chain, grid),
            Method::DdimInverse => Ddim::new().plan(&self.chain, grid),
        }
    }
}

fn variance(keys: &mut Keys) -> Result<Variance, ConfigError> {
    match keys.word("variance_type", "fixed_small")?.as_str() {
        "fixed_small" | "fixed_small_log" => Ok(Variance::FixedSmall),
        "fixed_large" => Ok(Variance::FixedLarge),
        "learned" => Ok(Variance::Learned),
        "learned_range" => Ok(Variance::LearnedRange),
        other => Err(keys.bad(
            "variance_type",
            other,
            "fixed_small, fixed_small_log, fixed_large, learned or learned_range (fixed_large_log takes a logarithm \
             for a variance and gives NaN in the original)",
        )),
    }
}

fn ending(keys: &mut Keys) -> Result<ChainEnd, ConfigError> {
    Ok(if keys.flag("set_alpha_to_one", true)? { ChainEnd::Clean } else { ChainEnd::FirstStep })
}

fn chain(keys: &mut Keys, ending: ChainEnd) -> Result<(DiscreteChain, bool), ConfigError> {
    let steps = keys.count("num_train_timesteps", 1000)?;
    let start = keys.number("beta_start", 1e-4)?;
    let end = keys.number("beta_end", 0.02)?;
    let betas = match keys.word("beta_schedule", "linear")?.as_str() {
        "linear" => Betas::Linear { start, end },
        "scaled_linear" => Betas::ScaledLinear { start, end },
        "squaredcos_cap_v2" => Betas::SquaredCosine,
        "sigmoid" => Betas::Sigmoid { start, end },
        "laplace" => Betas::Laplace,
        other => {
            return Err(keys.bad(
                "beta_schedule",
                other,
                "linear, scaled_linear, squaredcos_cap_v2, sigmoid or laplace",
            ));
        }
    };
    let betas = keys.numbers("trained_betas")?.map_or(betas, Betas::Custom);
    let steps = if let Betas::Custom(betas) = &betas { betas.len() } else { steps };
    let zero_snr = keys.flag("rescale_betas_zero_snr", false)?;
    // Published networks were trained on ᾱ as torch computes it, in f32.
    let mut chain = DiscreteChain::new(betas, steps)?.compat_f32()?.ending(ending);
    if zero_snr {
        chain = chain.rescale_zero_terminal_snr()?;
    }
    Ok((chain, zero_snr))
}

fn prediction(keys: &mut Keys) -> Result<Prediction, ConfigError> {
    match keys.word("prediction_type", "epsilon")?.as_str() {
        "epsilon" => Ok(Prediction::Epsilon),
        "sample" => Ok(Prediction::Sample),
        "v_prediction" => Ok(Prediction::Velocity),
        other => Err(keys.bad("prediction_type", other, "epsilon, sample or v_prediction")),
    }
}

fn threshold(keys: &mut Keys, inverse: bool) -> Result<Option<Threshold>, ConfigError> {
    let clip = keys.flag("clip_sample", true)?;
    let range = keys.number("clip_sample_range", 1.0)?;
    if !(range > 0.0) {
        return Err(keys.bad("clip_sample_range", range, "a positive number"));
    }
    // The inverse scheduler has no dynamic thresholding.
    let dynamic = if inverse {
        None
    } else {
        let wanted = keys.flag("thresholding", false)?;
        let ratio = keys.number("dynamic_thresholding_ratio", 0.995)?;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(keys.bad("dynamic_thresholding_ratio", ratio, "a number in [0, 1]"));
        }
        let max = keys.number("sample_max_value", 1.0)?;
        if !(max >= 1.0) {
            return Err(keys.bad("sample_max_value", max, "at least 1"));
        }
        wanted.then_some(Threshold::Dynamic { ratio, max })
    };
    Ok(dynamic.or(clip.then_some(Threshold::Static { range })))
}

fn spacing(keys: &mut Keys) -> Result<(Spacing, usize), ConfigError> {
    let offset = keys.count("steps_offset", 0)?;
    let spacing = match keys.word("timestep_spacing", "leading")?.as_str() {
        "leading" => Spacing::Leading,
        "trailing" => Spacing::Trailing,
        "linspace" => Spacing::Linspace,
        other => return Err(keys.bad("timestep_spacing", other, "leading, trailing or linspace")),
    };
    Ok((spacing, offset))
}
