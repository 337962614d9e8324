//! Guidance agrees with published implementations, keeps what a run remembers, and means the same for every prediction.

mod common;

use burn::tensor::{DType, Device, Tensor, TensorData};
use common::problem::even_lambda;
use common::solvers::rows;
use langevin::core::denoiser::{Answers, Guided, Projection, from_fn};
use langevin::core::noise::Seeded;
use langevin::core::process::VpSde;
use langevin::core::{
    DenoiseError, Denoiser, DenoiserExt, Estimate, Level, Levels, Load, Network, Prediction, Process, Query,
};
use langevin::models::{Labels, MlpConfig};
use langevin::schedulers::{Ddim, DormandPrince, Heun, SampleError, SamplerExt, SavedRun, Solver};
use serde_json::{Map, Value};

fn values<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.try_to_vec_as::<f64>().expect("a readable tensor")
}

fn largest_distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

// The guiders of diffusers: see tests/guiders/make.py.

struct Reference(Value);

impl Reference {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guiders/reference.json");
        Self(serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON"))
    }

    fn tensors(&self, list: &Value) -> Vec<Vec<f64>> {
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let tensor = |values: &Value| values.as_array().expect("a tensor").iter().map(number).collect();
        list.as_array().expect("tensors").iter().map(tensor).collect()
    }

    fn answer(&self, values: Vec<f64>, prediction: Prediction) -> impl Denoiser<3> + 'static {
        let shape: Vec<usize> = self.0["shape"]
            .as_array()
            .expect("a shape")
            .iter()
            .map(|n| n.as_u64().expect("a number") as usize)
            .collect();
        let answer = Tensor::<3>::from_data(TensorData::new(values, shape), (&Device::flex(), DType::F64));
        from_fn(prediction, move |_: Tensor<3>, _: &Levels| Ok(answer.clone()))
    }
}

/// The combinator that a guider is, for answers at one step.
fn guider<A: Answers<3>>(class: &str, config: &Map<String, Value>, plain: impl Fn(f64) -> Guided<A>) -> Guided<A> {
    let number = |key: &str| config.get(key).and_then(Value::as_f64);
    let published = config.get("use_original_formulation").and_then(Value::as_bool).unwrap_or(false);
    // In the original formulation 0 is no guidance.
    let scale = number("guidance_scale").expect("a scale") + if published { 1.0 } else { 0.0 };
    let guided = plain(scale).rescaled(number("guidance_rescale").unwrap_or(0.0)).expect("in range");
    match class {
        "ClassifierFreeGuidance" | "AutoGuidance" => guided,
        "ClassifierFreeZeroStarGuidance" => {
            guided.zero_star(number("zero_init_steps").expect("steps") as usize).expect("one rule")
        }
        "AdaptiveProjectedGuidance" => {
            let mut projection = Projection::new().on_outputs().parallel(number("eta").expect("eta")).expect("finite");
            if !published {
                projection = projection.from_unconditional();
            }
            if let Some(limit) = number("adaptive_projected_guidance_rescale").filter(|limit| *limit > 0.0) {
                projection = projection.threshold(limit).expect("positive");
            }
            if let Some(beta) = number("adaptive_projected_guidance_momentum") {
                projection = projection.momentum(beta).expect("in range");
            }
            guided.projected(projection).expect("one rule")
        }
        other => panic!("unknown guider {other}"),
    }
}

#[test]
fn the_guiders_of_diffusers_agree() {
    let reference = Reference::read();
    let (with, without) = (reference.tensors(&reference.0["with"]), reference.tensors(&reference.0["without"]));
    let level = Levels::Shared(Level { alpha: 0.8, sigma: 0.6, time: 0.0 });
    let (mut compared, mut broken) = (0, 0);
    for prediction in [Prediction::Flow, Prediction::Velocity] {
        for case in reference.0["cases"].as_array().expect("cases") {
            let (class, config) =
                (case["class"].as_str().expect("a class"), case["config"].as_object().expect("a map"));
            let mut past: Vec<Estimate<3>> = Vec::new();
            for (step, expected) in reference.tensors(&case["outputs"]).iter().enumerate() {
                let plain = |scale| {
                    let main = reference.answer(with[step].clone(), prediction);
                    main.autoguided(reference.answer(without[step].clone(), prediction), scale).expect("finite")
                };
                let guided = guider(class, config, plain);
                let x = Tensor::<3>::ones([2, 2, 2], (&Device::flex(), DType::F64));
                let query = Query { x, levels: &level, past: &past, noise: &Seeded::new(0) };
                let estimate = guided.denoise(query).expect("an answer");
                let output = values(&estimate.output());
                past.push(estimate);
                if expected.iter().any(|value| value.is_nan()) {
                    // It divides the still output by its own deviation of 0; here it stands still.
                    assert_eq!((class, output), ("ClassifierFreeZeroStarGuidance", vec![0.0; 8]));
                    broken += 1;
                    continue;
                }
                let error = largest_distance(&output, expected);
                // CFG-Zero* computes its share in f32.
                let tolerance = if class.contains("Zero") { 1e-5 } else { 1e-12 };
                assert!(error < tolerance, "{class} {config:?}, step {step}: {error:e}");
                compared += 1;
            }
        }
    }
    assert_eq!((compared, broken), (86, 4));
}

// What a run remembers.

/// A conditional and an unconditional answer that depend on the state.
fn pull(towards: f64) -> impl Denoiser<2> + Clone {
    from_fn(Prediction::Velocity, move |x: Tensor<2>, levels: &Levels| {
        let wave = x.clone().add_scalar(towards).sin();
        Ok(levels.map(|level| 0.5 + level.sigma).times(wave).add(x.mul_scalar(0.2 * towards)))
    })
}

fn guided(scale: f64) -> Guided<impl Answers<2>> {
    DenoiserExt::<2>::autoguided(pull(1.0), pull(-0.5), scale).expect("a scale")
}

fn with_momentum(beta: f64) -> Guided<impl Answers<2>> {
    guided(3.0).projected(Projection::new().momentum(beta).expect("in range")).expect("one rule")
}

fn load() -> Load {
    Load::on(&Device::flex()).dtype(DType::F64)
}

fn plan(solver: &dyn Solver) -> langevin::schedulers::Plan {
    let vp = VpSde::default();
    solver.plan(&vp, &even_lambda(&vp, 6)).expect("a plan")
}

#[test]
fn a_resumed_run_takes_the_momentum_along() {
    let noise = Seeded::new(17);
    for plan in [plan(&Ddim::new()), plan(&Heun::new())] {
        let denoiser = with_momentum(-0.6);
        let start = || plan.start([3, 2], &denoiser, &noise, load()).expect("a run");
        let whole: Vec<Vec<f64>> = start().map(|step| values(&step.expect("a step").x)).collect();
        for pause in 0..=6 {
            let mut run = start();
            run.by_ref().take(pause).for_each(|step| drop(step.expect("a step")));
            let text = serde_json::to_string(&run.save().expect("a saved run")).expect("data");
            let saved: SavedRun = serde_json::from_str(&text).expect("data");
            let rest = plan.resume(&saved, &denoiser, &noise, load()).expect("a resumed run");
            let rest: Vec<Vec<f64>> = rest.map(|step| values(&step.expect("a step").x)).collect();
            assert_eq!(rest, whole[pause..], "paused after {pause} steps");
        }
        let end = |beta| {
            let denoiser = with_momentum(beta);
            values(&plan.start([3, 2], &denoiser, &noise, load()).expect("a run").finish().expect("samples"))
        };
        assert!(largest_distance(&end(-0.6), &end(0.0)) > 1e-3, "the momentum does not matter");
    }
}

/// Momentum before and after a question.
type Note = (Option<Vec<f64>>, Vec<f64>);

/// Notes what is remembered.
struct Noting<T> {
    inner: T,
    notes: std::sync::Mutex<Vec<Note>>,
}

impl<T: Denoiser<2>> Denoiser<2> for Noting<T> {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let momentum = |estimate: &Estimate<2>| estimate.kept("momentum").map(|kept| values(&kept));
        let before = query.past.last().and_then(momentum);
        let estimate = self.inner.denoise(query)?;
        let after = momentum(&estimate).expect("kept");
        self.notes.lock().expect("no panics").push((before, after));
        Ok(estimate)
    }
    fn memory(&self) -> usize {
        self.inner.memory()
    }
}

#[test]
fn a_rejected_step_takes_its_momentum_back() {
    let denoiser = Noting { inner: with_momentum(-0.6), notes: Default::default() };
    let flow = DormandPrince::new(1e-7, 1e-7).and_then(|method| method.batch_control().first_step(0.5));
    let flow = flow.and_then(|method| method.between(VpSde::default(), 0.9, 0.2)).expect("a run");
    let noise = Seeded::new(1);
    flow.start([2, 2], &denoiser, &noise, load()).expect("a run").finish().expect("samples");
    let notes = denoiser.notes.lock().expect("no panics");
    assert!(notes[0].0.is_none());
    // What a question is asked with is what some question before it left, or nothing as at the start; after a rejected
    // step that is not the last.
    let mut back = 0;
    for (i, (before, _)) in notes.iter().enumerate().skip(1) {
        let last = match before {
            Some(before) => notes[..i].iter().rposition(|(_, after)| after == before).expect("a question before") + 1,
            None => 0,
        };
        back += usize::from(last < i);
    }
    assert!(back > 0, "no step was rejected");
    // Samples with clocks of their own have no memory together.
    let own = DormandPrince::new(1e-3, 1e-3).and_then(|method| method.over(VpSde::default())).expect("a run");
    let error = own.start([2, 2], &denoiser.inner, &noise, load()).map(drop).expect_err("memory");
    assert!(matches!(error, SampleError::Unsupported { .. }), "{error}");
}

// CFG++.

#[test]
fn plus_plus_is_the_loop_of_the_paper() {
    let noise = Seeded::new(3);
    let plan = plan(&Ddim::new());
    let lambda = 0.6;
    let denoiser = guided(lambda).plus_plus().expect("one rule");
    let mut run = plan.start([3, 2], &denoiser, &noise, load()).expect("a run");
    let mut x = run.state().x();
    for row in plan.rows() {
        let (from, to) = (row.eval.expect("one question a step").at, row.after.level);
        let eps = |towards: f64| {
            let levels = Levels::Shared(from);
            let query = Query { x: x.clone(), levels: &levels, past: &[], noise: &noise };
            pull(towards).denoise(query).expect("an answer").eps().expect("velocity")
        };
        let (with, without) = (eps(1.0), eps(-0.5));
        let mixed = without.clone() + (with - without.clone()).mul_scalar(lambda);
        let x0 = (x - mixed.mul_scalar(from.sigma)).div_scalar(from.alpha);
        x = x0.mul_scalar(to.alpha) + without.mul_scalar(to.sigma);
        let step = run.next().expect("a step").expect("a step");
        assert!(largest_distance(&values(&step.x), &values(&x)) < 1e-12);
    }
    assert!(run.next().is_none());
}

/// Behind any solver: the same bits for a batch and its samples alone, and after a pause.
#[test]
fn solvers_of_plus_plus_keep_their_bits() {
    let noise = Seeded::new(11);
    let denoiser = guided(0.6).plus_plus().expect("one rule");
    let mut count = 0;
    for row in rows().into_iter().filter(|row| row.split) {
        let plan = row.short();
        let run = |first, samples| {
            let run = plan.start_at(first, [samples, 2], &denoiser, &noise, load()).expect("a run");
            values(&run.finish().expect("samples"))
        };
        let whole = run(4, 3);
        let alone: Vec<f64> = (4..7).flat_map(|sample| run(sample, 1)).collect();
        assert_eq!(whole, alone, "{}", row.name);
        for pause in 0..=6 {
            let mut run = plan.start_at(4, [3, 2], &denoiser, &noise, load()).expect("a run");
            run.by_ref().take(pause).for_each(|step| drop(step.expect("a step")));
            let text = serde_json::to_string(&run.save().expect("a saved run")).expect("data");
            let saved: SavedRun = serde_json::from_str(&text).expect("data");
            let rest = plan.resume(&saved, &denoiser, &noise, load()).expect("a resumed run");
            assert_eq!(values(&rest.finish().expect("samples")), whole, "{}, paused after {pause} steps", row.name);
        }
        let plain = plan.start([3, 2], &guided(0.6), &noise, load()).map(drop);
        assert!(matches!(plain, Err(SampleError::NotSplit { .. })), "{}", row.name);
        count += 1;
    }
    assert!(count >= 4);
}

// Predictions.

/// Flow, velocity, EDM …: networks that predict different things of one function are guided alike, plainly, by projection
/// and by CFG++, because all of these are about x̂_0 and ε̂.
#[test]
fn guidance_is_the_same_for_every_prediction() {
    let predictions = [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::Velocity,
        Prediction::Score,
        Prediction::Flow,
        Prediction::Edm { sigma_data: 0.5 },
        Prediction::EdmVelocity { sigma_data: 0.5 },
    ];
    let answer = |prediction: Prediction, towards: f64| {
        from_fn(prediction, move |x: Tensor<2>, levels: &Levels| {
            let truth = pull(towards).denoise(Query { x, levels, past: &[], noise: &Seeded::new(0) })?;
            Ok(truth.output_as(prediction)?)
        })
    };
    let projection = || Projection::new().momentum(-0.5).and_then(|p| p.threshold(1.5)).expect("in range");
    let noise = Seeded::new(9);
    for rule in ["plain", "projected", "CFG++", "scheduled"] {
        let mut ends: Vec<(Prediction, Vec<f64>)> = Vec::new();
        for prediction in predictions {
            let plain = DenoiserExt::<2>::autoguided(answer(prediction, 1.0), answer(prediction, -0.5), 2.5);
            let plain = plain.and_then(|guided| guided.between(0.2, 4.0)).expect("in range");
            let guided = match rule {
                "projected" => plain.projected(projection()),
                "CFG++" => plain.plus_plus(),
                "scheduled" => Ok(plain.scheduled(|level| level.sigma)),
                _ => Ok(plain),
            };
            let guided = guided.expect("one rule");
            let plan = plan(&Ddim::new());
            let x = plan.start([4, 2], &guided, &noise, load()).expect("a run").finish().expect("samples");
            ends.push((prediction, values(&x)));
        }
        for (prediction, end) in &ends {
            let error = largest_distance(end, &ends[0].1);
            assert!(error < 1e-11, "{rule}: {prediction:?} differs from {:?} by {error:e}", ends[0].0);
        }
    }
}

/// Sums of outputs are sums of x̂_0 and of ε̂, at one level for all and at levels of their own.
#[test]
fn guiding_outputs_is_guiding_x0_and_epsilon() {
    let vp = VpSde::default();
    let each = Levels::Each([0.2, 0.5, 0.9].map(|t| vp.level(t)).to_vec());
    for levels in [Levels::Shared(vp.level(0.4)), each] {
        let x = Tensor::<2>::from_data([[0.3, -1.0], [2.0, 0.4], [-0.7, 0.1]], (&Device::flex(), DType::F64));
        let ask = |denoiser: &dyn Denoiser<2>| {
            let query = Query { x: x.clone(), levels: &levels, past: &[], noise: &Seeded::new(0) };
            let estimate = denoiser.denoise(query).expect("an answer");
            (values(&estimate.x0().expect("x̂_0")), values(&estimate.eps().expect("ε̂")))
        };
        let (whole, with, without) = (ask(&guided(-1.5)), ask(&pull(1.0)), ask(&pull(-0.5)));
        for (whole, (with, without)) in [(&whole.0, (&with.0, &without.0)), (&whole.1, (&with.1, &without.1))] {
            let expected: Vec<f64> =
                with.iter().zip(without).map(|(with, without)| without - 1.5 * (with - without)).collect();
            assert!(largest_distance(whole, &expected) < 1e-12);
        }
    }
}

/// Before anything is computed: the condition that is led away from counts as the other one does. A class that is not there and a
/// condition of another kind are refused where they are bound, rows where a run starts.
#[test]
fn conditions_that_do_not_fit_are_refused_before_the_first_step() {
    let network = MlpConfig::new(2).hidden(8).classes(3).init(&Device::flex()).expect("a network");
    let bind = |labels| network.denoiser(Prediction::Velocity, labels);
    let bound = |labels| bind(labels).expect("a binding");
    let (plan, noise) = (plan(&Ddim::new()), Seeded::new(1));
    let refused = |denoiser: &dyn Denoiser<2>| match plan.start([2, 2], denoiser, &noise, load()).map(drop) {
        Err(SampleError::Denoise(error)) => error,
        other => panic!("{other:?}"),
    };
    let good = || Labels::of([0, 1]);
    let bad = || Labels::of([0, 1, 2]);
    let expected = bound(bad()).check(&[2, 2]).expect_err("a condition that does not fit");
    let guided = [bound(good()).guided(bad(), 2.0), bound(bad()).guided(good(), 2.0)];
    guided.into_iter().for_each(|guided| assert_eq!(refused(&guided.expect("a scale")), expected));
    let composed = bound(good()).composed(vec![(good(), 1.0), (bad(), 0.5)]).expect("weights");
    assert_eq!(refused(&composed), expected);
    let autoguided = bound(good()).autoguided(bound(bad()), 2.0).expect("a scale");
    assert_eq!(refused(&autoguided), expected);
    for bad in [Labels::of([7]), Labels::of([0, 7]), Labels::values([0.5]), Labels::of([])] {
        let expected = bind(bad.clone()).map(drop).expect_err("a condition that fits no batch");
        let guided = bound(good()).guided(bad.clone(), 2.0).map(drop);
        let composed = bound(good()).composed(vec![(good(), 1.0), (bad, 0.5)]).map(drop);
        assert_eq!((guided, composed), (Err(expected.clone()), Err(expected)));
    }
    let fits = bound(good()).guided(Labels::none(1), 2.0).expect("a scale");
    assert!(plan.start([2, 2], &fits, &noise, load()).is_ok());
}
