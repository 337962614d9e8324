//! RePaint: what is filled in, on tensors and in exact moments.

mod common;

use burn::tensor::{DType, Device, Tensor, TensorData};
use common::affine::{Affine, marginal, push_known};
use common::moments::{STANDARD_ERRORS, distance, predicted_given, sampled_given, scale_noise, scale_noise_of};
use common::problem::{ask_gaussian, even_lambda, gaussian, processes};
use langevin::core::exact::{Gaussian, Posterior};
use langevin::core::grid::End;
use langevin::core::inverse::{Masking, Measurement};
use langevin::core::noise::Seeded;
use langevin::core::process::{Betas, DiscreteChain, VpSde};
use langevin::core::{Denoiser, Grid, Load, Prediction};
use langevin::schedulers::inverse::DpsSteps;
use langevin::schedulers::plan::{HostError, KNOWN, MASK};
use langevin::schedulers::{
    Ddim, Ddpm, DpmSolver, Picard, Plan, PredictorCorrector, RePaint, Restart, SampleError, Sampler, SamplerExt,
    SavedRun, Solver,
};

const IMAGE: [f64; 2] = [1.3, 0.0];
const WHERE: [f64; 2] = [1.0, 0.0];

fn load() -> Load {
    Load::on(&Device::flex())
}

fn values<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.try_to_vec_as::<f64>().expect("a readable tensor")
}

fn row(values: &[f64]) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [1, values.len()]);
    Tensor::from_data(data, (&Device::flex(), DType::F32))
}

fn repaint(samples: usize) -> RePaint<Ddpm> {
    RePaint::around(Ddpm::new()).jumps(20, samples).expect("settings")
}

fn chain() -> DiscreteChain {
    DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000).expect("a chain")
}

fn filled(plan: &Plan, data: &Gaussian) -> Affine {
    let (mean, factor) = marginal(data, &plan.start_node().level);
    push_known(plan, data, (&mean, &factor), (&IMAGE, &WHERE))
}

/// Mean and variance of the second number, given the first.
fn conditional(data: &Gaussian) -> (f64, f64) {
    let (mean, c) = (data.mean(), data.covariance());
    (mean[1] + c[2] / c[0] * (IMAGE[0] - mean[0]), c[3] - c[2] * c[1] / c[0])
}

/// With more passes over each step, mean and variance of what is filled in go to those of the conditional law: short jumps
/// mix where there is little noise, and there the known region is known. No number here has a sampling error.
#[test]
fn what_is_filled_in_approaches_the_conditional_law() {
    let data = Gaussian::new(vec![0.4, -0.7], vec![0.8, 0.5, 0.5, 0.6]).expect("a covariance");
    let (mean, variance) = conditional(&data);
    let mut processes = processes();
    processes.push(("chain", Box::new(chain())));
    for (name, process) in processes {
        let time = |lambda| process.time_at_lambda(lambda).expect("in range");
        let grid = Grid::uniform_lambda(40).between(time(-2.0), time(3.0)).ending(End::Clean);
        let errors: Vec<(f64, f64)> = [1, 2, 4, 8, 16]
            .into_iter()
            .map(|samples| {
                let repaint = RePaint::around(Ddpm::new()).jumps(1, samples).expect("settings");
                let found = filled(&repaint.plan(&process, &grid).expect("a plan"), &data);
                assert_eq!(found.mean[0], IMAGE[0], "the known number is not the given one");
                assert_eq!(found.covariance()[0], 0.0, "the known number is noisy");
                ((found.mean[1] - mean).abs(), (found.covariance()[3] - variance).abs())
            })
            .collect();
        println!("{name}: {errors:?}");
        assert!(errors.windows(2).all(|pair| pair[1].0 < pair[0].0), "{name}: the mean does not approach: {errors:?}");
        let (first, last) = (errors[0], errors[4]);
        assert!(last.0 < 0.1 * first.0 && last.0 < 0.03, "{name}: {errors:?}");
        // What is left is of DDPM's steps, which have order 1: 5% with a hundred of them.
        assert!(last.1 < 0.15 * variance, "{name}: {errors:?}");
    }
}

/// A million samples have the moments that the plan predicts; those of plans are others whose noise is off by 1%, be it that
/// of the known region or of the steps.
#[test]
fn samples_have_the_moments_that_the_plan_predicts() {
    let data = gaussian();
    for (on, process) in processes() {
        let repaint = RePaint::around(Ddpm::new()).jumps(2, 2).expect("settings");
        let plan = repaint.plan(&process, &even_lambda(&process, 6)).expect("a plan");
        let known = Some((&IMAGE[..], &WHERE[..]));
        let samples = sampled_given(&plan, &data, 5, known);
        let off = |plan: &Plan| distance(&predicted_given(plan, &data, known), &samples);
        println!("{on}: {:.2} standard errors", off(&plan));
        assert!(off(&plan) < STANDARD_ERRORS, "{on}: {}", off(&plan));
        let louder: [(&str, Plan); 3] = [
            ("all noise", scale_noise(&plan, 1.01)),
            ("the known region's noise", scale_noise_of(&plan, 1.01, |set| set.mask.is_some())),
            ("the steps' noise", scale_noise_of(&plan, 1.01, |set| set.mask.is_none())),
        ];
        for (which, louder) in &louder {
            println!("{which} off by 1% on {on}: {:.2} standard errors", off(louder));
            assert!(off(louder) > STANDARD_ERRORS, "{which} off by 1% went unnoticed on {on}: {}", off(louder));
        }
    }
}

/// Nothing known, nothing jumped: the solver alone, to the bit. The noise of the known region has a domain of its own.
#[test]
fn without_a_mask_and_jumps_it_is_the_solver_alone() {
    let (vp, noise) = (VpSde::default(), Seeded::new(3));
    let denoiser = gaussian().denoiser(Prediction::Epsilon).expect("a denoiser");
    let grid = Grid::uniform(12);
    let alone = Ddpm::new().plan(&vp, &grid).expect("a plan");
    let around = repaint(1).plan(&vp, &grid).expect("a plan");
    let expected = alone.start([3, 2], &denoiser, &noise, load()).expect("a run").finish().expect("samples");
    let run = around.start([3, 2], &denoiser, &noise, load()).expect("a run");
    let found = run.known(row(&[5.0, 5.0]), row(&[0.0])).expect("a mask of nothing").finish().expect("samples");
    assert_eq!(values(&found), values(&expected));
}

/// On tensors: the known region ends at the given numbers, one mask serves every sample, and batches do not matter.
#[test]
fn known_regions_end_at_the_given_values() {
    let (noise, chain) = (Seeded::new(7), chain());
    let denoiser = gaussian().denoiser(Prediction::Epsilon).expect("a denoiser");
    let plan = repaint(2).plan(&chain, &Grid::leading(30)).expect("a plan");
    let run = |first, rows| {
        let run = plan.start_at(first, [rows, 2], &denoiser, &noise, load()).expect("a run");
        values(&run.known(row(&IMAGE), row(&WHERE)).expect("an image").finish().expect("samples"))
    };
    let together = run(4, 3);
    assert!(together.chunks(2).all(|x| x[0] as f32 == IMAGE[0] as f32 && x[1] != 0.0));
    let alone: Vec<f64> = (4..7).flat_map(|sample| run(sample, 1)).collect();
    assert_eq!(together, alone);
    // A mask between 0 and 1 mixes.
    let half = plan.start([1, 2], &denoiser, &noise, load()).expect("a run");
    let half = values(&half.known(row(&IMAGE), row(&[0.5, 0.0])).expect("an image").finish().expect("samples"));
    assert!(half[0] as f32 != IMAGE[0] as f32);
}

/// What is put around a plan reads what the plan reads.
#[test]
fn samplers_over_a_plan_are_given_what_it_reads() {
    let (noise, vp) = (Seeded::new(7), VpSde::default());
    let denoiser = gaussian().denoiser(Prediction::Epsilon).expect("a denoiser");
    let plan = || repaint(2).plan(&vp, &Grid::uniform(12)).expect("a plan");
    let second = Masking::new(row(&[0.0, 1.0])).expect("a mask");
    let measurement = Measurement::new(second, row(&[0.0, 0.6]), 0.0).expect("a measurement");
    let samplers: [(&str, Box<dyn Sampler<2>>); 3] = [
        ("corrections", Box::new(PredictorCorrector::new(plan(), 0.16, 1).expect("settings"))),
        ("DPS", Box::new(DpsSteps::new(plan(), measurement, 1e-3).expect("settings"))),
        ("Picard", Box::new(Picard::over(plan(), 3).expect("settings"))),
    ];
    for (name, sampler) in &samplers {
        assert_eq!(sampler.auxiliaries(), [KNOWN, MASK], "{name}");
        let start = || sampler.start([3, 2], &denoiser, &noise, load()).expect("a run");
        let forgotten = start().finish().map(drop).expect_err("nothing given");
        assert_eq!(forgotten, SampleError::NotGiven { name: "known".into() }, "{name}");
        let x = values(&start().known(row(&IMAGE), row(&WHERE)).expect("an image").finish().expect("samples"));
        // A gradient step of DPS may follow, a short one.
        assert!(x.chunks(2).all(|x| (x[0] - IMAGE[0]).abs() < 1e-2), "{name}: {x:?}");
    }
}

#[test]
fn a_resumed_run_has_the_same_bits_and_takes_what_is_known_along() {
    let (noise, chain) = (Seeded::new(17), chain());
    let denoiser = gaussian().denoiser(Prediction::Epsilon).expect("a denoiser");
    let plan = RePaint::around(DpmSolver::multistep(2).expect("an order")).jumps(2, 2).expect("settings");
    let plan = plan.plan(&chain, &Grid::leading(6)).expect("a plan");
    let start = || {
        let run = plan.start_at(4, [3, 2], &denoiser, &noise, load()).expect("a run");
        run.known(row(&IMAGE), row(&WHERE)).expect("an image")
    };
    let whole: Vec<Vec<f64>> = start().map(|step| values(&step.expect("a step").x)).collect();
    assert_eq!(whole.len(), plan.steps());
    for pause in 0..=plan.steps() {
        let mut run = start();
        for step in run.by_ref().take(pause) {
            step.expect("a step");
        }
        let saved = run.save().expect("a saved run");
        let text = serde_json::to_string(&saved).expect("a saved run is data");
        let saved: SavedRun = serde_json::from_str(&text).expect("a saved run is data");
        let rest = plan.resume(&saved, &denoiser as &dyn Denoiser<2>, &noise, load()).expect("a resumed run");
        let rest: Vec<Vec<f64>> = rest.map(|step| values(&step.expect("a step").x)).collect();
        assert_eq!(rest, whole[pause..], "paused after {pause} steps");
        if pause == plan.steps() {
            assert_eq!(run.state().memory().len(), 1, "in the end only the samples count");
        }
    }
}

#[test]
fn what_does_not_fit_the_samples_is_refused() {
    let noise = Seeded::new(1);
    let denoiser = gaussian().denoiser(Prediction::Epsilon).expect("a denoiser");
    let vp = VpSde::default();
    let plan = repaint(1).plan(&vp, &Grid::uniform(4)).expect("a plan");
    let start = || plan.start([3, 2], &denoiser, &noise, load()).expect("a run");
    let refused = |image: Tensor<2>, mask: Tensor<2>| start().known(image, mask).map(|_| ()).expect_err("does not fit");
    let narrow = refused(row(&[1.0, 2.0, 3.0]), row(&WHERE));
    assert!(matches!(&narrow, SampleError::GivenShape { name, .. } if name == "known"), "{narrow}");
    assert!(narrow.to_string().contains("[1, 3]") && narrow.to_string().contains("[3, 2]"), "{narrow}");
    let two = Tensor::<2>::zeros([2, 2], &Device::flex());
    assert!(matches!(refused(row(&IMAGE), two), SampleError::GivenShape { name, .. } if name == "mask"));
    for value in [f64::NAN, f64::INFINITY] {
        let error = refused(row(&[value, 0.0]), row(&WHERE));
        assert!(matches!(&error, SampleError::GivenNotFinite { name } if name == "known"), "{error}");
        assert!(matches!(refused(row(&IMAGE), row(&[value, 0.0])), SampleError::GivenNotFinite { .. }));
    }
    for mask in [[1.5, 0.0], [0.0, -0.1]] {
        let error = refused(row(&IMAGE), row(&mask));
        assert!(matches!(error, SampleError::MaskRange { .. }), "{error}");
    }
    // Forgotten, late, and for a plan that does not read it.
    let error = start().finish().map(|_| ()).expect_err("nothing given");
    assert_eq!(error, SampleError::NotGiven { name: "known".into() });
    assert!(error.to_string().contains("`.known(image, mask)`"), "{error}");
    let mut late = start().known(row(&IMAGE), row(&WHERE)).expect("an image");
    late.next().expect("a step").expect("a step");
    let error = late.known(row(&IMAGE), row(&WHERE)).map(|_| ()).expect_err("late");
    assert_eq!(error, SampleError::GivenLate { name: "known".into(), step: 1 });
    let ddim = Ddim::new().plan(&vp, &Grid::uniform(4)).expect("a plan");
    let run = ddim.start([3, 2], &denoiser, &noise, load()).expect("a run");
    let error = run.known(row(&IMAGE), row(&WHERE)).map(|_| ()).expect_err("not read");
    assert_eq!(error, SampleError::NotRead { name: "known".into() });
    // On the host.
    let error = plan.run_host(vec![0.0; 2], 0, &noise, ask_gaussian(&gaussian())).expect_err("nothing given");
    assert_eq!(error, HostError::NotGiven { name: "known".into() });
    let given = [(KNOWN, &[0.0][..]), (MASK, &WHERE[..])];
    let error = plan.run_host_given(vec![0.0; 2], &given, 0, &noise, ask_gaussian(&gaussian()), |_| {});
    assert_eq!(error, Err(HostError::Length { expected: 2, given: 1 }));
}

/// A restart keeps the law: from the exact marginal, the moments at the end go to those of the exact marginal there.
#[test]
fn restarts_keep_the_law() {
    let data = gaussian();
    for (name, process) in processes() {
        let error = |n: usize| {
            let restart = Restart::around(Ddim::new()).interval(0.4, 2.0, 3).expect("an interval");
            let plan = restart.plan(&process, &even_lambda(&process, n)).expect("a plan");
            let found = filled(&plan, &data);
            let end = plan.rows().last().expect("rows").after.level;
            let (mean, _) = marginal(&data, &end);
            let exact = common::affine::marginal_covariance(&data, &end);
            let of_mean = found.mean.iter().zip(&mean).map(|(a, b)| (a - b).abs());
            of_mean.chain(found.covariance().iter().zip(&exact).map(|(a, b)| (a - b).abs())).fold(0.0, f64::max)
        };
        let (few, many) = (error(16), error(128));
        assert!(many < 0.2 * few && many < 0.02, "{name}: {few} and {many}");
    }
}
