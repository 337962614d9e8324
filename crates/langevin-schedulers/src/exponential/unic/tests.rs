//! The corrector against its formulas, and what it refuses.

use super::*;
use crate::exponential::{DpmSolverSde, SaSolver, Singlestep, UniPc};
use crate::plan::HostAnswer;
use crate::sigma::{Churned, Heun};
use crate::{Ddim, ProbabilityFlow};
use langevin_core::Level;
use langevin_core::noise::Seeded;
use langevin_core::process::{Edm, VpSde};

/// DDIM is UniP of order 1, though it does not read the state; corrected they are the same plan.
#[test]
fn a_solver_that_does_not_read_the_state_is_corrected_too() {
    let numbers = |plan: &Plan| -> Vec<f64> {
        let terms = plan.rows().iter().flat_map(|row| &row.post).filter(|set| set.to == 0).flat_map(|set| &set.sum);
        let mut numbers: Vec<f64> = terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect();
        numbers.sort_by(f64::total_cmp);
        numbers
    };
    let grid = Grid::uniform(3);
    let behind = UniC::behind(Ddim::new(), 1).unwrap().plan(&VpSde::default(), &grid).unwrap();
    let whole = UniPc::new(1).unwrap().plan(&VpSde::default(), &grid).unwrap();
    // The first step, which nothing has corrected yet, is written in the answers.
    let (behind, whole) = (numbers(&behind), numbers(&whole));
    let shared = |a: &[f64], b: &[f64]| a.iter().filter(|a| b.iter().any(|b| (*a - b).abs() < 1e-12)).count();
    assert!(shared(&behind, &whole) >= behind.len() - 2, "{behind:?} and {whole:?}");
}

#[test]
fn solvers_that_cannot_be_corrected_are_refused() {
    let vp = VpSde::default();
    let refused = |solver: &dyn Solver| match solver.plan(&vp, &Grid::uniform(4)) {
        Err(PlanError::Combination { first, reason, .. }) => (first, reason),
        other => panic!("{other:?}"),
    };
    let (first, reason) = refused(&UniC::behind(Ddim::new().eta(0.5).unwrap(), 2).unwrap());
    assert!(first == UNIC && reason.contains("noise"), "{first}: {reason}");
    let (_, reason) = refused(&UniC::behind(DpmSolverSde::new(), 2).unwrap());
    assert!(reason.contains("noise"), "{reason}");
    for corrected in [
        Box::new(UniC::behind(UniPc::new(2).unwrap(), 2).unwrap()) as Box<dyn Solver>,
        Box::new(UniC::behind(UniC::behind(Singlestep::new(2).unwrap(), 2).unwrap(), 2).unwrap()),
    ] {
        let (first, reason) = refused(&*corrected);
        assert!(first == UNIC && reason.contains("corrected already"), "{first}: {reason}");
    }
    let ddim = Ddim::new().plan(&vp, &Grid::uniform(4)).unwrap();
    let other = |change: &dyn Fn(&mut Vec<Row>)| {
        let mut rows = ddim.rows().to_vec();
        change(&mut rows);
        Fixed(Plan::new("a table", ddim.start_node(), 1.0, rows).unwrap())
    };
    let moved = other(&|rows| rows[2].pre.push(Set::new(0, [Term::new(0.5, Src::X(0))])));
    assert!(refused(&UniC::behind(moved, 1).unwrap()).1.contains("begin with a question"));
    let short = other(&|rows| rows.truncate(3));
    assert!(refused(&UniC::behind(short, 1).unwrap()).1.contains("those of the grid"));
    // Slot 1 is asked in the first step and read in the last.
    let far = other(&|rows| {
        rows[0].eval.as_mut().unwrap().into = 1;
        rows[0].post[0].sum.retain(|term| term.of == Src::X0(0));
        rows[0].post[0].sum[0].of = Src::X0(1);
        rows[0].report.clear();
        rows[3].post[0].sum.push(Term::new(0.1, Src::X0(1)));
    });
    assert!(refused(&UniC::behind(far.clone(), 1).unwrap()).1.contains("looks back"));
    assert!(UniC::behind(far, 3).unwrap().plan(&vp, &Grid::uniform(4)).is_ok());
}

/// A table that is known already.
#[derive(Clone)]
struct Fixed(Plan);

impl Solver for Fixed {
    fn plan(&self, _: &dyn Process, _: &Grid) -> Result<Plan, PlanError> {
        Ok(self.0.clone())
    }
}

/// A clean sample that depends on state and level.
fn denoise(x: f64, sigma: f64) -> f64 {
    0.3 * x / (1.0 + sigma) + (0.4 * x + sigma).sin()
}

fn model(x: &[f64], at: &Level) -> HostAnswer {
    let x0 = denoise(x[0], at.sigma);
    HostAnswer { x0: vec![x0], eps: vec![(x[0] - x0) / at.sigma], variance: None }
}

/// A step of a solver with stages from a state, with the answer at its beginning, which was asked about another state.
type Staged = fn(x: f64, x0: f64, from: f64, to: f64) -> f64;

/// The loop of the paper's algorithm 1 where α = 1, with another solver for its predictor. Integrals are sums.
fn corrected(times: &[f64], order: usize, skipped: Option<usize>, mut x: f64, predictor: Staged) -> f64 {
    let lambda = |i: usize| -times[i].ln();
    let mut answers: Vec<f64> = Vec::new();
    let mut before = x;
    for i in 0..times.len() - 1 {
        answers.push(denoise(x, times[i]));
        if i > 0 && skipped != Some(i - 1) {
            let used = order.min(i);
            let h = lambda(i) - lambda(i - 1);
            let decay = times[i] / times[i - 1];
            let change = if used == 1 {
                (1.0 - decay) * 0.5 * (answers[i] + answers[i - 1])
            } else {
                let polynomial = |at: f64| -> f64 {
                    let of = |j: usize| {
                        let others = (i - used..=i).filter(|k| *k != j);
                        answers[j] * others.map(|k| (at - lambda(k)) / (lambda(j) - lambda(k))).product::<f64>()
                    };
                    (i - used..=i).map(of).sum()
                };
                let weighted = |v: f64| h * (-h * (1.0 - v)).exp() * polynomial(lambda(i - 1) + h * v);
                let n = 400;
                let simpson = |k: usize| {
                    let (a, b) = (k as f64 / f64::from(n), (k + 1) as f64 / f64::from(n));
                    (weighted(a) + 4.0 * weighted(0.5 * (a + b)) + weighted(b)) / (6.0 * f64::from(n))
                };
                (0..n as usize).map(simpson).sum()
            };
            x = decay * before + change;
        }
        before = x;
        x = predictor(x, answers[i], times[i], times[i + 1]);
    }
    x
}

fn singlestep_2(x: f64, x0: f64, from: f64, to: f64) -> f64 {
    let middle = (from * to).sqrt();
    let inner = middle / from * x + (1.0 - middle / from) * x0;
    to / from * x + (1.0 - to / from) * denoise(inner, middle)
}

fn heun(x: f64, x0: f64, from: f64, to: f64) -> f64 {
    let slope = (x - x0) / from;
    let inner = x + (to - from) * slope;
    x + 0.5 * (to - from) * (slope + (inner - denoise(inner, to)) / to)
}

#[test]
fn solvers_with_stages_are_corrected_at_the_levels_of_the_grid() {
    let times = [10.0, 6.0, 3.5, 2.0, 0.9, 0.4];
    let grid = Grid::times(times.to_vec()).unwrap();
    for order in 1..=4 {
        for skipped in [None, Some(0), Some(2)] {
            let skip = |solver: Box<dyn Solver>| UniC::behind(Borrowed(solver), order).unwrap().skipping(skipped);
            let cases: [(Box<dyn Solver>, Staged); 2] =
                [(Box::new(Singlestep::new(2).unwrap()), singlestep_2), (Box::new(Heun::new()), heun)];
            for (solver, predictor) in cases {
                let plan = skip(solver).plan(&Edm::default(), &grid).unwrap();
                assert_eq!((plan.steps(), plan.evaluations()), (5, 10));
                let found = plan.run_host(vec![7.0], 0, &Seeded::new(1), model).unwrap()[0];
                let expected = corrected(&times, order, skipped, 7.0, predictor);
                assert!((found - expected).abs() < 1e-9, "{} ({skipped:?}): {found}, {expected}", plan.name());
            }
        }
    }
}

struct Borrowed(Box<dyn Solver>);

impl Solver for Borrowed {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.0.plan(process, grid)
    }
}

/// With churn each step's first row raises the state, once more after the correction.
#[test]
fn stages_are_raised_after_their_correction() {
    let solver = UniC::behind(Singlestep::new(2).unwrap(), 2).unwrap();
    let plan = Churned::new(solver, Churn::new(2.0).unwrap()).plan(&VpSde::default(), &Grid::uniform(6)).unwrap();
    let mut begins = true;
    for (index, row) in plan.rows().iter().enumerate() {
        assert_eq!((row.draws.len(), row.pre.len()), if begins { (1, 1) } else { (0, 0) }, "row {index}");
        if begins && index > 0 {
            assert_eq!(row.post[1], row.pre[0], "row {index}: corrected, then raised");
        }
        begins = row.step.is_some();
    }
    assert!(plan.evaluations() > 10);
    let flow = UniC::behind(ProbabilityFlow::heun(), 2).unwrap();
    assert!(flow.churned(&Churn::new(2.0).unwrap(), &VpSde::default(), &Grid::uniform_lambda(6)).is_ok());
}

/// With noise it is SA-Solver once both are started: the same polynomials, and the noise of a step twice.
#[test]
fn with_noise_it_is_sa_solver() {
    let (vp, grid) = (VpSde::default(), Grid::uniform_lambda(8).ending(langevin_core::grid::End::Range));
    let tau = Tau::Constant(0.8);
    let uni = UniPc::new(3).unwrap().tau(tau.clone()).unwrap().plan(&vp, &grid).unwrap();
    let sa = SaSolver::new(3, 4).unwrap().tau(tau).unwrap().plan(&vp, &grid).unwrap();
    let mut compared = 0;
    for (a, b) in uni.rows().iter().zip(sa.rows()).skip(3) {
        assert_eq!(a.draws, b.draws);
        for (a, b) in a.post.iter().zip(&b.post) {
            assert_eq!((a.to, a.sum.len()), (b.to, b.sum.len()));
            for (a, b) in a.sum.iter().zip(&b.sum) {
                let (Coef::C(x), Coef::C(y)) = (a.c, b.c) else { panic!("numbers") };
                assert!(a.of == b.of && (x - y).abs() < 1e-12, "{a:?} and {b:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 50);
    let error = UniPc::new(2).unwrap().tau(Tau::Constant(f64::NAN)).unwrap_err();
    assert!(matches!(error, PlanError::Setting { setting: "tau", .. }));
    let churned =
        UniPc::new(2).unwrap().tau(Tau::Constant(1.0)).unwrap().churned(&Churn::new(1.0).unwrap(), &vp, &grid);
    assert!(matches!(churned, Err(PlanError::Combination { .. })), "{churned:?}");
}
