//! Training that is stopped: killed at any moment, interrupted, on a full disk, in a folder that cannot be written.
//!
//! The program under test is the example `train_images`, as its users start it.

#![cfg(unix)]

mod stopped;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stopped::{Run, dice};

const KILLS: usize = 30;
const SIGINT: &str = "-INT";
const SIGKILL: i32 = 9;
const NOBODY: u32 = 65534;

/// Kills at random moments, and a third of them while a checkpoint is being written. Each start must find a good
/// checkpoint (or it would end with an error of its own), and the weights must be those of a run that nobody stopped.
#[test]
fn a_run_killed_thirty_times_ends_with_the_same_weights() {
    let whole = Run::new();
    let started = Instant::now();
    whole.finish();
    let took = started.elapsed();
    let weights = whole.weights();

    let mut random = dice(2026);
    let (mut kills, mut runs, mut inside_saving) = (0, 0, 0);
    let mut run = Run::new();
    while kills < KILLS {
        let mut child = run.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let saving = kills % 3 == 2;
        let waits = took.mul_f64(random() * 0.2);
        let begun = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().expect("is a child") {
                break Some(status);
            }
            let now = if saving { run.partial().exists() } else { begun.elapsed() >= waits };
            if now {
                child.kill().expect("can be killed");
                break None;
            }
            std::thread::sleep(Duration::from_micros(if saving { 50 } else { 500 }));
        };
        let output = child.wait_with_output().expect("is over");
        let said = String::from_utf8_lossy(&output.stderr);
        match ended {
            None if output.status.signal() == Some(SIGKILL) => {
                kills += 1;
                inside_saving += usize::from(run.partial().exists());
            }
            // It was done before its moment came: that counts as a run, and another begins.
            _ => {
                assert!(output.status.success(), "start {kills} found no good checkpoint: {said}");
                assert!(run.weights() == weights, "the weights of run {runs} differ");
                (runs, run) = (runs + 1, Run::new());
            }
        }
    }
    run.finish();
    assert!(run.weights() == weights, "the weights differ");
    assert!(inside_saving > 0, "no kill fell into the writing of a checkpoint");
    println!("{KILLS} kills in {} runs, {inside_saving} while a checkpoint was written", runs + 1);
}

/// The weights can differ: those of another seed do.
#[test]
fn another_seed_has_other_weights() {
    let (one, other) = (Run::new(), Run::new().with(&["--seed", "1"]));
    one.with(&["--steps", "3"]).finish();
    other.with(&["--steps", "3"]).finish();
    assert!(one.weights() != other.weights());
}

#[test]
fn an_interrupted_run_saves_leaves_and_goes_on() {
    let run = Run::new();
    // No checkpoint of its own before the end: what is there was written because of the signal.
    let run = run.with(&["--checkpoint-every", "1000"]);
    let child = run.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    // The first grid of samples shows that steps are being made.
    while !run.folder().join("samples_000010.png").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill").args([SIGINT, &child.id().to_string()]).status().expect("kill is a program");
    assert!(sent.success());
    let output = child.wait_with_output().expect("is over");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("stopped after step") && said.contains("saved"), "{said}");
    assert!(run.checkpoint().exists() && !run.folder().join("model").exists());
    run.finish();
    let whole = Run::new();
    whole.finish();
    assert!(run.weights() == whole.weights());
}

/// Fails as `expected` says, keeps the checkpoint that is there, leaves no part of another, and goes on later.
fn fails_and_goes_on(run: &Run, mut command: Command, expected: &str, mend: impl FnOnce()) {
    let before = fs::read(run.checkpoint()).expect("a checkpoint");
    let output = command.output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(expected) && said.contains("checkpoint.langevin"), "{said}");
    assert!(fs::read(run.checkpoint()).expect("a checkpoint") == before, "the checkpoint has changed");
    assert!(!run.partial().exists());
    mend();
    run.finish();
}

/// A run with the checkpoint of its first steps.
fn begun() -> Run {
    let run = Run::new();
    let short = run.with(&["--checkpoint-every", "6"]);
    let mut child = short.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    while !run.checkpoint().exists() {
        assert!(child.try_wait().expect("is a child").is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("can be killed");
    child.wait().expect("is over");
    let _ = fs::remove_file(run.partial());
    run
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_clear_error_and_keeps_the_old_checkpoint() {
    let run = begun();
    symlink("/dev/full", run.partial()).expect("a link");
    fails_and_goes_on(&run, run.command(), "No space left on device", || {});
}

#[test]
fn a_file_that_cannot_grow_is_a_clear_error_and_keeps_the_old_checkpoint() {
    let run = begun();
    // As many blocks of 512 bytes as samples and the curve need, too few for a checkpoint: a write is cut short.
    let mut limited = Command::new("sh");
    let blocks = fs::metadata(run.checkpoint()).expect("a checkpoint").len() / 1024;
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), "sh"]);
    limited.arg(run.program()).args(run.arguments());
    fails_and_goes_on(&run, limited, "File too large", || {});
}

#[test]
fn a_folder_that_becomes_read_only_is_a_clear_error_and_keeps_the_old_checkpoint() {
    let run = Run::new().with(&["--sample-every", "1000"]);
    let folder = run.folder();
    fs::create_dir(&folder).expect("is mine");
    let mut command = run.command();
    // Nothing is read-only to root, so the program then runs as another user.
    if chown(&folder, Some(NOBODY), Some(NOBODY)).is_ok() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    while !run.checkpoint().exists() {
        assert!(child.try_wait().expect("is a child").is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("is mine");
    mode(0o555);
    let before = fs::read(run.checkpoint()).expect("a checkpoint");
    let output = child.wait_with_output().expect("is over");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Permission denied") && said.contains("checkpoint.langevin"), "{said}");
    assert!(fs::read(run.checkpoint()).expect("a checkpoint") == before, "the checkpoint has changed");
    mode(0o755);
    run.finish();
}
