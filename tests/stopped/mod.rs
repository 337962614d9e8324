//! One small training of `train_images` in a folder of its own.

use rand::{RngExt, SeedableRng};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::OnceLock;

/// Uniform numbers in [0, 1).
pub fn dice(seed: u64) -> impl FnMut() -> f64 {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    move || random.random()
}

/// The program, built as it is now; a copy that other users may run, too.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let build = || {
        // …/debug/deps/kill-0123456789abcdef
        let test = std::env::current_exe().expect("a program");
        let folder = test.ancestors().nth(2).expect("a folder of the profile");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "train_images"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo is a program").success());
        let place = tempfile::tempdir().expect("a folder");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("is mine");
        let copy = place.path().join("train_images");
        fs::copy(folder.join("examples/train_images"), &copy).expect("has been built");
        (place, copy)
    };
    &PROGRAM.get_or_init(build).1
}

/// Images of 8x8 pixels in two classes, as the IDX files of MNIST.
fn write_images(folder: &Path) {
    let mut random = dice(1);
    for (part, count) in [("train", 60u32), ("t10k", 12)] {
        let mut images = [0x0803, count, 8, 8].map(u32::to_be_bytes).concat();
        let mut labels = [0x0801, count].map(u32::to_be_bytes).concat();
        for i in 0..count {
            let class = i % 2;
            labels.push(class as u8);
            // Bars, standing or lying.
            let bar = (random() * 8.0) as u32;
            images.extend((0..64).map(|p| if [p % 8, p / 8][class as usize] == bar { 255u8 } else { 0 }));
        }
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).expect("is mine");
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).expect("is mine");
    }
}

/// A training with its folder.
#[derive(Clone)]
pub struct Run {
    root: Rc<tempfile::TempDir>,
    arguments: Vec<String>,
}

impl Run {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("is mine");
        let data = root.path().join("data");
        fs::create_dir(&data).expect("is mine");
        write_images(&data);
        let mut run = Self { arguments: Vec::new(), root: Rc::new(root) };
        let [data, out] = [data, run.folder()].map(|path| path.to_string_lossy().into_owned());
        let small = "--channels 32,32 --layers 1 --batch 8 --steps 90 --checkpoint-every 3 --sample-every 10 \
                     --evaluations 2";
        run.arguments = small.split_whitespace().map(str::to_owned).collect();
        run.arguments.extend(["--data".into(), data, "--out".into(), out]);
        run
    }

    /// The same run with other settings; of one that is given twice, the last counts.
    pub fn with(&self, arguments: &[&str]) -> Self {
        let mut run = self.clone();
        for pair in arguments.chunks(2) {
            match run.arguments.iter().position(|known| known == pair[0]) {
                Some(at) => run.arguments[at + 1] = pair[1].into(),
                None => run.arguments.extend(pair.iter().map(|part| (*part).to_owned())),
            }
        }
        run
    }

    pub fn folder(&self) -> PathBuf {
        self.root.path().join("out")
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.folder().join("checkpoint.langevin")
    }

    /// Where a checkpoint is written before it takes its place.
    pub fn partial(&self) -> PathBuf {
        self.folder().join("checkpoint.langevin.tmp")
    }

    pub fn program(&self) -> &'static Path {
        program()
    }

    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.args(&self.arguments);
        command
    }

    /// Runs to the end.
    pub fn finish(&self) {
        let output = self.command().output().expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The file of the trained weights.
    pub fn weights(&self) -> Vec<u8> {
        fs::read(self.folder().join("model/diffusion_pytorch_model.safetensors")).expect("the trained weights")
    }
}
