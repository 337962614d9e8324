//! Identities that every solver keeps: the same sample, in x/α, on every process for the same λ, and for every
//! prediction of one function.

mod common;

use common::order::rms;
use common::problem::{LAMBDA, even_lambda, mixture, processes};
use common::roster;
use common::solvers::rows;
use langevin::core::exact::GaussianMixture;
use langevin::core::noise::Seeded;
use langevin::core::{Grid, Key, Level, NoiseError, NoiseSource, Prediction};
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{HostAnswer, KNOWN, MASK};

/// The mixture's answers, with a variance for those that learn it.
fn ask_mixture(data: &GaussianMixture) -> impl FnMut(&[f64], &Level) -> HostAnswer + '_ {
    move |x, level| {
        let mut answer = common::problem::ask_mixture(data)(x, level);
        answer.variance = Some(vec![0.4; x.len()]);
        answer
    }
}

/// The end of a run; what is known, for those that read it, is one value of the two.
fn run(
    plan: &Plan,
    x: [f64; 2],
    noise: &dyn NoiseSource,
    network: impl FnMut(&[f64], &Level) -> HostAnswer,
) -> Vec<f64> {
    let given = [(KNOWN, &[0.7, -0.4][..]), (MASK, &[1.0, 0.0][..])];
    let mut end = Vec::new();
    plan.run_host_given(x.to_vec(), &given, 3, noise, network, |step| end = step.x.to_vec()).expect("a host run");
    end
}

/// White noise as ever, and a path that is a smooth function of its clock: of a Brownian one, a clock that differs in
/// the last bit is another path by half of the digits.
struct Smooth(Seeded);

impl NoiseSource for Smooth {
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        self.0.fill(sample, key, out)
    }
    fn fill_path(&self, _sample: u64, from: f64, until: f64, out: &mut [f64]) -> Result<(), NoiseError> {
        for (i, out) in out.iter_mut().enumerate() {
            let at = |c: f64| (1.0 + c).sqrt() * (1.7 * (1.0 + c).ln() + i as f64).sin();
            *out = at(until) - at(from);
        }
        Ok(())
    }
}

#[test]
fn every_lambda_solver_gives_one_sample_on_all_processes() {
    let data = mixture();
    let grids: [fn(usize) -> Vec<f64>; 2] = [
        |n| (0..=n).map(|i| LAMBDA.0 + (LAMBDA.1 - LAMBDA.0) * i as f64 / n as f64).collect(),
        |n| (0..=n).map(|i| LAMBDA.0 + (LAMBDA.1 - LAMBDA.0) * (i as f64 / n as f64).powf(1.7)).collect(),
    ];
    let (mut apart, mut count) = (Vec::new(), 0);
    for row in rows() {
        let mut largest: f64 = 0.0;
        for lambdas in grids.iter().flat_map(|grid| [12, 13].map(grid)) {
            // A restart begins and ends at the nearest levels. In 13 even steps two are equally near to λ = 0, and which of
            // them is nearer is a matter of rounding.
            let tied = lambdas.len() == 14 && (lambdas[6] + lambdas[7]).abs() < 1e-12;
            if tied && row.name.starts_with("Restart around ") {
                continue;
            }
            let mut ends: Vec<Vec<f64>> = Vec::new();
            for (_, process) in processes() {
                let level = |lambda: &f64| process.level(process.time_at_lambda(*lambda).expect("in range"));
                let levels: Vec<Level> = lambdas.iter().map(level).collect();
                let (start, end) = (levels[0], levels[levels.len() - 1]);
                let plan = row.solver.plan(&process, &Grid::levels(levels).expect("rising λ")).expect("a plan");
                let x =
                    run(&plan, [0.7 * start.sigma, -1.2 * start.sigma], &Smooth(Seeded::new(3)), ask_mixture(&data));
                ends.push(x.iter().map(|x| x / end.alpha).collect());
            }
            largest = ends.iter().map(|y| rms(y, &ends[0])).fold(largest, f64::max);
        }
        count += 1;
        let name = row.name;
        if let Some(reason) = row.beyond_lambda {
            if !(largest > 1e-6) {
                apart.push(format!("{name} agrees on all processes, although {reason}"));
            }
        } else if !(largest < 1e-11) {
            apart.push(format!("{name}: {largest:e}"));
        }
    }
    assert!(apart.is_empty(), "x/α differs between processes:\n{}", apart.join("\n"));
    assert!(count > 90);
}

/// Networks that predict ε, x_0, v, score, flow or EDM's output of one function lead to one sample, with every solver.
#[test]
fn every_solver_gives_one_sample_for_all_predictions() {
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
    for row in rows() {
        for (name, process) in processes() {
            let plan = row.solver.plan(&process, &even_lambda(&process, 20)).expect("a plan");
            let x = [0.7 * plan.start_node().level.sigma, -1.2 * plan.start_node().level.sigma];
            let noise = Seeded::new(5);
            let direct = run(&plan, x, &noise, ask_mixture(&data));
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
                    HostAnswer { x0: back(of_x0), eps: back(of_eps), variance: truth.variance }
                };
                let found = run(&plan, x, &noise, network);
                let error = rms(&found, &direct);
                assert!(error < 1e-10, "{} on {name} with {prediction:?}: {error:e}", row.name);
            }
        }
    }
}

#[test]
fn every_solver_has_a_row() {
    roster::assert_complete(&roster::solvers(), rows().iter().map(|row| row.of), &[]);
}
