//! DPS as its authors run it: a gradient step after each step of a plan.

use super::{Problem, falling, largest, load, mixture, one_value, tensor, values};
use langevin_core::exact::Posterior;
use langevin_core::inverse::Measurement;
use langevin_core::noise::Seeded;
use langevin_core::process::VpSde;
use langevin_core::{Grid, Level, Prediction};
use langevin_schedulers::inverse::DpsSteps;
use langevin_schedulers::{Ddpm, Plan, ProbabilityFlow, Sampler, SamplerExt, Solver};

fn plans() -> [(&'static str, Plan); 2] {
    let (vp, grid) = (VpSde::default(), Grid::uniform(6));
    [
        ("DDPM", Ddpm::new().plan(&vp, &grid).expect("a plan")),
        ("Heun, looked back through at its first question", {
            let grid = grid.ending(langevin_core::grid::End::Range);
            ProbabilityFlow::heun().plan(&vp, &grid).expect("a plan")
        }),
    ]
}

/// The steps of the plan, each followed by `−ζ·∇‖y − A·x̂_0‖` at the state where it began, by differences.
#[test]
fn every_step_is_followed_by_the_gradient_where_it_began() {
    let denoiser = mixture().denoiser(Prediction::Epsilon).expect("a denoiser");
    let noise = Seeded::new(5);
    for (name, plan) in plans() {
        let measurement = Measurement::new(one_value(), tensor(&[vec![0.7]]), 0.0).expect("a measurement");
        let sampler = DpsSteps::new(plan.clone(), measurement, 0.3).expect("a step size");
        let mut run = sampler.start_at(2, [2, 2], &denoiser, &noise, load()).expect("a run");
        // The plan alone, made to go on from where the sampler went.
        let mut alone = plan.start_at(2, [2, 2], &denoiser, &noise, load()).expect("a run").state().clone();
        let cx = langevin_schedulers::Context { denoiser: &denoiser, noise: &noise };
        let mut levels: Level = plan.start_node().level;
        let mut steps = 0;
        while let Some(step) = run.next() {
            let step = step.expect("a step");
            let before = values(&alone.x());
            let moved = plan.advance(&mut alone, &cx).expect("a step").expect("as many steps");
            let mut expected = values(&moved.x);
            for (row, x) in before.chunks(2).enumerate() {
                let norm = |x: &[f64]| {
                    let x0 = mixture().x0(x, &levels).expect("a plane");
                    (0.7 - (x0[0] + 0.5 * x0[1])).abs()
                };
                for (i, fall) in falling(norm, x).into_iter().enumerate() {
                    expected[2 * row + i] += 0.3 * fall;
                }
            }
            let error = largest(&values(&step.x), &expected);
            assert!(error < 1e-8, "{name}: {error:e}");
            alone.set_x(step.x.clone());
            let langevin_core::Levels::Shared(at) = step.levels else { panic!("a plan has shared levels") };
            levels = at;
            steps += 1;
        }
        assert_eq!(steps, 6);
        assert_eq!(run.state().evaluations(), plan.evaluations());
    }
}

#[test]
fn samples_fit_what_was_measured_better_than_without() {
    let problem = Problem::correlated(0.0);
    let plan = Ddpm::new().plan(&VpSde::default(), &Grid::uniform(100)).expect("a plan");
    let noise = Seeded::new(5);
    let denoiser = problem.denoiser();
    let left = |x| {
        let residual = problem.measurement().residual(x).expect("fits");
        residual.powf_scalar(2.0).sum_dim(1).sqrt().mean().into_scalar::<f64>()
    };
    let without = left(plan.start([64, 3], &denoiser, &noise, load()).expect("a run").finish().expect("samples"));
    let sampler = DpsSteps::new(plan, problem.measurement(), 0.1).expect("a step size");
    let with = left(sampler.start([64, 3], &denoiser, &noise, load()).expect("a run").finish().expect("samples"));
    assert!(with < 0.25 * without, "{with} of {without}");
}

#[test]
fn a_run_resumes_to_the_same_bits_and_only_by_the_same_sampler() {
    let problem = Problem::correlated(0.1);
    let (denoiser, noise) = (problem.denoiser(), Seeded::new(17));
    let [(_, plan), (_, other)] = plans();
    let of = |plan: &Plan, y: Vec<f64>, step| {
        let problem = Problem { y, ..problem.clone() };
        DpsSteps::new(plan.clone(), problem.measurement(), step).expect("a step size")
    };
    let sampler = of(&plan, vec![0.8, -0.4], 0.3);
    let start = || sampler.start_at(4, [2, 3], &denoiser, &noise, load()).expect("a run");
    let whole: Vec<Vec<f64>> = start().map(|step| values(&step.expect("a step").x)).collect();
    for pause in 0..=6 {
        let mut run = start();
        run.by_ref().take(pause).for_each(|step| drop(step.expect("a step")));
        let saved = run.save().expect("a saved run");
        let rest = sampler.resume(&saved, &denoiser, &noise, load()).expect("a resumed run");
        let rest: Vec<Vec<f64>> = rest.map(|step| values(&step.expect("a step").x)).collect();
        assert_eq!(rest, whole[pause..], "paused after {pause} steps");
    }
    let print = |sampler: &DpsSteps<_, 2>| Sampler::<2>::fingerprint(sampler);
    let prints = [
        print(&sampler),
        print(&of(&plan, vec![0.8, -0.4], 0.31)),
        print(&of(&plan, vec![0.8, -0.5], 0.3)),
        print(&of(&other, vec![0.8, -0.4], 0.3)),
        plan.fingerprint(),
    ];
    for (i, a) in prints.iter().enumerate() {
        assert!(prints[..i].iter().all(|b| a != b), "two samplers with one fingerprint");
    }
}
