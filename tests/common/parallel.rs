//! Independent pieces of work on all cores, and the same work on one thread and on many.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `work` of 0 to `count` − 1, in that order, by as many threads as there are cores.
pub fn each<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let worker = || {
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < count);
        std::iter::from_fn(take).map(|index| (index, work(index))).collect::<Vec<_>>()
    };
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

const CHILD: &str = "LANGEVIN_TEST_PRINTS_BITS";

/// What lines for another process begin with.
pub const LINE: &str = "bits ";

/// Whether this process is one that [`lines_of_another_process`] has started.
pub fn is_another_process() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// What `test` of this program prints behind [`LINE`] in a process of its own, on so many threads.
pub fn lines_of_another_process(test: &str, threads: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", test, "--nocapture"]).env(CHILD, "1").env("RAYON_NUM_THREADS", threads.to_string());
    let output = child.output().expect("a process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.strip_prefix(LINE)).map(str::to_owned).collect()
}
