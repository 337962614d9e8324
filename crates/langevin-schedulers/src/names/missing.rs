//! Names that programs have and this library does not.

/// A name, and what is said to who asks for it.
pub(super) struct Missing {
    pub name: &'static str,
    pub advice: &'static str,
}

const fn row(name: &'static str, advice: &'static str) -> Missing {
    Missing { name, advice }
}

const CFG: &str =
    "CFG++ is a rule of guidance here: take the name without it, and a denoiser `.guided(..).plus_plus()`";
const NONE: &str = "`names::solvers` lists what there is; 'dpmpp_2m' and 'dpmpp_2m_sde' serve most networks";

/// All of them.
#[rustfmt::skip]
pub(super) const MISSING: &[Missing] = &[
    row("euler_cfg_pp", CFG), row("euler_ancestral_cfg_pp", CFG), row("dpmpp_2m_cfg_pp", CFG),
    row("dpmpp_2s_ancestral_cfg_pp", CFG), row("res_multistep_cfg_pp", CFG),
    row("res_multistep_ancestral_cfg_pp", CFG), row("gradient_estimation_cfg_pp", CFG), row("DDIM CFG++", CFG),
    row("dpmpp_sde", NONE), row("dpmpp_sde_gpu", NONE), row("dpmpp_2s_ancestral", NONE), row("DPM++ 2S a", NONE),
    row("dpm_adaptive", "take 'dopri5', whose steps are adaptive, too"),
    row("heunpp2", "take 'heun', or 'dpmpp_2m'"), row("ipndm_v", "take 'lms', whose weights are those of the grid"),
    row("exp_heun_2_x0", "take 'dpmpp_2s'"), row("exp_heun_2_x0_sde", NONE), row("res_multistep_ancestral", NONE),
    row("gradient_estimation", NONE), row("er_sde", NONE), row("seeds_2", NONE), row("seeds_3", NONE),
    row("sa_solver_pece", "take 'sa_solver', which evaluates once a step"),
];
