//! The page of proofs names tests that exist and run; the book is whole: chapters, programs, links, pictures.

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
    for file in ["convergence/main", "bits", "statistics/main", "mutation", "memory", "kill", "backends/main"] {
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

/// A page without its code.
fn prose(page: &str) -> String {
    let mut fenced = false;
    let lines = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.collect::<Vec<_>>().join("\n").split('`').step_by(2).collect()
}

/// Targets of links and pictures in a page that are files: `[text](here)` without web addresses and anchors.
fn links(page: &str) -> Vec<String> {
    let text = prose(page);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    files.filter_map(|target| target.split('#').next()).filter(|file| !file.is_empty()).map(str::to_owned).collect()
}

/// What the fences of code blocks say, in order: "rust", "rust,no_run", "", …
fn fences(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.trim_start().strip_prefix("```")).step_by(2).collect()
}

/// Whether a fence makes rustdoc compile its block.
fn is_rust(fence: &str) -> bool {
    fence.is_empty() || fence.split(',').next() == Some("rust")
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// File names of `docs/*.md` and `docs/models/*.md`, sorted, without the table of contents.
fn chapters() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = |inside: &str| {
        let entries = std::fs::read_dir(folder.join(inside)).expect("docs");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
        names.filter(|name| name.ends_with(".md")).map(|name| format!("{inside}{name}")).collect::<Vec<_>>()
    };
    let mut names = [pages(""), pages("models/")].concat();
    names.retain(|name| name != "SUMMARY.md");
    names.sort();
    names
}

#[test]
fn the_summary_lists_every_chapter_once() {
    let mut listed = links(&read("docs/SUMMARY.md"));
    listed.sort();
    assert_eq!(listed, chapters(), "left: docs/SUMMARY.md, right: the files in docs");
}

/// First cells of the table below the heading `## Examples`, without their backticks.
fn listed_examples(readme: &str) -> Vec<String> {
    let section = readme.split("\n## Examples\n").nth(1).unwrap_or("").split("\n## ").next().unwrap_or("");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut names: Vec<_> = rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect();
    names.sort();
    names
}

/// The examples that cargo finds: `NAME.rs` and `NAME/main.rs`.
fn examples(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let programs = entries.filter(|path| match path.extension() {
        Some(extension) => extension == "rs",
        None => path.join("main.rs").is_file(),
    });
    let mut names: Vec<_> =
        programs.map(|path| path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_readme_lists_every_example_once() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    assert_eq!(listed_examples(&read("README.md")), examples(&folder), "left: README.md, right: examples/");
}

/// What is wrong with the `main` of an example: an error that leaves it would be printed as `Debug`.
fn bad_main(source: &str) -> bool {
    let own = source.contains("\nfn main() -> ExitCode {\n") && source.contains("eprintln!(\"error: {error}\");");
    let report = ["Report", "langevin::Report"].map(|name| format!("\nfn main() -> Result<(), {name}> {{\n"));
    !own && !report.iter().any(|main| source.contains(main))
}

#[test]
fn examples_print_errors_as_messages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for name in examples(&folder) {
        let files = [format!("examples/{name}.rs"), format!("examples/{name}/main.rs")];
        let file = files.iter().find(|file| Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file());
        assert!(!bad_main(&read(file.expect("a program"))), "{name} prints its errors as Debug");
    }
    assert!(bad_main("\nfn main() -> Result<(), Box<dyn Error>> {\n"));
    // The programs of the README are copied.
    let readme = read("README.md");
    let mains = readme.matches("\nfn main()").count();
    assert!(mains > 1 && readme.matches("\nfn main() -> Result<(), Report> {\n").count() == mains);
}

#[test]
fn the_check_of_the_examples_can_fail() {
    let page = "# A\n\n| `no` | x |\n\n## Examples\n\n| example | what |\n|---|---|\n| `b` | x `c` |\n| `a` | y |\n\n\
                `cargo run` | `d` |\n\n## What works\n\n| `e` | z |\n";
    assert_eq!(listed_examples(page), ["a", "b"]);
    assert!(listed_examples("no table").is_empty());
    assert_ne!(listed_examples(&page.replace("| `a` | y |", "")), ["a", "b"]);
    assert_eq!(listed_examples(&page.replace("| `a` | y |", "| `b` | y |")), ["b", "b"]);
    // One file, one folder; a folder without a program and a text are none.
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["one.rs", "two/main.rs", "three/part.rs", "four.txt"] {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, "").expect("a file");
    }
    assert_eq!(examples(folder.path()), ["one", "two"]);
}

/// What is wrong with the code of a chapter, given the source that hands chapters to rustdoc.
fn untested(name: &str, page: &str, book: &str) -> Option<String> {
    let fences = fences(page);
    let included = book.contains(&format!("include_str!(\"../docs/{name}\")"));
    if fences.iter().any(|fence| is_rust(fence) && fence.contains("rust")) && !included {
        return Some(format!("docs/{name} has Rust code, but src/book.rs lacks it"));
    }
    if included && fences.iter().any(|fence| fence.is_empty()) {
        return Some(format!("docs/{name} has a code block that names no language"));
    }
    let unchecked = fences.iter().find(|fence| fence.contains("ignore") || fence.contains("compile_fail"));
    unchecked.map(|fence| format!("docs/{name} has a code block that is not run: {fence}"))
}

#[test]
fn every_program_of_the_book_is_compiled() {
    let book = read("src/book.rs");
    let wrong: Vec<_> =
        chapters().iter().filter_map(|name| untested(name, &read(&format!("docs/{name}")), &book)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read("src/lib.rs").contains("#[cfg(doctest)]\nmod book;"), "src/lib.rs does not declare the book");
}

/// Links of a page in `folder` whose files are not there.
fn broken(folder: &Path, page: &str) -> Vec<String> {
    links(page).into_iter().filter(|link| !folder.join(link).exists()).collect()
}

#[test]
fn every_link_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of_docs = chapters().into_iter().chain(["SUMMARY.md".to_owned()]).map(|name| format!("docs/{name}"));
    let mut wrong = Vec::new();
    for page in of_docs.chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned)) {
        let folder = root.join(&page).parent().expect("a folder").to_owned();
        wrong.extend(broken(&folder, &read(&page)).into_iter().map(|link| format!("{page}: {link}")));
    }
    assert!(wrong.is_empty(), "links to files that are not there:\n{}", wrong.join("\n"));
}

#[test]
fn the_checks_of_the_book_can_fail() {
    let page = "[a](b.md#c) ![d](e.png) [f](https://g) [h](#i) `[j](k)`\n```text\n[l](m)\n```\n[n](o.md)";
    assert_eq!(links(page), ["b.md", "e.png", "o.md"]);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    assert_eq!(
        broken(&docs, "[a](proof.md) [b](nowhere.md) ![c](images/nothing.png)"),
        ["nowhere.md", "images/nothing.png"]
    );
    assert_eq!(fences("```sh\nls\n```\n```rust,no_run\nf();\n```\n```\nx\n```"), ["sh", "rust,no_run", ""]);

    let (code, book) = ("```rust\nf();\n```\n", "#[doc = include_str!(\"../docs/a.md\")]");
    assert_eq!(untested("a.md", code, book), None);
    assert!(untested("b.md", code, book).is_some_and(|why| why.contains("src/book.rs lacks it")));
    assert_eq!(untested("b.md", "```\nf\n```\n", book), None); // a drawing in a page without programs
    assert!(untested("a.md", "```\nf\n```\n", book).is_some_and(|why| why.contains("names no language")));
    assert!(untested("a.md", "```rust,ignore\nf\n```\n", book).is_some_and(|why| why.contains("not run")));
}
