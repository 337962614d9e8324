//! The page of proofs names tests that exist and run.

use std::path::Path;

/// `file::function` in every code span of the page.
fn named(page: &str) -> Vec<(String, String)> {
    let spans = page.split('`').skip(1).step_by(2);
    let tests = spans.filter_map(|span| span.split_once(".rs::"));
    tests.map(|(file, function)| (format!("{file}.rs"), function.to_owned())).collect()
}

/// Why `function` is not a test in `source`.
fn missing(source: &str, function: &str) -> Option<&'static str> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let head = format!("fn {function}(");
    let Some(at) = lines.iter().position(|line| line.starts_with(&head)) else { return Some("has no such function") };
    // Attributes and doc comments right above it.
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    let (mut test, mut ignored) = (false, false);
    for line in above {
        test |= *line == "#[test]";
        ignored |= line.starts_with("#[ignore");
    }
    match (test, ignored) {
        (_, true) => Some("ignores it"),
        (false, _) => Some("has it, but not as a test"),
        (true, false) => None,
    }
}

#[test]
fn every_proof_exists_and_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/proof.md")).expect("docs/proof.md");
    let named = named(&page);
    assert!(named.len() > 80, "only {} tests are named", named.len());
    let mut wrong = Vec::new();
    for (file, function) in named {
        match std::fs::read_to_string(root.join(&file)) {
            Err(error) => wrong.push(format!("{file}: {error}")),
            Ok(source) => wrong.extend(missing(&source, &function).map(|why| format!("{file} {why}: {function}"))),
        }
    }
    assert!(wrong.is_empty(), "docs/proof.md is out of date:\n{}", wrong.join("\n"));
}

/// All proofs of the tests at the root are on the page.
#[test]
fn every_test_of_the_proofs_is_on_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/proof.md")).expect("docs/proof.md");
    for file in ["convergence", "statistics", "mutation", "memory"] {
        let source = std::fs::read_to_string(root.join(format!("tests/{file}.rs"))).expect("a test");
        let lines: Vec<&str> = source.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[test]") {
            let name = pair[1].trim_start_matches("fn ").split('(').next().expect("a name");
            assert!(
                page.contains(&format!("`tests/{file}.rs::{name}`")),
                "docs/proof.md lacks tests/{file}.rs::{name}"
            );
        }
    }
}

#[test]
fn the_check_can_fail() {
    let source = "#[test]\nfn good() {}\n#[test]\n#[ignore = \"slow\"]\nfn lazy() {}\nfn helper() {}\n";
    assert_eq!(missing(source, "good"), None);
    assert_eq!(missing(source, "lazy"), Some("ignores it"));
    assert_eq!(missing(source, "helper"), Some("has it, but not as a test"));
    assert_eq!(missing(source, "goo"), Some("has no such function"));
    assert_eq!(named("a `x.rs::y` and `z`"), [("x.rs".to_owned(), "y".to_owned())]);
}
