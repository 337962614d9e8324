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
mod consistency;
mod consistency_models;
mod ddim;
mod ddpm;
mod dpm_sde;
mod edm;
mod error;
mod euler;
mod flow_heun;
mod flow_match;
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

/// Reads a `scheduler_config.json`: process, prediction, grid and solver, with every option honoured or refused by name.
///
/// # Errors
/// [`ConfigError`] for files that cannot be read, classes and options that are not there, and contradictions.
///
/// ```
/// let scheduler = langevin_schedulers::diffusers::from_config(
///     r#"{"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "use_karras_sigmas": true}"#,
/// )?;
/// assert_eq!(scheduler.plan(50)?.steps(), 50);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "from_diffusers")]
pub fn from_config(json: &str) -> Result<Configured, ConfigError> {
    let mut keys = Keys::parse(json)?;
    let class = keys.class().to_owned();
    let configured = match class.as_str() {
        // For many steps at once there is `Picard`; the numbers are the same.
        "DDPMScheduler" | "DDPMParallelScheduler" => ddpm::read(&mut keys)?,
        "DDIMScheduler" | "DDIMParallelScheduler" => ddim::read(&mut keys, false)?,
        "DDIMInverseScheduler" => ddim::read(&mut keys, true)?,
        "EulerDiscreteScheduler" => euler::read(&mut keys)?,
        "EulerAncestralDiscreteScheduler" => euler::read_ancestral(&mut keys)?,
        "HeunDiscreteScheduler" => heun::read(&mut keys)?,
        "KDPM2DiscreteScheduler" => heun::read_kdpm2(&mut keys, false)?,
        "KDPM2AncestralDiscreteScheduler" => heun::read_kdpm2(&mut keys, true)?,
        "DPMSolverSDEScheduler" => dpm_sde::read(&mut keys)?,
        "LMSDiscreteScheduler" => lms::read(&mut keys)?,
        "PNDMScheduler" => pndm::read(&mut keys)?,
        "IPNDMScheduler" => ipndm::read(&mut keys)?,
        "EDMEulerScheduler" => edm::read(&mut keys)?,
        "DPMSolverMultistepScheduler" => multistep::read_dpm(&mut keys)?,
        "DPMSolverSinglestepScheduler" => multistep::read_singlestep(&mut keys)?,
        "DEISMultistepScheduler" => multistep::read_deis(&mut keys)?,
        "UniPCMultistepScheduler" => multistep::read_unipc(&mut keys)?,
        "SASolverScheduler" => multistep::read_sa(&mut keys)?,
        "EDMDPMSolverMultistepScheduler" => multistep::read_edm(&mut keys)?,
        "LCMScheduler" => consistency::read(&mut keys, false)?,
        "TCDScheduler" => consistency::read(&mut keys, true)?,
        "FlowMatchEulerDiscreteScheduler" => flow_match::read_euler(&mut keys)?,
        "FlowMatchHeunDiscreteScheduler" => flow_match::read_heun(&mut keys)?,
        "FlowMatchLCMScheduler" => flow_match::read_lcm(&mut keys)?,
        "DPMSolverMultistepInverseScheduler" => multistep::read_inverse(&mut keys)?,
        "CosineDPMSolverMultistepScheduler" => multistep::read_cosine(&mut keys)?,
        "CMStochasticIterativeScheduler" => consistency_models::read(&mut keys)?,
        "SCMScheduler" => consistency_models::read_continuous(&mut keys)?,
        "KarrasVeScheduler" => karras_ve::read(&mut keys)?,
        "UnCLIPScheduler" => unclip::read(&mut keys)?,
        "RePaintScheduler" => repaint::read(&mut keys)?,
        "DDPMWuerstchenScheduler" => wuerstchen::read(&mut keys)?,
        "CogVideoXDDIMScheduler" => cogvideox::read(&mut keys, false)?,
        "CogVideoXDPMScheduler" => cogvideox::read(&mut keys, true)?,
        "LTXEulerAncestralRFScheduler" => flow_match::read_ancestral(&mut keys)?,
        "MiniMaxH3Scheduler" => single_flows::read_minimax(&mut keys)?,
        "ConsistencyDecoderScheduler" => consistency_models::read_decoder(&mut keys)?,
        // Its networks are asked by `consistency::Along`.
        "FlowMapEulerDiscreteScheduler" => single_flows::read_flow_map(&mut keys)?,
        _ => return Err(ConfigError::Class { class, known: CLASSES.join(", ") }),
    };
    keys.finish()?;
    Ok(configured)
}
