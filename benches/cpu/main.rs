//! Times layers, networks and steps of solvers on the CPU, with criterion.
//!
//! `cargo bench --bench cpu` measures everything, which takes the better part of an hour; `cargo bench --bench cpu -- '^attention/'`
//! what matches: a group, or a case as in `convolution/conv3x3s1 \[1,320`. Groups of layers exist in three element types, as in `attention f16`.
//! Criterion compares with the run before; `--save-baseline NAME` and `--baseline NAME` keep and compare others. With
//! `-- --test` every case runs once, as small as it can be.

#![allow(missing_docs, reason = "a program")]
#![recursion_limit = "256"]

#[path = "../networks/case.rs"]
mod case;
#[path = "../networks/layers.rs"]
mod layers;
#[path = "../networks/networks.rs"]
mod networks;
#[path = "../peers/cases.rs"]
mod solvers;

use burn::tensor::DType;
use case::{Case, Setting};
use criterion::{BenchmarkId, Criterion, SamplingMode};
use langevin::burn;
use langevin::device::device;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    // As criterion decides whether to measure.
    let has = |name: &str| std::env::args().any(|argument| argument == name);
    let tiny = has("--test") || !has("--bench");
    let setting = |dtype| Setting {
        device: device("flex").expect("the CPU"),
        dtype,
        on_cpu: true,
        batch: None,
        keep: false,
        tiny,
    };
    for (dtype, suffix) in [(DType::F32, ""), (DType::F16, " f16"), (DType::BF16, " bf16")] {
        cases(&mut criterion, &layers::cases(), &setting(dtype), suffix);
    }
    cases(&mut criterion, &layers::algorithms(), &setting(DType::F32), "");
    cases(&mut criterion, &networks::cases(), &setting(DType::F32), "");
    steps(&mut criterion);
    criterion.final_summary();
}

/// One call of each case.
fn cases(criterion: &mut Criterion, cases: &[Case], setting: &Setting, suffix: &str) {
    for case in cases {
        let mut group = criterion.benchmark_group(format!("{}{suffix}", case.group));
        if case.group == "network" {
            group.sample_size(10).sampling_mode(SamplingMode::Flat);
        }
        // Built when criterion asks for it, which it does not for what was not asked for, and once.
        let mut work = None;
        group.bench_function(BenchmarkId::from_parameter(&case.name), |bencher| {
            let work = work.get_or_insert_with(|| {
                let mut work = (case.prepare)(setting);
                let value = work().into_scalar::<f32>();
                assert!(value.is_finite(), "{}: {value}", case.name);
                work
            });
            bencher.iter(work);
        });
        group.finish();
    }
}

/// A step of each solver, the mean over a run whose network costs nothing, and a batch of noise.
fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for (name, case) in solvers::cases() {
        let denoiser = case.denoiser();
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|steps| {
                // Whole runs, as many as have these steps, and their share of the time.
                let mut times = Vec::new();
                while (times.len() as u64) < steps {
                    times.extend(case.run(&denoiser));
                }
                Duration::from_secs_f64(times.iter().sum::<f64>() * steps as f64 / times.len() as f64)
            });
        });
    }
    group.finish();
    let mut index = 0;
    criterion.bench_function("noise", |bencher| {
        bencher.iter(|| {
            index += 1;
            solvers::noise(index)
        });
    });
}
