//! The samplers that have names.

use super::spacing::{Arrival, Reach, Spacing};
use crate::consistency::{Lcm, Multistep, Tcd};
use crate::exponential::{
    Basis, Deis, DpmAdaptive, DpmSolver, DpmSolverSde, SaSolver, SecondOrder, Singlestep, Tau, ThirdOrder, UniB, UniPc,
};
use crate::flow;
use crate::ode::{DormandPrince, ProbabilityFlow, Tableau};
use crate::plus_plus::{GuidedAt, PlusPlus};
use crate::sigma::{
    AncestralSplit, Churn, Dpm2, Dpm2Ancestral, ErSde, Euler, EulerAncestral, GradientEstimation, Heun, HeunPp, Ipndm,
    Lms, Pndm,
};
use crate::solver::{PlanError, Solver};
use crate::{Ddim, Ddpm, EulerMaruyama, Restart, ReverseDiffusion, Variance};
use langevin_core::Process;

/// One sampler under its names.
pub(super) struct Entry {
    pub name: &'static str,
    pub also: &'static [&'static str],
    pub what: &'static str,
    /// The schedule, where the name has none.
    pub spacing: Spacing,
    /// The schedule of A1111's "Automatic", where it is another.
    pub automatic: Option<Spacing>,
    pub reach: Reach,
    /// What noise it has unless another strength is asked for; `None` if it takes none.
    pub eta: Option<f64>,
    pub make: fn(&Settings<'_>) -> Result<Made, PlanError>,
}

/// What a sampler is made from.
pub(super) struct Settings<'a> {
    pub process: &'a dyn Process,
    pub steps: usize,
    pub eta: f64,
}

/// What an entry makes.
pub(super) enum Made {
    /// A solver and the number of steps of its grid.
    Planned(Box<dyn Solver>, usize),
    /// Adaptive steps in λ, between the ends where it is finite.
    AdaptiveDpm(Box<DpmAdaptive>),
    /// Adaptive steps over the whole range.
    Adaptive(Box<DormandPrince>),
}

impl Settings<'_> {
    /// A solver that makes one step of each step asked for.
    fn solver(&self, solver: impl Solver + 'static) -> Result<Made, PlanError> {
        Ok(Made::Planned(Box::new(solver), self.steps))
    }

    /// Where ComfyUI splits ancestral steps: on a flow, where α + σ = 1, in σ.
    fn split(&self) -> AncestralSplit {
        let (min, max) = self.process.time_range();
        let sum = |t: f64| self.process.alpha(t) + self.process.sigma(t);
        let is_flow = (0..=8).all(|i| (sum(min + (max - min) * f64::from(i) / 8.0) - 1.0).abs() < 1e-9);
        if is_flow { AncestralSplit::Share } else { AncestralSplit::Ratio }
    }

    /// Noise between 20% and 80% of the process's time, as the network is told it.
    fn tau(&self) -> Tau {
        let (min, max) = self.process.time_range();
        let time = |share: f64| self.process.network_time(min + share * (max - min));
        Tau::Between { tau: self.eta, clean: time(0.2), noisy: time(0.8) }
    }
}

const REACH: Reach = Reach { pure_noise: true, arrival: Arrival::Clean, passes_over: false, inverted: false };

const fn row(
    name: &'static str,
    also: &'static [&'static str],
    what: &'static str,
    make: fn(&Settings<'_>) -> Result<Made, PlanError>,
) -> Entry {
    Entry { name, also, what, spacing: Spacing::Normal, automatic: None, reach: REACH, eta: None, make }
}

impl Entry {
    /// With another schedule.
    const fn on(mut self, spacing: Spacing) -> Self {
        self.spacing = spacing;
        self
    }
    /// With a schedule of its own behind A1111's "Automatic".
    const fn automatic(mut self, spacing: Spacing) -> Self {
        self.automatic = Some(spacing);
        self
    }
    /// The schedule that is meant by one.
    pub(super) fn settled(&self, spacing: Spacing) -> Spacing {
        match spacing {
            Spacing::Automatic => self.automatic.unwrap_or(self.spacing),
            named => named,
        }
    }
    /// Takes a strength of its noise.
    const fn eta(mut self, eta: f64) -> Self {
        self.eta = Some(eta);
        self
    }
    /// Cannot begin at α = 0.
    const fn needs_signal(mut self) -> Self {
        self.reach.pure_noise = false;
        self
    }
    /// Does not go to clean data.
    const fn to(mut self, arrival: Arrival) -> Self {
        self.reach.arrival = arrival;
        self
    }
    /// Leaves the cleanest level but one out.
    const fn passing_over(mut self) -> Self {
        self.reach.passes_over = true;
        self
    }
    /// From data to noise.
    const fn inverted(mut self) -> Self {
        self.reach.inverted = true;
        self
    }
}

/// Grids of fewer steps end with lower orders in diffusers.
const SHORT: usize = 15;

/// All samplers: their own name, other spellings, what they are, how they are made. Case and separators do not count, "+"
/// is "p", and a leading `sample_` or `k_` is left out.
#[rustfmt::skip]
pub(super) const SOLVERS: &[Entry] = &[
    // In σ/α.
    row("euler", &["EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"], "Euler in σ/α, and in σ/(α+σ)", |s| s.solver(Euler::new())),
    row("EDMEulerScheduler", &[], "the same on Karras's schedule", |s| s.solver(Euler::new())).on(Spacing::Karras),
    row("euler_ancestral", &["euler_a", "EulerAncestralDiscreteScheduler"], "Euler with ancestral noise",
        |s| s.solver(EulerAncestral::new().eta(s.eta)?.split(s.split()))).eta(1.0),
    row("euler_ancestral_rf", &["LTXEulerAncestralRFScheduler"], "the same, split in σ/(α+σ) on every process",
        |s| s.solver(EulerAncestral::new().eta(s.eta)?.split(AncestralSplit::Share))).eta(1.0),
    row("heun", &["HeunDiscreteScheduler"], "Heun in σ/α", |s| s.solver(Heun::new())),
    row("heun_churn", &[], "the same with churn 40 (Karras et al.)",
        |s| s.solver(Heun::new().churn(Churn::new(40.0)?))).on(Spacing::Karras),
    row("KarrasVeScheduler", &[], "the same with diffusers' settings", |s| {
        let churn = Churn::new(80.0)?.between(0.05, 50.0)?.noise(1.007)?;
        s.solver(Heun::new().churn(churn))
    }).on(Spacing::Exponential),
    row("heunpp2", &[], "Heun++: slopes of two levels ahead, weighed by their noise", |s| s.solver(HeunPp::new())),
    row("flow_heun", &["FlowMatchHeunDiscreteScheduler"], "Heun in σ/(α+σ)", |s| s.solver(flow::Heun::new())),
    row("dpm_2", &[], "midpoints in ln(σ/α)", |s| s.solver(Dpm2::new()))
        .passing_over().automatic(Spacing::Karras),
    row("KDPM2DiscreteScheduler", &[], "the same on all levels", |s| s.solver(Dpm2::new())),
    row("dpm_2_ancestral", &["DPM2 a"], "DPM2 with ancestral noise",
        |s| s.solver(Dpm2Ancestral::new().eta(s.eta)?.split(s.split())))
        .eta(1.0).passing_over().automatic(Spacing::Karras),
    row("dpm_2_ancestral_rf", &[], "the same in σ/(α+σ) on every process",
        |s| s.solver(Dpm2Ancestral::new().eta(s.eta)?.split(AncestralSplit::Share))).eta(1.0).passing_over(),
    row("KDPM2AncestralDiscreteScheduler", &[], "the same in σ/α on all levels",
        |s| s.solver(Dpm2Ancestral::new().eta(s.eta)?)).eta(1.0),
    row("lms", &["LMSDiscreteScheduler", "ipndm_v"], "linear multistep in σ/α: four slopes, weighted for the grid",
        |s| s.solver(Lms::new(4)?)),
    row("plms", &["pndm"], "PNDM, first step taken twice", |s| s.solver(Pndm::new())).on(Spacing::DdimUniform),
    row("PNDMScheduler", &["pndm_rk"], "PNDM, Runge-Kutta start",
        |s| s.solver(Pndm::runge_kutta())).on(Spacing::Leading),
    row("ipndm", &["IPNDMScheduler"], "iPNDM, order 4", |s| s.solver(Ipndm::new())),
    row("gradient_estimation", &["ge_euler"], "Euler in σ/α with the change of the slope taken further, γ = 2",
        |s| s.solver(GradientEstimation::new())),
    row("er_sde", &[], "extended reverse SDE, three answers, the authors' noise", |s| s.solver(ErSde::new(3)?)),
    row("restart", &[], "Heun, restarted between σ/α = 0.1 and 2 as A1111 does from 20 steps on", |s| {
        let (again, times) = match s.steps {
            0..20 => return s.solver(Heun::new()),
            20..36 => (9, 1),
            steps => (steps / 4, 2),
        };
        let solver = Restart::around(Heun::new()).interval_of_steps(0.1, 2.0, times, again)?;
        Ok(Made::Planned(Box::new(solver), s.steps - again * times))
    }).on(Spacing::Karras),
    // In λ, one answer a step.
    row("dpmpp_2m", &[], "DPM-Solver++, multistep, order 2", |s| s.solver(DpmSolver::multistep(2)?))
        .automatic(Spacing::Karras),
    row("dpmpp_3m", &[], "the same, order 3", |s| s.solver(DpmSolver::multistep(3)?)),
    row("DPMSolverMultistepScheduler", &[], "order 2, lower at the end of short grids",
        |s| s.solver(DpmSolver::multistep(2)?.lower_order_below(SHORT))).on(Spacing::Linspace),
    row("EDMDPMSolverMultistepScheduler", &[], "the same on Karras's schedule",
        |s| s.solver(DpmSolver::multistep(2)?.lower_order_below(SHORT))).on(Spacing::Karras),
    row("DPMSolverMultistepInverseScheduler", &["dpmpp_2m_inverse"], "order 2, from data to noise",
        |s| s.solver(DpmSolver::multistep(2)?.lower_order_below(SHORT)))
        .on(Spacing::Linspace).inverted().to(Arrival::Noisy),
    row("CosineDPMSolverMultistepScheduler", &[], "order 2 for the reverse SDE, on an exponential schedule",
        |s| s.solver(DpmSolver::multistep(2)?.sde(s.eta)?.lower_order_below(SHORT)))
        .eta(1.0).on(Spacing::Exponential),
    row("dpmpp_2m_sde", &["dpmpp_2m_sde_gpu"], "the same for the reverse SDE, along one path",
        |s| s.solver(DpmSolver::multistep(2)?.sde(s.eta)?.path())).eta(1.0).automatic(Spacing::Exponential),
    row("dpmpp_2m_sde_heun", &["dpmpp_2m_sde_heun_gpu"], "with slopes weighted as lines",
        |s| s.solver(DpmSolver::multistep(2)?.sde(s.eta)?.second_order(SecondOrder::Heun).path()))
        .eta(1.0).automatic(Spacing::Exponential),
    row("dpmpp_3m_sde", &["dpmpp_3m_sde_gpu"], "order 3, half of the second difference",
        |s| s.solver(DpmSolver::multistep(3)?.sde(s.eta)?.second_order(SecondOrder::Heun)
            .third_order(ThirdOrder::Half).path())).eta(1.0).automatic(Spacing::Exponential),
    row("dpm_solver_2m", &[], "DPM-Solver, multistep, order 2",
        |s| s.solver(DpmSolver::multistep(2)?.basis(Basis::Noise))).needs_signal(),
    row("res_multistep", &[], "RES, order 2: the exact line through two answers",
        |s| s.solver(DpmSolver::multistep(2)?.second_order(SecondOrder::Heun))),
    row("res_multistep_ancestral", &[], "the same with ancestral noise", |s| {
        s.solver(DpmSolver::multistep(2)?.second_order(SecondOrder::Heun).ancestral(s.eta)?)
    }).eta(1.0),
    row("deis", &[], "DEIS in λ, order 3", |s| s.solver(Deis::new(3)?)).needs_signal(),
    row("DEISMultistepScheduler", &[], "DEIS, order 2, lower at the end of short grids",
        |s| s.solver(Deis::new(2)?.lower_order_below(SHORT))).on(Spacing::Linspace).needs_signal(),
    row("uni_pc", &[], "UniPC, order 3, B(h) = h",
        |s| s.solver(UniPc::new(3)?.b(UniB::Linear).lower_order_final(true))).passing_over().needs_signal(),
    row("uni_pc_bh2", &[], "UniPC, order 3, B(h) = e^h − 1",
        |s| s.solver(UniPc::new(3)?.lower_order_final(true))).passing_over(),
    row("UniPCMultistepScheduler", &[], "UniPC, order 2, on all levels",
        |s| s.solver(UniPc::new(2)?.lower_order_final(true))).on(Spacing::Linspace),
    row("sa_solver", &[], "SA-Solver, three answers, corrected by four; noise from 20% to 80% of time",
        |s| s.solver(SaSolver::new(3, 4)?.tau(s.tau())?)).eta(1.0),
    row("sa_solver_pece", &[], "the same, asked again after each correction",
        |s| s.solver(SaSolver::new(3, 4)?.tau(s.tau())?.evaluate_again())).eta(1.0),
    row("SASolverScheduler", &[], "SA-Solver, two answers, corrected by two",
        |s| s.solver(SaSolver::new(2, 2)?.tau(s.tau())?.lower_order_final(true))).eta(1.0).on(Spacing::Linspace),
    // In λ, with inner stages.
    row("dpmpp_2s", &[], "DPM-Solver++, singlestep, order 2", |s| s.solver(Singlestep::new(2)?)),
    row("dpmpp_3s", &[], "the same, order 3", |s| s.solver(Singlestep::new(3)?)),
    row("seeds_2", &[], "SEEDS: the same for the reverse SDE, order 2", |s| s.solver(Singlestep::new(2)?.sde(s.eta)?)).eta(1.0),
    row("seeds_3", &[], "SEEDS, order 3", |s| s.solver(Singlestep::new(3)?.sde(s.eta)?)).eta(1.0),
    row("exp_heun_2_x0", &[], "Heun in λ: the exact line through the answers at both ends of a step",
        |s| s.solver(Singlestep::new(2)?.midpoint(1.0)?.last_stage(SecondOrder::Heun))),
    row("exp_heun_2_x0_sde", &[], "the same for the reverse SDE, as SEEDS",
        |s| s.solver(Singlestep::new(2)?.midpoint(1.0)?.last_stage(SecondOrder::Heun).sde(s.eta)?)).eta(1.0),
    row("DPMSolverSinglestepScheduler", &[], "order 2, with stages on the grid",
        |s| s.solver(Singlestep::new(2)?.on_grid().lower_order_final(true))).on(Spacing::Linspace),
    row("dpmpp_2s_ancestral", &["dpmpp_2s_a"], "DPM-Solver++ 2S with ancestral noise",
        |s| s.solver(Singlestep::new(2)?.ancestral(s.eta)?.ancestral_split(s.split())))
        .eta(1.0).automatic(Spacing::Karras),
    row("dpmpp_2s_ancestral_rf", &[], "the same, split in σ/(α+σ) on every process",
        |s| s.solver(Singlestep::new(2)?.ancestral(s.eta)?.ancestral_split(AncestralSplit::Share))).eta(1.0),
    row("dpmpp_sde", &["dpmpp_sde_gpu"], "DPM-Solver++ SDE: an inner stage, along one path",
        |s| s.solver(DpmSolverSde::new().eta(s.eta)?)).eta(1.0).automatic(Spacing::Karras),
    row("DPMSolverSDEScheduler", &[], "the same on whole steps",
        |s| s.solver(DpmSolverSde::new().eta(s.eta)?)).eta(1.0).on(Spacing::Linspace),
    row("dpm_adaptive", &["dpm_ad"], "DPM-Solver of order 3, adaptive steps, tolerances 0.05 and 0.0078",
        |s| Ok(Made::AdaptiveDpm(Box::new(DpmAdaptive::new(0.05, 0.0078)?.eta(s.eta)?))))
        .eta(0.0).needs_signal().to(Arrival::Noisy),
    row("dpm_fast", &[], "DPM-Solver-fast: as many evaluations as steps asked for", |s| {
        let solver = Singlestep::fast(s.steps)?;
        let solver = if s.eta == 0.0 { solver } else { solver.ancestral(s.eta)? };
        let steps = solver.steps().unwrap_or(s.steps);
        Ok(Made::Planned(Box::new(solver), steps))
    }).eta(0.0).on(Spacing::UniformLambda).needs_signal().to(Arrival::Noisy),
    // Posteriors.
    row("ddpm", &["DDPMScheduler", "DDPMParallelScheduler"], "DDPM with the posterior's own variance",
        |s| s.solver(Ddpm::new())).on(Spacing::Leading),
    row("UnCLIPScheduler", &[], "the same from the last step to the first", |s| s.solver(Ddpm::new()))
        .on(Spacing::Linspace),
    row("ddpm_large", &[], "DDPM with the forward variance",
        |s| s.solver(Ddpm::new().variance(Variance::FixedLarge))).on(Spacing::Leading),
    row("ddpm_learned", &[], "DDPM with a learned variance",
        |s| s.solver(Ddpm::new().variance(Variance::LearnedRange))).on(Spacing::Leading),
    row("ddim", &["DDIMScheduler", "DDIMParallelScheduler"], "DDIM; η = 1 is DDPM", |s| s.solver(Ddim::new().eta(s.eta)?))
        .eta(0.0).on(Spacing::Leading),
    row("DDIMInverseScheduler", &["ddim_inverse"], "DDIM from data to noise", |s| s.solver(Ddim::new()))
        .on(Spacing::Leading).inverted(),
    // CFG++: guided x̂_0, unconditional noise.
    row("euler_cfg_pp", &[], "Euler with CFG++, for denoisers with `.plus_plus()`", |s| s.solver(PlusPlus::around(Euler::new()))),
    row("euler_ancestral_cfg_pp", &["euler_a_cfg_pp"], "Euler ancestral with CFG++",
        |s| s.solver(PlusPlus::around(EulerAncestral::new().eta(s.eta)?))).eta(1.0),
    row("gradient_estimation_cfg_pp", &[], "gradient estimation with CFG++",
        |s| s.solver(PlusPlus::around(GradientEstimation::new()))),
    row("dpmpp_2m_cfg_pp", &[], "DPM-Solver++ 2M with CFG++, slopes from the guided answer",
        |s| s.solver(PlusPlus::around(DpmSolver::multistep(2)?).guided_at(GuidedAt::Slope))),
    row("dpmpp_2s_ancestral_cfg_pp", &[], "DPM-Solver++ 2S ancestral with CFG++",
        |s| s.solver(PlusPlus::around(Singlestep::new(2)?.ancestral(s.eta)?))).eta(1.0),
    row("res_multistep_cfg_pp", &[], "RES with CFG++, guided where a step begins", |s| {
        let solver = DpmSolver::multistep(2)?.second_order(SecondOrder::Heun);
        s.solver(PlusPlus::around(solver).guided_at(GuidedAt::Beginning))
    }),
    row("res_multistep_ancestral_cfg_pp", &[], "the same with ancestral noise", |s| {
        let solver = DpmSolver::multistep(2)?.second_order(SecondOrder::Heun).ancestral(s.eta)?;
        s.solver(PlusPlus::around(solver).guided_at(GuidedAt::Beginning))
    }).eta(1.0),
    row("ddim_cfg_pp", &[], "DDIM with CFG++", |s| s.solver(PlusPlus::around(Ddim::new().eta(s.eta)?)))
        .eta(0.0).on(Spacing::Leading),
    // Distilled networks.
    row("lcm", &["LCMScheduler"], "latent consistency models", |s| s.solver(Lcm::new())).on(Spacing::SgmUniform),
    row("tcd", &["TCDScheduler"], "trajectory consistency; η is its γ", |s| s.solver(Tcd::new(s.eta)?))
        .eta(0.3).on(Spacing::SgmUniform),
    row("consistency_multistep", &["FlowMatchLCMScheduler", "SCMScheduler"], "consistency models with clean answers",
        |s| s.solver(Multistep::new())),
    row("CMStochasticIterativeScheduler", &[], "those that end where the process does", |s| {
        let end = libm::exp(-s.process.lambda(s.process.time_range().0));
        s.solver(Multistep::new().ending_at(end)?)
    }).on(Spacing::Karras),
    // In the process's own time.
    row("euler_maruyama", &[], "the reverse SDE, white noise in every step", |s| s.solver(EulerMaruyama::new()))
        .on(Spacing::UniformLambda).needs_signal().to(Arrival::Noisy),
    row("euler_maruyama_path", &[], "the same along one path", |s| s.solver(EulerMaruyama::new().path()))
        .on(Spacing::UniformLambda).needs_signal().to(Arrival::Noisy),
    row("reverse_diffusion", &[], "the reverse SDE in its discrete form", |s| s.solver(ReverseDiffusion::new()))
        .to(Arrival::Noisy),
    row("probability_flow_euler", &["pf_euler"], "probability flow, order 1",
        |s| s.solver(ProbabilityFlow::euler())).to(Arrival::Range),
    row("probability_flow_heun", &["pf_heun"], "probability flow, order 2",
        |s| s.solver(ProbabilityFlow::heun())).to(Arrival::Range),
    row("probability_flow_rk4", &["pf_rk4"], "probability flow, order 4",
        |s| s.solver(ProbabilityFlow::rk4())).to(Arrival::Range),
    row("probability_flow_dopri5", &["pf_dopri5"], "probability flow, order 5, fixed steps",
        |s| s.solver(ProbabilityFlow::new(Tableau::dormand_prince()))).to(Arrival::Range),
    row("dopri5", &["rk45", "dormand_prince"], "probability flow, adaptive steps, tolerance 1e-5",
        |_| Ok(Made::Adaptive(Box::new(DormandPrince::new(1e-5, 1e-5)?)))).to(Arrival::Range),
];
