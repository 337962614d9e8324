//! No number of a plan is dead: each one, times 1.001, moves a state or a report beyond the tolerance at which plans
//! are compared with their references, or costs the solver its order.
//!
//! Plans are mutated as JSON, number by number: coefficients of every assignment and report, bounds of learned
//! variances, levels that are asked, ends of path intervals. The network is one whose answer depends on everything it
//! is told, in a prediction whose x̂_0 and ε̂ both depend on α and σ. DDRM has no table: what its coefficients are made of is
//! mutated.

#![allow(clippy::print_stdout, reason = "how much the weakest number moves is worth seeing")]

mod common;

use burn::tensor::{DType, Device, Tensor};
use common::order::{Errors, rms};
use common::problem::{ask_gaussian, ends, even_lambda, even_time, gaussian, processes};
use common::roster;
use common::solvers::{Row, rows};
use langevin::core::denoiser::from_fn;
use langevin::core::inverse::{Masking, Measurement};
use langevin::core::noise::{Injected, Seeded};
use langevin::core::process::{Betas, DiscreteChain, VpSde};
use langevin::core::{Grid, Level, Levels, Load, Prediction, Process};
use langevin::schedulers::inverse::Ddrm;
use langevin::schedulers::plan::{Coef, HostAnswer, KNOWN, MASK};
use langevin::schedulers::sigma::{Churn, Dpm2, Euler, Heun, Lms};
use langevin::schedulers::{Ddim, Ddpm, DpmSolver, Plan, ProbabilityFlow, Sampler, SamplerExt, Solver, Variance, flow};
use serde_json::Value;
use std::collections::BTreeMap;

/// The absolute tolerance of the reference cases, at states of size 1.
const TOLERANCE: f64 = 1e-5;
const FACTOR: f64 = 1.001;

/// Solvers in a process's own time, which chains do not have between their steps.
const NOT_ON_CHAINS: [&str; 2] = ["ode::probability_flow::ProbabilityFlow", "sde::euler_maruyama::EulerMaruyama"];

/// A step to a clean sample does not read the state, and so not what corrected it last.
const CORRECTED: [&str; 3] = ["UniPC", "UniC", "SA-Solver"];

/// Those of them that correct nothing.
const PLAIN: [&str; 2] = ["SA-Solver 1, no corrector", "SA-Solver 2, τ of λ"];

/// The reverse SDE keeps nothing of a step's beginning where that is the last step of a cosine chain.
const FORGETS: [&str; 6] = [
    "DPM-Solver++ 2S SDE on the grid",
    "DPM-Solver++ 2S SDE on the grid, as diffusers",
    "DPM-Solver++ 3S SDE on the grid",
    "DPM-Solver++ 3S SDE on the grid, whole polynomial",
    "DPM-Solver++ 3S SDE on the grid, lower at the end",
    "DPM-Solver++ 3S SDE on the grid, drawn anew",
];

/// In seven steps their predictors take 0.0025 of the corrected state: at that length the newest slope, by its constant weight,
/// all but cancels it.
const HARDLY_READ: [&str; 2] = ["UniC-3 behind iPNDM", "UniC-2 behind PNDM, trapezoidal start"];

/// Solvers that run on any steps of a chain, whether they join or not.
const POSTERIOR: [&str; 2] = ["ddpm::Ddpm", "ddim::Ddim"];

/// A smooth network of states, time and nothing else, that predicts velocities and a variance.
fn network(x: &[f64], level: &Level) -> HostAnswer {
    let (of_x0, of_eps) = match (Prediction::Velocity.x0(level), Prediction::Velocity.eps(level)) {
        (Ok(of_x0), Ok(of_eps)) => (of_x0, of_eps),
        other => panic!("velocities determine everything: {other:?}"),
    };
    let n = x.len();
    let wave = |i: usize, phase: f64| (1.3 * x[i] + 0.6 * x[(i + 1) % n] + 7.0 * level.time + phase).sin();
    let v: Vec<f64> = (0..n).map(|i| 0.3 * x[i] + 0.8 * wave(i, 0.4)).collect();
    HostAnswer {
        x0: x.iter().zip(&v).map(|(x, v)| of_x0.x * x + of_x0.output * v).collect(),
        eps: x.iter().zip(&v).map(|(x, v)| of_eps.x * x + of_eps.output * v).collect(),
        variance: Some((0..n).map(|i| 0.3 + 0.2 * wave(i, 1.0)).collect()),
    }
}

/// All states and reports of a run.
fn trace(plan: &Plan) -> Vec<f64> {
    let scale = plan.start_node().level.sigma.max(1.0);
    let x = vec![0.6 * scale, -1.1 * scale, 0.2 * scale, 1.4 * scale];
    let mut trace = Vec::new();
    let given = [(KNOWN, &[0.7, -0.4, 1.1, 0.2][..]), (MASK, &[1.0, 0.0, 0.4, 0.0][..])];
    let run = plan.run_host_given(x, &given, 0, &Seeded::new(9), network, |step| {
        trace.extend_from_slice(step.x);
        trace.extend_from_slice(step.x0.unwrap_or_default());
    });
    run.expect("a host run");
    trace
}

/// JSON pointers of all numbers that enter the arithmetic, with their kind.
fn numbers(plan: &Value) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    let list = |value: &Value| value.as_array().map_or(0, Vec::len);
    for (r, row) in plan["rows"].as_array().expect("rows").iter().enumerate() {
        for (d, draw) in row["draws"].as_array().expect("draws").iter().enumerate() {
            if draw.get("Path").is_some() {
                found.push((format!("/rows/{r}/draws/{d}/Path/from"), "path"));
                found.push((format!("/rows/{r}/draws/{d}/Path/until"), "path"));
            }
        }
        let mut sums = Vec::new();
        for part in ["pre", "post"] {
            sums.extend((0..list(&row[part])).map(|s| (format!("/{part}/{s}/sum"), "assignment")));
        }
        sums.push(("/report".to_owned(), "report"));
        for (sum, kind) in sums {
            for t in 0..list(row.pointer(&sum).expect("a sum")) {
                let at = format!("{sum}/{t}/c");
                let c = row.pointer(&at).expect("a coefficient");
                if c.get("C").is_some() {
                    found.push((format!("/rows/{r}{at}/C"), kind));
                }
                if c.get("LearnedStd").is_some() {
                    found.push((format!("/rows/{r}{at}/LearnedStd/log_min"), "learned variance"));
                    found.push((format!("/rows/{r}{at}/LearnedStd/log_max"), "learned variance"));
                }
            }
        }
        if row["eval"].is_object() {
            for name in ["alpha", "sigma", "time"] {
                found.push((format!("/rows/{r}/eval/at/{name}"), "level"));
            }
        }
    }
    found
}

fn chains() -> Vec<(&'static str, Box<dyn Process>)> {
    let chain = |betas| DiscreteChain::new(betas, 1000).expect("a chain");
    vec![
        ("linear chain", Box::new(chain(Betas::Linear { start: 1e-4, end: 0.02 }))),
        ("cosine chain", Box::new(chain(Betas::SquaredCosine))),
    ]
}

/// Every solver on every process that it runs on, in a few steps.
fn plans() -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    let mut add = |row: &Row, process: &str, on: &dyn Process, grid: &Grid| {
        let plan = row.solver.plan(on, grid).unwrap_or_else(|error| panic!("{} on {process}: {error}", row.name));
        plans.push((format!("{} on {process}, {grid:?}", row.name), plan));
    };
    let rows = rows();
    for (process, on) in chains() {
        for row in &rows {
            let grid = Grid::trailing(6);
            // From the last step of a cosine chain the oldest of four slopes weighs nothing.
            let corrected = CORRECTED.iter().any(|name| row.name.starts_with(name)) && !PLAIN.contains(&row.name);
            let forgets = process == "cosine chain" && FORGETS.contains(&row.name);
            if corrected || forgets || row.name == "LMS of order 4" {
                continue;
            }
            if let Err(error) = row.solver.plan(&on, &grid) {
                println!("{} on {process}: {error}", row.name);
                assert!(NOT_ON_CHAINS.contains(&row.of) || row.name.starts_with("probability flow"), "{error}");
                continue;
            }
            add(row, process, &on, &grid);
            match row.name {
                "PNDM, trapezoidal start" => add(row, process, &on, &Grid::linspace(6).strided()),
                "PNDM, Runge-Kutta start" => add(row, process, &on, &Grid::leading(6).strided()),
                _ => {}
            }
            if !POSTERIOR.contains(&row.of) {
                continue;
            }
            add(row, process, &on, &Grid::leading(6).offset(1));
            add(row, process, &on, &Grid::linspace(6).strided());
            if row.inverts() {
                add(row, process, &on, &Grid::leading(6).inverted());
            }
        }
    }
    for (process, on) in processes() {
        // An odd number of steps: no level falls on λ = 0, where EDM's network time is zero.
        for row in &rows {
            let steps = if HARDLY_READ.contains(&row.name) { 15 } else { 7 };
            add(row, process, &on, &even_lambda(&on, steps));
            add(row, process, &on, &even_time(&on, steps));
            if row.inverts() {
                add(row, process, &on, &even_lambda(&on, 7).inverted());
            }
        }
    }
    // Settings that no other proof tells apart.
    let churn = || Churn::new(2.0).and_then(|churn| churn.noise(1.01)).expect("in range");
    let sde = |order| DpmSolver::multistep(order).and_then(|solver| solver.sde(0.8)).expect("settings").path();
    let more: [(&str, Box<dyn Solver>); 7] = [
        ("Euler, louder churn", Box::new(Euler::new().churn(churn()))),
        ("Euler, louder late churn", Box::new(Euler::new().churn(churn()).churn_after_asking(Prediction::Velocity))),
        ("Heun, louder churn", Box::new(Heun::new().churn(churn()))),
        ("LMS, louder churn", Box::new(Lms::new(3).expect("in range").churn(churn()))),
        ("DPM-Solver++ 1M SDE, η = 0.8, path", Box::new(sde(1))),
        ("DPM-Solver++ 2M SDE, η = 0.8, path", Box::new(sde(2))),
        ("DPM-Solver++ 3M SDE, η = 0.8, path", Box::new(sde(3))),
    ];
    let inverted: [(&str, Box<dyn Solver>); 2] = [
        ("DPM-Solver++ 3M", Box::new(DpmSolver::multistep(3).expect("an order"))),
        ("probability flow, Heun", Box::new(ProbabilityFlow::heun())),
    ];
    for (process, on) in processes() {
        for (name, solver) in &more {
            let plan = solver.plan(&on, &even_lambda(&on, 7)).expect("a plan");
            plans.push((format!("{name} on {process}"), plan));
        }
        for (name, solver) in &inverted {
            let plan = solver.plan(&on, &even_lambda(&on, 7).inverted()).expect("a plan");
            plans.push((format!("{name} inverted on {process}"), plan));
        }
    }
    plans
}

#[test]
fn every_number_of_every_plan_counts() {
    let (mut dead, mut kinds, mut smallest) = (Vec::new(), BTreeMap::new(), f64::INFINITY);
    for (name, plan) in plans() {
        let before = trace(&plan);
        assert!(before.iter().all(|value| value.is_finite()), "{name}");
        let table = serde_json::to_value(&plan).expect("a plan is data");
        for (pointer, kind) in numbers(&table) {
            let mut mutant = table.clone();
            let number = mutant.pointer_mut(&pointer).expect("a number");
            let value = number.as_f64().expect("a number");
            if value.abs() < 1e-12 {
                // Steps 0 of chains, and EDM's network at σ = 1, have the time 0: ×1.001 does not change it.
                if kind != "level" {
                    dead.push(format!("{name}: a coefficient of zero at {pointer}"));
                }
                continue;
            }
            *number = Value::from(value * FACTOR);
            let mutant: Plan = serde_json::from_value(mutant).expect("still a plan");
            assert_ne!(mutant.fingerprint(), plan.fingerprint(), "{name}: {pointer} is not in the fingerprint");
            let after = trace(&mutant);
            let moved = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            smallest = smallest.min(moved);
            *kinds.entry(kind).or_insert(0usize) += 1;
            // Numbers that are small, or act through an inner stage only, move less than reference cases resolve. They must
            // still come through, by a thousandth of their own change, and through an inner stage by a thousandth of that
            // again: orders and identities, in `f64`, resolve 1e-11.
            let row: usize = pointer.split('/').nth(2).and_then(|row| row.parse().ok()).expect("a row");
            let share = if plan.rows()[row].step.is_none() { 1e-6 } else { 1e-3 };
            if !(moved > TOLERANCE.min(value.abs() * (FACTOR - 1.0) * share)) {
                dead.push(format!("{name}: {pointer} = {value:e} moves nothing by more than {moved:e}"));
            }
        }
    }
    println!("{kinds:?}, the least effect is {smallest:e}");
    assert!(dead.is_empty(), "{} dead numbers:\n{}", dead.len(), dead.join("\n"));
    for kind in ["assignment", "report", "learned variance", "level", "path"] {
        assert!(kinds.get(kind).is_some_and(|count| *count > 50), "too few mutants: {kinds:?}");
    }
}

/// A coefficient that is off by a thousandth in every step costs a deterministic solver its order.
#[test]
fn a_changed_coefficient_loses_the_order() {
    let solvers: [(&str, Box<dyn Solver>, f64, usize); 7] = [
        ("DDIM", Box::new(Ddim::new()), 1.0, 64),
        ("Euler", Box::new(ProbabilityFlow::euler()), 1.0, 64),
        ("Heun", Box::new(ProbabilityFlow::heun()), 2.0, 32),
        ("RK4", Box::new(ProbabilityFlow::rk4()), 4.0, 16),
        ("Heun in σ/α", Box::new(Heun::new()), 2.0, 32),
        ("DPM2", Box::new(Dpm2::new()), 2.0, 32),
        ("Heun in σ/(α+σ)", Box::new(flow::Heun::new()), 2.0, 32),
    ];
    let (_, process) = processes().remove(0);
    let (noisy, clean) = ends(&process);
    let data = gaussian();
    let x = [1.5, -0.3];
    let exact = data.flow(&x, &process.level(noisy), &process.level(clean)).expect("a plane");
    for (name, solver, order, first) in solvers {
        let slope = |pattern: Option<&str>| {
            let errors = Errors::measure(first, 4, |n| {
                let plan = solver.plan(&process, &even_lambda(&process, n)).expect("a plan");
                let plan = pattern.map_or(plan.clone(), |pattern| change_every_step(&plan, pattern));
                let end = plan.run_host(x.to_vec(), 0, &Injected::new(), ask_gaussian(&data)).expect("a host run");
                rms(&end, &exact)
            });
            errors.slope()
        };
        assert!((slope(None) - order).abs() < 0.1, "{name}: {}", slope(None));
        let one = solver.plan(&process, &even_lambda(&process, 1)).expect("a plan");
        let positions = numbers(&serde_json::to_value(&one).expect("a plan is data"));
        // The exact problem is not told the time, and nobody compares reports here.
        let positions = positions.into_iter().filter(|(at, kind)| *kind != "report" && !at.ends_with("/time"));
        let mut count = 0;
        for (position, _) in positions {
            let changed = slope(Some(&position));
            assert!((changed - order).abs() > 0.1, "{name} keeps its order with another {position}: {changed}");
            count += 1;
        }
        assert!(count >= 4, "{name}: {count}");
    }
}

/// The plan with the number at `position` of its first step, times 1.001, in every step.
fn change_every_step(plan: &Plan, position: &str) -> Plan {
    let mut table = serde_json::to_value(plan).expect("a plan is data");
    let rows = plan.rows().len() / plan.steps();
    let (row, rest) = position.strip_prefix("/rows/").and_then(|at| at.split_once('/')).expect("a position in a row");
    let row: usize = row.parse().expect("a row");
    for step in 0..plan.steps() {
        let at = format!("/rows/{}/{rest}", step * rows + row);
        let number = table.pointer_mut(&at).expect("the same terms in every step");
        *number = Value::from(number.as_f64().expect("a number") * FACTOR);
    }
    serde_json::from_value(table).expect("still a plan")
}

/// The two tensor coefficients are there at all: a plan that reads a variance changes with it.
#[test]
fn learned_variances_are_read() {
    let (_, chain) = chains().remove(0);
    for variance in [Variance::Learned, Variance::LearnedRange] {
        let plan = Ddpm::new().variance(variance).plan(&chain, &Grid::trailing(5)).expect("a plan");
        let learned = |c: Coef| matches!(c, Coef::PredictedStd { .. } | Coef::LearnedStd { .. });
        let rows = plan.rows().iter().filter(|row| row.post[0].sum.iter().any(|term| learned(term.c)));
        assert_eq!(rows.count(), 4, "all steps but the last");
        let run = |factor: f64| {
            let x = vec![0.5, -0.5];
            let model = |x: &[f64], level: &Level| {
                let mut answer = network(x, level);
                answer.variance.iter_mut().flatten().for_each(|v| *v *= factor);
                answer
            };
            plan.run_host(x, 0, &Seeded::new(9), model).expect("a host run")
        };
        let (a, b) = (run(1.0), run(1.1));
        assert!(a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 1e-4), "{variance:?}: {a:?} and {b:?}");
    }
}

/// What DDRM is made of: it is no plan, but its coefficients follow from these numbers.
#[derive(Clone)]
struct Restoration {
    levels: Vec<Level>,
    /// η, η_b, the measurement's noise, and what was measured.
    numbers: [f64; 5],
}

impl Restoration {
    fn new() -> Self {
        let vp = VpSde::default();
        let stops = even_lambda(&vp, 7).stops(&vp).expect("a grid");
        let ends = stops.iter().map(|stop| stop.to.level);
        Self {
            levels: std::iter::once(stops[0].from.level).chain(ends).collect(),
            numbers: [0.85, 0.9, 0.6, 0.7, -0.4],
        }
    }

    /// Its numbers, one after the other.
    fn number(&mut self, index: usize) -> Option<&mut f64> {
        let settings = self.numbers.len();
        if index < settings {
            return Some(&mut self.numbers[index]);
        }
        let (level, part) = ((index - settings) / 3, (index - settings) % 3);
        let level = self.levels.get_mut(level)?;
        Some(match part {
            0 => &mut level.alpha,
            1 => &mut level.sigma,
            _ => &mut level.time,
        })
    }

    /// All states and reports of a run, and the sampler's fingerprint.
    fn trace(&self) -> (Vec<f64>, u64) {
        let device = (&Device::flex(), DType::F64);
        let row = |values: [f64; 4]| Tensor::<2>::from_data([values], device);
        let [eta, eta_b, noise, first, second] = self.numbers;
        // Two values of four are measured.
        let mask = Masking::new(row([1.0, 0.0, 1.0, 0.0])).expect("a mask");
        let measurement = Measurement::new(mask, row([first, 0.0, second, 0.0]), noise).expect("a measurement");
        let grid = Grid::levels(self.levels.clone()).expect("rising λ");
        let ddrm = Ddrm::new(&VpSde::default(), &grid, measurement).and_then(|ddrm| ddrm.eta(eta)?.eta_b(eta_b));
        let ddrm = ddrm.expect("settings");
        let denoiser = from_fn(Prediction::Velocity, |x: Tensor<2>, levels: &Levels| {
            let next = Tensor::cat(vec![x.clone().narrow(1, 1, 3), x.clone().narrow(1, 0, 1)], 1);
            let time = levels.map(|level| 7.0 * level.time + 0.4).times(x.ones_like());
            let wave = x.clone().mul_scalar(1.3).add(next.mul_scalar(0.6)).add(time).sin();
            Ok(x.mul_scalar(0.3).add(wave.mul_scalar(0.8)))
        });
        let seeded = Seeded::new(9);
        let run = ddrm.start([1, 4], &denoiser, &seeded, Load::on(device.0).dtype(device.1)).expect("a run");
        let mut trace = Vec::new();
        for step in run {
            let step = step.expect("a step");
            let report = step.x0.expect("a report");
            trace.extend(step.x.try_to_vec_as::<f64>().expect("numbers"));
            trace.extend(report.try_to_vec_as::<f64>().expect("numbers"));
        }
        (trace, Sampler::<2>::fingerprint(&ddrm))
    }
}

#[test]
fn every_number_of_ddrm_counts() {
    let right = Restoration::new();
    let (before, print) = right.trace();
    assert!(before.iter().all(|value| value.is_finite()));
    let (mut dead, mut index) = (Vec::new(), 0);
    loop {
        let mut mutant = right.clone();
        let Some(number) = mutant.number(index) else { break };
        *number *= FACTOR;
        let (after, other) = mutant.trace();
        let moved = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        if !(moved > TOLERANCE) || other == print {
            dead.push(format!("number {index} moves nothing by more than {moved:e}"));
        }
        index += 1;
    }
    // The last level is reached, and not asked at: its time is told to nobody.
    assert_eq!(index, 5 + 3 * 8);
    let last = format!("number {} moves nothing by more than 0e0", index - 1);
    assert_eq!(dead, [last]);
}

#[test]
fn every_solver_has_a_row() {
    roster::assert_complete(&roster::solvers(), rows().iter().map(|row| row.of), &[]);
}
