//! The configurations of diffusers' score-SDE schedulers.

use super::score_sde_code::{self, ScoreSdeCode};
use super::{ConfigError, keys::Keys};
use crate::plan::Plan;
use crate::sde::{EulerMaruyama, PredictorCorrector, ReverseDiffusion};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::End;
use langevin_core::process::{VeSde, VpSde};
use langevin_core::{Grid, Prediction, Process};
use serde_json::Value;

/// Classes that [`score_sde_from_config`] reads.
pub const SCORE_SDE_CLASSES: [&str; 2] = ["ScoreSdeVpScheduler", "ScoreSdeVeScheduler"];

/// A score-SDE scheduler read from its configuration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScoreSde {
    /// Euler-Maruyama on the reverse VP SDE. Its networks predict ε.
    Vp {
        /// The process.
        process: VpSde,
        /// Time of the last question.
        eps: f64,
    },
    /// Reverse diffusion with Langevin correction on the VE SDE. Its networks predict the score.
    Ve {
        /// The process.
        process: VeSde,
        /// Time of the last question.
        eps: f64,
        /// Signal-to-noise ratio of a correction.
        ratio: f64,
        /// Corrections before each step.
        corrections: u32,
    },
    /// What a configuration of score SDEs' own code says.
    Code(ScoreSdeCode),
}

/// Reads the `scheduler_config.json` of a score-SDE scheduler of diffusers, or the configuration of the code that it is from
/// (`score_sde_pytorch`) as JSON: what its `ConfigDict` writes with `to_json`, for continuous VP and VE SDEs.
///
/// Of the latter, the section `sampling` names `predictor` (`euler_maruyama`, `reverse_diffusion`, `ancestral_sampling`,
/// `none`) and `corrector` (`langevin`, `ald`, `none`), with `snr`, `n_steps_each`, `noise_removal` and `probability_flow`;
/// `training.sde` and numbers of `model` say which process it is. Its networks predict the score at the levels that they are
/// asked at. Other sections, and other keys of these two, are about networks and training. As there, the noise
/// of the last predictor's step is removed, and without a predictor none is.
///
/// # Errors
/// [`ConfigError`] for files that cannot be read, other classes, and options that are not there or out of range.
///
/// ```
/// let config = r#"{"_class_name": "ScoreSdeVpScheduler", "beta_min": 0.1, "beta_max": 20}"#;
/// let scheduler = langevin_schedulers::diffusers::score_sde_from_config(config)?;
/// assert_eq!(scheduler.predictor(100)?.steps(), 100);
///
/// let config = r#"{"training": {"sde": "vesde"}, "model": {"sigma_max": 50, "num_scales": 1000},
///     "sampling": {"predictor": "reverse_diffusion", "corrector": "ald", "snr": 0.16}}"#;
/// let scheduler = langevin_schedulers::diffusers::score_sde_from_config(config)?;
/// assert_eq!(scheduler.sampler(1000)?.predictor().evaluations(), 2000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn score_sde_from_config(json: &str) -> Result<ScoreSde, ConfigError> {
    if let Some(scheduler) = code(json) {
        return scheduler;
    }
    let mut keys = Keys::parse(json)?;
    let class = keys.class().to_owned();
    // The number of training steps has no say in sampling: times are continuous.
    let read = |keys: &mut Keys| keys.count("num_train_timesteps", 2000);
    let scheduler = match class.as_str() {
        "ScoreSdeVpScheduler" => {
            read(&mut keys)?;
            let (low, high) = (keys.number("beta_min", 0.1)?, keys.number("beta_max", 20.0)?);
            let eps = keys.number("sampling_eps", 1e-3)?;
            ScoreSde::Vp { process: VpSde::new(low, high)?.range(eps, 1.0)?, eps }
        }
        "ScoreSdeVeScheduler" => {
            read(&mut keys)?;
            let ratio = keys.number("snr", 0.15)?;
            let (low, high) = (keys.number("sigma_min", 0.01)?, keys.number("sigma_max", 1348.0)?);
            let eps = keys.number("sampling_eps", 1e-5)?;
            let corrections = keys.count("correct_steps", 1)?;
            let corrections = u32::try_from(corrections)
                .map_err(|_| keys.bad("correct_steps", corrections, "fewer than 2^32 corrections"))?;
            ScoreSde::Ve { process: VeSde::new(low, high)?, eps, ratio, corrections }
        }
        _ => return Err(ConfigError::Class { class, known: SCORE_SDE_CLASSES.join(", ") }),
    };
    keys.finish()?;
    Ok(scheduler)
}

/// What a configuration of score SDEs' own code says, if it is one.
pub(super) fn code(json: &str) -> Option<Result<ScoreSde, ConfigError>> {
    match super::keys::value(json) {
        Ok(Value::Object(file)) if score_sde_code::is_code(&file) => {
            Some(score_sde_code::read(&file).map(ScoreSde::Code))
        }
        _ => None,
    }
}

impl ScoreSde {
    /// What its networks predict: ε under diffusers' VP class, the score elsewhere.
    pub fn prediction(&self) -> Prediction {
        match self {
            ScoreSde::Vp { .. } => Prediction::Epsilon,
            ScoreSde::Ve { .. } | ScoreSde::Code(_) => Prediction::Score,
        }
    }

    /// The noise process.
    pub fn process(&self) -> &dyn Process {
        match self {
            ScoreSde::Vp { process, .. } => process,
            ScoreSde::Ve { process, .. } => process,
            ScoreSde::Code(code) => code.process(),
        }
    }

    /// The predictor's plan of `steps` steps.
    ///
    /// # Errors
    /// [`PlanError`] for fewer than two steps; of VP in score SDEs' code also for so few that a beta is 1 or more.
    pub fn predictor(&self, steps: usize) -> Result<Plan, PlanError> {
        match self {
            ScoreSde::Vp { process, eps } => {
                let last = steps.saturating_sub(1).max(1) as f64;
                let times = (0..steps).map(|i| if i + 1 == steps { *eps } else { 1.0 - i as f64 * (1.0 - eps) / last });
                let grid = Grid::times(times.collect())?.ending(End::Clean);
                EulerMaruyama::new().unit_steps().plan(process, &grid)
            }
            ScoreSde::Ve { process, eps, .. } => {
                let stops = ReverseDiffusion::score_sde_stops(process, steps, *eps)?;
                ReverseDiffusion::new().plan_stops(&stops, process.prior_std())
            }
            ScoreSde::Code(code) => code.predictor(steps),
        }
    }

    /// The whole sampler of `steps` steps, corrections included (those of `ald` as rows of its plan), with norms averaged over the batch as in the original.
    ///
    /// # Errors
    /// As [`predictor`](Self::predictor), and [`PlanError::Setting`] for a bad signal-to-noise ratio.
    pub fn sampler(&self, steps: usize) -> Result<PredictorCorrector, PlanError> {
        let predictor = || self.predictor(steps);
        match self {
            // No corrections: the ratio is not used.
            ScoreSde::Vp { .. } => PredictorCorrector::new(predictor()?, 1.0, 0),
            ScoreSde::Ve { ratio, corrections, .. } => {
                Ok(PredictorCorrector::new(predictor()?, *ratio, *corrections)?.batch_norms())
            }
            ScoreSde::Code(code) => code.sampler(steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_honored_or_refused() {
        let read = |extra: &str| score_sde_from_config(&format!("{{\"_class_name\": \"ScoreSdeVeScheduler\"{extra}}}"));
        let Ok(ScoreSde::Ve { ratio, corrections, .. }) = read(", \"snr\": 0.2, \"correct_steps\": 3") else {
            panic!("a VE scheduler")
        };
        assert_eq!((ratio, corrections), (0.2, 3));
        assert!(matches!(read(", \"beta_min\": 0.1"), Err(ConfigError::UnknownKey { key, .. }) if key == "beta_min"));
        assert!(matches!(read(", \"sigma_min\": -1"), Err(ConfigError::Process(_))));
        assert!(matches!(
            score_sde_from_config("{\"_class_name\": \"PNDMScheduler\"}"),
            Err(ConfigError::Class { .. })
        ));
        assert!(read(", \"snr\": 0").unwrap().sampler(10).is_err());
        assert!(read("").unwrap().predictor(1).is_err());
    }

    #[test]
    fn options_of_the_code_are_honored_or_refused() {
        let read = |sde: &str, sampling: &str| {
            let sections = format!("{{\"training\": {{\"sde\": \"{sde}\"}}, \"sampling\": {{{sampling}}}}}");
            score_sde_from_config(&sections)
        };
        let pair = |predictor: &str, corrector: &str| {
            let sampling = format!("\"predictor\": \"{predictor}\", \"corrector\": \"{corrector}\"");
            read("vpsde", &sampling).unwrap().sampler(100).unwrap()
        };
        assert_eq!(pair("none", "ald").predictor().evaluations(), 100);
        assert_eq!(pair("ancestral_sampling", "ald").predictor().evaluations(), 200);
        assert_eq!(pair("none", "none").predictor().evaluations(), 0);
        let key = |sde: &str, sampling: &str| match read(sde, sampling) {
            Err(ConfigError::Value { key, .. }) => key,
            Err(ConfigError::Contradiction { second, .. }) => second,
            other => panic!("{other:?}"),
        };
        assert_eq!(key("subvpsde", ""), "sde");
        assert_eq!(key("vesde", "\"method\": \"ode\""), "method");
        assert_eq!(key("vesde", ""), "predictor");
        assert_eq!(key("vesde", "\"predictor\": \"none\", \"corrector\": \"mala\""), "corrector");
        for predictor in ["euler_maruyama", "ancestral_sampling"] {
            let sampling =
                format!("\"predictor\": \"{predictor}\", \"corrector\": \"none\", \"probability_flow\": true");
            assert_eq!(key("vesde", &sampling), "probability_flow");
        }
        let discrete = score_sde_from_config("{\"training\": {\"continuous\": false}, \"sampling\": {}}");
        assert!(matches!(discrete, Err(ConfigError::Value { key: "continuous", .. })));
        let unknown = read("vesde", "\"predictor\": \"none\", \"corrector\": \"ald\", \"steps\": 3");
        assert!(matches!(unknown, Err(ConfigError::UnknownKey { key, .. }) if key == "steps"));
        let loud = read("vesde", "\"predictor\": \"none\", \"corrector\": \"ald\", \"snr\": 1.5").unwrap();
        assert!(matches!(loud.sampler(10), Err(PlanError::Setting { .. })));
        // Betas of fewer steps are above 1.
        let few = read("vpsde", "\"predictor\": \"reverse_diffusion\", \"corrector\": \"none\"").unwrap();
        assert!(matches!(few.sampler(10), Err(PlanError::Process(_))));
        // Two steps are the fewest between which there is a distance.
        for predictor in ["euler_maruyama", "reverse_diffusion", "ancestral_sampling", "none"] {
            for (sde, corrector) in [("vpsde", "ald"), ("vpsde", "langevin"), ("vesde", "none")] {
                let sampling = format!("\"predictor\": \"{predictor}\", \"corrector\": \"{corrector}\"");
                let scheduler = read(sde, &sampling).unwrap();
                for steps in [0, 1] {
                    for error in [scheduler.predictor(steps).err(), scheduler.sampler(steps).err()] {
                        let few = matches!(error, Some(PlanError::Setting { setting: "number of steps", .. }));
                        assert!(few, "{sde}, {predictor}, {corrector}, {steps}: {error:?}");
                    }
                }
            }
        }
    }
}
