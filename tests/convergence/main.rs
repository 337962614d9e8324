//! Orders of convergence, and identities between solvers, processes and predictions, in `f64` on exact problems.
//!
//! The levels go from λ = −2 to λ = 2 on every process and every number of steps; errors are against a reference good
//! to 1e-13; the slope is the regression over the last three doublings whose errors are above 1e-11.
//! `LANGEVIN_WRITE_DOCS=1` writes the table to `docs/orders.md`.

#![allow(clippy::print_stdout, reason = "the table of orders is the result")]

#[path = "../common/mod.rs"]
mod common;
mod errors;
mod picture;
mod solvers;

use common::affine::{marginal, push_on};
use common::order::{Errors, rms};
use common::problem::{LAMBDA, ask_gaussian, ask_mixture, ends, even_lambda, even_time, gaussian, mixture, processes};
use common::reference;
use errors::{clock, path_error, paths, started_error, strong_error, upward_error, weak_error};
use langevin::core::noise::{Injected, Seeded};
use langevin::core::process::{Betas, ChainEnd, DiscreteChain};
use langevin::core::{Grid, Level, Prediction, Process};
use langevin::schedulers::plan::{Coef, HostAnswer, Src};
use langevin::schedulers::sigma::{Dpm2, Dpm2Ancestral, EulerAncestral, Heun, Ipndm, Pndm};
use langevin::schedulers::{Ddim, Ddpm, DpmSolver, EulerMaruyama, Plan, Solver};
use solvers::{
    Entry, churn, deterministic, fine_start, finely_started, limited_by_their_start, lms, multistep, stochastic,
    upwards,
};
use std::fmt::Write as _;
use std::sync::OnceLock;

/// Slopes may be this far from the order.
const TOLERANCE: f64 = 0.1;

/// How errors are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Distance of the end points of deterministic paths.
    Path,
    /// The same from data to noise.
    Upwards,
    /// The same for multistep solvers whose first steps are replaced by the exact solution.
    Started,
    /// Error of mean and covariance on Gaussian data.
    Weak,
    /// Root mean square distance from the exact solution along the same Brownian path, on Gaussian data.
    Strong,
}

/// Measured orders of a solver on each process.
struct Line {
    solver: &'static str,
    kind: Kind,
    grid: &'static str,
    order: f64,
    slopes: Vec<f64>,
    /// The smallest error measured, over all processes.
    smallest: f64,
}

type GridOf = fn(&dyn Process, usize) -> Grid;

const GRIDS: [(&str, GridOf); 2] = [("even in λ", even_lambda), ("even in t", even_time)];

fn measured() -> &'static [Line] {
    static LINES: OnceLock<Vec<Line>> = OnceLock::new();
    LINES.get_or_init(|| {
        let mut lines = Vec::new();
        for (grid, grid_of) in GRIDS {
            for entry in deterministic() {
                lines.push(line(&entry, Kind::Path, grid, |process, plan| path_error(process, plan), grid_of));
            }
            if grid == GRIDS[0].0 {
                for (entry, kind) in limited_by_their_start() {
                    let error = if kind == Kind::Path { path_error } else { weak_error };
                    lines.push(line(&entry, kind, grid, error, grid_of));
                }
            }
            for entry in upwards() {
                let upwards = |process: &dyn Process, n| grid_of(process, n).inverted();
                lines.push(line(&entry, Kind::Upwards, grid, |process, plan| upward_error(process, plan), upwards));
            }
            for (entry, before) in multistep() {
                // Its error constant is small where the first steps are.
                if entry.0.ends_with("published") && grid != GRIDS[0].0 {
                    continue;
                }
                let error = |process: &dyn Process, plan: &Plan| started_error(process, plan, before);
                lines.push(line(&entry, Kind::Started, grid, error, grid_of));
            }
            for entry in stochastic() {
                lines.push(line(&entry, Kind::Weak, grid, |process, plan| weak_error(process, plan), grid_of));
            }
            let along: Entry = ("Euler-Maruyama", Box::new(EulerMaruyama::new().path()), 1.0, 32, 4);
            lines.push(line(&along, Kind::Strong, grid, |process, plan| strong_error(process, plan), grid_of));
        }
        for entry in finely_started() {
            lines.push(line(&entry, Kind::Path, "even in λ", |process, plan| path_error(process, plan), fine_start));
        }
        lines
    })
}

fn line(
    (solver, method, order, first, doublings): &Entry,
    kind: Kind,
    grid: &'static str,
    error: impl Fn(&dyn Process, &Plan) -> f64,
    grid_of: impl Fn(&dyn Process, usize) -> Grid,
) -> Line {
    let mut line = Line { solver, kind, grid, order: *order, slopes: Vec::new(), smallest: f64::INFINITY };
    for (_, process) in processes() {
        let errors = Errors::measure(*first, *doublings, |n| {
            let plan = method.plan(&process, &grid_of(&process, n)).expect("a plan");
            // A fine start has more.
            assert!(plan.steps() >= n);
            error(&process, &plan)
        });
        line.slopes.push(errors.slope());
        line.smallest = errors.errors.iter().copied().fold(line.smallest, f64::min);
    }
    line
}

fn is_multistep(solver: &str) -> bool {
    ["LMS", "PNDM", "iPNDM"].iter().any(|name| solver.starts_with(name))
}

fn check(kind: Kind) {
    let mut wrong = Vec::new();
    for line in measured().iter().filter(|line| line.kind == kind) {
        for ((name, _), slope) in processes().iter().zip(&line.slopes) {
            // There the grid is even in σ/α, for which constant weights are made and first steps hardly count.
            let better = *name == "EDM" && line.grid == "even in t" && is_multistep(line.solver);
            if better && slope - line.order >= -TOLERANCE {
                continue;
            }
            if !((slope - line.order).abs() <= TOLERANCE) {
                wrong.push(format!("{} on {name}, {}: {slope:.3}, expected {}", line.solver, line.grid, line.order));
            }
        }
    }
    assert!(wrong.is_empty(), "orders that are not as claimed:\n{}", wrong.join("\n"));
}

#[test]
fn deterministic_solvers_have_their_orders() {
    check(Kind::Path);
}

#[test]
fn solvers_without_noise_have_their_orders_from_data_to_noise() {
    check(Kind::Upwards);
}

#[test]
fn multistep_solvers_have_their_orders_once_they_are_started() {
    check(Kind::Started);
}

#[test]
fn stochastic_solvers_have_their_weak_orders() {
    check(Kind::Weak);
}

#[test]
fn euler_maruyama_has_its_strong_order() {
    check(Kind::Strong);
}

#[test]
fn the_reference_is_good_to_1e_13() {
    let (coarse, fine) = (paths(64), paths(96));
    assert!(rms(&coarse, &fine) < 1e-13, "{:e}", rms(&coarse, &fine));
    // And it solves the ODE: on one component it agrees with the closed form.
    let g = gaussian();
    let one =
        langevin::core::exact::GaussianMixture::new(vec![1.0], vec![g.mean().to_vec()], vec![g.covariance().to_vec()])
            .expect("a mixture of one");
    let level = |lambda: f64| Level { alpha: 1.0, sigma: (-lambda).exp(), time: 0.0 };
    let y = [3.0, -5.0];
    let exact = g.flow(&y, &level(LAMBDA.0), &level(LAMBDA.1)).expect("a plane");
    assert!(rms(&reference::flow(&one, &y, LAMBDA, 64), &exact) < 1e-13);
}

/// On a Gaussian the closed form itself is the reference.
#[test]
fn deterministic_solvers_converge_to_the_closed_form_of_a_gaussian() {
    let data = gaussian();
    for (solver, method, order, first, doublings) in deterministic() {
        for (name, process) in processes() {
            let (noisy, clean) = ends(&process);
            let x = [1.5, -0.3];
            let exact = data.flow(&x, &process.level(noisy), &process.level(clean)).expect("a plane");
            let errors = Errors::measure(first, doublings, |n| {
                let plan = method.plan(&process, &even_lambda(&process, n)).expect("a plan");
                rms(&plan.run_host(x.to_vec(), 0, &Injected::new(), ask_gaussian(&data)).expect("a run"), &exact)
            });
            let slope = errors.slope();
            assert!((slope - order).abs() < TOLERANCE, "{solver} on {name}: {slope} from {:?}", errors.errors);
        }
    }
}

/// Two plans with other steps see the same Brownian path: the finer one is nearer to the same end.
#[test]
fn euler_maruyama_converges_along_one_path() {
    let data = gaussian();
    let (_, process) = processes().remove(0);
    let (mean, factor) = marginal(&data, &process.level(ends(&process).0));
    let plan = |n| EulerMaruyama::new().path().plan(&process, &even_lambda(&process, n)).expect("a plan");
    let clocks: Vec<f64> = plan(64).rows().iter().map(|row| clock(&row.after.level)).collect();
    let first = clock(&plan(64).start_node().level);
    let clocks: Vec<f64> = std::iter::once(first).chain(clocks).collect();
    let ends: Vec<_> = [16, 32, 64].map(|n| push_on(&plan(n), &data, &mean, &factor, &clocks)).into();
    let distance = |a: usize, b: usize| {
        let flat = |k: usize| ends[k].columns.concat();
        assert_eq!(flat(a).len(), flat(b).len());
        rms(&flat(a), &flat(b))
    };
    assert!(distance(1, 2) < 0.6 * distance(0, 1), "{} and {}", distance(1, 2), distance(0, 1));
}

fn table() -> String {
    let mut text = String::from(
        "# Orders of convergence\n\n\
         Measured by `cargo test --test convergence`; `LANGEVIN_WRITE_DOCS=1` writes this page.\n\n\
         Each number is the slope of the regression of log(error) on log(steps) over the last three doublings with errors \
         above 1e-11, in `f64`, from λ = −2 to λ = 2. *Path*: end points of the probability-flow ODE of a mixture of three \
         correlated Gaussians, against a reference good to 1e-13. *Upwards*: the same paths from data to noise. *Weak*: mean and covariance on a correlated Gaussian, \
         pushed exactly through the plan. *Started*: as *path*, with the exact state after each of the first p − 1 steps of a \
         multistep solver of order p. *Strong*: root mean square distance from the exact solution along the same \
         Brownian path in the clock α²/σ², on the same Gaussian, in closed form. No number here has a sampling error.\n\n\
         Multistep methods are measured as they are: their first steps are of lower order. With a *fine start* those \
         steps grow from h²/4 to h. On EDM a grid even in t is even in σ/α: the constant weights of PNDM and iPNDM are \
         right there, and first steps hardly count.\n\n\
         ![Errors of solvers on VP](images/orders.png)\n\n\
         Some of them on VP, on the grid that is even in λ, with their orders; dashed lines fall exactly with an order.\n\n\
         | solver | error | grid | order |",
    );
    let names: Vec<_> = processes().into_iter().map(|(name, _)| name).collect();
    names.iter().for_each(|name| write!(text, " {name} |").expect("a string"));
    text.push_str(" smallest error |\n|---|---|---|---|");
    text.push_str(&"---|".repeat(names.len() + 1));
    text.push('\n');
    for line in measured() {
        let kind = format!("{:?}", line.kind).to_lowercase();
        write!(text, "| {} | {kind} | {} | {} |", line.solver, line.grid, line.order).expect("a string");
        line.slopes.iter().for_each(|slope| write!(text, " {slope:.2} |").expect("a string"));
        writeln!(text, " {:.0e} |", line.smallest).expect("a string");
    }
    text
}

/// The committed table names the same solvers, and its slopes are those measured here, up to the last digit.
#[test]
fn the_table_of_orders_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/orders.md");
    let now = table();
    println!("{now}");
    if std::env::var_os("LANGEVIN_WRITE_DOCS").is_some() {
        std::fs::write(path, &now).expect("docs/orders.md can be written");
        picture::draw().expect("docs/images/orders.png can be written");
    }
    let committed = std::fs::read_to_string(path).expect("docs/orders.md; write it with LANGEVIN_WRITE_DOCS=1");
    let rows = |text: &str| -> Vec<Vec<String>> {
        let rows = text.lines().filter(|line| line.starts_with('|'));
        rows.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
    };
    let (old, new) = (rows(&committed), rows(&now));
    assert_eq!(old.len(), new.len(), "docs/orders.md has other rows; write it with LANGEVIN_WRITE_DOCS=1");
    for (old, new) in old.iter().zip(&new) {
        // The last number is a size, not a claim.
        for (old, new) in old.iter().zip(new).take(new.len() - 2) {
            let same = match (old.parse::<f64>(), new.parse::<f64>()) {
                (Ok(old), Ok(new)) => (old - new).abs() < 0.015,
                _ => old == new,
            };
            assert!(same, "docs/orders.md says {old}, measured {new}; write it with LANGEVIN_WRITE_DOCS=1");
        }
    }
}

#[test]
fn lambda_solvers_agree_on_all_processes() {
    let data = mixture();
    let grids: [fn(usize) -> Vec<f64>; 2] = [
        |n| (0..=n).map(|i| LAMBDA.0 + (LAMBDA.1 - LAMBDA.0) * i as f64 / n as f64).collect(),
        |n| (0..=n).map(|i| LAMBDA.0 + (LAMBDA.1 - LAMBDA.0) * (i as f64 / n as f64).powf(1.7)).collect(),
    ];
    let solvers: [(&str, Box<dyn Solver>); 10] = [
        ("DDIM", Box::new(Ddim::new())),
        ("Euler ancestral", Box::new(EulerAncestral::new())),
        ("Heun", Box::new(Heun::new())),
        ("Heun, churn", Box::new(Heun::new().churn(churn()))),
        ("DPM-Solver++ 2M", Box::new(DpmSolver::multistep(2).expect("an order"))),
        ("DPM2", Box::new(Dpm2::new())),
        ("DPM2 ancestral", Box::new(Dpm2Ancestral::new())),
        ("LMS", lms(4)),
        ("PNDM", Box::new(Pndm::new())),
        ("iPNDM", Box::new(Ipndm::new())),
    ];
    for ((of, solver), lambdas) in solvers.iter().flat_map(|solver| grids.map(|grid| (solver, grid(13)))) {
        let mut ends: Vec<(&str, Vec<f64>)> = Vec::new();
        for (name, process) in processes() {
            let level = |lambda: &f64| process.level(process.time_at_lambda(*lambda).expect("in range"));
            let levels: Vec<Level> = lambdas.iter().map(level).collect();
            let (start, end) = (levels[0], levels[levels.len() - 1]);
            let plan = solver.plan(&process, &Grid::levels(levels).expect("rising λ")).expect("a plan");
            let x = vec![0.7 * start.sigma, -1.2 * start.sigma];
            let x = plan.run_host(x, 0, &Seeded::new(3), ask_mixture(&data)).expect("a run");
            ends.push((name, x.iter().map(|x| x / end.alpha).collect()));
        }
        for (name, y) in &ends {
            assert!(rms(y, &ends[0].1) < 1e-11, "{of}: {name} {y:?} is not {} {:?}", ends[0].0, ends[0].1);
        }
    }
}

/// Networks that predict ε, x_0, v, score, flow or EDM's output of one function lead to one sample, with every solver.
#[test]
fn predictions_of_one_function_agree() {
    let data = mixture();
    let predictions = [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::Velocity,
        Prediction::Score,
        Prediction::ScaledScore,
        Prediction::Flow,
        Prediction::FlowToData,
        Prediction::Edm { sigma_data: 0.5 },
        Prediction::EdmVelocity { sigma_data: 0.5 },
        Prediction::Consistency { sigma_data: 0.5, sigma_min: 0.002 },
    ];
    let solvers = deterministic().into_iter().chain(stochastic());
    for (solver, method, ..) in solvers {
        for (name, process) in processes() {
            let plan = method.plan(&process, &even_lambda(&process, 20)).expect("a plan");
            let x = vec![0.7 * plan.start_node().level.sigma, -1.2 * plan.start_node().level.sigma];
            let noise = Seeded::new(5);
            let direct = plan.run_host(x.clone(), 3, &noise, ask_mixture(&data)).expect("a run");
            for prediction in predictions {
                let mut exact = ask_mixture(&data);
                let network = |x: &[f64], level: &Level| {
                    let truth = exact(x, level);
                    let target = prediction.target(level).expect("a regular level");
                    let output: Vec<f64> =
                        truth.x0.iter().zip(&truth.eps).map(|(a, b)| target.x0 * a + target.eps * b).collect();
                    let (of_x0, of_eps) =
                        (prediction.x0(level).expect("regular"), prediction.eps(level).expect("regular"));
                    let back = |c: langevin::core::prediction::Linear| {
                        x.iter().zip(&output).map(|(x, out)| c.x * x + c.output * out).collect()
                    };
                    HostAnswer { x0: back(of_x0), eps: back(of_eps), variance: None }
                };
                let found = plan.run_host(x.clone(), 3, &noise, network).expect("a run");
                let error = rms(&found, &direct);
                assert!(error < 1e-10, "{solver} on {name} with {prediction:?}: {error:e}");
            }
        }
    }
}

/// Coefficients of (x, x̂_0, z) in a row, with ε̂ = (x − α·x̂_0)/σ put in.
fn posterior_form(plan: &Plan, row: usize) -> [f64; 3] {
    let row = &plan.rows()[row];
    let eval = row.eval.expect("one evaluation a row");
    let mut sums = [0.0; 3];
    for term in &row.post[0].sum {
        let Coef::C(c) = term.c else { panic!("a learned coefficient") };
        match term.of {
            Src::X(_) => sums[0] += c,
            Src::X0(_) => sums[1] += c,
            Src::Eps(_) => {
                sums[0] += c / eval.at.sigma;
                sums[1] -= c * eval.at.alpha / eval.at.sigma;
            }
            Src::Z(_) => sums[2] += c,
            Src::Aux(_) => panic!("nothing is given"),
        }
    }
    sums
}

#[test]
fn ddim_with_eta_1_is_the_ddpm_posterior() {
    let chains = [
        Betas::Linear { start: 1e-4, end: 0.02 },
        Betas::SquaredCosine,
        Betas::ScaledLinear { start: 8.5e-4, end: 0.012 },
    ];
    let grids = [
        Grid::leading(1000),
        Grid::leading(50),
        Grid::leading(20).offset(1),
        Grid::leading(7).strided(),
        Grid::trailing(10),
        Grid::linspace(25).strided(),
        Grid::linspace(13),
        Grid::times(vec![999.0, 500.0, 3.0]).expect("falling"),
    ];
    let ddim = Ddim::new().eta(1.0).expect("in range");
    let mut rows = 0;
    for betas in chains {
        for end in [ChainEnd::Clean, ChainEnd::FirstStep] {
            let chain = DiscreteChain::new(betas.clone(), 1000).expect("a chain").ending(end);
            for grid in &grids {
                let a = ddim.plan(&chain, grid).expect("a DDIM plan");
                let b = Ddpm::new().plan(&chain, grid).expect("a DDPM plan");
                assert_eq!(a.steps(), b.steps());
                for row in 0..a.rows().len() {
                    let (mine, theirs) = (posterior_form(&a, row), posterior_form(&b, row));
                    for (m, t) in mine.iter().zip(theirs) {
                        assert!((m - t).abs() < 1e-12, "{betas:?} {grid:?} row {row}: {mine:?} and {theirs:?}");
                    }
                    rows += 1;
                }
            }
        }
    }
    assert!(rows > 6000);
}
