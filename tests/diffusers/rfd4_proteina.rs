//! RFD4ProteinaScheduler on recorded runs, its mask as a constraint.

use crate::{begin, count, largest_distance, network, numbers, policy, shape, values, wave};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::Levels;
use langevin::core::denoiser::constraint_fn;
use langevin::core::noise::Injected;
use langevin::schedulers::SamplerExt;
use langevin::schedulers::diffusers::rfd4_proteina_from_config;

#[test]
fn runs_are_those_of_diffusers() {
    let reference = policy();
    let cases = reference["tempered"].as_array().expect("cases");
    assert_eq!(cases.len(), 5);
    let (mut drawn_at_all, mut quiet) = (0, 0);
    for case in cases {
        let scheduler = rfd4_proteina_from_config(&case["config"].to_string()).expect("a configuration");
        let steps = count(&case["steps"]);
        let plan = match case["start"].as_f64() {
            None => scheduler.plan(steps),
            Some(start) => scheduler.plan_from(steps, start),
        };
        let plan = plan.expect("a plan");
        let mut times = vec![1.0 - plan.start_node().t];
        times.extend(plan.rows().iter().map(|row| 1.0 - row.after.t));
        let off = largest_distance(&times, &numbers(&case["times"]));
        assert!(off < 1e-6, "{}: times are {off} off", case["config"]);

        let first: [usize; 3] = shape(&case["shape"]);
        let (mut noise, mut drawn) = (Injected::new(), 0);
        for (index, row) in plan.rows().iter().enumerate() {
            for draw in &row.draws {
                drawn += 1;
                let z = wave(first.iter().product(), 0.37, f64::from(drawn));
                noise = noise.with(draw.key(index).expect("white noise"), 0..2, z).expect("even rows");
            }
        }
        drawn_at_all += drawn;
        quiet += steps - drawn as usize;
        let mask = TensorData::new(numbers(&case["mask"]), first);
        let mask = Tensor::<3>::from_data(mask, (&Device::flex(), DType::F64));
        let emitted = constraint_fn(move |x: Tensor<3>, _: &Levels| x.mul(mask.clone()));
        let network = network(scheduler.prediction());
        let run = plan.start_from(0, begin(first).cast(DType::F64), &network, &noise).expect("a run");
        let states = case["states"].as_array().expect("states");
        let (mut largest, mut seen) = (0.0f64, 0);
        for (step, state) in run.constrained(&emitted).zip(states) {
            let (x, expected) = (values(&step.expect("a step").x), numbers(&state["x"]));
            let size = expected.iter().fold(1.0f64, |size, x| size.max(x.abs()));
            largest = largest.max(largest_distance(&x, &expected) / size);
            seen += 1;
        }
        println!("{}: {largest:.1e}", case["config"]);
        assert_eq!((seen, states.len()), (steps, steps));
        assert!(largest < 1e-5, "{}: {largest}", case["config"]);
        noise.finish().expect("all noise is used");
    }
    assert!(drawn_at_all > 10 && quiet > 10);
}
