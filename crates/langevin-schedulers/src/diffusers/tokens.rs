//! Schedulers of tokens: AmusedScheduler, DiscreteDDIMScheduler, EntropyBoundScheduler and BlockRefinementScheduler.
//!
//! How many classes there are is said by the network, not by these files.

use super::{ConfigError, keys::Keys};
use crate::discrete::{BlockRefinement, Corrector, DiscreteDdim, EntropyBound, MaskGit, Masking, Selection};

/// Classes of tokens, each of which has a function of its own.
pub const TOKEN_CLASSES: [&str; 5] = [
    "VQDiffusionScheduler",
    "AmusedScheduler",
    "DiscreteDDIMScheduler",
    "EntropyBoundScheduler",
    "BlockRefinementScheduler",
];

fn open(json: &str, expected: &str) -> Result<Keys, ConfigError> {
    let keys = Keys::parse(json)?;
    let class = keys.class().to_owned();
    if class == expected { Ok(keys) } else { Err(ConfigError::Class { class, known: expected.to_owned() }) }
}

/// Reads the `scheduler_config.json` of an `AmusedScheduler`, for `classes` classes (8192 in aMUSEd) and `steps` steps.
///
/// The temperature is an argument of `set_timesteps` there: (2, 0) unless it is [set](MaskGit::temperature); a single
/// number t means (t, 0.01).
///
/// # Errors
/// [`ConfigError`] for files that cannot be read, other classes, options that are not there, and values out of range.
///
/// ```
/// let config = r#"{"_class_name": "AmusedScheduler", "mask_token_id": 8255}"#;
/// let sampler = langevin_schedulers::diffusers::amused_from_config(config, 8192, 12)?;
/// assert_eq!(sampler.share(12), 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn amused_from_config(json: &str, classes: usize, steps: usize) -> Result<MaskGit, ConfigError> {
    let mut keys = open(json, "AmusedScheduler")?;
    let mask = keys.optional("mask_token_id")?;
    let whole = mask.filter(|mask| *mask >= 0.0 && mask.fract() == 0.0);
    let Some(mask) = whole else {
        let given = mask.map_or_else(|| "missing".to_owned(), |mask| mask.to_string());
        return Err(keys.bad("mask_token_id", given, "a token"));
    };
    let masking = match keys.word("masking_schedule", "cosine")?.as_str() {
        "cosine" => Masking::Cosine,
        "linear" => Masking::Linear,
        other => return Err(keys.bad("masking_schedule", other, "'cosine' or 'linear'")),
    };
    keys.finish()?;
    Ok(MaskGit::new(classes, mask as usize, steps)?.masking(masking))
}

/// Reads the `scheduler_config.json` of a `DiscreteDDIMScheduler`, for `classes` classes.
///
/// With `corrector_steps` the number of steps is what its pipeline makes of it: how often the network is asked, sweeps
/// included.
///
/// # Errors
/// As [`amused_from_config`].
///
/// ```
/// let config = r#"{"_class_name": "DiscreteDDIMScheduler", "num_inference_steps": 48}"#;
/// let sampler = langevin_schedulers::diffusers::discrete_ddim_from_config(config, 1000)?;
/// assert_eq!(sampler.chain()?.steps(), 48);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn discrete_ddim_from_config(json: &str, classes: usize) -> Result<DiscreteDdim, ConfigError> {
    let mut keys = open(json, "DiscreteDDIMScheduler")?;
    let steps = keys.count("num_inference_steps", 32)?;
    let sweeps = keys.count("corrector_steps", 0)?;
    // The original takes one position where none is asked for.
    let positions = keys.count("corrector_k", 1)?.max(1);
    let selection = match keys.word("corrector_selection", "lowest_log_margin")?.as_str() {
        "lowest_log_margin" => Selection::LowestLogMargin,
        "lowest_maxprob" => Selection::LowestMaxProb,
        "lowest_current_prob" => Selection::LowestCurrentProb,
        "random" => Selection::Random,
        other => {
            let known = "'lowest_log_margin', 'lowest_maxprob', 'lowest_current_prob' or 'random'";
            return Err(keys.bad("corrector_selection", other, known));
        }
    };
    let tau = keys.number("corrector_selection_tau", 1.0)?;
    keys.finish()?;
    // Settings of a corrector that is not there are checked all the same.
    let corrector = Corrector::new(sweeps.max(1))?.positions(positions)?.selection(selection).tau(tau)?;
    let sampler = DiscreteDdim::new(classes, steps)?;
    Ok(if sweeps == 0 { sampler } else { sampler.corrected(corrector) })
}

/// Reads the `scheduler_config.json` of an `EntropyBoundScheduler`, for `classes` classes: with random tokens, as
/// there.
///
/// # Errors
/// As [`amused_from_config`].
///
/// ```
/// let config = r#"{"_class_name": "EntropyBoundScheduler", "entropy_bound": 0.2}"#;
/// let sampler = langevin_schedulers::diffusers::entropy_bound_from_config(config, 1000)?.steps(48)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn entropy_bound_from_config(json: &str, classes: usize) -> Result<EntropyBound, ConfigError> {
    let mut keys = open(json, "EntropyBoundScheduler")?;
    let bound = keys.number("entropy_bound", 0.1)?;
    let (from, to) = (keys.number("t_max", 0.8)?, keys.number("t_min", 0.4)?);
    let steps = keys.count("num_inference_steps", 32)?;
    keys.finish()?;
    Ok(EntropyBound::new(classes, steps)?.bound(bound)?.temperature(from, to)?)
}

/// Reads the `scheduler_config.json` of a `BlockRefinementScheduler`, for `classes` classes: with random tokens, unless
/// a [mask](BlockRefinement::masked) is set, which is an argument of `step` there, as are temperature, `top_k` and
/// `top_p`.
///
/// An `editing_threshold` that is not above 0 is none.
///
/// # Errors
/// As [`amused_from_config`].
///
/// ```
/// let config = r#"{"_class_name": "BlockRefinementScheduler", "threshold": 0.7, "editing_threshold": 0.5}"#;
/// let sampler = langevin_schedulers::diffusers::block_refinement_from_config(config, 157_184)?.masked(156_895)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn block_refinement_from_config(json: &str, classes: usize) -> Result<BlockRefinement, ConfigError> {
    let mut keys = open(json, "BlockRefinementScheduler")?;
    let (block, steps) = (keys.count("block_length", 32)?, keys.count("num_inference_steps", 32)?);
    let threshold = keys.number("threshold", 0.95)?;
    let editing = keys.optional("editing_threshold")?;
    let minimal = keys.count("minimal_topk", 1)?;
    keys.finish()?;
    let sampler = BlockRefinement::new(classes, block, steps)?.threshold(threshold)?.minimal(minimal)?;
    Ok(match editing {
        Some(editing) if !(editing <= 0.0) => sampler.editing(editing)?,
        _ => sampler,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::PlanError;
    use langevin_core::GridError;

    fn file(class: &str, options: &str) -> String {
        format!("{{\"_class_name\": \"{class}\"{options}}}")
    }

    /// What is wrong: an option by its name, a setting by its, or the steps.
    fn why<T: std::fmt::Debug>(found: Result<T, ConfigError>) -> String {
        match found.expect_err("an error") {
            ConfigError::Value { key, .. } => key.to_owned(),
            ConfigError::UnknownKey { key, .. } => format!("no {key}"),
            ConfigError::Class { known, .. } => known,
            ConfigError::Plan(PlanError::Setting { setting, .. }) => setting.to_owned(),
            ConfigError::Plan(PlanError::Grid(GridError::ZeroSteps)) => "steps".to_owned(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn amused_is_read_or_refused() {
        let read = |options: &str| amused_from_config(&file("AmusedScheduler", options), 5, 4);
        let expected = MaskGit::new(5, 7, 4).expect("settings");
        assert_eq!(read(", \"mask_token_id\": 7"), Ok(expected.clone()));
        let linear = read(", \"mask_token_id\": 7, \"masking_schedule\": \"linear\"");
        assert_eq!(linear, Ok(expected.masking(Masking::Linear)));
        for (options, reason) in [
            ("", "mask_token_id"),
            (", \"mask_token_id\": -1", "mask_token_id"),
            (", \"mask_token_id\": 1.5", "mask_token_id"),
            (", \"mask_token_id\": 4294967296", "the mask"),
            (", \"mask_token_id\": 7, \"masking_schedule\": \"square\"", "masking_schedule"),
            (", \"mask_token_id\": 7, \"temperature\": 2", "no temperature"),
        ] {
            assert_eq!(why(read(options)), reason, "{options}");
        }
        let config = file("AmusedScheduler", ", \"mask_token_id\": 7");
        assert_eq!(why(amused_from_config(&config, 5, 0)), "steps");
        assert_eq!(why(amused_from_config(&config, 1, 4)), "the number of classes");
        assert_eq!(why(amused_from_config(&file("PNDMScheduler", ""), 5, 4)), "AmusedScheduler");
    }

    #[test]
    fn discrete_ddim_is_read_or_refused() {
        let read = |options: &str| discrete_ddim_from_config(&file("DiscreteDDIMScheduler", options), 5);
        assert_eq!(read(""), Ok(DiscreteDdim::new(5, 32).expect("settings")));
        for (word, selection) in [
            ("lowest_log_margin", Selection::LowestLogMargin),
            ("lowest_maxprob", Selection::LowestMaxProb),
            ("lowest_current_prob", Selection::LowestCurrentProb),
            ("random", Selection::Random),
        ] {
            let found = read(&format!(
                ", \"corrector_steps\": 2, \"corrector_k\": 3, \"corrector_selection\": \"{word}\", \
                 \"corrector_selection_tau\": 0.5, \"num_inference_steps\": 9"
            ));
            let corrector =
                Corrector::new(2).and_then(|corrector| corrector.positions(3)?.selection(selection).tau(0.5));
            let expected = DiscreteDdim::new(5, 9).expect("settings").corrected(corrector.expect("settings"));
            assert_eq!(found, Ok(expected));
        }
        for (options, reason) in [
            (", \"num_inference_steps\": 0", "steps"),
            (", \"corrector_selection\": \"best\"", "corrector_selection"),
            (", \"corrector_selection_tau\": 0.0", "tau"),
            (", \"corrector_k\": -1", "corrector_k"),
            (", \"corrector_steps\": 18446744073709551615", "the number of sweeps"),
            (", \"temperature\": 1.0", "no temperature"),
        ] {
            assert_eq!(why(read(options)), reason, "{options}");
        }
        assert_eq!(why(discrete_ddim_from_config(&file("PNDMScheduler", ""), 5)), "DiscreteDDIMScheduler");
    }

    #[test]
    fn entropy_bound_is_read_or_refused() {
        let read = |options: &str| entropy_bound_from_config(&file("EntropyBoundScheduler", options), 5);
        assert_eq!(read(""), Ok(EntropyBound::new(5, 32).expect("settings")));
        let found = read(", \"entropy_bound\": 0.3, \"t_max\": 1.0, \"t_min\": 0.5, \"num_inference_steps\": 7");
        let expected = EntropyBound::new(5, 7).and_then(|sampler| sampler.bound(0.3)?.temperature(1.0, 0.5));
        assert_eq!(found, Ok(expected.expect("settings")));
        for (options, reason) in [
            (", \"num_inference_steps\": 0", "steps"),
            (", \"entropy_bound\": -0.1", "the bound of entropies"),
            (", \"t_min\": 0", "the temperature"),
            (", \"t_max\": \"inf\"", "the temperature"),
            (", \"confidence_threshold\": 0.1", "no confidence_threshold"),
        ] {
            assert_eq!(why(read(options)), reason, "{options}");
        }
        assert_eq!(why(entropy_bound_from_config(&file("PNDMScheduler", ""), 5)), "EntropyBoundScheduler");
    }

    #[test]
    fn block_refinement_is_read_or_refused() {
        let read = |options: &str| block_refinement_from_config(&file("BlockRefinementScheduler", options), 5);
        let plain = BlockRefinement::new(5, 32, 32).expect("settings");
        for off in ["", ", \"editing_threshold\": null", ", \"editing_threshold\": 0.0", ", \"editing_threshold\": -1"]
        {
            assert_eq!(read(off), Ok(plain.clone()), "{off}");
        }
        let found = read(
            ", \"block_length\": 8, \"num_inference_steps\": 4, \"threshold\": 1.5, \"editing_threshold\": 0.5, \
             \"minimal_topk\": 2",
        );
        let expected =
            BlockRefinement::new(5, 8, 4).and_then(|sampler| sampler.threshold(1.5)?.editing(0.5)?.minimal(2));
        assert_eq!(found, Ok(expected.expect("settings")));
        for (options, reason) in [
            (", \"num_inference_steps\": 0", "steps"),
            (", \"block_length\": 0", "the length of a block"),
            (", \"threshold\": -0.5", "the threshold"),
            (", \"editing_threshold\": \"high\"", "editing_threshold"),
            (", \"minimal_topk\": 0", "the smallest number of tokens a step"),
            (", \"top_k\": 3", "no top_k"),
        ] {
            assert_eq!(why(read(options)), reason, "{options}");
        }
        assert_eq!(why(block_refinement_from_config(&file("PNDMScheduler", ""), 5)), "BlockRefinementScheduler");
    }
}
