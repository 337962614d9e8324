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
/// solvers of [`sigma`](crate::sigma) do the same by a setting of their own. With stages on the grid
/// ([`Singlestep::on_grid`](crate::exponential::Singlestep::on_grid)) the state is raised before each whole step of several
/// stages, since each of them begins where the step began. Adaptive solvers choose how many steps they take, by which the
/// amount would have to be divided, and are no [`Solver`]; their methods along a grid are:
/// [`ProbabilityFlow`](crate::ProbabilityFlow) with the tableau of Dormand and Prince, and `Singlestep` of order 3.
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
    use crate::consistency::Tcd;
    use crate::exponential::{Basis, Deis, DpmSolverSde, SaSolver, Singlestep, Tau, UniB, UniC, UniPc};
    use crate::plan::{Coef, HostAnswer};
    use crate::sigma::{Dpm2, ErSde, Euler, EulerAncestral, Heun, Ipndm, Lms, NoiseScale, Pndm};
    use crate::{Ddim, Ddpm, DpmSolver, EulerMaruyama, ProbabilityFlow, ReverseDiffusion};
    use langevin_core::process::{Betas, DiscreteChain, Edm, VpSde};
    use langevin_core::{Key, Level, NoiseError, NoiseSource};

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
        let quiet = || ErSde::new(1).unwrap().noise(NoiseScale::Power(1.0)).unwrap();
        let solvers: [Box<dyn Fn() -> Box<dyn Solver>>; 8] = [
            Box::new(|| Box::new(crate::flow::Heun::new())),
            Box::new(|| Box::new(Singlestep::new(2).unwrap())),
            Box::new(|| Box::new(ProbabilityFlow::heun())),
            Box::new(|| Box::new(DpmSolver::multistep(1).unwrap())),
            Box::new(|| Box::new(ReverseDiffusion::new().probability_flow())),
            Box::new(|| Box::new(Tcd::new(0.0).unwrap())),
            Box::new(move || Box::new(quiet())),
            Box::new(|| Box::new(SaSolver::new(1, 0).unwrap().tau(Tau::Constant(0.0)).unwrap())),
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

    /// With stages on the grid a step is as many of the grid's as it has stages, and is raised once.
    #[test]
    fn steps_with_stages_on_the_grid_are_raised_where_they_begin() {
        let (vp, levels) = (VpSde::default(), [0.9, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2]);
        let range = |times: Vec<f64>| Grid::times(times).unwrap().ending(langevin_core::grid::End::Range);
        for order in [1, 2, 3] {
            let solver = Singlestep::new(order).unwrap().on_grid();
            let plan = solver.churned(&churn(), &vp, &range(levels.to_vec())).unwrap();
            for (step, of_step) in plan.rows().chunks(order).enumerate() {
                let raised = of_step[0].eval.unwrap().at.time;
                assert!(raised > levels[step * order]);
                let mut alone = levels[step * order..=(step + 1) * order].to_vec();
                alone[0] = raised;
                let alone = solver.plan(&vp, &range(alone)).unwrap();
                for (index, (found, expected)) in of_step.iter().zip(alone.rows()).enumerate() {
                    assert_eq!((&found.post, found.eval), (&expected.post, expected.eval), "{}", plan.name());
                    assert_eq!((found.draws.len(), found.pre.len()), if index == 0 { (1, 1) } else { (0, 0) });
                }
            }
        }
    }

    /// Without noise of its own SA-Solver is UniPC, and stays so.
    #[test]
    fn without_noise_sa_solver_with_churn_is_unipc_with_churn() {
        let (vp, grid) = (VpSde::default(), Grid::uniform(8));
        let quiet = SaSolver::new(2, 3).unwrap().tau(Tau::Constant(0.0)).unwrap();
        let unipc = UniPc::new(2).unwrap().b(UniB::Linear);
        let (sa, unipc) = (quiet.churned(&churn(), &vp, &grid).unwrap(), unipc.churned(&churn(), &vp, &grid).unwrap());
        let numbers = |plan: &Plan| -> Vec<f64> {
            // But for the first correction: a line through two answers, which UniPC takes to be a whole step apart.
            let rows = plan.rows().iter().enumerate().filter(|(index, _)| *index != 1);
            let sets = rows.flat_map(|(_, row)| row.pre.iter().chain(&row.post));
            sets.flat_map(|set| &set.sum).map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
        };
        let (found, expected) = (numbers(&sa), numbers(&unipc));
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} and {expected:?}");
        // Asked again, the second question is about the corrected state, raised by the same noise.
        let twice = quiet.evaluate_again().churned(&churn(), &vp, &grid).unwrap();
        assert_eq!((twice.steps(), twice.evaluations()), (8, 15));
        for pair in twice.rows()[1..].chunks(2) {
            assert_eq!((pair[0].post.len(), &pair[0].post[1]), (2, &pair[0].pre[0]), "corrected, then raised");
            assert_eq!((pair[0].eval, pair[1].draws.len(), pair[1].pre.len()), (pair[1].eval, 0, 0));
        }
    }

    /// State and draws of a plan side by side: the mean, the direction of the start, and one of each row's draw.
    struct Directions;

    impl NoiseSource for Directions {
        fn fill(&self, _: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
            out.fill(0.0);
            out[2 + key.index as usize] = 1.0;
            Ok(())
        }
        fn fill_path(&self, sample: u64, from: f64, until: f64, _: &mut [f64]) -> Result<(), NoiseError> {
            Err(NoiseError::MissingPath { sample, from, until })
        }
    }

    /// How far mean and variance of a plan's samples are from those of the data, N(0.7, 0.36), at the end.
    fn off(solver: &dyn Solver, churn: &Churn, steps: usize) -> f64 {
        let vp = VpSde::default();
        let time = |lambda| vp.time_at_lambda(lambda).unwrap();
        let plan = solver.churned(churn, &vp, &Grid::uniform_lambda(steps).between(time(-2.0), time(2.0))).unwrap();
        let (mean, variance) = (0.7, 0.36);
        let marginal = |level: &Level| level.alpha.powi(2) * variance + level.sigma.powi(2);
        let start = plan.start_node().level;
        let mut x = vec![0.0; 2 + plan.rows().len()];
        (x[0], x[1]) = (start.alpha * mean, marginal(&start).sqrt());
        let model = |x: &[f64], level: &Level| {
            let gain = level.alpha * variance / marginal(level);
            let shift = |i: usize| if i == 0 { mean } else { 0.0 };
            let x0: Vec<f64> =
                x.iter().enumerate().map(|(i, x)| shift(i) + gain * (x - level.alpha * shift(i))).collect();
            let eps = x.iter().zip(&x0).map(|(x, x0)| (x - level.alpha * x0) / level.sigma).collect();
            HostAnswer { x0, eps, variance: None }
        };
        let end = plan.run_host(x, 0, &Directions, model).unwrap();
        let level = plan.rows().last().unwrap().after.level;
        let found: f64 = end[1..].iter().map(|direction| direction * direction).sum();
        (end[0] - level.alpha * mean).abs() + (found - marginal(&level)).abs()
    }

    /// Raised states have the law of their level: with more steps the samples have that of the data.
    #[test]
    fn samples_have_the_law_of_the_data() {
        let quiet_sa = |p, c| SaSolver::new(p, c).unwrap().tau(Tau::Constant(0.0)).unwrap();
        let quiet_er = |order| ErSde::new(order).unwrap().noise(NoiseScale::Power(1.0)).unwrap();
        let on_grid = |order| Singlestep::new(order).unwrap().on_grid();
        let solvers: Vec<(Box<dyn Solver>, i32)> = vec![
            (Box::new(on_grid(1)), 1),
            (Box::new(on_grid(2)), 2),
            // Three stages have order 3 where they are thirds of the step, which they are not of one that is raised.
            (Box::new(on_grid(3)), 2),
            (Box::new(on_grid(2).basis(Basis::Noise)), 2),
            // What looks back looks across the noise, and what corrects corrects by it: order 1 is left.
            (Box::new(quiet_sa(1, 0)), 1),
            (Box::new(quiet_sa(2, 2)), 1),
            (Box::new(quiet_sa(3, 4)), 1),
            (Box::new(quiet_sa(2, 2).evaluate_again()), 1),
            (Box::new(quiet_er(1)), 1),
            (Box::new(quiet_er(2)), 1),
            (Box::new(quiet_er(3)), 1),
            (Box::new(ReverseDiffusion::new().probability_flow()), 1),
            (Box::new(Tcd::new(0.0).unwrap()), 1),
        ];
        let (churn, too_much) = (Churn::new(2.0).unwrap(), Churn::new(2.0).unwrap().noise(1.1).unwrap());
        for (index, (solver, order)) in solvers.iter().enumerate() {
            let errors = [48, 96, 192].map(|steps| off(&**solver, &churn, steps));
            for pair in errors.windows(2) {
                let slope = (pair[0] / pair[1]).log2();
                assert!(slope > f64::from(*order) - 0.2, "solver {index}: {errors:?}");
            }
            assert!(errors[2] < 0.03, "solver {index}: {errors:?}");
            // With a tenth more of the noise they have another law, however many steps there are.
            let wrong = [96, 192].map(|steps| off(&**solver, &too_much, steps));
            assert!(wrong[1] > errors[2] + 0.03 && wrong[1] > 0.7 * wrong[0], "solver {index}: {wrong:?}");
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
            (Box::new(Churned::new(Tcd::new(0.3).unwrap(), churn())), "TCD (gamma 0.3)"),
            (Box::new(Churned::new(ErSde::new(3).unwrap(), churn())), "ER-SDE 3"),
            (
                Box::new(Churned::new(Singlestep::new(2).unwrap().on_grid().sde(1.0).unwrap(), churn())),
                "DPM-Solver++ 2S",
            ),
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
