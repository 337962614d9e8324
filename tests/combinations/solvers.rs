//! The rows of the matrix: one line for each family of solvers.

use crate::common::solvers::type_of;
use crate::{On, Outcome, Way, refused};
use langevin::core::Process;
use langevin::core::inverse::Masking;
use langevin::schedulers::consistency::{Lcm, Multistep, Tcd};
use langevin::schedulers::exponential::{
    AdaptiveDpm, Basis, DpmAdaptive, DpmSolverSde, SaSolver, Singlestep, Tau, UniC, UniPc,
};
use langevin::schedulers::flow;
use langevin::schedulers::inverse::{Ddrm, DpsSteps};
use langevin::schedulers::ode::AdaptiveFlow;
use langevin::schedulers::sde::{AdaptiveReverse, AdaptiveSde, AnnealedCorrector};
use langevin::schedulers::sigma::{
    AncestralSplit, Churn, Churned, Dpm2, Dpm2Ancestral, ErSde, Euler, EulerAncestral, GradientEstimation, Heun,
    HeunPp, Ipndm, Lms, NoiseScale, Pndm,
};
use langevin::schedulers::{
    AnnealedLangevin, Ddim, Ddpm, Deis, DormandPrince, DpmSolver, EulerMaruyama, Picard, Plan, PlusPlus,
    PredictorCorrector, ProbabilityFlow, RePaint, Restart, ReverseDiffusion, Sampler, Solver,
};

/// A solver, or a sampler that is none.
pub struct Row {
    pub name: &'static str,
    /// The public type, as in [`type_of`].
    pub of: &'static str,
    pub made: Made,
    /// Whether it goes from data to noise.
    pub inverted: bool,
    /// Why it is no solver that others go around, if it is none.
    pub lacks: &'static str,
}

impl Row {
    /// How it goes along a process.
    pub fn way(&self, on: On) -> Way {
        if self.inverted { Way::Inversion(on) } else { Way::Sampling(on) }
    }

    /// On grids from data to noise.
    fn inverted(mut self) -> Self {
        self.inverted = true;
        self
    }

    pub fn sampler(&self, way: Way) -> Outcome<Box<dyn Sampler<2>>> {
        match &self.made {
            Made::Planned { solver, .. } => Ok(Box::new(plan(&**solver, way)?)),
            Made::Sampler(make) => make(way),
        }
    }
}

pub enum Made {
    /// A solver that plans, and the same with churn if it has a method for that.
    Planned {
        solver: Box<dyn Solver>,
        churned: Option<Box<dyn Solver>>,
    },
    Sampler(Make),
}

type Make = Box<dyn Fn(Way) -> Outcome<Box<dyn Sampler<2>>>>;

fn row<S>(name: &'static str, made: Made, lacks: &'static str) -> Row {
    Row { name, of: type_of::<S>(), made, inverted: false, lacks }
}

fn planned<S: Solver + 'static>(name: &'static str, solver: S) -> Row {
    row::<S>(name, Made::Planned { solver: Box::new(solver), churned: None }, "")
}

fn with_churn<S: Solver + Clone + 'static>(name: &'static str, solver: S, churn: fn(S, Churn) -> S) -> Row {
    let churned = churn(solver.clone(), Churn::new(1.0).expect("in range"));
    row::<S>(name, Made::Planned { solver: Box::new(solver), churned: Some(Box::new(churned)) }, "")
}

fn sampler<S: Sampler<2> + 'static>(name: &'static str, lacks: &'static str, make: fn(Way) -> Outcome<S>) -> Row {
    row::<S>(name, Made::Sampler(Box::new(move |way| Ok(Box::new(make(way)?)))), lacks)
}

/// Compiles only while the type is no solver: else the item below would be that of two implementations.
macro_rules! no_solver {
    ($($sampler:ty),*) => {
        $(const _: fn() = || {
            trait Lacks<A> {
                fn a_solver() {}
            }
            struct Any;
            struct OfSolvers;
            impl<S: ?Sized> Lacks<Any> for S {}
            impl<S: Solver + ?Sized> Lacks<OfSolvers> for S {}
            <$sampler as Lacks<_>>::a_solver();
        };)*
    };
}

no_solver!(
    Picard,
    PredictorCorrector,
    Ddrm<Masking<2>, 2>,
    DpsSteps<Masking<2>, 2>,
    AdaptiveReverse<Box<dyn Process>>,
    AdaptiveDpm<Box<dyn Process>>,
    AdaptiveFlow<Box<dyn Process>>
);

/// Why a sampler has no columns for solvers and plans.
const ADAPTIVE: &str = "it chooses its steps as it goes";

pub fn rows() -> Vec<Row> {
    let multi = |order| DpmSolver::multistep(order).expect("an order");
    let ancestral = Singlestep::new(2).and_then(|solver| solver.ancestral(1.0)).expect("settings");
    let quiet_sa = SaSolver::new(2, 2).and_then(|solver| solver.tau(Tau::Constant(0.0))).expect("settings");
    let quiet_er = ErSde::new(3).and_then(|solver| solver.noise(NoiseScale::Power(1.0))).expect("settings");
    vec![
        planned("DDPM", Ddpm::new()),
        planned("DDIM", Ddim::new()),
        planned("DDIM inversion", Ddim::new()).inverted(),
        planned("DDIM with noise", Ddim::new().eta(0.5).expect("in range")),
        planned("DPM-Solver++ 2M", multi(2)),
        planned("DPM-Solver++ 2M inversion", multi(2)).inverted(),
        planned("DPM-Solver++ 3M", multi(3)),
        planned("DPM-Solver++ 2M SDE", multi(2).sde(1.0).expect("in range")),
        planned("DPM-Solver++ 2M ancestral", multi(2).ancestral(1.0).expect("in range")),
        planned("DPM-Solver 2M, in ε̂", multi(2).basis(Basis::Noise)),
        planned("DPM-Solver++ 2S on the grid", Singlestep::new(2).expect("an order").on_grid()),
        planned("DPM-Solver-fast", Singlestep::fast(15).expect("evaluations of six steps")),
        planned("2S ancestral", ancestral.clone()),
        planned("2S ancestral in σ/(α+σ)", ancestral.clone().ancestral_split(AncestralSplit::Share)),
        planned("DPM-Solver++ 3S", Singlestep::new(3).expect("an order")),
        planned("DEIS 3, in ε̂", Deis::new(3).expect("an order")),
        planned("UniPC 2", UniPc::new(2).expect("an order")),
        planned("SA-Solver", SaSolver::new(2, 2).expect("orders")),
        planned("SA-Solver, evaluated again", SaSolver::new(2, 2).expect("orders").evaluate_again()),
        planned("SA-Solver without noise", quiet_sa),
        planned("LCM", Lcm::new()),
        planned("TCD", Tcd::new(0.3).expect("in range")),
        planned("TCD without noise", Tcd::new(0.0).expect("in range")),
        planned("consistency multistep", Multistep::new()),
        planned("Euler-Maruyama", EulerMaruyama::new()),
        planned("reverse diffusion", ReverseDiffusion::new()),
        planned("reverse diffusion, probability flow", ReverseDiffusion::new().probability_flow()),
        planned("annealed Langevin", AnnealedLangevin::new(0.16, 2).expect("settings")),
        planned(
            "annealed corrections before reverse diffusion",
            AnnealedCorrector::around(ReverseDiffusion::new(), 0.16, 1).expect("settings"),
        ),
        planned("probability flow, Euler", ProbabilityFlow::euler()),
        planned("probability flow, RK4", ProbabilityFlow::rk4()),
        with_churn("Euler in σ/α", Euler::new(), Euler::churn),
        planned("Euler ancestral", EulerAncestral::new()),
        planned("Euler ancestral in σ/(α+σ)", EulerAncestral::new().split(AncestralSplit::Share)),
        with_churn("Heun in σ/α", Heun::new(), Heun::churn),
        planned("Heun in σ/(α+σ)", flow::Heun::new()),
        planned("tempered flow", flow::Tempered::new(2.0, 0.5).expect("settings")),
        with_churn("DPM2", Dpm2::new(), Dpm2::churn),
        planned("DPM2 ancestral", Dpm2Ancestral::new()),
        planned("DPM2 ancestral in σ/(α+σ)", Dpm2Ancestral::new().split(AncestralSplit::Share)),
        with_churn("LMS 3", Lms::new(3).expect("an order"), Lms::churn),
        with_churn("PNDM", Pndm::new(), Pndm::churn),
        with_churn("iPNDM", Ipndm::new(), Ipndm::churn),
        with_churn("Heun++", HeunPp::new(), HeunPp::churn),
        with_churn("gradient estimation", GradientEstimation::new(), GradientEstimation::churn),
        planned("ER-SDE 3", ErSde::new(3).expect("an order")),
        planned("ER-SDE 3 without noise", quiet_er),
        planned("SEEDS-3", Singlestep::new(3).and_then(|solver| solver.sde(1.0)).expect("settings")),
        planned("DPM-Solver++ SDE", DpmSolverSde::new()),
        planned("UniC 1 behind DDIM", UniC::behind(Ddim::new(), 1).expect("an order")),
        planned("churn around DDIM", Churned::new(Ddim::new(), Churn::new(1.0).expect("in range"))),
        planned("Restart around DDIM", Restart::around(Ddim::new()).interval(0.5, 2.0, 1).expect("an interval")),
        planned("CFG++ around DPM-Solver++ 2M", PlusPlus::around(multi(2))),
        planned("CFG++ around 2S ancestral", PlusPlus::around(ancestral)),
        planned("RePaint around DDPM", RePaint::around(Ddpm::new()).jumps(2, 2).expect("settings")),
        sampler("Picard over DDIM", "it asks about all steps of a window at once", |way| {
            Picard::over(plan(&Ddim::new(), way)?, 3).map_err(refused)
        }),
        sampler("predictor-corrector", "its corrections depend on norms of what it is told", |way| {
            PredictorCorrector::new(plan(&ReverseDiffusion::new(), way)?, 0.16, 1).map_err(refused)
        }),
        sampler("DDRM", "its noise differs between the parts of an operator", |way| {
            let process = way.process();
            Ddrm::new(&process, &way.grid(&process), crate::columns::measurement()).map_err(refused)
        }),
        sampler("DPS, steps", "its steps take a gradient", |way| {
            DpsSteps::new(plan(&Ddpm::new(), way)?, crate::columns::measurement(), 0.1).map_err(refused)
        }),
        sampler("adaptive SDE steps", ADAPTIVE, |way| adaptive_sde(AdaptiveSde::new(0.1, 0.1).map_err(refused)?, way)),
        sampler("adaptive DPM-Solver", ADAPTIVE, |way| {
            adaptive_dpm(DpmAdaptive::new(1e-2, 1e-2).map_err(refused)?, way)
        }),
        sampler("Dormand-Prince", ADAPTIVE, |way| {
            dormand_prince(DormandPrince::new(1e-3, 1e-3).map_err(refused)?, way)
        }),
        sampler("Dormand-Prince, batch control", ADAPTIVE, |way| {
            dormand_prince(DormandPrince::new(1e-3, 1e-3).map_err(refused)?.batch_control(), way)
        }),
    ]
}

fn dormand_prince(method: DormandPrince, way: Way) -> Outcome<AdaptiveFlow<Box<dyn Process>>> {
    let (process, (from, to)) = (way.process(), way.ends());
    method.between(process, from, to).map_err(refused)
}

fn adaptive_sde(method: AdaptiveSde, way: Way) -> Outcome<AdaptiveReverse<Box<dyn Process>>> {
    let (process, (from, to)) = (way.process(), way.ends());
    method.between(process, from, to).map_err(refused)
}

fn adaptive_dpm(method: DpmAdaptive, way: Way) -> Outcome<AdaptiveDpm<Box<dyn Process>>> {
    let (process, (from, to)) = (way.process(), way.ends());
    method.between(process, from, to).map_err(refused)
}

/// A few steps.
pub fn plan(solver: &dyn Solver, way: Way) -> Outcome<Plan> {
    let process = way.process();
    solver.plan(&process, &way.grid(&process)).map_err(refused)
}
