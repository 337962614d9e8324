//! Weight files as PyTorch writes them, and files that are made to do harm: each gives an error of its kind, without
//! memory beyond the size of the file and without running anything.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{DType, Device};
use langevin_core::Load;
use langevin_models::ModelError;
use langevin_models::layers::{Linear, LinearConfig};
use langevin_models::weights::{FileProblem, StoredWeights, read_weights, write_weights};

/// Counts what is allocated at the same time.
struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: both calls go to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(NOW.fetch_add(layout.size(), Ordering::SeqCst) + layout.size(), Ordering::SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tests share the counter, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn layer() -> Linear {
    LinearConfig::new(3, 2).init(&Device::flex()).unwrap()
}

fn load(path: &Path) -> Result<Linear, ModelError> {
    read_weights(layer(), path, &Load::on(&Device::flex()))
}

/// Loads a file that must fail, and checks how much memory that took: less than the file and a MiB for the rest.
fn refused(path: &Path) -> ModelError {
    // Whatever is made once is made.
    let _ = load(path);
    let length = std::fs::metadata(path).unwrap().len() as usize;
    let before = NOW.load(Ordering::SeqCst);
    MOST.store(before, Ordering::SeqCst);
    let error = load(path).unwrap_err();
    let most = MOST.load(Ordering::SeqCst) - before;
    assert!(most < length + (1 << 20), "{}: {most} bytes for a file of {length}", path.display());
    error
}

fn problem(path: &Path) -> FileProblem {
    match refused(path) {
        ModelError::WeightsFile { problem, .. } => problem,
        error => panic!("{}: {error}", path.display()),
    }
}

fn torch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch").join(name)
}

#[track_caller]
fn assert_is_the_layer(layer: &Linear) {
    let weight: Vec<f64> = layer.weight.val().to_data().iter().collect();
    assert_eq!(weight, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]);
    let bias: Vec<f64> = layer.bias.as_ref().unwrap().val().to_data().iter().collect();
    assert_eq!(bias, [-1.0, 0.5]);
}

#[test]
fn what_pytorch_saves_is_read() {
    let _turn = turn();
    for name in ["state_dict.pt", "plain.pt", "half.pt", "parameters.pt", "legacy.pt", "nested.ckpt", "views.pt"] {
        assert_is_the_layer(&load(&torch(name)).unwrap_or_else(|error| panic!("{name}: {error}")));
    }
    let half = StoredWeights::open(torch("half.pt")).unwrap();
    assert_eq!(half.get("bias").unwrap().dtype.name(), "BF16");
    assert_eq!(half.read("weight", DType::F64).unwrap().dtype(), DType::F64);
}

#[test]
fn pytorch_files_of_a_folder_are_found_alone_and_in_shards() {
    let _turn = turn();
    for name in ["pytorch_model.bin", "diffusion_pytorch_model.bin"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(torch("state_dict.pt"), folder.path().join(name)).unwrap();
        assert_is_the_layer(&load(folder.path()).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(torch("state_dict.pt"), folder.path().join("pytorch_model-00001-of-00001.bin")).unwrap();
    let map =
        r#"{"weight_map": {"weight": "pytorch_model-00001-of-00001.bin", "bias": "pytorch_model-00001-of-00001.bin"}}"#;
    std::fs::write(folder.path().join("pytorch_model.bin.index.json"), map).unwrap();
    assert_is_the_layer(&load(folder.path()).unwrap());
}

#[test]
fn pickles_with_code_are_refused_by_name_and_not_run() {
    let _turn = turn();
    let mark = Path::new("/tmp/langevin-was-here");
    assert!(!mark.exists(), "left by another program");
    for name in ["code.pt", "legacy_code.pt"] {
        let problem = problem(&torch(name));
        assert_eq!(problem, FileProblem::Code { name: "posix.system".into() });
        assert!(problem.to_string().contains("safetensors"));
    }
    assert!(!mark.exists(), "the code of a pickle was run");
}

#[test]
fn pytorch_files_that_are_no_weights_are_refused() {
    let _turn = turn();
    for name in ["compressed.pt", "two_pickles.pt", "no_pickle.pt"] {
        let problem = problem(&torch(name));
        assert!(matches!(problem, FileProblem::Archive { .. }), "{name}: {problem}");
    }
    for name in ["protocol4.pt", "trailing.pt", "pickle.pt", "big_endian.pt", "deep.pt"] {
        let problem = problem(&torch(name));
        assert!(matches!(problem, FileProblem::Pickle { .. }), "{name}: {problem}");
    }
    // 600 million elements in four bytes.
    assert!(matches!(problem(&torch("repeated.pt")), FileProblem::Size { name, .. } if name == "weight"));
    for name in ["short_storage.pt", "no_storage.pt"] {
        let error = refused(&torch(name));
        assert!(matches!(error, ModelError::Io { .. }), "{name}: {error}");
    }
    let error = refused(&torch("integers.pt"));
    assert!(matches!(&error, ModelError::StoredType { name, dtype } if name == "weight" && dtype == "I64"), "{error}");
}

/// Every cut and every changed byte of small files: an error or the layer, with other numbers perhaps, and never a
/// panic or memory.
#[test]
fn damaged_files_of_every_format_are_errors() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let safetensors = folder.path().join("whole.safetensors");
    write_weights(&load(&torch("plain.pt")).unwrap(), &safetensors).unwrap();
    for (source, end) in [(safetensors, "safetensors"), (torch("plain.pt"), "pt"), (torch("legacy.pt"), "pt")] {
        let whole = std::fs::read(&source).unwrap();
        let path = folder.path().join(format!("damaged.{end}"));
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..length]).unwrap();
            refused(&path);
        }
        for at in 0..whole.len() {
            for value in [0, 0xff, whole[at] ^ 1, whole[at] ^ 0x80] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                std::fs::write(&path, &damaged).unwrap();
                let before = NOW.load(Ordering::SeqCst);
                MOST.store(before, Ordering::SeqCst);
                let result = load(&path).map(|_| ());
                let most = MOST.load(Ordering::SeqCst).saturating_sub(before);
                assert!(most < whole.len() + (1 << 20), "byte {at} = {value}: {most} bytes, {result:?}");
            }
        }
    }
}

/// A header of `json` and `data` bytes behind it.
fn safetensors(json: &[u8], data: usize) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json, &vec![0; data]].concat()
}

#[test]
fn headers_that_promise_too_much_cost_nothing() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let largest = u64::MAX;
    let header = |shape: &str, to: u64| {
        format!(r#"{{"weight": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, {to}]}}}}"#)
    };
    let mut prefix = vec![0xff; 7];
    prefix.push(0);
    for (what, bytes) in [
        ("a header of 2^56 bytes", [&prefix[..], b"{}"].concat()),
        ("a header of 99 MB", [&99_000_000u64.to_le_bytes()[..], b"{}"].concat()),
        ("a tensor of 2^42 bytes", safetensors(header("[1048576, 1048576]", 1 << 42).as_bytes(), 24)),
        ("more than can be counted", safetensors(header(&format!("[{largest}, {largest}]"), 24).as_bytes(), 24)),
        (
            "an end before the beginning",
            safetensors(br#"{"a": {"dtype": "F32", "shape": [], "data_offsets": [4, 0]}}"#, 4),
        ),
        ("bad UTF-8", safetensors(b"{\"\xff\xfe\": 1}", 0)),
        ("empty", vec![]),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = refused(&path);
        assert!(matches!(error, ModelError::WeightsFile { .. }), "{what}: {error}");
    }
    // Many tensors in a long header: they are in the file, so they may take memory, but a few times its size.
    let mut json = String::from("{");
    for i in 0..20_000 {
        json.push_str(&format!(r#""{i}": {{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},"#));
    }
    json.pop();
    json.push('}');
    std::fs::write(&path, safetensors(json.as_bytes(), 0)).unwrap();
    let before = NOW.load(Ordering::SeqCst);
    MOST.store(before, Ordering::SeqCst);
    let error = load(&path).unwrap_err();
    assert!(matches!(&error, ModelError::Weights { mismatch, .. } if mismatch.unused.len() == 20_000));
    let most = MOST.load(Ordering::SeqCst) - before;
    assert!(most < 10 * json.len(), "{most} bytes for a header of {}", json.len());
}

#[test]
fn integers_and_small_floats_are_refused_by_name() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    for (dtype, size) in [("F8_E4M3", 1), ("F8_E5M2", 1), ("I64", 8), ("BOOL", 1)] {
        let (weight, bias) = (6 * size, 6 * size + 8);
        let json = format!(
            r#"{{"weight": {{"dtype": "{dtype}", "shape": [2, 3], "data_offsets": [0, {weight}]}},
                "bias": {{"dtype": "F32", "shape": [2], "data_offsets": [{weight}, {bias}]}}}}"#
        );
        std::fs::write(&path, safetensors(json.as_bytes(), bias)).unwrap();
        let error = refused(&path);
        assert!(
            matches!(&error, ModelError::StoredType { name, dtype: d } if name == "weight" && d == dtype),
            "{error}"
        );
        assert!(error.to_string().contains(dtype));
    }
}
