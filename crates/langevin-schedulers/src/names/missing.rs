//! Names that programs have and this library does not, and names that say too little for a plan.

/// A name, and what is said to who asks for it.
pub(super) struct Missing {
    pub name: &'static str,
    pub advice: &'static str,
    /// Whether it is there, but not by its name alone.
    pub elsewhere: bool,
}

const fn row(name: &'static str, advice: &'static str) -> Missing {
    Missing { name, advice, elsewhere: false }
}

const fn elsewhere(name: &'static str, advice: &'static str) -> Missing {
    Missing { name, advice, elsewhere: true }
}

const CFG: &str =
    "CFG++ is a rule of guidance here: take the name without it, and a denoiser `.guided(..).plus_plus()`";

/// All of them.
#[rustfmt::skip]
pub(super) const MISSING: &[Missing] = &[
    row("euler_cfg_pp", CFG), row("euler_ancestral_cfg_pp", CFG), row("dpmpp_2m_cfg_pp", CFG),
    row("dpmpp_2s_ancestral_cfg_pp", CFG), row("res_multistep_cfg_pp", CFG),
    row("res_multistep_ancestral_cfg_pp", CFG), row("gradient_estimation_cfg_pp", CFG), row("DDIM CFG++", CFG),
    elsewhere("RePaintScheduler", "it needs an image and a mask. Make `RePaint::around(Ddim::new())`, tell its runs both with \
        `Run::known`, or read a configuration with `diffusers::from_config`"),
    elsewhere("DDPMWuerstchenScheduler", "its process is its own. Read a configuration with `diffusers::from_config`"),
    elsewhere("ScoreSdeVeScheduler", "it is a predictor with correctors on a process of its own. Read a configuration with \
        `diffusers::score_sde_from_config`, or make a `PredictorCorrector`"),
    elsewhere("ScoreSdeVpScheduler", "its process is its own. Read a configuration with `diffusers::score_sde_from_config`; \
        'reverse_diffusion' and 'euler_maruyama' go along any process"),
    elsewhere("VQDiffusionScheduler", "it is for tokens, not for numbers. Read a configuration with \
        `diffusers::vq_diffusion_from_config`, or make a chain of `core::discrete` with `schedulers::discrete`"),
];
