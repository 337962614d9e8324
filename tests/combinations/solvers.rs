//! The rows of the matrix: one line for each family of solvers.

use crate::{Outcome, Way, refused};
use langevin::core::grid::End;
use langevin::core::process::{RectifiedFlow, VpSde};
use langevin::core::{Grid, Process};
use langevin::schedulers::consistency::{Lcm, Multistep, Tcd};
use langevin::schedulers::exponential::{Basis, SaSolver, Singlestep, UniPc};
use langevin::schedulers::flow;
use langevin::schedulers::inverse::Ddrm;
use langevin::schedulers::sigma::{Churn, Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};
use langevin::schedulers::{
    AnnealedLangevin, Ddim, Ddpm, Deis, DormandPrince, DpmSolver, EulerMaruyama, Plan, PredictorCorrector,
    ProbabilityFlow, ReverseDiffusion, Sampler, Solver,
};

/// A solver, or a sampler that is none.
pub struct Row {
    pub name: &'static str,
    pub made: Made,
}

pub enum Made {
    /// A solver that plans, and the same with churn if it has a method for that.
    Planned {
        solver: Box<dyn Solver>,
        churned: Option<Box<dyn Solver>>,
    },
    Sampler(fn(Way) -> Outcome<Box<dyn Sampler<2>>>),
}

fn planned(name: &'static str, solver: impl Solver + 'static) -> Row {
    Row { name, made: Made::Planned { solver: Box::new(solver), churned: None } }
}

fn with_churn<S: Solver + Clone + 'static>(name: &'static str, solver: S, churn: fn(S, Churn) -> S) -> Row {
    let churned = churn(solver.clone(), Churn::new(1.0).expect("in range"));
    Row { name, made: Made::Planned { solver: Box::new(solver), churned: Some(Box::new(churned)) } }
}

fn sampler(name: &'static str, make: fn(Way) -> Outcome<Box<dyn Sampler<2>>>) -> Row {
    Row { name, made: Made::Sampler(make) }
}

pub fn rows() -> Vec<Row> {
    let multi = |order| DpmSolver::multistep(order).expect("an order");
    vec![
        planned("DDPM", Ddpm::new()),
        planned("DDIM", Ddim::new()),
        planned("DDIM with noise", Ddim::new().eta(0.5).expect("in range")),
        planned("DPM-Solver++ 2M", multi(2)),
        planned("DPM-Solver++ 3M", multi(3)),
        planned("DPM-Solver++ 2M SDE", multi(2).sde(1.0).expect("in range")),
        planned("DPM-Solver 2M, in ε̂", multi(2).basis(Basis::Noise)),
        planned("DPM-Solver++ 3S", Singlestep::new(3).expect("an order")),
        planned("DEIS 3, in ε̂", Deis::new(3).expect("an order")),
        planned("UniPC 2", UniPc::new(2).expect("an order")),
        planned("SA-Solver", SaSolver::new(2, 2).expect("orders")),
        planned("LCM", Lcm::new()),
        planned("TCD", Tcd::new(0.3).expect("in range")),
        planned("consistency multistep", Multistep::new()),
        planned("Euler-Maruyama", EulerMaruyama::new()),
        planned("reverse diffusion", ReverseDiffusion::new()),
        planned("annealed Langevin", AnnealedLangevin::new(0.16, 2).expect("settings")),
        planned("probability flow, Euler", ProbabilityFlow::euler()),
        planned("probability flow, RK4", ProbabilityFlow::rk4()),
        with_churn("Euler in σ/α", Euler::new(), Euler::churn),
        planned("Euler ancestral", EulerAncestral::new()),
        with_churn("Heun in σ/α", Heun::new(), Heun::churn),
        planned("Heun in σ/(α+σ)", flow::Heun::new()),
        with_churn("DPM2", Dpm2::new(), Dpm2::churn),
        planned("DPM2 ancestral", Dpm2Ancestral::new()),
        with_churn("LMS 3", Lms::new(3).expect("an order"), Lms::churn),
        with_churn("PNDM", Pndm::new(), Pndm::churn),
        with_churn("iPNDM", Ipndm::new(), Ipndm::churn),
        sampler("predictor-corrector", |way| {
            let plan = plan(&ReverseDiffusion::new(), way)?;
            Ok(Box::new(PredictorCorrector::new(plan, 0.16, 1).map_err(refused)?))
        }),
        sampler("DDRM", |way| {
            let measurement = crate::columns::measurement();
            Ok(match way {
                Way::Sampling => Box::new(Ddrm::new(&VpSde::default(), &grid(), measurement).map_err(refused)?),
                Way::Inversion => {
                    Box::new(Ddrm::new(&VpSde::default(), &grid().inverted(), measurement).map_err(refused)?)
                }
                Way::PureNoise => {
                    let grid = Grid::uniform(6).ending(End::Range);
                    Box::new(Ddrm::new(&RectifiedFlow::new(), &grid, measurement).map_err(refused)?)
                }
            })
        }),
        sampler("Dormand-Prince", |way| dormand_prince(DormandPrince::new(1e-3, 1e-3).map_err(refused)?, way)),
        sampler("Dormand-Prince, batch control", |way| {
            dormand_prince(DormandPrince::new(1e-3, 1e-3).map_err(refused)?.batch_control(), way)
        }),
    ]
}

fn dormand_prince(method: DormandPrince, way: Way) -> Outcome<Box<dyn Sampler<2>>> {
    let flow = match way {
        Way::Sampling => method.between(VpSde::default(), 0.9, 0.1),
        Way::Inversion => method.between(VpSde::default(), 0.1, 0.9),
        Way::PureNoise => return Ok(Box::new(method.over(RectifiedFlow::new()).map_err(refused)?)),
    };
    Ok(Box::new(flow.map_err(refused)?))
}

fn grid() -> Grid {
    Grid::uniform(6).between(0.9, 0.1).ending(End::Range)
}

/// A few steps.
pub fn plan(solver: &dyn Solver, way: Way) -> Outcome<Plan> {
    let (vp, flow) = (VpSde::default(), RectifiedFlow::new());
    let (process, grid): (&dyn Process, Grid) = match way {
        Way::Sampling => (&vp, grid()),
        Way::Inversion => (&vp, grid().inverted()),
        Way::PureNoise => (&flow, Grid::uniform(6).ending(End::Range)),
    };
    solver.plan(process, &grid).map_err(refused)
}
