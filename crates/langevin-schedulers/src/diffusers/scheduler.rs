//! Whatever class a file is of.

use super::{
    CLASSES, ConfigError, Configured, HELIOS_CLASSES, Helios, Rfd4Proteina, SCORE_SDE_CLASSES, ScoreSde, TOKEN_CLASSES,
    VqDiffusion, amused_from_config, block_refinement_from_config, discrete_ddim_from_config,
    entropy_bound_from_config, from_config, helios_from_config, keys::Keys, piflow_from_config,
    rfd4_proteina_from_config, score_sde_from_config, vq_diffusion_from_config,
};
use crate::discrete::{BlockRefinement, DiscreteDdim, EntropyBound, MaskGit};
use crate::flow::PiFlow;
use crate::sampler::Sampler;
use langevin_core::{Prediction, Process};

/// A scheduler of any class of diffusers, read by [`from_diffusers`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Scheduler {
    /// Process, prediction, grids and solver: the classes of [`CLASSES`].
    Configured(Box<Configured>),
    /// A predictor, with correctors or without: those of [`SCORE_SDE_CLASSES`].
    ScoreSde(ScoreSde),
    /// Stages, each of which is a run: those of [`HELIOS_CLASSES`].
    Helios(Helios),
    /// A tempered flow.
    Rfd4Proteina(Rfd4Proteina),
    /// A flow whose networks answer with several velocities at once.
    PiFlow(PiFlow),
    /// A chain of tokens.
    VqDiffusion(VqDiffusion),
    /// A way to sample tokens, whose number of classes is said by the network and not by the file.
    Tokens(TokenConfig),
}

/// The options of a class of tokens, which become a sampler with a number of classes.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenConfig {
    class: String,
    json: String,
}

/// Reads the text of a `scheduler_config.json` of any class: what each of the functions here reads.
///
/// # Errors
/// [`ConfigError`] as from those functions: for text that cannot be read, classes and options that are not there, values out of range
/// and contradictions.
///
/// ```
/// use langevin_core::Prediction;
/// use langevin_schedulers::diffusers::{Scheduler, from_diffusers};
/// let scheduler = from_diffusers(r#"{"_class_name": "ScoreSdeVeScheduler", "snr": 0.2}"#)?;
/// assert_eq!((scheduler.class(), scheduler.prediction()), ("ScoreSdeVeScheduler", Some(Prediction::Score)));
/// assert!(scheduler.sampler::<4>(100)?.name().contains("reverse diffusion"));
///
/// let scheduler = from_diffusers(r#"{"_class_name": "AmusedScheduler", "mask_token_id": 8255}"#)?;
/// let Scheduler::Tokens(tokens) = scheduler else { panic!("a class of tokens") };
/// let sampler = tokens.mask_git(8192, 12)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn from_diffusers(json: &str) -> Result<Scheduler, ConfigError> {
    if let Some(scheduler) = super::score_sde::code(json) {
        return Ok(Scheduler::ScoreSde(scheduler?));
    }
    let class = Keys::parse(json)?.class().to_owned();
    Ok(match class.as_str() {
        class if CLASSES.contains(&class) => Scheduler::Configured(Box::new(from_config(json)?)),
        class if SCORE_SDE_CLASSES.contains(&class) => Scheduler::ScoreSde(score_sde_from_config(json)?),
        class if HELIOS_CLASSES.contains(&class) => Scheduler::Helios(helios_from_config(json)?),
        "RFD4ProteinaScheduler" => Scheduler::Rfd4Proteina(rfd4_proteina_from_config(json)?),
        "PiflowScheduler" => Scheduler::PiFlow(piflow_from_config(json)?),
        "VQDiffusionScheduler" => Scheduler::VqDiffusion(vq_diffusion_from_config(json)?),
        other if TOKEN_CLASSES.contains(&other) => {
            let config = TokenConfig { class, json: json.to_owned() };
            config.check()?;
            Scheduler::Tokens(config)
        }
        _ => {
            let groups: [&[&str]; 5] = [
                &CLASSES,
                &SCORE_SDE_CLASSES,
                &HELIOS_CLASSES,
                &TOKEN_CLASSES,
                &["RFD4ProteinaScheduler", "PiflowScheduler"],
            ];
            return Err(ConfigError::Class { class, known: groups.concat().join(", ") });
        }
    })
}

impl Scheduler {
    /// The class in the file; that of score SDEs' own code has none, and is called `score_sde_pytorch` here.
    pub fn class(&self) -> &str {
        match self {
            Scheduler::Configured(configured) => configured.class(),
            Scheduler::ScoreSde(ScoreSde::Vp { .. }) => "ScoreSdeVpScheduler",
            Scheduler::ScoreSde(ScoreSde::Ve { .. }) => "ScoreSdeVeScheduler",
            Scheduler::ScoreSde(ScoreSde::Code(_)) => "score_sde_pytorch",
            Scheduler::Helios(helios) => helios.class(),
            Scheduler::Rfd4Proteina(_) => "RFD4ProteinaScheduler",
            Scheduler::PiFlow(_) => "PiflowScheduler",
            Scheduler::VqDiffusion(_) => "VQDiffusionScheduler",
            Scheduler::Tokens(tokens) => tokens.class(),
        }
    }

    /// The noise process; none for tokens, and for flows that are no more than their solver.
    pub fn process(&self) -> Option<&dyn Process> {
        match self {
            Scheduler::Configured(configured) => Some(configured.process()),
            Scheduler::ScoreSde(score_sde) => Some(score_sde.process()),
            Scheduler::Helios(helios) => Some(helios.process()),
            _ => None,
        }
    }

    /// What its networks predict, if that is one answer about numbers.
    pub fn prediction(&self) -> Option<Prediction> {
        match self {
            Scheduler::Configured(configured) => Some(configured.prediction()),
            Scheduler::ScoreSde(score_sde) => Some(score_sde.prediction()),
            Scheduler::Helios(helios) => Some(helios.prediction()),
            Scheduler::Rfd4Proteina(scheduler) => Some(scheduler.prediction()),
            Scheduler::PiFlow(_) | Scheduler::VqDiffusion(_) | Scheduler::Tokens(_) => None,
        }
    }

    /// The sampler of `steps` steps, as the class's own value makes it: `plan`, and of score SDEs `sampler`.
    ///
    /// # Errors
    /// As those; [`ConfigError::NoSampler`] for classes whose samples are tokens, whose runs are several, or whose networks answer
    /// otherwise, with what to take instead.
    pub fn sampler<const D: usize>(&self, steps: usize) -> Result<Box<dyn Sampler<D>>, ConfigError> {
        let none = |instead| Err(ConfigError::NoSampler { class: self.class().to_owned(), instead });
        match self {
            Scheduler::Configured(configured) => Ok(Box::new(configured.plan(steps)?)),
            Scheduler::ScoreSde(score_sde) => Ok(Box::new(score_sde.sampler(steps)?)),
            Scheduler::Rfd4Proteina(scheduler) => Ok(Box::new(scheduler.plan(steps)?)),
            Scheduler::Helios(_) => none("each stage is a run of its own: take `Helios::plan` of `Scheduler::Helios`"),
            Scheduler::PiFlow(_) => {
                none("its networks answer with several velocities at once: take `PiFlow::plan` of `Scheduler::PiFlow`")
            }
            Scheduler::VqDiffusion(_) => {
                none("its samples are tokens: take `VqDiffusion::sampler` of `Scheduler::VqDiffusion`")
            }
            Scheduler::Tokens(_) => none(
                "its samples are tokens, and their number of classes is the network's: take the method of `Scheduler::Tokens` for it",
            ),
        }
    }
}

impl TokenConfig {
    /// The class.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Reads all options, for the fewest classes that there can be.
    fn check(&self) -> Result<(), ConfigError> {
        match self.class.as_str() {
            "AmusedScheduler" => self.mask_git(2, 1).map(|_| ()),
            "DiscreteDDIMScheduler" => self.discrete_ddim(2).map(|_| ()),
            "EntropyBoundScheduler" => self.entropy_bound(2).map(|_| ()),
            _ => self.block_refinement(2).map(|_| ()),
        }
    }

    /// The sampler of an AmusedScheduler, for `classes` classes and `steps` steps.
    ///
    /// # Errors
    /// As [`amused_from_config`]: of another class, and for numbers out of range.
    pub fn mask_git(&self, classes: usize, steps: usize) -> Result<MaskGit, ConfigError> {
        amused_from_config(&self.json, classes, steps)
    }

    /// The sampler of a DiscreteDDIMScheduler, for `classes` classes.
    ///
    /// # Errors
    /// As [`discrete_ddim_from_config`].
    pub fn discrete_ddim(&self, classes: usize) -> Result<DiscreteDdim, ConfigError> {
        discrete_ddim_from_config(&self.json, classes)
    }

    /// The sampler of an EntropyBoundScheduler, for `classes` classes.
    ///
    /// # Errors
    /// As [`entropy_bound_from_config`].
    pub fn entropy_bound(&self, classes: usize) -> Result<EntropyBound, ConfigError> {
        entropy_bound_from_config(&self.json, classes)
    }

    /// The sampler of a BlockRefinementScheduler, for `classes` classes.
    ///
    /// # Errors
    /// As [`block_refinement_from_config`].
    pub fn block_refinement(&self, classes: usize) -> Result<BlockRefinement, ConfigError> {
        block_refinement_from_config(&self.json, classes)
    }
}
