//! The solver that a configuration names: as it is right, or as the original has it.

use super::flow_heun::FlowChurn;
use super::unclip::UnClip;
use crate::consistency::{Lcm, Multistep, Resize, Tcd};
use crate::ddim::Ddim;
use crate::ddpm::{Ddpm, Variance};
use crate::exponential::{Deis, DpmSolver, DpmSolverSde, SaSolver, Singlestep, ThirdOrder, UniPc};
use crate::flow;
use crate::jumps::RePaint;
use crate::sigma::{Churned, Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};
use crate::solver::Solver;
use langevin_core::Prediction;

/// The solver a configuration names, with its settings.
#[derive(Clone, Debug)]
pub(super) enum Method {
    Ddpm(Ddpm),
    Ddim(Ddim),
    /// That takes no eta.
    Shifted(Ddim),
    DdimInverse(Ddim),
    /// Takes churn.
    Euler(Euler),
    /// Takes an order.
    Lms(Lms),
    EulerAncestral(EulerAncestral),
    Heun(Heun),
    Dpm2(Dpm2),
    Dpm2Ancestral(Dpm2Ancestral),
    /// Takes a factor on its noise, and may come with a seed.
    DpmSde(DpmSolverSde, Option<u64>),
    Pndm(Pndm),
    Ipndm(Ipndm),
    Multistep(DpmSolver),
    Singlestep(Singlestep),
    Deis(Deis),
    UniPc(UniPc),
    Sa(SaSolver),
    Lcm(Lcm),
    /// Takes an eta.
    Tcd(Tcd),
    FlowEuler(Euler),
    /// Takes churn.
    FlowHeun(Option<FlowChurn>),
    Consistency(Multistep),
    /// With a scale factor for each step but the last.
    Scalewise(Multistep, Vec<f64>, Resize),
    /// Of unCLIP, and whether its variance is learned.
    UnClip {
        learned: bool,
    },
    /// Takes jumps.
    RePaint(RePaint<Ddim>),
}

impl Method {
    /// The solver, for networks that predict this.
    ///
    /// With `compat` it is the original's, wherever that loses an order or the law of the data; without, the one of its
    /// paper. Where the original is another method and no worse it is the original's either way. Steps are counted with those `before`
    /// a later start.
    pub fn solver(&self, compat: bool, prediction: Prediction, before: usize) -> Box<dyn Solver> {
        match self.clone() {
            Method::Ddpm(solver) => Box::new(solver.noise_at_end(compat)),
            Method::Pndm(solver) if compat => Box::new(solver.combining_outputs(prediction).middles_apart()),
            Method::Ipndm(solver) if compat => Box::new(solver.blank_start()),
            Method::Multistep(solver) if compat => Box::new(solver.third_order(ThirdOrder::HalfLess)),
            Method::Singlestep(solver) if compat => Box::new(solver.compat_diffusers().counted_from(before)),
            Method::Lms(solver) if compat => Box::new(solver.compat_diffusers()),
            Method::UnClip { learned } if compat => Box::new(UnClip { learned }),
            Method::RePaint(solver) if compat => Box::new(solver.compat_diffusers()),
            Method::FlowHeun(Some(churn)) if compat => Box::new(churn.published()),
            Method::Pndm(solver) => Box::new(solver),
            Method::Ipndm(solver) => Box::new(solver),
            Method::Multistep(solver) => Box::new(solver),
            Method::Singlestep(solver) => Box::new(solver.counted_from(before)),
            Method::UnClip { learned: true } => Box::new(Ddpm::new().variance(Variance::LearnedRange)),
            Method::UnClip { learned: false } => Box::new(Ddpm::new()),
            Method::RePaint(solver) => Box::new(solver),
            Method::FlowHeun(Some(churn)) => Box::new(Churned::new(flow::Heun::new(), churn.along_the_flow())),
            Method::FlowHeun(None) => Box::new(flow::Heun::new()),
            Method::Ddim(solver) | Method::Shifted(solver) | Method::DdimInverse(solver) => Box::new(solver),
            Method::Euler(solver) | Method::FlowEuler(solver) => Box::new(solver),
            Method::Lms(solver) => Box::new(solver),
            Method::EulerAncestral(solver) => Box::new(solver),
            Method::Heun(solver) => Box::new(solver),
            Method::Dpm2(solver) => Box::new(solver),
            Method::Dpm2Ancestral(solver) => Box::new(solver),
            Method::DpmSde(solver, _) => Box::new(solver),
            Method::Deis(solver) => Box::new(solver),
            Method::UniPc(solver) => Box::new(solver.counted_from(before)),
            Method::Sa(solver) => Box::new(solver),
            Method::Lcm(solver) => Box::new(solver),
            Method::Tcd(solver) => Box::new(solver),
            Method::Consistency(solver) | Method::Scalewise(solver, ..) => Box::new(solver),
        }
    }
}
