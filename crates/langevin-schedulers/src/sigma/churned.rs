//! Churn around any deterministic solver.

use super::churn::Churn;
use crate::plan::Plan;
use crate::solver::{PlanError, Solver};
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

/// A deterministic solver with [`Churn`] before each of its steps: the state is raised to a noisier level by noise, and the
/// solver steps from there.
///
/// Raising keeps the distribution of its level, so that solvers that look at nothing but their step lose nothing by it.
/// Multistep solvers look back on answers from before the noise, and extrapolate across it, which costs accuracy. The
/// solvers of [`sigma`](crate::sigma) do the same by a setting of their own.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{Ddim, Solver, exponential::Singlestep, sigma::{Churn, Churned}};
/// let churned = Churned::new(Singlestep::new(2)?, Churn::new(10.0)?);
/// let plan = churned.plan(&VpSde::default(), &Grid::uniform(20))?;
/// assert!(plan.is_stochastic());
/// // One source of noise a step.
/// let twice = Churned::new(Ddim::new().eta(1.0)?, Churn::new(10.0)?);
/// assert!(twice.plan(&VpSde::default(), &Grid::uniform(20)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Planning fails with [`PlanError::Combination`], which names both, for solvers that draw noise of their own or cannot be
/// raised, and with [`PlanError::Singular`] where churn leads beyond a process that does not go on.
///
/// # References
/// Karras et al. 2022, "Elucidating the design space of diffusion-based generative models", algorithm 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churned<S> {
    solver: S,
    churn: Churn,
}

impl<S> Churned<S> {
    /// This solver, with this churn.
    pub fn new(solver: S, churn: Churn) -> Self {
        Self { solver, churn }
    }
}

impl<S: Solver> Solver for Churned<S> {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.solver.churned(&self.churn, process, grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exponential::{Deis, DpmSolverSde, SaSolver, Singlestep, Tau, UniC, UniPc};
    use crate::sigma::{Dpm2, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};
    use crate::{Ddim, Ddpm, DpmSolver, EulerMaruyama, ProbabilityFlow, ReverseDiffusion};
    use langevin_core::process::{Betas, DiscreteChain, Edm, VpSde};

    fn churn() -> Churn {
        Churn::new(3.0).unwrap().noise(1.003).unwrap()
    }

    /// Of solvers in σ it is their own setting, and DDIM with it is Euler with it.
    #[test]
    fn it_is_the_setting_of_the_solvers_in_sigma() {
        let (edm, grid) = (Edm::default(), Grid::karras(8, 7.0).unwrap());
        let own: [(Box<dyn Solver>, Box<dyn Solver>); 6] = [
            (Box::new(Churned::new(Euler::new(), churn())), Box::new(Euler::new().churn(churn()))),
            (Box::new(Churned::new(Heun::new(), churn())), Box::new(Heun::new().churn(churn()))),
            (Box::new(Churned::new(Dpm2::new(), churn())), Box::new(Dpm2::new().churn(churn()))),
            (Box::new(Churned::new(Lms::new(3).unwrap(), churn())), Box::new(Lms::new(3).unwrap().churn(churn()))),
            (Box::new(Churned::new(Pndm::new(), churn())), Box::new(Pndm::new().churn(churn()))),
            (Box::new(Churned::new(Ipndm::new(), churn())), Box::new(Ipndm::new().churn(churn()))),
        ];
        for (around, own) in own {
            assert_eq!(around.plan(&edm, &grid).unwrap(), own.plan(&edm, &grid).unwrap());
        }
        let ddim = Churned::new(Ddim::new(), churn()).plan(&edm, &grid).unwrap();
        assert_eq!(ddim.rows(), Euler::new().churn(churn()).plan(&edm, &grid).unwrap().rows());
        assert_eq!(ddim.name(), "DDIM (eta 0), churn 3");
    }

    /// A churned step is the solver's own step from the raised level.
    #[test]
    fn each_step_is_one_from_the_raised_level() {
        let (vp, levels) = (VpSde::default(), [0.9, 0.6, 0.3]);
        let grid = Grid::times(levels.to_vec()).unwrap().ending(langevin_core::grid::End::Range);
        let solvers: [Box<dyn Fn() -> Box<dyn Solver>>; 4] = [
            Box::new(|| Box::new(crate::flow::Heun::new())),
            Box::new(|| Box::new(Singlestep::new(2).unwrap())),
            Box::new(|| Box::new(ProbabilityFlow::heun())),
            Box::new(|| Box::new(DpmSolver::multistep(1).unwrap())),
        ];
        for solver in solvers {
            let plan = solver().churned(&churn(), &vp, &grid).unwrap();
            let rows = plan.rows().len() / 2;
            for (step, end) in [0.6, 0.3].into_iter().enumerate() {
                let of_step = &plan.rows()[step * rows..(step + 1) * rows];
                let raised = of_step[0].eval.unwrap().at.time;
                assert!(raised > levels[step]);
                let alone = Grid::times(vec![raised, end]).unwrap().ending(langevin_core::grid::End::Range);
                let alone = solver().plan(&vp, &alone).unwrap();
                for (found, expected) in of_step.iter().zip(alone.rows()) {
                    assert_eq!(found.post, expected.post, "{}", plan.name());
                }
                assert_eq!((of_step[0].draws.len(), of_step[0].pre.len()), (1, 1));
            }
        }
    }

    /// The corrector sees the state from before the noise, and the noise goes on top again.
    #[test]
    fn correctors_raise_the_corrected_state_again() {
        let grid = Grid::karras(5, 7.0).unwrap();
        let plan = Churned::new(UniPc::new(2).unwrap(), churn()).plan(&Edm::default(), &grid).unwrap();
        for row in &plan.rows()[1..] {
            assert_eq!((row.pre.len(), row.post[1].clone()), (1, row.pre[0].clone()), "corrected, then raised");
        }
        assert_eq!(plan.evaluations(), 5);
    }

    #[test]
    fn solvers_with_noise_of_their_own_are_refused_by_name() {
        let vp = VpSde::default();
        let ancestral = Singlestep::new(2).unwrap().ancestral(1.0).unwrap();
        let refused: Vec<(Box<dyn Solver>, &str)> = vec![
            (Box::new(Churned::new(Ddim::new().eta(0.5).unwrap(), churn())), "DDIM (eta 0.5)"),
            (Box::new(Churned::new(Ddpm::new(), churn())), "DDPM (small fixed variance)"),
            (Box::new(Churned::new(EulerAncestral::new(), churn())), "Euler ancestral (eta 1)"),
            (Box::new(Churned::new(EulerMaruyama::new(), churn())), "Euler-Maruyama (reverse SDE)"),
            (Box::new(Churned::new(ReverseDiffusion::new(), churn())), "reverse diffusion"),
            (Box::new(Churned::new(DpmSolver::multistep(2).unwrap().sde(1.0).unwrap(), churn())), "SDE (eta 1)"),
            (Box::new(Churned::new(DpmSolverSde::new(), churn())), "DPM-Solver++ SDE (eta 1)"),
            (Box::new(Churned::new(SaSolver::new(2, 2).unwrap(), churn())), "SA-Solver"),
            (Box::new(Churned::new(ancestral, churn())), "2S ancestral (eta 1)"),
            (Box::new(Churned::new(Deis::new(2).unwrap().tau(Tau::Constant(1.0)).unwrap(), churn())), "SDE"),
            (Box::new(Churned::new(Euler::new().churn(churn()), churn())), "Euler in σ/α, churn 3"),
            (Box::new(Churned::new(Churned::new(Ddim::new(), churn()), churn())), "DDIM (eta 0), churn 3"),
            (Box::new(Churned::new(UniC::behind(Ddim::new().eta(1.0).unwrap(), 1).unwrap(), churn())), "DDIM (eta 1)"),
        ];
        for (solver, name) in refused {
            match solver.plan(&vp, &Grid::uniform(6)) {
                Err(PlanError::Combination { first, second, .. }) => {
                    assert!(first == "churn 3" && second.contains(name), "{first}, {second}: expected {name}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        let on_grid = Churned::new(Singlestep::new(2).unwrap().on_grid(), churn()).plan(&vp, &Grid::uniform(6));
        assert!(matches!(on_grid, Err(PlanError::Combination { .. })), "{on_grid:?}");
        let rising = Churned::new(Ddim::new(), churn()).plan(&vp, &Grid::uniform(6).inverted());
        assert!(matches!(rising, Err(PlanError::Direction { .. })), "{rising:?}");
    }

    /// Beyond its last step a chain has no times for the flow to go on in.
    #[test]
    fn the_flow_of_a_chain_ends_where_the_chain_ends() {
        let chain = DiscreteChain::new(Betas::DDPM, 1000).unwrap();
        let solver = Churned::new(ProbabilityFlow::heun(), churn());
        let error = solver.plan(&chain, &Grid::trailing(6)).unwrap_err();
        assert!(matches!(error, PlanError::Singular { .. }), "{error}");
        let below = Churned::new(ProbabilityFlow::heun(), churn().between(0.0, 50.0).unwrap());
        assert!(below.plan(&chain, &Grid::trailing(6).ending(langevin_core::grid::End::Range)).is_ok());
    }
}
