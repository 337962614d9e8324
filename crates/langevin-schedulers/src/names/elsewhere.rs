//! Names that say too little for a plan.

/// A name, and what is said to who asks for it.
pub(super) struct Elsewhere {
    pub name: &'static str,
    pub advice: &'static str,
}

const fn row(name: &'static str, advice: &'static str) -> Elsewhere {
    Elsewhere { name, advice }
}

/// All of them.
pub(super) const ELSEWHERE: &[Elsewhere] = &[
    row(
        "RePaintScheduler",
        "it needs an image and a mask. Make `RePaint::around(Ddim::new())`, tell its runs both with `Run::known`, or read a \
         configuration with `diffusers::from_config`",
    ),
    row(
        "CogVideoXDDIMScheduler",
        "its chain is its own. Read a configuration with `diffusers::from_config`; 'ddim' goes along any process",
    ),
    row(
        "CogVideoXDPMScheduler",
        "its chain is its own. Read a configuration with `diffusers::from_config`; 'dpmpp_2m_sde' goes along any process",
    ),
    row(
        "MiniMaxH3Scheduler",
        "its networks are told 1 − σ and point to the data. Read a configuration with `diffusers::from_config`; 'euler' goes along \
         any process",
    ),
    row(
        "ConsistencyDecoderScheduler",
        "its chain and its two steps are its own. Read a configuration with `diffusers::from_config`; 'consistency_multistep' \
         goes along any process",
    ),
    row(
        "FlowMapEulerDiscreteScheduler",
        "its networks are told where a step ends, too. Read a configuration with `diffusers::from_config`, or plan 'euler', and ask \
         the network by `consistency::Along`",
    ),
    row(
        "HeliosScheduler",
        "its stages are runs of their own. Read a configuration with `diffusers::helios_from_config`; 'uni_pc' goes along any process",
    ),
    row(
        "HeliosDMDScheduler",
        "its stages are runs of their own. Read a configuration with `diffusers::helios_from_config`",
    ),
    row("DDPMWuerstchenScheduler", "its process is its own. Read a configuration with `diffusers::from_config`"),
    row(
        "ScoreSdeVeScheduler",
        "it is a predictor with correctors on a process of its own. Read a configuration with \
         `diffusers::score_sde_from_config`, or make a `PredictorCorrector`",
    ),
    row(
        "ScoreSdeVpScheduler",
        "its process is its own. Read a configuration with `diffusers::score_sde_from_config`; 'reverse_diffusion' and \
         'euler_maruyama' go along any process",
    ),
    row(
        "RFD4ProteinaScheduler",
        "its times and its temperature are its own. Read a configuration with `diffusers::rfd4_proteina_from_config`, or make a \
         `flow::Tempered`",
    ),
    row(
        "PiflowScheduler",
        "its networks answer with several velocities at once. Read a configuration with `diffusers::piflow_from_config`, or make \
         a `flow::PiFlow`",
    ),
    row(
        "VQDiffusionScheduler",
        "it is for tokens, not for numbers. Read a configuration with `diffusers::vq_diffusion_from_config`, or make a chain \
         of `core::discrete` with `schedulers::discrete`",
    ),
    row(
        "AmusedScheduler",
        "it is for tokens, not for numbers. Read a configuration with `diffusers::amused_from_config`, or make a `MaskGit`",
    ),
    row(
        "DiscreteDDIMScheduler",
        "it is for tokens, not for numbers. Read a configuration with `diffusers::discrete_ddim_from_config`, or make a \
         `DiscreteDdim`",
    ),
    row(
        "EntropyBoundScheduler",
        "it is for tokens, not for numbers. Read a configuration with `diffusers::entropy_bound_from_config`, or make an \
         `EntropyBound`",
    ),
    row(
        "BlockRefinementScheduler",
        "it is for tokens, not for numbers. Read a configuration with `diffusers::block_refinement_from_config`, or make a \
         `BlockRefinement`",
    ),
];
