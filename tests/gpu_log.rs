//! The tables of docs/gpu.md are those of the logs in docs/gpu/, which `.ci/gpu` writes on a machine with a GPU.
//!
//! `LANGEVIN_WRITE_DOCS=1` writes the tables anew.

use std::fmt::Write;
use std::path::Path;

const BEGIN: &str = "<!-- tables of the logs: begin -->";
const END: &str = "<!-- tables of the logs: end -->";

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

fn log(name: &str) -> String {
    let path = path("gpu").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One compared item: how many settings, and the largest errors among them.
struct Item {
    name: String,
    settings: usize,
    value: f64,
    gradient: Option<f64>,
}

/// `BACKEND device | item: settings | value error | gradient error`, joined by item in the order of the log.
fn items(log: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for line in log.lines().filter_map(|line| line.split_once("BACKEND ")).map(|(_, line)| line) {
        let [_, case, value, gradient] = line.split(" | ").collect::<Vec<_>>()[..] else { continue };
        // "within 2e-5" where many were compared at once.
        let number = |text: &str| text.trim().trim_start_matches("within ").parse::<f64>().ok();
        // Half precision is compared with single on the same device, not with the CPU.
        let (item, settings) = case.split_once(": ").unwrap_or((case, ""));
        let item = item.split(", ").next().unwrap_or(item); // a solver has its options there
        let name = if settings.contains("f16") { case } else { item }.to_owned();
        let (value, gradient) = (number(value).unwrap_or(f64::NAN), number(gradient));
        match items.iter_mut().find(|item| item.name == name) {
            Some(item) => {
                item.settings += 1;
                item.value = item.value.max(value);
                item.gradient = item.gradient.into_iter().chain(gradient).reduce(f64::max);
            }
            None => items.push(Item { name, settings: 1, value, gradient }),
        }
    }
    items
}

/// What the test runner said: passed and failed.
fn outcome(log: &str) -> (usize, usize) {
    let mut sums = (0, 0);
    for line in log.lines().filter(|line| line.starts_with("test result:")) {
        let count = |word: &str| -> usize {
            let before = line.split(word).next().expect("text").trim();
            before.rsplit([' ', ';']).next().and_then(|number| number.parse().ok()).expect("a count")
        };
        sums = (sums.0 + count(" passed"), sums.1 + count(" failed"));
    }
    sums
}

/// The rows below the line that begins with `head`, up to an empty line, in columns of two or more blanks.
fn rows(log: &str, head: &str) -> Vec<Vec<String>> {
    let lines =
        log.lines().skip_while(|line| !line.starts_with(head)).skip(1).take_while(|line| !line.trim().is_empty());
    let columns =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    lines.map(columns).collect()
}

fn tables() -> String {
    let (machine, suite, quickstart, fashion) =
        (log("machine.txt"), log("backends.log"), log("quickstart.log"), log("fashion.log"));
    let about: Vec<&str> = machine.lines().collect();
    let card = about[1].replace(", ", ", driver ");
    let mut text = format!("{BEGIN}\n\nMeasured on {}: {card}, {} CPU cores.\n\n", about[0], about[2]);
    let (passed, failed) = outcome(&suite);
    write!(text, "**The backend suite**: {passed} tests passed, {failed} failed.\n\n").expect("a string");
    text.push_str("| compared | settings | largest error | of gradients |\n|---|---|---|---|\n");
    for Item { name, settings, value, gradient } in items(&suite) {
        let gradient = gradient.map_or_else(|| "–".to_owned(), |gradient| format!("{gradient:.0e}"));
        writeln!(text, "| {name} | {settings} | {value:.0e} | {gradient} |").expect("a string");
    }
    text.push_str("\n**The quickstart**");
    if let Some(seconds) = quickstart.lines().find(|line| line.contains(" seconds in all")) {
        write!(text, ", {} seconds in all", seconds.split(' ').next().expect("a number")).expect("a string");
    }
    text.push_str(
        ":\n\n| scheduler | evaluations | seconds | recognized | fd | nearest |\n|---|---|---|---|---|---|\n",
    );
    for row in rows(&quickstart, "scheduler") {
        writeln!(text, "| {} |", row.join(" | ")).expect("a string");
    }
    text.push_str("\n**Fashion-MNIST**");
    // The program's own time where it says one, or that of its process.
    let time = fashion.lines().find(|line| line.contains(" a second"));
    let time = time.or_else(|| fashion.lines().find_map(|line| line.strip_prefix("== fashion: ")));
    write!(text, ", {}", time.expect("the time of the training")).expect("a string");
    text.push_str(":\n\n| step | loss | held out |\n|---|---|---|\n");
    for line in fashion.lines().filter(|line| line.starts_with("step ")) {
        let cells: Vec<&str> = line.split([' ', ',', ':']).filter(|cell| !cell.is_empty()).collect();
        writeln!(text, "| {} | {} | {} |", cells[1], cells[3], cells[6]).expect("a string");
    }
    write!(text, "\n{END}").expect("a string");
    text
}

#[test]
fn the_tables_are_those_of_the_logs() {
    let page = std::fs::read_to_string(path("gpu.md")).expect("docs/gpu.md");
    let (before, rest) = page.split_once(BEGIN).expect("the beginning of the tables");
    let (_, after) = rest.split_once(END).expect("the end of the tables");
    let now = format!("{before}{}{after}", tables());
    if std::env::var_os("LANGEVIN_WRITE_DOCS").is_some() {
        std::fs::write(path("gpu.md"), &now).expect("docs/gpu.md can be written");
    }
    assert!(
        now == page || std::env::var_os("LANGEVIN_WRITE_DOCS").is_some(),
        "docs/gpu.md is not that of its logs: {now}"
    );
}

#[test]
fn nothing_failed_there() {
    assert_eq!(outcome(&log("backends.log")).1, 0);
    assert!(outcome(&log("backends.log")).0 >= 8, "tests are missing in the log");
    for name in ["backends.log", "quickstart.log", "fashion.log"] {
        let text = log(name);
        let ends: Vec<_> = text.lines().filter(|line| line.starts_with("== ")).collect();
        assert!(!ends.is_empty(), "{name} has no end");
        assert!(ends.iter().all(|line| line.contains(": exit 0 ")), "{name}: {ends:?}");
    }
}

#[test]
fn logs_are_read_as_they_are_written() {
    let log = "BACKEND vulkan | Linear: with bias | 1.0e-7 | 2.0e-6\nx BACKEND vulkan | Linear: without | 3.0e-7 | –\n\
               test result: ok. 2 passed; 0 failed; 0 ignored\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n";
    let items = items(log);
    assert_eq!((items.len(), items[0].settings, items[0].value, items[0].gradient), (1, 2, 3e-7, Some(2e-6)));
    assert_eq!(outcome(log), (3, 1));
    assert_eq!(rows("a\nscheduler  x\nDDPM   100    14.2\n\nb", "scheduler"), [["DDPM", "100", "14.2"]]);
}
