//! What a plan says beside its arithmetic: where it starts and with how much noise, which levels it asks about and reports, and
//! what it reports of clean samples. Each of these numbers, a hundredth larger, is noticed.

use crate::common::problem::{KNOWN_SAMPLE, even_lambda, processes};
use crate::common::solvers::rows;
use burn::tensor::{DType, Device, Tensor};
use langevin::core::denoiser::from_fn;
use langevin::core::noise::Seeded;
use langevin::core::{Level, Levels, Load, Node, Prediction, Process};
use langevin::schedulers::plan::{Coef, HostAnswer, HostStep, KNOWN, MASK, Row};
use langevin::schedulers::{Plan, SamplerExt};

const FACTOR: f64 = 1.01;

/// An odd number: at λ = 0 EDM's time is 0.
const STEPS: usize = 7;

/// The nodes of a plan and what it asks about.
#[derive(Clone)]
struct Places {
    start: Node,
    /// After each row, and whether that is the end of a step.
    after: Vec<(Node, bool)>,
    asked: Vec<Level>,
}

impl Places {
    fn of(plan: &Plan) -> Self {
        Self {
            start: plan.start_node(),
            after: plan.rows().iter().map(|row| (row.after, row.step.is_some())).collect(),
            asked: plan.rows().iter().filter_map(|row| row.eval).map(|eval| eval.at).collect(),
        }
    }

    fn number(&mut self, index: usize) -> Option<&mut f64> {
        fn node(node: &mut Node) -> [&mut f64; 4] {
            [&mut node.t, &mut node.level.alpha, &mut node.level.sigma, &mut node.level.time]
        }
        let nodes = std::iter::once(&mut self.start).chain(self.after.iter_mut().map(|(node, _)| node));
        let asked = self.asked.iter_mut().flat_map(|at| [&mut at.alpha, &mut at.sigma, &mut at.time]);
        nodes.flat_map(node).chain(asked).nth(index)
    }

    /// Whether all are places of the process, and steps begin and end where those of the grid do.
    fn are_right(&self, process: &dyn Process, stops: &[Node]) -> bool {
        let same = |a: &Level, b: &Level| {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-8 * b.abs().clamp(1e-3, 1e3);
            near(a.alpha, b.alpha) && near(a.sigma, b.sigma) && near(a.time, b.time)
        };
        let is_of_process = |node: &Node| *node == process.clean() || same(&node.level, &process.level(node.t));
        let is_level =
            |level: &Level| process.time_at_lambda(level.lambda()).is_ok_and(|t| same(level, &process.level(t)));
        let ends: Vec<Node> = self.after.iter().filter(|(_, ends)| *ends).map(|(node, _)| *node).collect();
        // Jumps have more steps than the grid.
        let fits = |ends: &[Node]| ends.len() + 1 != stops.len() || ends == &stops[1..];
        self.start == stops[0]
            && fits(&ends)
            && self.after.iter().all(|(node, _)| is_of_process(node))
            && self.asked.iter().all(is_level)
    }
}

/// Where plans start, ask and end their steps is where the process and the grid are.
#[test]
fn levels_are_those_of_the_process_and_the_grid() {
    let (mut count, mut wrong) = (0, Vec::new());
    for (name, process) in processes() {
        let grid = even_lambda(&process, STEPS);
        let stops = grid.stops(&process).expect("a grid");
        let nodes: Vec<Node> = std::iter::once(stops[0].from).chain(stops.iter().map(|stop| stop.to)).collect();
        for row in rows() {
            let places = Places::of(&row.solver.plan(&process, &grid).expect("a plan"));
            if !places.are_right(&process, &nodes) {
                wrong.push(format!("{} on {name}", row.name));
                continue;
            }
            for index in 0.. {
                let mut changed = places.clone();
                let Some(number) = changed.number(index) else { break };
                // Halfway EDM's time is 0.
                *number = if number.abs() < 1e-9 { FACTOR - 1.0 } else { FACTOR * *number };
                count += 1;
                if changed.are_right(&process, &nodes) {
                    wrong.push(format!("{} on {name}: number {index} may be another", row.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 10_000, "{count}");
}

/// Runs say of each step that it ends where that of the grid does, with and without stages and noise.
#[test]
fn steps_report_the_levels_of_the_grid() {
    let denoiser = from_fn(Prediction::Sample, |x: Tensor<2>, _| Ok(x.mul_scalar(0.5)));
    for (name, process) in processes() {
        let grid = even_lambda(&process, STEPS);
        let ends: Vec<Levels> =
            grid.stops(&process).expect("a grid").iter().map(|stop| Levels::Shared(stop.to.level)).collect();
        let names = ["DDIM", "DPM-Solver++ 2S", "Heun in σ/α, churn"];
        let rows = rows();
        let row = |name: &str| rows.iter().find(|row| row.name == name).expect("a row");
        for row in names.map(row) {
            let reported = |plan: &Plan| -> Vec<Levels> {
                let load = Load::on(&Device::flex()).dtype(DType::F64);
                let noise = Seeded::new(3);
                let run = plan.start([2, 2], &denoiser, &noise, load).expect("a run");
                run.map(|step| step.expect("a step").levels).collect()
            };
            let plan = row.solver.plan(&process, &grid).expect("a plan");
            assert_eq!(reported(&plan), ends, "{} on {name}", row.name);
            let mut rows = plan.rows().to_vec();
            rows.iter_mut().filter(|row| row.step == Some(3)).for_each(|row| row.after.level.sigma *= FACTOR);
            let changed = Plan::new(plan.name(), plan.start_node(), plan.prior_deviation(), rows).expect("a plan");
            assert_ne!(reported(&changed), ends, "{} on {name}", row.name);
        }
    }
}

/// How far the deviation of a run's first state is from that of pure noise at the level where it starts, which is all of it but
/// for a ten-thousandth.
fn off_prior(plan: &Plan) -> f64 {
    (plan.prior_deviation() / plan.start_node().level.sigma - 1.0).abs()
}

#[test]
fn first_states_have_the_law_of_noise() {
    const OFF: f64 = 1e-4;
    for (name, process) in processes() {
        for row in rows() {
            let plan = row.solver.plan(&process, &even_lambda(&process, STEPS)).expect("a plan");
            let changed = plan.clone().with_prior(FACTOR * plan.prior_deviation()).expect("positive");
            assert!(off_prior(&plan) < OFF, "{} on {name}: {}", row.name, off_prior(&plan));
            assert!(off_prior(&changed) > OFF, "{} on {name}", row.name);
        }
        // And it is what runs start with: of so many values the deviation is known to 1/√(2·10⁶).
        let plan = rows()[0].solver.plan(&process, &even_lambda(&process, STEPS)).expect("a plan");
        let denoiser = from_fn(Prediction::Sample, |x, _| Ok(x));
        let deviation = |plan: &Plan| {
            let noise = Seeded::new(3);
            let run = plan.start([1_000_000, 1], &denoiser, &noise, Load::on(&Device::flex()).dtype(DType::F64));
            let first = run.expect("a run").state().x().try_to_vec_as::<f64>().expect("numbers");
            (first.iter().map(|x| x * x).sum::<f64>() / first.len() as f64).sqrt() / plan.start_node().level.sigma
        };
        assert!((deviation(&plan) - 1.0).abs() < 4.0 / 2e6f64.sqrt() + OFF, "{name}: {}", deviation(&plan));
        let changed = plan.clone().with_prior(FACTOR * plan.prior_deviation()).expect("positive");
        assert!((deviation(&changed) - 1.0).abs() > 4.0 / 2e6f64.sqrt() + OFF, "{name}");
    }
}

/// On data that are one point, reports are that point: the largest distance from it, NaN of a plan that reports nothing.
fn off_point(plan: &Plan) -> f64 {
    const POINT: [f64; 2] = [0.7, -1.2];
    let ask = |x: &[f64], at: &Level| HostAnswer {
        x0: POINT.to_vec(),
        eps: x.iter().zip(POINT).map(|(x, point)| (x - at.alpha * point) / at.sigma).collect(),
        variance: Some(vec![0.4; 2]),
    };
    let scale = plan.start_node().level.sigma;
    let given = [(KNOWN, &KNOWN_SAMPLE.0[..]), (MASK, &KNOWN_SAMPLE.1[..])];
    let (mut off, mut reports) = (0.0f64, 0);
    let each = |step: HostStep<'_>| {
        // Jumps report nothing.
        let x0 = step.x0.unwrap_or_default();
        reports += usize::from(x0.len() == POINT.len());
        for (x0, point) in x0.iter().zip(POINT) {
            off = off.max((x0 - point).abs());
        }
    };
    plan.run_host_given(vec![0.6 * scale, -1.1 * scale], &given, 0, &Seeded::new(9), ask, each).expect("a host run");
    if reports == 0 { f64::NAN } else { off }
}

/// Whose reports are not x̂_0 of an answer.
const OTHER_REPORTS: [(&str, &str); 2] = [
    ("LCM", "it reports its consistency function, which keeps a part of the state"),
    ("Euler in σ/α, late churn", "it adds noise to the state after asking, and reads the answer as one about the sum"),
];

#[test]
fn reports_of_data_in_one_point_are_that_point() {
    let (mut count, mut wrong) = (0, Vec::new());
    for (name, process) in processes() {
        for row in rows() {
            let plan = row.solver.plan(&process, &even_lambda(&process, STEPS)).expect("a plan");
            if OTHER_REPORTS.iter().any(|(name, _)| *name == row.name) {
                assert!(off_point(&plan) > 1e-6, "{} on {name} reports the point", row.name);
                continue;
            }
            if !(off_point(&plan) < 1e-9) {
                wrong.push(format!("{} on {name}: {:e}", row.name, off_point(&plan)));
                continue;
            }
            for (place, of) in plan.rows().iter().enumerate().filter(|(_, of)| of.step.is_some()) {
                for term in 0..of.report.len() {
                    let mut rows: Vec<Row> = plan.rows().to_vec();
                    let Coef::C(c) = &mut rows[place].report[term].c else { panic!("a number") };
                    *c *= FACTOR;
                    let changed = Plan::new(plan.name(), plan.start_node(), plan.prior_deviation(), rows);
                    count += 1;
                    if !(off_point(&changed.expect("a plan")) > 1e-6) {
                        wrong.push(format!("{} on {name}: row {place}, term {term}", row.name));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 1000, "{count}");
}
