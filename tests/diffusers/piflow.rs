//! π-Flow against recorded runs of PiflowScheduler, and of its policy where the scheduler has no option for it.

use crate::{begin, count, largest_distance, numbers, policy, shape, values};
use burn::tensor::{DType, Device, Tensor};
use langevin::core::noise::Seeded;
use langevin::core::{DenoiseError, Level, Load};
use langevin::schedulers::diffusers::piflow_from_config;
use langevin::schedulers::flow::{PiFlow, PiFlowPlan, Policy, PolicyNetwork, answers_of};
use langevin::schedulers::{PlanError, SampleError};

/// The network of recorded runs, its answers one beside the other in the last dimension.
struct Wide {
    answers: usize,
    /// What it is told is σ times this.
    scale: f64,
}

impl<const D: usize> PolicyNetwork<D> for Wide {
    fn velocities(&self, x: Tensor<D>, at: &Level) -> Result<Vec<Tensor<D>>, DenoiseError> {
        let answer = |i: usize| {
            let phase = 2.0 * at.time / self.scale + 0.2 + 0.4 * i as f64;
            x.clone().mul_scalar(0.3).add(x.clone().mul_scalar(1.3).add_scalar(phase).sin().mul_scalar(0.7))
        };
        answers_of(Tensor::cat((0..self.answers).map(answer).collect(), D - 1), self.answers)
    }
}

#[test]
fn runs_are_those_of_diffusers() {
    let reference = policy();
    let cases = reference["piflow"].as_array().expect("cases");
    let mut polynomials = 0;
    for case in cases {
        let flow = piflow_from_config(&case["config"].to_string()).expect("a configuration");
        let flow = match case["mode"].as_str() {
            Some("polynomial") => {
                polynomials += 1;
                flow.policy(Policy::Polynomial)
            }
            _ => flow,
        };
        let answers = case["config"]["n_grid"].as_u64().unwrap_or(10) as usize;
        let scale = case["config"]["num_train_timesteps"].as_f64().unwrap_or(1000.0);
        let plan = flow.plan(count(&case["steps"])).expect("steps");
        // As plain data it is the same plan.
        let plan: PiFlowPlan = serde_json::from_str(&serde_json::to_string(&plan).expect("JSON")).expect("a plan");
        let network = Wide { answers, scale };
        let run = plan.start_from(0, begin(shape::<3>(&case["shape"])), &network);
        let states = case["states"].as_array().expect("states");
        let (mut largest, mut seen) = (0.0f64, 0);
        for (x, state) in run.zip(states) {
            largest = largest.max(largest_distance(&values(&x.expect("a step")), &numbers(&state["x"])));
            seen += 1;
        }
        println!("{}: {largest:.1e}", case["config"]);
        assert_eq!((seen, states.len()), (plan.segments().len(), plan.segments().len()));
        assert!(largest < 1e-5, "{}: {largest}", case["config"]);
    }
    assert!(polynomials >= 2 && cases.len() >= polynomials + 5);
}

/// No coefficient of a step is dead.
#[test]
fn every_coefficient_counts() {
    // A last step that keeps something of the state.
    let flow = PiFlow::new(4).and_then(|flow| flow.shift(3.0)).and_then(|flow| flow.eps(0.1)).expect("settings");
    let network = Wide { answers: 4, scale: 1.0 };
    for policy in [Policy::Grid, Policy::Polynomial] {
        let plan = flow.clone().policy(policy).plan(2).expect("steps");
        let run = |plan: &PiFlowPlan| values(&plan.start_from(0, begin([2, 3]), &network).finish().expect("samples"));
        let (right, table) = (run(&plan), serde_json::to_value(&plan).expect("JSON"));
        for segment in 0..2 {
            let mut places = vec![format!("/segments/{segment}/of_x")];
            places.push(format!("/segments/{segment}/at/sigma"));
            places.extend((0..4).map(|i| format!("/segments/{segment}/of_x0/{i}")));
            for place in places {
                let mut changed = table.clone();
                let number = changed.pointer_mut(&place).expect("a number");
                *number = (number.as_f64().expect("a number") * 1.01).into();
                let distance = largest_distance(&run(&serde_json::from_value(changed).expect("a plan")), &right);
                assert!(distance > 1e-5, "{policy:?}, {place}: {distance}");
            }
        }
    }
}

#[test]
fn batches_and_resumed_runs_have_the_same_bits() {
    let plan = PiFlow::new(3).and_then(|flow| flow.shift(2.0)).and_then(|flow| flow.plan(4)).expect("steps");
    let (noise, network, load) = (Seeded::new(5), Wide { answers: 3, scale: 1.0 }, Load::on(&Device::flex()));
    let whole: Vec<Tensor<2>> =
        plan.start([3, 4], &network, &noise, load.clone()).expect("a run").map(|step| step.expect("a step")).collect();
    let last = values(&whole[3]);
    let alone = values(&plan.start([1, 4], &network, &noise, load.clone()).expect("a run").finish().expect("samples"));
    assert_eq!(last[..4], alone);
    // The last two, as a batch of their own.
    let part = plan.start_at(1, [2, 4], &network, &noise, load.clone()).expect("a run").finish().expect("samples");
    assert_eq!(last[4..], values(&part));
    let beyond = plan.start_at(u64::MAX, [2, 4], &network, &noise, load);
    assert!(matches!(beyond.map(drop), Err(SampleError::SampleNumbers { first: u64::MAX, rows: 2 })));
    for (step, x) in whole.iter().enumerate() {
        let rest = plan.start_from(step + 1, x.clone(), &network).finish().expect("samples");
        assert_eq!(values(&rest), last);
    }
}

/// A network that fails, or answers NaN, from a time on.
struct Failing {
    at: f64,
    nan: bool,
}

impl PolicyNetwork<2> for Failing {
    fn velocities(&self, x: Tensor<2>, at: &Level) -> Result<Vec<Tensor<2>>, DenoiseError> {
        match (at.time <= self.at, self.nan) {
            (true, true) => Ok(vec![x.mul_scalar(f64::NAN)]),
            (true, false) => answers_of(x, 0),
            _ => Ok(vec![x]),
        }
    }
}

#[test]
fn what_did_not_end_well_has_no_result() {
    let plan = PiFlow::new(1).and_then(|flow| flow.plan(3)).expect("steps");
    let at = plan.segments()[2].at.time;
    let x = || Tensor::<2>::ones([2, 4], &Device::flex());
    let failing = Failing { at, nan: false };
    let mut run = plan.start_from(0, x(), &failing);
    let steps: Vec<bool> = run.by_ref().map(|step| step.is_ok()).collect();
    assert_eq!(steps, [true, true, false]);
    let error = run.finish().expect_err("a step has failed");
    assert!(matches!(error, SampleError::Unfinished { step: 2 }), "{error}");
    let error = plan.start_from(1, x(), &Failing { at, nan: true }).finish().expect_err("NaN");
    assert!(matches!(error, SampleError::NotFinite { step: 3 }), "{error}");
}

#[test]
fn answers_that_do_not_fit_are_errors() {
    let plan = PiFlow::new(3).and_then(|flow| flow.plan(2)).expect("steps");
    let noise = Seeded::new(5);
    let load = || Load::on(&Device::flex()).dtype(DType::F64);
    let two = Wide { answers: 2, scale: 1.0 };
    let mut run = plan.start([2, 4], &two, &noise, load()).expect("a run");
    let error = run.next().expect("a step").expect_err("too few answers");
    assert!(matches!(error, SampleError::Answers { given: 2, expected: 3 }), "{error}");
    assert!(run.next().is_none());
    assert!(matches!(plan.start([0, 4], &two, &noise, load()), Err(SampleError::EmptyShape { .. })));
    let x = Tensor::<2>::zeros([2, 4], &Device::flex());
    for answers in [0, 3] {
        assert!(matches!(answers_of(x.clone(), answers), Err(DenoiseError::Shape { .. })));
    }
    struct Narrow;
    impl PolicyNetwork<2> for Narrow {
        fn velocities(&self, x: Tensor<2>, _: &Level) -> Result<Vec<Tensor<2>>, DenoiseError> {
            answers_of(x, 2).map(|halves| vec![halves[0].clone(), halves[0].clone(), halves[1].clone()])
        }
    }
    let error = plan.start_from(0, x, &Narrow).finish().expect_err("half as wide");
    assert!(matches!(error, SampleError::Denoise(DenoiseError::Shape { .. })), "{error}");
    assert!(matches!(PiFlow::new(0), Err(PlanError::Setting { .. })));
}
