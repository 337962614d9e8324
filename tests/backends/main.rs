//! Every public layer, the whole networks, training steps and solvers: value and gradient on other devices against
//! the CPU's.
//!
//! `cargo test --features wgpu --test backends` runs on every device that is compiled in and found;
//! `LANGEVIN_DEVICE=vulkan` picks one. One line a case, `BACKEND device | case | value error | gradient error`; with
//! `LANGEVIN_REPORT=file` they are appended there too. `LANGEVIN_EVERY=3` takes every third shape of the algorithms, for software
//! drivers, which compile for minutes what they compute in milliseconds; `LANGEVIN_CASES=UNet3d` the layers and networks whose line
//! has this in it, which fails where no line has.

#[path = "../common/mod.rs"]
mod common;
mod layers;
mod networks;
mod optimizer;
mod probe;
mod sampling;
mod transformer_layers;
mod transformers;

use burn::tensor::{DType, Device, Tensor};
use common::roster;
use langevin::device::{DEVICES, device};
use langevin::models::layers::LinearConfig;
use langevin::train::Precision;
use probe::{Errors, Measured, errors, line};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

/// One row of a table.
pub struct Case {
    /// The public item under test.
    pub item: &'static str,
    /// In which settings.
    pub settings: &'static str,
    /// What it computes on a device.
    pub run: fn(&Device) -> Measured,
    /// The largest value error, where it is not the one of the table.
    pub limit: Option<f32>,
}

impl Case {
    fn line(&self) -> String {
        format!("{}: {}", self.item, self.settings)
    }

    /// With a limit of its own.
    #[must_use]
    pub fn within(mut self, limit: f32) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// The devices under test.
fn devices() -> &'static [(String, Device)] {
    static FOUND: OnceLock<Vec<(String, Device)>> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Ok(name) = std::env::var("LANGEVIN_DEVICE") {
            let device = device(&name).unwrap_or_else(|error| panic!("{error}"));
            return vec![(name, device)];
        }
        let names = DEVICES.iter().map(|(name, _)| *name).filter(|name| !matches!(*name, "cpu" | "flex"));
        let found: Vec<_> = names.filter_map(|name| Some((name.to_owned(), device(name).ok()?))).collect();
        assert!(!found.is_empty(), "no device but the CPU works here: install a driver (see CONTRIBUTING.md)");
        found
    })
}

fn report(text: &str) {
    eprintln!("{text}");
    if let Ok(path) = std::env::var("LANGEVIN_REPORT") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.expect("the report"), "{text}").expect("the report");
    }
}

/// All tables of cases.
const TABLES: [fn() -> Vec<Case>; 6] =
    [layers::table, transformer_layers::table, networks::small, networks::table, transformers::table, sampling::table];

/// The part of a line that is looked for, to find a fault in one case; nothing takes all.
fn part() -> String {
    std::env::var("LANGEVIN_CASES").unwrap_or_default()
}

/// Fails for a part that no line of any table has: nothing would be compared, and all would pass.
fn assert_met(part: &str) {
    let met = TABLES.iter().any(|table| table().iter().any(|case| case.line().contains(part)));
    assert!(met, "LANGEVIN_CASES={part} is in the line of no case, such as '{}'", networks::small()[0].line());
}

/// Compares every case with the CPU and reports it; fails if any is further away than the limits.
fn compare(cases: &[Case], value: f32, gradient: f32) {
    let mut wrong = Vec::new();
    let part = part();
    assert_met(&part);
    let cases: Vec<&Case> = cases.iter().filter(|case| case.line().contains(&part)).collect();
    if cases.is_empty() {
        report(&format!("BACKEND no case of this table has LANGEVIN_CASES={part} in its line | –"));
    }
    for case in cases {
        let reference = (case.run)(&Device::flex());
        for (name, device) in devices() {
            let errors = errors(&(case.run)(device), &reference);
            let line = line(name, &case.line(), errors);
            report(&line);
            if !within(errors, case.limit.unwrap_or(value), gradient) {
                wrong.push(line);
            }
        }
    }
    assert!(wrong.is_empty(), "further from the CPU than {value:e} (gradients: {gradient:e}):\n{}", wrong.join("\n"));
}

fn within(errors: Errors, value: f32, gradient: f32) -> bool {
    errors.value <= value && errors.gradient.unwrap_or(0.0) <= gradient
}

#[test]
fn cases_that_are_asked_for_are_there() {
    assert_met(&part());
    assert_met("UNet3d");
    let panic = std::panic::catch_unwind(|| assert_met("UNet 3d")).expect_err("no line has it");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("LANGEVIN_CASES=UNet 3d"), "{text}");
}

/// A batch without samples has a result without rows, on the CPU as well, where this library is built with kernels for GPUs, too.
#[test]
fn empty_batches_stay_empty() {
    let layer = LinearConfig::new(320, 8).init(&Device::flex()).expect("a layer");
    assert_eq!(layer.forward(Tensor::<2>::zeros([0, 320], &Device::flex())).dims(), [0, 8]);
    assert_eq!(layer.forward(Tensor::<3>::zeros([2, 0, 320], &Device::flex())).dims(), [2, 0, 8]);
}

#[test]
fn layers_agree_with_the_cpu() {
    compare(&layers::table(), 2e-5, 1e-4);
    compare(&transformer_layers::table(), 2e-5, 1e-4);
}

/// Whichever of them the layers choose for a device.
#[test]
fn algorithms_agree_with_the_cpu() {
    algorithms_agree(DType::F32, 2e-5, 1e-4);
}

/// Half precision against single precision on the CPU.
#[test]
fn algorithms_in_half_precision_agree_with_the_cpu() {
    algorithms_agree(DType::F16, 2e-3, 5e-3);
}

/// With three bits fewer than `f16`.
#[test]
fn algorithms_in_bf16_agree_with_the_cpu() {
    algorithms_agree(DType::BF16, 1.6e-2, 4e-2);
}

fn algorithms_agree(dtype: DType, value: f32, gradient: f32) {
    let groups = [optimizer::updates, layers::attentions, layers::blocks, layers::maps, layers::convolutions];
    for (name, device) in devices() {
        if !device.supports_dtype(dtype) {
            report(&format!("BACKEND {name} | algorithms in {} | not supported by the device | –", dtype.name()));
            continue;
        }
        let mut wrong = Vec::new();
        for group in groups {
            let reference = group(&Device::flex(), DType::F32);
            for (case, found) in group(device, dtype) {
                let (_, reference) = reference.iter().find(|(name, _)| *name == case).expect("the same cases");
                let errors = errors(&found, reference);
                let case = match dtype {
                    DType::F32 => case,
                    dtype => case.replace(':', &format!(" in {}:", dtype.name())),
                };
                let line = line(name, &case, errors);
                report(&line);
                // Burn's own kernel is up to 2.1e-3 off in half precision, whichever variant its tuner picks.
                let value = if dtype == DType::F16 && case.starts_with("Direct") { 2.0 * value } else { value };
                if !within(errors, value, gradient) {
                    wrong.push(line);
                }
            }
        }
        assert!(wrong.is_empty(), "too far from the CPU:\n{}", wrong.join("\n"));
    }
}

#[test]
fn dropout_keeps_its_law() {
    for (_, device) in devices() {
        layers::dropout(device);
    }
}

#[test]
fn a_small_network_agrees_with_the_cpu() {
    compare(&networks::small(), 1e-4, 5e-4);
}

/// Every module on the way: the first line of the failure names the one that is wrong.
#[test]
fn modules_of_a_network_agree_with_the_cpu() {
    let reference = networks::modules(&Device::flex());
    assert!(reference.len() > 40, "only {} modules were seen", reference.len());
    for (name, device) in devices() {
        let mut wrong = Vec::new();
        let found = networks::modules(device);
        assert_eq!(found.len(), reference.len());
        for ((module, found), (_, reference)) in found.iter().zip(&reference) {
            let errors = errors(found, reference);
            if !within(errors, 2e-5, 0.0) {
                wrong.push(line(name, module, errors));
            }
        }
        assert!(wrong.is_empty(), "{} modules are further from the CPU than 2e-5:\n{}", wrong.len(), wrong.join("\n"));
        report(&format!("BACKEND {name} | UNet2d: {} modules, one by one | within 2e-5 | –", reference.len()));
    }
}

#[test]
fn published_networks_agree_with_the_cpu() {
    compare(&networks::table(), 1e-4, 5e-4);
    compare(&transformers::table(), 1e-4, 5e-4);
}

#[test]
fn half_precision_stays_near_single_precision() {
    for (name, device) in devices() {
        let Some((half, single)) = networks::half(device) else {
            report(&format!("BACKEND {name} | UNet2d: f16 | not supported by the device | –"));
            continue;
        };
        let errors = errors(&half, &single);
        report(&line(name, "UNet2d: f16 against f32", errors));
        assert!(errors.value <= 2e-2, "{name}: {}", errors.value);
        assert!(errors.value > 0.0, "{name} did not compute in half precision");
    }
}

#[test]
fn training_agrees_with_the_cpu_and_resumes() {
    let run = |device: &Device, precision, steps, folder: Option<&Path>| Measured {
        values: networks::training(device, precision, steps, folder),
        gradients: Vec::new(),
    };
    let reference = run(&Device::flex(), Precision::Full, 6, None);
    assert!(reference.values[5] < 0.9 * reference.values[0], "nothing is learned: {reference:?}");
    for (name, device) in devices() {
        // In half precision against the same reference.
        for (precision, limit) in [(Precision::Full, 1e-3), (Precision::F16, 1e-2)] {
            if precision == Precision::F16 && !device.supports_dtype(DType::F16) {
                report(&format!("BACKEND {name} | Trainer: {precision:?} | not supported by the device | –"));
                continue;
            }
            let whole = run(device, precision, 6, None);
            let errors = probe::errors(&whole, &reference);
            report(&line(name, &format!("Trainer: six losses, {precision:?}"), errors));
            assert!(errors.value <= limit, "{name}, {precision:?}: {whole:?} instead of {reference:?}");
            let folder = tempfile::tempdir().expect("a folder");
            run(device, precision, 3, Some(folder.path()));
            let resumed = run(device, precision, 6, Some(folder.path()));
            let errors = probe::errors(&resumed, &whole);
            report(&line(name, &format!("Trainer: resumed against uninterrupted, {precision:?}"), errors));
            assert!(errors.value <= 1e-4, "{name}, {precision:?}: {resumed:?} instead of {whole:?}");
        }
    }
}

/// Clipping, the scale of the loss and the moving average show in how far parameters go.
#[test]
fn trained_parameters_agree_with_the_cpu() {
    let reference = networks::way(&Device::flex(), Precision::Full);
    for measured in &reference {
        let norm = measured.values.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!(norm > 1e-3, "parameters go {norm} far: there is nothing to compare");
    }
    for (name, device) in devices() {
        for (precision, limit) in [(Precision::Full, 1e-4), (Precision::F16, 5e-3)] {
            if precision == Precision::F16 && !device.supports_dtype(DType::F16) {
                continue;
            }
            for ((what, found), reference) in
                ["parameters", "average"].iter().zip(networks::way(device, precision)).zip(&reference)
            {
                let errors = probe::errors(&found, reference);
                report(&line(name, &format!("Trainer: way of the {what}, {precision:?}"), errors));
                assert!(errors.value <= limit, "{name}, {precision:?}: the {what} went elsewhere by {errors:?}");
            }
        }
    }
}

/// Samplers with noise that choose their steps: one that is refused on one device by rounding alone is taken on another, and the
/// paths then differ by what the steps' tolerance allows.
const STEPS_BY_ROUNDING: [&str; 3] =
    ["adaptive DPM-Solver, η = 0.5", "adaptive SDE steps", "a user's SDE, adaptive steps"];

#[test]
fn solvers_agree_with_the_cpu() {
    compare(&sampling::table(), 1e-4, 0.0);
    let reference = sampling::solvers(&Device::flex());
    for (name, device) in devices() {
        let mut wrong = Vec::new();
        for ((solver, found), (_, reference)) in sampling::solvers(device).iter().zip(&reference) {
            let errors = errors(found, reference);
            let line = line(name, solver, errors);
            report(&line);
            let limit = if STEPS_BY_ROUNDING.contains(&solver.as_str()) { 0.1 } else { 1e-4 };
            if !within(errors, limit, 0.0) {
                wrong.push(line);
            }
        }
        assert!(wrong.is_empty(), "further from the CPU than 1e-4:\n{}", wrong.join("\n"));
    }
    for name in STEPS_BY_ROUNDING {
        assert!(reference.iter().any(|(solver, _)| solver == name), "{name} is no solver");
    }
}

/// The solvers are those of all proofs.
#[test]
fn every_solver_is_compared() {
    let (rows, samplers) = (common::solvers::rows(), common::samplers::samplers(2, DType::F32));
    roster::assert_complete(&roster::solvers(), rows.iter().map(|row| row.of), &[]);
    let images = [("consistency::scalewise::Scalewise", "it is among the cases, with images")];
    roster::assert_complete(&roster::samplers(), samplers.iter().map(|entry| entry.of), &images);
    let names: BTreeSet<&str> =
        rows.iter().map(|row| row.name).chain(samplers.iter().map(|entry| entry.name)).collect();
    let solvers = sampling::solvers(&Device::flex());
    assert_eq!(names, solvers.iter().map(|(name, _)| name.as_str()).collect());
    assert!(solvers.iter().all(|(_, found)| found.values.iter().all(|value| value.is_finite())));
}

/// What public layers are made of or told: tested by the layers.
const PARTS: &[&str] = &[
    "ContextNorm",
    "ContextNormalization",
    "ContextStream",
    "DownsampleConv",
    "Downsampler",
    "FeedForwardPart",
    "Gate",
    "Gates",
    "LabelEmbedding",
    "PatchOrder",
    "PixelProjection",
    "Resample",
    "UpsampleConv",
    "Upsampler",
    "mask_bias",
];

/// A public layer that is in no table is not tested on any device.
#[test]
fn every_public_layer_is_in_a_table() {
    let exported = |source: &str| -> BTreeSet<String> {
        let uses = source.split("pub use ").skip(1).map(|rest| rest.split(';').next().unwrap_or_default());
        let items = uses.flat_map(|text| {
            let names = text.rsplit("::").next().unwrap_or_default();
            names.split(['{', '}', ',']).map(|name| name.trim().to_owned()).collect::<Vec<_>>()
        });
        // A configuration is tested by the layer it makes.
        items.filter(|name| !name.is_empty() && !name.ends_with("Config")).collect()
    };
    let source = include_str!("../../crates/langevin-models/src/layers/mod.rs");
    let mut public = exported(source);
    assert!(public.len() > 10 && public.contains("Conv2d"), "{public:?}");
    // Its values are random; `dropout_keeps_its_law` has it.
    assert!(public.remove("Dropout"));
    // The ways to convolve: `algorithms_agree_with_the_cpu` has them.
    assert!(public.remove("Algorithm as Convolution"));
    for part in PARTS {
        assert!(public.remove(*part), "{part} is no public item");
    }
    let cases = layers::table().into_iter().chain(transformer_layers::table());
    let tested: BTreeSet<_> = cases.map(|case| case.item.to_owned()).collect();
    let missing: Vec<_> = public.difference(&tested).collect();
    assert!(missing.is_empty(), "no case on other devices for {missing:?}");
}

#[test]
fn a_wrong_value_or_gradient_is_found() {
    let measured = |value: f32, gradient: f32| Measured {
        values: vec![1.0, value],
        gradients: vec![("weight".into(), vec![10.0]), ("bias".into(), vec![gradient])],
    };
    let reference = measured(-2.0, 1e-6);
    assert!(within(errors(&measured(-2.0, 1e-6), &reference), 0.0, 0.0));
    assert!(!within(errors(&measured(-2.001, 1e-6), &reference), 2e-5, 1e-4));
    assert!(!within(errors(&measured(f32::NAN, 1e-6), &reference), 2e-5, 1e-4));
    // Differences of a gradient that vanishes count in the scale of the others.
    assert!(within(errors(&measured(-2.0, 2e-6), &reference), 2e-5, 1e-4));
    assert!(!within(errors(&measured(-2.0, 1e-3), &reference), 2e-5, 1e-4));
}
