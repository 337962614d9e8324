//! Scheduler configurations as diffusers publishes them (`scheduler_config.json`).
//!
//! A configuration becomes a [`Configured`] value: process, prediction, thresholding, grids and solver. Every key is
//! honoured or an error. The grids of diffusers ignore how many steps they are asked for until then, so
//! [`Configured::plan`] takes the number of steps.
//!
//! Where diffusers loses an order or the law of the data, a configuration is the published method here, and diffusers' own
//! under [`Configured::compat_diffusers`].
//!
//! States are those of the process itself here. Classes that work on x/α in diffusers (Euler, Heun, KDPM2, LMS) are on the
//! chain, where α² + σ² = 1: their states divided by α are diffusers' own, and a network is given the state as it is.

mod cogvideox;
mod configured;
mod consistency_models;
mod ddim;
mod ddpm;
mod distilled;
mod dpm_sde;
mod edm;
mod error;
mod euler;
mod flow_heun;
mod flow_match;
mod foreign;
mod helios;
mod heun;
mod ipndm;
mod karras_ve;
mod keys;
mod lambdas;
mod lms;
mod method;
mod multistep;
mod options;
mod piflow;
mod pndm;
mod repaint;
mod rfd4_proteina;
mod scheduler;
mod score_sde;
mod score_sde_code;
mod shift;
mod sigmas;
mod single_flows;
#[cfg(test)]
mod tests;
mod tokens;
mod unclip;
mod vq_diffusion;
mod wuerstchen;

pub use configured::Configured;
pub use error::ConfigError;
pub use helios::{HELIOS_CLASSES, Helios, StageEntry, helios_from_config};
pub use piflow::piflow_from_config;
pub use rfd4_proteina::{Rfd4Proteina, rfd4_proteina_from_config};
pub use scheduler::{Scheduler, TokenConfig, from_diffusers};
pub use score_sde::{SCORE_SDE_CLASSES, ScoreSde, score_sde_from_config};
pub use score_sde_code::ScoreSdeCode;
pub use tokens::{
    TOKEN_CLASSES, amused_from_config, block_refinement_from_config, discrete_ddim_from_config,
    entropy_bound_from_config,
};
pub use vq_diffusion::{VqDiffusion, vq_diffusion_from_config};

use keys::Keys;
use langevin_core::GridError;

/// Classes that [`from_config`] reads.
pub const CLASSES: [&str; 40] = [
    "DDPMScheduler",
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "IPNDMScheduler",
    "EDMEulerScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "SASolverScheduler",
    "EDMDPMSolverMultistepScheduler",
    "LCMScheduler",
    "TCDScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "DPMSolverMultistepInverseScheduler",
    "CosineDPMSolverMultistepScheduler",
    "CMStochasticIterativeScheduler",
    "SCMScheduler",
    "KarrasVeScheduler",
    "UnCLIPScheduler",
    "RePaintScheduler",
    "DDPMWuerstchenScheduler",
    "DDPMParallelScheduler",
    "DDIMParallelScheduler",
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "LTXEulerAncestralRFScheduler",
    "MiniMaxH3Scheduler",
    "ConsistencyDecoderScheduler",
    "FlowMapEulerDiscreteScheduler",
];

/// Reads the text of a `scheduler_config.json`: process, prediction, grid and solver, with every option honoured or refused by
/// name. [`from_diffusers`] reads files of all classes, those with functions of their own, too. Infinities may be written as Python
/// writes them (`-Infinity`), which is no JSON; `null` is a value of options that have it for a default in diffusers.
///
/// Published files carry options of the class that they were converted from. One that another class of [`CLASSES`] has, and
/// the class of the file has not, is accepted where it asks for nothing, and listed by [`Configured::ignored`]:
///
/// * with the value `false` or `null`;
/// * `clip_sample_range`, `dynamic_thresholding_ratio` and `sample_max_value` where the class lacks their switch, too, which is
///   refused if it is on;
/// * `set_alpha_to_one`, `skip_prk_steps` and `steps_offset`, which say how DDIM and PNDM walk along their chain;
/// * `interpolation_type: "linear"`, `timestep_type: "discrete"` and `clip_sample_range: 1.0`, which are what classes without the
///   option do.
///
/// # Errors
/// [`ConfigError`] for text that cannot be read, classes and options that are not there, and contradictions;
/// [`ConfigError::ForeignKey`] for an option of another class that asks for something, such as `use_karras_sigmas: true` of
/// DDIMScheduler, which diffusers would ignore with a warning.
///
/// ```
/// let scheduler = langevin_schedulers::diffusers::from_config(
///     r#"{"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "use_karras_sigmas": true}"#,
/// )?;
/// assert_eq!(scheduler.plan(50)?.steps(), 50);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn from_config(json: &str) -> Result<Configured, ConfigError> {
    let mut keys = Keys::parse(json)?;
    let mut configured = read(&mut keys)?;
    configured.ignored = foreign::finish(keys)?;
    Ok(configured)
}

/// By the class that the keys name.
fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let class = keys.class().to_owned();
    match class.as_str() {
        // For many steps at once there is `Picard`; the numbers are the same.
        "DDPMScheduler" | "DDPMParallelScheduler" => ddpm::read(keys),
        "DDIMScheduler" | "DDIMParallelScheduler" => ddim::read(keys, false),
        "DDIMInverseScheduler" => ddim::read(keys, true),
        "EulerDiscreteScheduler" => euler::read(keys),
        "EulerAncestralDiscreteScheduler" => euler::read_ancestral(keys),
        "HeunDiscreteScheduler" => heun::read(keys),
        "KDPM2DiscreteScheduler" => heun::read_kdpm2(keys, false),
        "KDPM2AncestralDiscreteScheduler" => heun::read_kdpm2(keys, true),
        "DPMSolverSDEScheduler" => dpm_sde::read(keys),
        "LMSDiscreteScheduler" => lms::read(keys),
        "PNDMScheduler" => pndm::read(keys),
        "IPNDMScheduler" => ipndm::read(keys),
        "EDMEulerScheduler" => edm::read(keys),
        "DPMSolverMultistepScheduler" => multistep::read_dpm(keys),
        "DPMSolverSinglestepScheduler" => multistep::read_singlestep(keys),
        "DEISMultistepScheduler" => multistep::read_deis(keys),
        "UniPCMultistepScheduler" => multistep::read_unipc(keys),
        "SASolverScheduler" => multistep::read_sa(keys),
        "EDMDPMSolverMultistepScheduler" => multistep::read_edm(keys),
        "LCMScheduler" => distilled::read(keys, false),
        "TCDScheduler" => distilled::read(keys, true),
        "FlowMatchEulerDiscreteScheduler" => flow_match::read_euler(keys),
        "FlowMatchHeunDiscreteScheduler" => flow_match::read_heun(keys),
        "FlowMatchLCMScheduler" => flow_match::read_lcm(keys),
        "DPMSolverMultistepInverseScheduler" => multistep::read_inverse(keys),
        "CosineDPMSolverMultistepScheduler" => multistep::read_cosine(keys),
        "CMStochasticIterativeScheduler" => consistency_models::read(keys),
        "SCMScheduler" => consistency_models::read_continuous(keys),
        "KarrasVeScheduler" => karras_ve::read(keys),
        "UnCLIPScheduler" => unclip::read(keys),
        "RePaintScheduler" => repaint::read(keys),
        "DDPMWuerstchenScheduler" => wuerstchen::read(keys),
        "CogVideoXDDIMScheduler" => cogvideox::read(keys, false),
        "CogVideoXDPMScheduler" => cogvideox::read(keys, true),
        "LTXEulerAncestralRFScheduler" => flow_match::read_ancestral(keys),
        "MiniMaxH3Scheduler" => single_flows::read_minimax(keys),
        "ConsistencyDecoderScheduler" => consistency_models::read_decoder(keys),
        // Its networks are asked by `consistency::Along`.
        "FlowMapEulerDiscreteScheduler" => single_flows::read_flow_map(keys),
        _ => Err(ConfigError::Class { class, known: CLASSES.join(", ") }),
    }
}
