//! Predictors and correctors that the code of score SDEs names, against its formulas in torch (`make_policy.py`), both in f64:
//! norms of few numbers magnify rounding.

use crate::{begin, count, largest_distance, network, numbers, policy, shape, values, wave};
use burn::tensor::DType;
use langevin::core::noise::Injected;
use langevin::core::{Key, Prediction};
use langevin::schedulers::diffusers::{ScoreSde, score_sde_from_config};
use langevin::schedulers::{PredictorCorrector, SamplerExt};

#[test]
fn predictors_and_correctors_are_those_of_the_formulas() {
    let reference = policy();
    let cases = reference["score_sde"].as_array().expect("cases");
    assert_eq!(cases.len(), 26);
    for case in cases {
        let (config, steps) = (&case["config"], count(&case["steps"]));
        let scheduler = score_sde_from_config(&config.to_string()).expect("a configuration");
        let ScoreSde::Code(code) = &scheduler else { panic!("the configuration of a code") };
        assert_eq!(code.steps(), steps);
        let sampler = scheduler.sampler(steps).expect("a sampler");
        let first: [usize; 2] = shape(&case["shape"]);
        let of_norms = config["sampling"]["corrector"] == "langevin";
        let each = count(&config["sampling"]["n_steps_each"]) as u32;
        let (mut noise, mut drawn) = (Injected::new(), 0);
        for (index, row) in sampler.predictor().rows().iter().enumerate() {
            let of_norms = (0..if of_norms { each } else { 0 })
                .map(|correction| PredictorCorrector::correction_key(index as u64, correction));
            let of_row = row.draws.iter().map(|draw| draw.key(index).expect("white noise"));
            for key in of_norms.chain(of_row).collect::<Vec<Key>>() {
                drawn += 1;
                let z = wave(first.iter().product(), 0.37, f64::from(drawn));
                noise = noise.with(key, 0..first[0] as u64, z).expect("even rows");
            }
        }
        let network = network(Prediction::Epsilon);
        let run = sampler.start_from(0, begin(first).cast(DType::F64), &network, &noise).expect("a run");
        let states = case["states"].as_array().expect("states");
        let (mut largest, mut seen) = (0.0f64, 0);
        for (step, state) in run.zip(states) {
            let (x, expected) = (values(&step.expect("a step").x), numbers(&state["x"]));
            let size = expected.iter().fold(1.0f64, |size, x| size.max(x.abs()));
            largest = largest.max(largest_distance(&x, &expected) / size);
            seen += 1;
        }
        println!("{config}: {largest:.1e}");
        assert_eq!((seen, states.len()), (steps, steps));
        assert!(largest < 1e-5, "{config}: {largest}");
        noise.finish().expect("all noise is used");
    }
}
