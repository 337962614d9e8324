//! VQDiffusionScheduler.

use super::{ConfigError, keys::Keys};
use crate::discrete::TokenSampler;
use langevin_core::GridError;
use langevin_core::discrete::{Cumulative, MaskAndReplace};

/// A VQ-diffusion scheduler read from its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct VqDiffusion {
    chain: MaskAndReplace,
}

/// Reads the `scheduler_config.json` of a `VQDiffusionScheduler`. `num_vec_classes` counts the mask.
///
/// # Errors
/// [`ConfigError`] for files that cannot be read, other classes, options that are not there, and schedules that are none.
///
/// ```
/// let config = r#"{"_class_name": "VQDiffusionScheduler", "num_vec_classes": 4097}"#;
/// let scheduler = langevin_schedulers::diffusers::vq_diffusion_from_config(config)?;
/// assert_eq!(scheduler.sampler(100)?.times().len(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn vq_diffusion_from_config(json: &str) -> Result<VqDiffusion, ConfigError> {
    let mut keys = Keys::parse(json)?;
    let class = keys.class().to_owned();
    if class != "VQDiffusionScheduler" {
        return Err(ConfigError::Class { class, known: "VQDiffusionScheduler".to_owned() });
    }
    let published = Cumulative::default();
    let tokens = keys.count("num_vec_classes", 0)?;
    if tokens < 3 {
        return Err(keys.bad("num_vec_classes", tokens, "at least 3: two classes and the mask"));
    }
    let steps = keys.count("num_train_timesteps", 100)?;
    let keep = (keys.number("alpha_cum_start", published.keep.0)?, keys.number("alpha_cum_end", published.keep.1)?);
    let mask = (keys.number("gamma_cum_start", published.mask.0)?, keys.number("gamma_cum_end", published.mask.1)?);
    keys.finish()?;
    Ok(VqDiffusion { chain: MaskAndReplace::linear(tokens - 1, steps, Cumulative { keep, mask })? })
}

impl VqDiffusion {
    /// The chain.
    pub fn chain(&self) -> &MaskAndReplace {
        &self.chain
    }

    /// The sampler of `steps` steps as diffusers counts them: the cleanest `steps` of the chain. With fewer than the chain
    /// has, it takes masked tokens for those of a step that is almost clean; [`TokenSampler::steps`] spreads them over the
    /// chain instead. With an exact denoiser both lead to the law of the data.
    ///
    /// # Errors
    /// [`GridError`] for no steps, or more than the chain has.
    pub fn sampler(&self, steps: usize) -> Result<TokenSampler, GridError> {
        let chain = self.chain.steps();
        if steps > chain {
            return Err(GridError::TooManySteps { given: steps, chain });
        }
        TokenSampler::new(self.chain.clone()).at((0..steps).rev().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_honored_or_refused() {
        let read =
            |extra: &str| vq_diffusion_from_config(&format!("{{\"_class_name\": \"VQDiffusionScheduler\"{extra}}}"));
        let scheduler = read(", \"num_vec_classes\": 5, \"num_train_timesteps\": 10").expect("a scheduler");
        assert_eq!((scheduler.chain().classes(), scheduler.chain().steps()), (4, 10));
        assert_eq!(scheduler.sampler(3).expect("steps").times(), [2, 1, 0]);
        assert_eq!(scheduler.sampler(0), Err(GridError::ZeroSteps));
        assert_eq!(scheduler.sampler(11), Err(GridError::TooManySteps { given: 11, chain: 10 }));
        assert!(matches!(read(""), Err(ConfigError::Value { key: "num_vec_classes", .. })));
        let classes = ", \"num_vec_classes\": 5";
        assert!(matches!(read(&format!("{classes}, \"beta_start\": 0.1")), Err(ConfigError::UnknownKey { .. })));
        assert!(matches!(read(&format!("{classes}, \"alpha_cum_end\": 2.0")), Err(ConfigError::Discrete(_))));
        assert!(matches!(read(&format!("{classes}, \"num_train_timesteps\": 1")), Err(ConfigError::Discrete(_))));
        assert!(matches!(
            vq_diffusion_from_config("{\"_class_name\": \"PNDMScheduler\"}"),
            Err(ConfigError::Class { .. })
        ));
    }
}
