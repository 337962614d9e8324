//! ΠGDM and DPS: denoisers that heed a measurement.

use super::algebra::{Matrix, apply, identity, inverse, product, sum, transpose};
use super::{Problem, distances, falling, largest, load, mixture, moments, one_value, tensor, values};
use langevin_core::exact::Posterior;
use langevin_core::grid::End;
use langevin_core::inverse::{Dps, Measurement, PiGdm};
use langevin_core::noise::Seeded;
use langevin_core::process::{RectifiedFlow, VeSde, VpSde};
use langevin_core::{Denoiser, Grid, Level, Levels, Prediction, Query};
use langevin_schedulers::plan::HostAnswer;
use langevin_schedulers::{Ddim, DpmSolver, Plan, ProbabilityFlow, SamplerExt, Solver};

/// What the residual is multiplied by in the score, before `Jᵀ·Aᵀ`: `(r²·A·Aᵀ + s²)⁻¹`, or 1/s² for DPS.
#[derive(Clone, Copy)]
enum Weight {
    PiGdm { variance: f64 },
    Dps,
}

impl Weight {
    fn matrix(self, problem: &Problem, at: &Level) -> Matrix {
        let a = &problem.operator;
        let noise = problem.noise.powi(2);
        match self {
            Weight::Dps => inverse(&sum(&vec![vec![0.0; a.len()]; a.len()], &identity(a.len()), noise)),
            Weight::PiGdm { variance } => {
                let r2 = variance * at.sigma.powi(2) / (at.alpha.powi(2) * variance + at.sigma.powi(2));
                let both = sum(&vec![vec![0.0; a.len()]; a.len()], &product(a, &transpose(a)), r2);
                inverse(&sum(&both, &identity(a.len()), noise))
            }
        }
    }
}

/// The method on the host, from its formula and explicit matrices.
fn by_hand(problem: &Problem, weight: Weight, scale: f64, x: &[f64], at: &Level) -> HostAnswer {
    let x0 = problem.x0(x, at);
    let residual: Vec<f64> =
        problem.y.iter().zip(apply(&problem.operator, &x0)).map(|(y, measured)| y - measured).collect();
    let weighted = apply(&weight.matrix(problem, at), &residual);
    let gradient = apply(&transpose(&problem.jacobian(at)), &apply(&transpose(&problem.operator), &weighted));
    let gain = scale * at.sigma.powi(2) / at.alpha;
    let x0: Vec<f64> = x0.iter().zip(&gradient).map(|(x0, g)| x0 + gain * g).collect();
    let eps = x.iter().zip(&x0).map(|(x, x0)| (x - at.alpha * x0) / at.sigma).collect();
    HostAnswer { x0, eps, variance: None }
}

fn plans() -> Vec<(&'static str, Plan)> {
    let vp = VpSde::default();
    let grid = Grid::uniform_lambda(12);
    let noisy = Ddim::new().eta(0.7).expect("in range");
    let flow = Grid::uniform(8).between(0.95, 0.05).ending(End::Range);
    vec![
        ("DDIM on VP", Ddim::new().plan(&vp, &grid).expect("a plan")),
        ("DDIM with noise on VP", noisy.plan(&vp, &grid).expect("a plan")),
        ("DPM-Solver++ on VE", {
            DpmSolver::multistep(2).expect("an order").plan(&VeSde::default(), &Grid::uniform(8)).expect("a plan")
        }),
        ("Heun on a flow", ProbabilityFlow::heun().plan(&RectifiedFlow::new(), &flow).expect("a plan")),
    ]
}

#[test]
fn methods_are_their_formulas_under_every_solver() {
    let noise = Seeded::new(3);
    for s in [0.3, 0.0] {
        let problem = Problem::correlated(s);
        let mut methods: Vec<(&str, Weight, f64, Box<dyn Denoiser<2>>)> = Vec::new();
        let pigdm = || PiGdm::new(problem.denoiser(), problem.measurement()).expect("a decomposition");
        methods.push(("ΠGDM", Weight::PiGdm { variance: 1.0 }, 1.0, Box::new(pigdm())));
        let scaled = pigdm().data_deviation(0.8).and_then(|m| m.scale(1.3)).expect("settings");
        methods.push(("ΠGDM, scaled", Weight::PiGdm { variance: 0.64 }, 1.3, Box::new(scaled)));
        if s > 0.0 {
            let dps = Dps::new(problem.denoiser(), problem.measurement()).expect("noise");
            assert!((dps.weight() - 1.0 / 0.09).abs() < 1e-12);
            methods.push(("DPS", Weight::Dps, 1.0, Box::new(dps)));
            let half = Dps::with_weight(problem.denoiser(), problem.measurement(), 0.5 / 0.09).expect("a weight");
            methods.push(("DPS, half", Weight::Dps, 0.5, Box::new(half)));
        }
        for (name, weight, scale, denoiser) in &methods {
            for (solver, plan) in plans() {
                let run = plan.start_at(5, [3, 3], denoiser.as_ref(), &noise, load()).expect("a run");
                let start = values(&run.state().x());
                let found = values(&run.finish().expect("samples"));
                for (row, sample) in (5..8).enumerate() {
                    let x = start[3 * row..3 * row + 3].to_vec();
                    let model = |x: &[f64], at: &Level| by_hand(&problem, *weight, *scale, x, at);
                    let expected = plan.run_host(x, sample, &noise, model).expect("a host run");
                    let size = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
                    let error = largest(&found[3 * row..3 * row + 3], &expected) / size;
                    assert!(error < 1e-8, "{name} with {solver}, noise {s}: {error:e}");
                }
            }
        }
    }
}

fn fine(steps: usize) -> Plan {
    let solver = DpmSolver::multistep(2).expect("an order");
    solver.plan(&VpSde::default(), &Grid::uniform_lambda(steps)).expect("a plan")
}

/// Where data has one variance in all directions that are measured, its law given y is the one sampled: 0.4% here, and a
/// guidance that is a tenth too long is not.
#[test]
fn pigdm_samples_the_posterior_of_data_with_one_variance() {
    for s in [0.3, 0.0] {
        let problem = Problem::even(0.49, s);
        let pigdm = || {
            let denoiser = PiGdm::new(problem.denoiser(), problem.measurement()).expect("a decomposition");
            denoiser.data_deviation(0.7).expect("a deviation")
        };
        let exact = problem.posterior();
        let plan = fine(120);
        let (mean, covariance) = distances(&moments(&plan, &pigdm(), 3), &exact);
        assert!(mean < 4e-3 && covariance < 4e-3, "noise {s}: {mean} {covariance}");
        // A solver with noise goes to the same law.
        let noisy = Ddim::new().eta(1.0).expect("in range").plan(&VpSde::default(), &Grid::uniform_lambda(500));
        let (mean, covariance) = distances(&moments(&noisy.expect("a plan"), &pigdm(), 3), &exact);
        assert!(mean < 4e-3 && covariance < 0.02, "noise {s}, with noise: {mean} {covariance}");
        if s > 0.0 {
            let wrong = pigdm().scale(1.1).expect("a scale");
            let (mean, covariance) = distances(&moments(&plan, &wrong, 3), &exact);
            assert!(mean > 0.012 && covariance > 0.006, "guidance a tenth too long: {mean} {covariance}");
            let wrong = pigdm().data_deviation(0.7 * 1.1).expect("a deviation");
            let (mean, _) = distances(&moments(&plan, &wrong, 3), &exact);
            assert!(mean > 0.012, "a deviation a tenth too large: {mean}");
        }
    }
}

/// What the documentation says of data with several variances: ΠGDM is off, DPS is further off and spreads less than the
/// posterior.
#[test]
fn biases_are_what_the_documentation_says() {
    let problem = Problem::correlated(0.3);
    let exact = problem.posterior();
    let plan = fine(120);
    let pigdm = PiGdm::new(problem.denoiser(), problem.measurement()).expect("a decomposition");
    let pigdm = moments(&plan, &pigdm.data_deviation(0.7f64.sqrt()).expect("a deviation"), 3);
    let (of_pigdm, _) = distances(&pigdm, &exact);
    assert!((0.05..0.15).contains(&of_pigdm), "{of_pigdm}");
    let dps = moments(&plan, &Dps::new(problem.denoiser(), problem.measurement()).expect("noise"), 3);
    let (of_dps, _) = distances(&dps, &exact);
    assert!((0.25..0.5).contains(&of_dps), "{of_dps}");
    let measured = |covariance: &Matrix| {
        let seen = product(&product(&problem.operator, covariance), &transpose(&problem.operator));
        seen[0][0] + seen[1][1]
    };
    assert!(measured(&dps.1) < 0.2 * measured(&exact.1), "{} {}", measured(&dps.1), measured(&exact.1));
}

/// With a Jacobian that depends on the state: what the score gains is the gradient, by differences.
#[test]
fn gradients_agree_with_differences() {
    let level = |alpha: f64, sigma: f64| Level { alpha, sigma, time: 0.0 };
    let levels = [level(0.6, 0.8), level(1.0, 0.4)];
    let (rows, s) = ([vec![0.3, -0.2], vec![1.1, 0.5]], 0.2);
    let measurement = || Measurement::new(one_value(), tensor(&[vec![0.7]]), s).expect("a measurement");
    let inner = || mixture().denoiser(Prediction::Velocity).expect("a denoiser");
    let residual = |x: &[f64], at: &Level| {
        let x0 = mixture().x0(x, at).expect("a plane");
        0.7 - (x0[0] + 0.5 * x0[1])
    };
    let squared = |factor: f64| move |r: f64, _: &Level| 0.5 * factor * r * r;
    let pigdm = move |r: f64, at: &Level| {
        let r2 = at.sigma.powi(2) / (at.alpha.powi(2) + at.sigma.powi(2));
        0.5 * r * r / (1.25 * r2 + s * s)
    };
    type Potential = Box<dyn Fn(f64, &Level) -> f64>;
    let methods: Vec<(&str, Potential, Box<dyn Denoiser<2>>)> = vec![
        ("DPS", Box::new(squared(25.0)), Box::new(Dps::new(inner(), measurement()).expect("noise"))),
        ("DPS with a weight", Box::new(squared(3.0)), {
            Box::new(Dps::with_weight(inner(), measurement(), 3.0).expect("a weight").checked())
        }),
        ("DPS, normalized", Box::new(|r: f64, _: &Level| 3.0 * r.abs()), {
            Box::new(Dps::with_weight(inner(), measurement(), 3.0).expect("a weight").normalized())
        }),
        ("ΠGDM", Box::new(pigdm), Box::new(PiGdm::new(inner(), measurement()).expect("a decomposition").checked())),
    ];
    for (name, potential, denoiser) in &methods {
        let each = Levels::Each(levels.to_vec());
        let ask = |denoiser: &dyn Denoiser<2>| {
            let query = Query { x: tensor(&rows), levels: &each, past: &[], noise: &Seeded::new(0) };
            values(&denoiser.denoise(query).expect("an answer").score().expect("noise"))
        };
        let (guided, plain) = (ask(denoiser.as_ref()), ask(&inner()));
        for (row, (x, at)) in rows.iter().zip(&levels).enumerate() {
            let expected = falling(|x| potential(residual(x, at), at), x);
            for i in 0..2 {
                let gained = guided[2 * row + i] - plain[2 * row + i];
                let error = (gained - expected[i]).abs();
                assert!(error < 1e-8 * (1.0 + expected[i].abs()), "{name}: {gained} instead of {}", expected[i]);
            }
        }
    }
}

#[test]
fn a_guided_run_resumes_to_the_same_bits_and_does_not_depend_on_its_batch() {
    let problem = Problem::correlated(0.3);
    let denoiser = PiGdm::new(problem.denoiser(), problem.measurement()).expect("a decomposition");
    let plan = Ddim::new().eta(0.5).expect("in range").plan(&VpSde::default(), &Grid::uniform(6)).expect("a plan");
    let noise = Seeded::new(17);
    let start = |first, rows| plan.start_at(first, [rows, 3], &denoiser, &noise, load()).expect("a run");
    let whole: Vec<Vec<f64>> = start(4, 2).map(|step| values(&step.expect("a step").x)).collect();
    for pause in 0..=6 {
        let mut run = start(4, 2);
        run.by_ref().take(pause).for_each(|step| drop(step.expect("a step")));
        let saved = run.save().expect("a saved run");
        let rest = SamplerExt::<2>::resume(&plan, &saved, &denoiser, &noise, load()).expect("a resumed run");
        let rest: Vec<Vec<f64>> = rest.map(|step| values(&step.expect("a step").x)).collect();
        assert_eq!(rest, whole[pause..]);
    }
    let alone: Vec<f64> = (4..6).flat_map(|first| values(&start(first, 1).finish().expect("samples"))).collect();
    assert!(largest(&alone, &whole[5]) < 1e-12);
}
