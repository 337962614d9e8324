//! Options that many classes share.

use super::{ConfigError, keys::Keys};
use langevin_core::denoiser::Threshold;
use langevin_core::process::{Betas, ChainEnd, DiscreteChain};
use langevin_core::{Prediction, ProcessError};

/// How timesteps are spread over the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    Leading,
    Trailing,
    Linspace,
}

/// Where the betas of a class begin and end unless its configuration says so.
pub(super) const DDPM: (f64, f64) = (1e-4, 0.02);
pub(super) const LATENT: (f64, f64) = (0.00085, 0.012);

/// The chain of `beta_*`, `trained_betas` and `num_train_timesteps`, as torch computes it in `f32`: published networks
/// were trained on those numbers.
pub(super) fn chain(keys: &mut Keys, ends: (f64, f64)) -> Result<DiscreteChain, ConfigError> {
    rounded_chain(keys, ends, "linear")
}

/// As [`chain`], with betas whose roots are linear unless the configuration says otherwise.
pub(super) fn scaled_chain(keys: &mut Keys) -> Result<DiscreteChain, ConfigError> {
    rounded_chain(keys, LATENT, "scaled_linear")
}

fn rounded_chain(keys: &mut Keys, ends: (f64, f64), schedule: &str) -> Result<DiscreteChain, ConfigError> {
    let (chain, options) = exact_chain(keys, ends, schedule)?;
    keys.made(&options, chain.compat_f32())
}

/// As [`scaled_chain`], in `f64`.
pub(super) fn latent_chain(keys: &mut Keys) -> Result<DiscreteChain, ConfigError> {
    Ok(exact_chain(keys, LATENT, "scaled_linear")?.0)
}

/// A chain, and the options that its betas follow from.
fn exact_chain(
    keys: &mut Keys,
    (start, end): (f64, f64),
    schedule: &str,
) -> Result<(DiscreteChain, Vec<&'static str>), ConfigError> {
    let steps = keys.count("num_train_timesteps", 1000)?;
    let start = keys.number("beta_start", start)?;
    let end = keys.number("beta_end", end)?;
    let betas = match keys.word("beta_schedule", schedule)?.as_str() {
        "linear" => Betas::Linear { start, end },
        "scaled_linear" => Betas::ScaledLinear { start, end },
        "squaredcos_cap_v2" => Betas::SquaredCosine,
        "sigmoid" => Betas::Sigmoid { start, end },
        "laplace" => Betas::Laplace,
        "exp" => Betas::Exponential,
        other => {
            return Err(keys.bad(
                "beta_schedule",
                other,
                "linear, scaled_linear, squaredcos_cap_v2, sigmoid, laplace or exp",
            ));
        }
    };
    let betas = keys.numbers("trained_betas")?.map_or(betas, Betas::Custom);
    if matches!(&betas, Betas::Custom(betas) if betas.len() != steps) {
        let reason = "there is a beta for each step of training; give as many, or set num_train_timesteps, which is 1000 \
                      unless given, to their number";
        return Err(keys.contradiction("trained_betas", "num_train_timesteps", reason));
    }
    let outside = |beta: f64| !(beta > 0.0 && beta < 1.0);
    let options = match &betas {
        Betas::Custom(_) => vec!["trained_betas"],
        Betas::Linear { .. } | Betas::ScaledLinear { .. } | Betas::Sigmoid { .. } => {
            match (outside(start), outside(end)) {
                (true, false) => vec!["beta_start"],
                (false, true) => vec!["beta_end"],
                _ => vec!["beta_start", "beta_end"],
            }
        }
        _ => vec!["num_train_timesteps"],
    };
    let chain = DiscreteChain::new(betas, steps);
    let of_steps = matches!(&chain, Err(ProcessError::TooFewSteps { .. } | ProcessError::Parameter { .. }));
    let chain = keys.made(if of_steps { &["num_train_timesteps"] } else { &options }, chain)?;
    Ok((chain, options))
}

/// `rescale_betas_zero_snr`.
pub(super) fn rescaled(keys: &mut Keys, chain: DiscreteChain) -> Result<DiscreteChain, ConfigError> {
    if !keys.flag("rescale_betas_zero_snr", false)? {
        return Ok(chain);
    }
    keys.made(&["rescale_betas_zero_snr"], chain.rescale_zero_terminal_snr())
}

/// Refuses an ε prediction on a chain that ends in pure noise. The original refuses it nowhere: it divides by α = 0, or, where it
/// computes in σ = √((1 − ᾱ)/ᾱ), puts 2^-24 for an ᾱ of 0, which makes of x − σ·ε̂ the small difference of large numbers.
pub(super) fn check_zero_snr(keys: &Keys, chain: &DiscreteChain, prediction: Prediction) -> Result<(), ConfigError> {
    if chain.has_zero_terminal_snr() && prediction == Prediction::Epsilon {
        return Err(keys.contradiction(
            "rescale_betas_zero_snr",
            "prediction_type",
            "with zero terminal SNR the first state is pure noise, from which an epsilon prediction says nothing about the \
             sample; use v_prediction or sample",
        ));
    }
    Ok(())
}

/// `set_alpha_to_one`.
pub(super) fn ending(keys: &mut Keys, default: bool) -> Result<ChainEnd, ConfigError> {
    Ok(if keys.flag("set_alpha_to_one", default)? { ChainEnd::Clean } else { ChainEnd::FirstStep })
}

/// `prediction_type`.
pub(super) fn prediction(keys: &mut Keys) -> Result<Prediction, ConfigError> {
    match keys.word("prediction_type", "epsilon")?.as_str() {
        "epsilon" => Ok(Prediction::Epsilon),
        "sample" | "original_sample" => Ok(Prediction::Sample),
        "v_prediction" => Ok(Prediction::Velocity),
        other => Err(keys.bad("prediction_type", other, "epsilon, sample or v_prediction")),
    }
}

/// `timestep_spacing`.
pub(super) fn spacing(keys: &mut Keys, default: &str) -> Result<Spacing, ConfigError> {
    match keys.word("timestep_spacing", default)?.as_str() {
        "leading" => Ok(Spacing::Leading),
        "trailing" => Ok(Spacing::Trailing),
        "linspace" => Ok(Spacing::Linspace),
        other => Err(keys.bad("timestep_spacing", other, "leading, trailing or linspace")),
    }
}

/// `clip_sample` and its range.
pub(super) fn clipping(keys: &mut Keys, default: bool) -> Result<Option<Threshold>, ConfigError> {
    let clip = keys.flag("clip_sample", default)?;
    let range = keys.number("clip_sample_range", 1.0)?;
    if !(range > 0.0) {
        return Err(keys.bad("clip_sample_range", range, "a positive number"));
    }
    Ok(clip.then_some(Threshold::Static { range }))
}

/// `thresholding` and its settings.
pub(super) fn thresholding(keys: &mut Keys) -> Result<Option<Threshold>, ConfigError> {
    let wanted = keys.flag("thresholding", false)?;
    let ratio = keys.number("dynamic_thresholding_ratio", 0.995)?;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(keys.bad("dynamic_thresholding_ratio", ratio, "a number in [0, 1]"));
    }
    let max = keys.number("sample_max_value", 1.0)?;
    if !(max >= 1.0) {
        return Err(keys.bad("sample_max_value", max, "at least 1"));
    }
    Ok(wanted.then_some(Threshold::Dynamic { ratio, max }))
}
