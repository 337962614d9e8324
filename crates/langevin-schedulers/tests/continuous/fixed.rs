//! Fixed steps of the probability-flow ODE.

use super::{answer, distance, mixture, order, processes, slope, start};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::exact::{Gaussian, Posterior};
use langevin_core::grid::End;
use langevin_core::noise::Seeded;
use langevin_core::process::{Betas, DiscreteChain, VpSde};
use langevin_core::{Grid, Prediction, Process};
use langevin_schedulers::ode::{DormandPrince, Tableau};
use langevin_schedulers::{ProbabilityFlow, SamplerExt, Solver};

/// Methods, their orders, and the numbers of steps to try; those whose error is rounding are left out.
fn methods() -> Vec<(ProbabilityFlow, f64, [usize; 7])> {
    let doublings = |first: usize| [0, 1, 2, 3, 4, 5, 6].map(|i| first << i);
    vec![
        (ProbabilityFlow::euler(), 1.0, doublings(64)),
        (ProbabilityFlow::heun(), 2.0, doublings(32)),
        (ProbabilityFlow::rk4(), 4.0, doublings(16)),
    ]
}

/// Correlated and narrow: the flow bends, so that errors stay above rounding.
fn narrow() -> Gaussian {
    Gaussian::new(vec![0.5, -0.3], vec![0.04, 0.015, 0.015, 0.03]).expect("a covariance")
}

fn errors_of<P: Posterior>(
    solver: &ProbabilityFlow,
    process: &dyn Process,
    (noisy, clean): (f64, f64),
    counts: &[usize],
    problem: &P,
    x: &[f64],
    exact: &[f64],
) -> Vec<f64> {
    let run = |n: &usize| {
        let grid = Grid::uniform(*n).between(noisy, clean);
        let plan = solver.plan(process, &grid).expect("plans");
        let noise = Seeded::new(0);
        let end = plan.run_host(x.to_vec(), 0, &noise, |x, at| answer(problem, x, at)).expect("runs");
        distance(&end, exact)
    };
    counts.iter().map(run).collect()
}

#[test]
fn orders_on_a_correlated_gaussian_with_its_closed_form_flow() {
    let problem = narrow();
    for (name, process, noisy, clean) in processes() {
        let x = start(&*process, noisy);
        let exact = problem.flow(&x, &process.level(noisy), &process.level(clean)).expect("levels");
        for (solver, expected, counts) in methods() {
            let errors = errors_of(&solver, &*process, (noisy, clean), &counts, &problem, &x, &exact);
            let measured = order(&errors);
            assert!((measured - expected).abs() < 0.1, "{name} {solver:?}: order {measured}, errors {errors:?}");
        }
    }
}

#[test]
fn orders_on_a_correlated_mixture() {
    let problem = mixture();
    for (name, process, noisy, clean) in processes() {
        let x = start(&*process, noisy);
        let reference = DormandPrince::new(1e-13, 1e-13).expect("tolerances").max_steps(1_000_000).expect("above 0");
        let exact = reference
            .solve_host(|t, x, out| slope(&problem, &*process, t, x, out), x.clone(), noisy, clean)
            .expect("solves")
            .x;
        for (solver, expected, counts) in methods() {
            let errors = errors_of(&solver, &*process, (noisy, clean), &counts, &problem, &x, &exact);
            let measured = order(&errors);
            assert!((measured - expected).abs() < 0.1, "{name} {solver:?}: order {measured}, errors {errors:?}");
        }
    }
}

#[test]
fn a_tableau_of_ones_own_has_its_order_and_loses_idle_stages() {
    let solver = ProbabilityFlow::new(Tableau::dormand_prince());
    let process = VpSde::default();
    let plan = solver.plan(&process, &Grid::uniform(10)).expect("plans");
    assert_eq!((plan.steps(), plan.evaluations()), (10, 60));
    let problem = narrow();
    let x = start(&process, 0.9);
    let exact = problem.flow(&x, &process.level(0.9), &process.level(0.1)).expect("levels");
    let errors = errors_of(&solver, &process, (0.9, 0.1), &[8, 16, 32, 64, 128], &problem, &x, &exact);
    assert!((order(&errors) - 5.0).abs() < 0.2, "order {}, errors {errors:?}", order(&errors));
}

#[test]
fn a_rising_grid_undoes_a_falling_one() {
    let problem = mixture();
    for (name, process, noisy, clean) in processes() {
        let grid = Grid::uniform(200).between(noisy, clean);
        let solver = ProbabilityFlow::rk4();
        let (down, up) = (solver.plan(&*process, &grid).expect("falls"), solver.plan(&*process, &grid.inverted()));
        let x = start(&*process, noisy);
        let noise = Seeded::new(0);
        let data = down.run_host(x.clone(), 0, &noise, |x, at| answer(&problem, x, at)).expect("runs");
        let back = up.expect("rises").run_host(data, 0, &noise, |x, at| answer(&problem, x, at)).expect("runs");
        assert!(distance(&back, &x) < 1e-5, "{name}: {back:?} is not {x:?}");
    }
}

#[test]
fn the_table_of_heun_is_the_formula() {
    // On EDM α̇ = 0 and σ̇ = 1: x + h/2·(ε̂(σ) + ε̂(σ + h)).
    let process = langevin_core::process::Edm::default();
    let plan = ProbabilityFlow::heun().plan(&process, &Grid::uniform(1).between(2.0, 0.5)).expect("plans");
    let end = plan.run_host(vec![1.0], 0, &Seeded::new(0), |x, at| langevin_schedulers::plan::HostAnswer {
        x0: vec![f64::NAN],
        eps: vec![x[0] * at.sigma],
        variance: None,
    });
    // First slope 1·2; inner state 1 − 1.5·2 = −2 with slope −2·0.5.
    assert_eq!(end.expect("runs"), [1.0 - 0.75 * (2.0 - 1.0)]);
}

#[test]
fn the_flow_of_a_chain_on_tensors_reaches_its_first_step() {
    let chain = DiscreteChain::new(Betas::DDPM, 1000).expect("betas");
    let grid = Grid::linspace(50).ending(End::Range);
    let plan = ProbabilityFlow::heun().plan(&chain, &grid).expect("plans");
    let problem = Gaussian::new(vec![0.5, -0.3], vec![0.4, 0.15, 0.15, 0.3]).expect("a covariance");
    let device = Device::flex();
    let x = Tensor::<2>::from_data([[0.8, -0.5], [-1.0, 0.2]], (&device, DType::F32));
    let denoiser = problem.clone().denoiser(Prediction::Velocity).expect("binds");
    let noise = Seeded::new(0);
    let end = plan.start_from(0, x, &denoiser, &noise).expect("starts").finish().expect("runs");
    let end: Vec<f64> = end.to_data().iter::<f64>().collect();
    for (row, x) in end.chunks(2).zip([[0.8, -0.5], [-1.0, 0.2]]) {
        let exact = problem.flow(&x, &chain.level(999.0), &chain.level(0.0)).expect("levels");
        assert!(distance(row, &exact) < 5e-3, "{row:?}, exact {exact:?}");
    }
}
