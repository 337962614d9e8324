//! Exact flow maps of Gaussian data.

use super::*;
use crate::consistency::Multistep;
use crate::flow::Tempered;
use crate::sigma::{Euler, EulerAncestral, Heun};
use crate::{PlusPlus, SampleError, SamplerExt, Solver};
use burn::tensor::{DType, Device, TensorData};
use langevin_core::noise::Seeded;
use langevin_core::process::{Edm, RectifiedFlow, VpSde};
use langevin_core::{Grid, grid::End};

const MEAN: f64 = 0.4;
const STD: f64 = 0.7;

/// Where the probability flow of N(m, s²) takes a state.
fn exact(x: Tensor<2>, from: &Level, to: &Level) -> Tensor<2> {
    let std = |at: &Level| (at.alpha * STD).hypot(at.sigma);
    x.sub_scalar(from.alpha * MEAN).mul_scalar(std(to) / std(from)).add_scalar(to.alpha * MEAN)
}

/// The velocity that gets there.
fn velocity(x: Tensor<2>, from: &Level, to: &Level) -> Result<Tensor<2>, DenoiseError> {
    let end = exact(x.clone(), from, to).mul_scalar(from.alpha + from.sigma);
    let length = to.sigma * from.alpha - to.alpha * from.sigma;
    Ok(end.sub(x.mul_scalar(to.alpha + to.sigma)).div_scalar(length))
}

/// x̂_0 of a consistency trajectory model.
fn towards(x: Tensor<2>, from: &Level, to: &Level) -> Result<Tensor<2>, DenoiseError> {
    let end = exact(x.clone(), from, to).mul_scalar(from.sigma);
    let length = to.alpha * from.sigma - to.sigma * from.alpha;
    Ok(end.sub(x.mul_scalar(to.sigma)).div_scalar(length))
}

fn start(scale: f64) -> Tensor<2> {
    let x: Vec<f64> = (0..6).map(|i| scale * (1.1 * f64::from(i) - 2.3).sin()).collect();
    Tensor::from_data(TensorData::new(x, [3, 2]), (&Device::flex(), DType::F64))
}

fn largest(a: &Tensor<2>, b: &Tensor<2>) -> f64 {
    let values = a.clone().sub(b.clone()).try_to_vec_as::<f64>().unwrap();
    values.into_iter().map(f64::abs).fold(0.0, f64::max)
}

fn processes() -> [(&'static str, Box<dyn Process>); 3] {
    [
        ("flow", Box::new(RectifiedFlow::new().shift(3.0).unwrap())),
        ("VP", Box::new(VpSde::default())),
        ("EDM", Box::new(Edm::default())),
    ]
}

#[test]
fn an_exact_map_is_exact_in_any_number_of_steps() {
    for (on, process) in processes() {
        for steps in [1, 2, 3, 8] {
            let plan = Euler::new().plan(&*process, &Grid::uniform(steps).ending(End::Range)).unwrap();
            let (first, last) = (plan.start_node().level, plan.rows().last().unwrap().after.level);
            let x = start(plan.prior_deviation());
            let expected = exact(x.clone(), &first, &last);
            let maps: [Box<dyn Denoiser<2>>; 2] = [
                Box::new(Along::new(map_fn(Prediction::Flow, velocity), &*process, &plan).unwrap()),
                Box::new(Along::new(map_fn(Prediction::Sample, towards), &*process, &plan).unwrap()),
            ];
            for map in &maps {
                let found = plan.start_from(0, x.clone(), map, &Seeded::new(1)).unwrap().finish().unwrap();
                let off = largest(&found, &expected);
                assert!(off < 1e-9, "{on} in {steps} steps: {off}");
            }
        }
        // The velocity where the step begins is that of no such map, and far off.
        let plan = Euler::new().plan(&*process, &Grid::uniform(2).ending(End::Range)).unwrap();
        let near = |level: &Level| Level { alpha: level.alpha + 1e-7, sigma: level.sigma * (1.0 - 1e-6), ..*level };
        let local = map_fn(Prediction::Flow, |x: Tensor<2>, from: &Level, _: &Level| velocity(x, from, &near(from)));
        let local = Along::new(local, &*process, &plan).unwrap();
        let x = start(plan.prior_deviation());
        let expected = exact(x.clone(), &plan.start_node().level, &plan.rows()[1].after.level);
        let found = plan.start_from(0, x, &local, &Seeded::new(1)).unwrap().finish().unwrap();
        assert!(largest(&found, &expected) > 1e-2, "{on}");
    }
}

/// From t to r is from t to s and from s to r.
#[test]
fn two_steps_are_one_for_an_exact_map_and_not_for_another() {
    let flow = RectifiedFlow::new();
    let grid = |times: &[f64]| Grid::times(times.to_vec()).unwrap();
    let end = |bend: f64, times: &[f64]| {
        let bent = map_fn(Prediction::Flow, move |x: Tensor<2>, from: &Level, to: &Level| {
            let turned = x.clone().mul_scalar(bend * (from.sigma - to.sigma));
            Ok(velocity(x, from, to)?.add(turned))
        });
        let plan = Euler::new().plan(&flow, &grid(times)).unwrap();
        let map = Along::new(bent, &flow, &plan).unwrap();
        plan.start_from(0, start(1.0), &map, &Seeded::new(1)).unwrap().finish().unwrap()
    };
    let apart = |bend| largest(&end(bend, &[0.9, 0.2]), &end(bend, &[0.9, 0.5, 0.2]));
    assert!(apart(0.0) < 1e-12 && apart(0.05) > 1e-3, "{} and {}", apart(0.0), apart(0.05));
}

/// With noise the map goes down to where noise leads up from: the law of the data is kept, in two steps.
#[test]
fn noise_goes_up_from_where_the_map_was_sent() {
    let flow = RectifiedFlow::new();
    let grid = Grid::times(vec![1.0, 0.6, 0.0]).unwrap();
    for solver in [&EulerAncestral::new() as &dyn Solver, &EulerAncestral::new().eta(0.4).unwrap(), &Multistep::new()] {
        let plan = solver.plan(&flow, &grid).unwrap();
        let map = Along::new(map_fn(Prediction::Flow, velocity), &flow, &plan).unwrap();
        let (_, down) = map.ways[0];
        let expected = plan.rows()[0].post[0].sum.iter().filter(|term| matches!(term.of, Src::Eps(_)));
        let sigma: f64 = expected.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).sum();
        let ratio = sigma / 0.4;
        assert!((down.sigma / down.alpha - ratio).abs() < 1e-9 && ratio < 1.4, "{down:?} and {ratio}");
        assert!((down.time - ratio / (1.0 + ratio)).abs() < 1e-9, "{down:?}");
        let load = langevin_core::Load::on(&Device::flex()).dtype(DType::F64);
        let x = plan.start([20_000, 2], &map, &Seeded::new(3), load).unwrap().finish().unwrap();
        let values = x.try_to_vec_as::<f64>().unwrap();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        assert!((mean - MEAN).abs() < 4.0 * STD / n.sqrt(), "{}: mean {mean}", plan.name());
        assert!((variance / (STD * STD) - 1.0).abs() < 4.0 * (2.0 / n).sqrt(), "{}: variance {variance}", plan.name());
    }
}

#[test]
fn plans_and_questions_that_do_not_fit_are_refused() {
    let flow = RectifiedFlow::new();
    let grid = |n| Grid::uniform(n).ending(End::Range);
    let map = || map_fn(Prediction::Flow, velocity);
    for solver in [&Heun::new() as &dyn Solver, &crate::Lms::new(2).unwrap(), &PlusPlus::around(Euler::new())] {
        let error = Along::new(map(), &flow, &solver.plan(&flow, &grid(4)).unwrap()).map(drop).unwrap_err();
        assert!(matches!(&error, PlanError::Combination { first, .. } if first == NAME), "{error}");
    }
    // A rescaled score misses the level of the step, and the last line would end below σ = 0; at the data's temperature it is
    // the flow.
    let tempered = |k| Tempered::new(k, 0.5).unwrap().without_noise().plan(&flow, &grid(4)).unwrap();
    for k in [0.5, 2.0] {
        let error = Along::new(map(), &flow, &tempered(k)).map(drop).unwrap_err();
        assert!(matches!(&error, PlanError::Combination { first, .. } if first == NAME), "k = {k}: {error}");
    }
    assert_eq!(Along::new(map(), &flow, &tempered(1.0)).unwrap().ways.len(), 4);
    let plan = |n| Euler::new().plan(&flow, &grid(n)).unwrap();
    let along = Along::new(map(), &flow, &plan(4)).unwrap();
    let run = |plan: &Plan| plan.start_from(0, start(1.0), &along, &Seeded::new(1)).unwrap().finish().map(drop);
    let refused = |result: Result<(), SampleError>| {
        let error = result.unwrap_err();
        assert!(matches!(&error, SampleError::Denoise(DenoiseError::Combination { .. })), "{error}");
    };
    refused(run(&plan(5)));
    let each = Levels::Each(vec![plan(4).start_node().level; 3]);
    let query = Query { x: start(1.0), levels: &each, past: &[], noise: &Seeded::new(1) };
    assert!(along.denoise(query).unwrap_err().to_string().contains("a level for each sample"));
    let short = map_fn(Prediction::Flow, |x: Tensor<2>, _: &Level, _: &Level| Ok(x.narrow(1, 0, 1)));
    let short = Along::new(short, &flow, &plan(4)).unwrap();
    let run = plan(4).start_from(0, start(1.0), &short, &Seeded::new(1)).unwrap().finish();
    assert!(matches!(run.unwrap_err(), SampleError::Denoise(DenoiseError::Shape { .. })));
}
