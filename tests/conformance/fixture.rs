//! Reading fixtures: a manifest `NAME.json` beside its tensors `NAME.safetensors`.

use crate::deviations::Deviation;
use crate::known;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A tensor as f64 values.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    /// Row `i` of the first dimension.
    pub fn row(&self, i: usize) -> &[f64] {
        let size: usize = self.shape[1..].iter().product();
        &self.data[i * size..(i + 1) * size]
    }

    pub fn rows(&self) -> usize {
        self.shape[0]
    }
}

pub struct Fixture {
    pub path: PathBuf,
    pub manifest: Value,
    tensors: BTreeMap<String, Array>,
    /// Whether every case is one of those in the repository.
    known: bool,
}

/// All manifests below `root`, sorted.
pub fn find(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "json") && path.with_extension("safetensors").exists() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

impl Fixture {
    pub fn read(path: &Path) -> Option<Self> {
        let manifest: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        manifest.get("cases")?;
        let bytes = std::fs::read(path.with_extension("safetensors")).ok()?;
        let file = SafeTensors::deserialize(&bytes).expect("a readable safetensors file");
        let tensors = file.iter().map(|(name, view)| (name.to_owned(), array(&view))).collect();
        let mut fixture = Self { path: path.to_path_buf(), manifest, tensors, known: false };
        fixture.known = known::is_known(&fixture);
        Some(fixture)
    }

    pub fn cases(&self) -> Vec<Case<'_>> {
        let cases = self.manifest["cases"].as_array().expect("a list of cases");
        cases.iter().map(|value| Case::new(self, value)).collect()
    }

    /// Whether every case is one of those in the repository.
    pub fn is_known(&self) -> bool {
        self.known
    }

    pub fn shared(&self, key: &str) -> Option<&Array> {
        self.tensors.get(key)
    }
}

fn array(view: &safetensors::tensor::TensorView<'_>) -> Array {
    let bytes = view.data();
    macro_rules! values {
        ($ty:ty, $size:literal, $to:expr) => {
            bytes.chunks_exact($size).map(|b| $to(<$ty>::from_le_bytes(b.try_into().expect("a whole value")))).collect()
        };
    }
    let data: Vec<f64> = match view.dtype() {
        Dtype::F64 => values!(f64, 8, |v| v),
        Dtype::F32 => values!(f32, 4, f64::from),
        Dtype::I64 => values!(i64, 8, |v| v as f64),
        Dtype::I32 => values!(i32, 4, f64::from),
        Dtype::U8 | Dtype::BOOL => bytes.iter().map(|b| f64::from(*b)).collect(),
        Dtype::F16 => values!(u16, 2, |v| f64::from(burn::tensor::f16::from_bits(v).to_f32())),
        Dtype::BF16 => values!(u16, 2, |v| f64::from(burn::tensor::bf16::from_bits(v).to_f32())),
        other => panic!("fixtures have no {other:?} tensors"),
    };
    Array { shape: view.shape().to_vec(), data }
}

/// One case of a fixture; remembers what was read and how far results were off.
pub struct Case<'a> {
    pub fixture: &'a Fixture,
    pub value: &'a Value,
    read: RefCell<BTreeSet<String>>,
    /// Largest error in units of its tolerance.
    worst: Cell<f64>,
    failures: RefCell<Vec<String>>,
    /// Steps that were compared in open loop.
    steps: Cell<usize>,
    deviations: RefCell<BTreeSet<Deviation>>,
    /// Whether it is never run under the switch.
    unswitched: bool,
}

impl<'a> Case<'a> {
    fn new(fixture: &'a Fixture, value: &'a Value) -> Self {
        Self {
            fixture,
            value,
            read: RefCell::default(),
            worst: Cell::new(0.0),
            failures: RefCell::default(),
            steps: Cell::new(0),
            deviations: RefCell::default(),
            unswitched: false,
        }
    }

    pub fn name(&self) -> &str {
        self.value["name"].as_str().unwrap_or("?")
    }

    /// Class of a scheduler or model, or the pipeline.
    pub fn class(&self) -> &str {
        ["class", "pipeline"].iter().find_map(|key| self.value[*key].as_str()).unwrap_or("")
    }

    pub fn total(&self) -> usize {
        self.value["tensors"].as_object().map_or(0, serde_json::Map::len)
    }

    pub fn read_count(&self) -> usize {
        self.read.borrow().len()
    }

    pub fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        let all = self.value["tensors"].as_object();
        all.into_iter().flatten().map(|(field, _)| field.clone()).filter(|field| !read.contains(field)).collect()
    }

    pub fn fields(&self) -> Vec<String> {
        self.value["tensors"].as_object().into_iter().flatten().map(|(field, _)| field.clone()).collect()
    }

    /// A tensor of the case; reading it counts.
    pub fn tensor(&self, field: &str) -> Option<&Array> {
        let key = self.value["tensors"].get(field)?["key"].as_str()?;
        let tensor = self.fixture.tensors.get(key)?;
        self.read.borrow_mut().insert(field.to_owned());
        Some(tensor)
    }

    pub fn need(&self, field: &str) -> &Array {
        self.tensor(field).unwrap_or_else(|| panic!("case {} has no tensor {field}", self.name()))
    }

    pub fn fail(&self, what: impl Into<String>) {
        self.failures.borrow_mut().push(what.into());
    }

    pub fn failures(&self) -> Vec<String> {
        self.failures.borrow().clone()
    }

    pub fn worst(&self) -> f64 {
        self.worst.get()
    }

    /// Absolute tolerance of a step, or of the case.
    pub fn atol(&self, step: Option<usize>) -> f64 {
        let tolerance = &self.value["tolerance"];
        let per_step = step.and_then(|step| tolerance["per_step_atol"].get(step)?.as_f64());
        per_step.or_else(|| tolerance["atol"].as_f64()).unwrap_or(1e-6)
    }

    pub fn rtol(&self) -> f64 {
        self.value["tolerance"]["rtol"].as_f64().unwrap_or(0.0)
    }

    /// The same case, of which nothing has been read or compared.
    pub fn again(&self) -> Self {
        Self::new(self.fixture, self.value)
    }

    /// As [`again`](Self::again), and never run under the switch.
    pub fn unswitched(&self) -> Self {
        Self { unswitched: true, ..self.again() }
    }

    pub fn is_unswitched(&self) -> bool {
        self.unswitched
    }

    /// The original does something else here.
    pub fn deviates(&self, deviation: Deviation) {
        self.deviations.borrow_mut().insert(deviation);
    }

    pub fn deviations(&self) -> BTreeSet<Deviation> {
        self.deviations.borrow().clone()
    }

    /// Counts a step that was compared in open loop: from the recorded state before it.
    pub fn count_step(&self) {
        self.steps.set(self.steps.get() + 1);
    }

    pub fn steps_compared(&self) -> usize {
        self.steps.get()
    }

    /// Compares with the case's tolerance.
    pub fn compare(&self, what: &str, step: Option<usize>, got: &[f64], expected: &[f64]) {
        self.compare_within(what, got, expected, self.atol(step), self.rtol());
    }

    /// As [`compare`](Self::compare), with `slack` times the tolerance, and what float32 may have done beside.
    pub fn compare_with(
        &self,
        (slack, beside): (f64, f64),
        what: &str,
        step: Option<usize>,
        (got, expected): (&[f64], &[f64]),
    ) {
        self.compare_within(what, got, expected, slack * self.atol(step) + beside, slack * self.rtol());
    }

    /// Compares a single step with a bound of this project's own. It is tighter than what is recorded with a case, and what
    /// it was seen to hold for are the known ones: others have the looser of both.
    pub fn compare_step(&self, what: &str, step: usize, (got, expected): (&[f64], &[f64]), own: f64) {
        if self.fixture.known {
            self.compare_within(what, got, expected, own, 0.0);
        } else {
            self.compare_within(what, got, expected, own.max(self.atol(Some(step))), self.rtol());
        }
    }

    pub fn compare_within(&self, what: &str, got: &[f64], expected: &[f64], atol: f64, rtol: f64) {
        if got.len() != expected.len() {
            return self.fail(format!("{what}: {} values, expected {}", got.len(), expected.len()));
        }
        let mut worst = (0.0, 0.0, 0.0);
        for (g, e) in got.iter().zip(expected) {
            let mut ratio = (g - e).abs() / (atol + rtol * e.abs());
            if g == e {
                ratio = 0.0;
            } else if ratio.is_nan() {
                ratio = f64::INFINITY;
            }
            if ratio > worst.0 {
                worst = (ratio, *g, *e);
            }
        }
        self.worst.set(self.worst.get().max(worst.0));
        if worst.0 > 1.0 {
            self.fail(format!("{what}: {} instead of {} ({:.1} times the tolerance)", worst.1, worst.2, worst.0));
        }
    }
}

#[test]
fn single_steps_of_other_fixtures_have_the_looser_bound() {
    let manifest = serde_json::json!({"cases": [
        {"name": "loose", "tolerance": {"atol": 1e-3, "rtol": 0.0, "per_step_atol": [1e-3, 1e-2]}},
        {"name": "tight", "tolerance": {"atol": 1e-9, "rtol": 0.0}},
    ]});
    let fails = |known: bool, case: usize, step: usize, off: f64| {
        let fixture = Fixture { path: PathBuf::new(), manifest: manifest.clone(), tensors: BTreeMap::new(), known };
        let case = &fixture.cases()[case];
        case.compare_step("a step", step, (&[1.0 + off], &[1.0]), 1e-6);
        !case.failures().is_empty()
    };
    // The known ones have the bound that is given, others what is recorded with a case if that is more.
    assert!(!fails(true, 0, 0, 9e-7) && fails(true, 0, 0, 2e-6));
    assert!(!fails(false, 0, 0, 9e-4) && fails(false, 0, 0, 2e-3));
    assert!(!fails(false, 0, 1, 9e-3) && fails(false, 0, 1, 2e-2));
    assert!(!fails(false, 1, 0, 9e-7) && fails(false, 1, 0, 2e-6));
}
