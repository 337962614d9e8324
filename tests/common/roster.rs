//! Which public solvers and samplers there are, read from the sources, so that no proof can leave one out by oversight.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Types that implement [`Solver`](langevin::schedulers::Solver).
pub fn solvers() -> BTreeSet<String> {
    implementing(" Solver for ", 6)
}

/// Types that implement [`Sampler`](langevin::schedulers::Sampler) themselves. A plan is one, too: it has the rows of
/// the solvers.
pub fn samplers() -> BTreeSet<String> {
    let mut found = implementing(" Sampler<D> for ", 6);
    assert!(found.remove("plan::Plan"));
    found
}

/// Types that implement [`TokenMethod`](langevin::schedulers::TokenMethod).
pub fn token_methods() -> BTreeSet<String> {
    implementing(" TokenMethod for ", 5)
}

/// Fails if a public type is neither in a proof nor exempt from it, if an exemption is one of nothing, and if a proof
/// knows types that are not there.
pub fn assert_complete<'a>(
    public: &BTreeSet<String>,
    proof: impl IntoIterator<Item = &'a str>,
    exempt: &[(&str, &str)],
) {
    let proof: BTreeSet<&str> = proof.into_iter().collect();
    let is_exempt = |name: &str| exempt.iter().any(|(exempt, _)| *exempt == name);
    let absent: Vec<_> = public.iter().filter(|name| !proof.contains(name.as_str()) && !is_exempt(name)).collect();
    assert!(absent.is_empty(), "without a row, and without a reason for that: {absent:?}");
    for (name, reason) in exempt {
        assert!(public.contains(*name) && !proof.contains(name), "{name} needs no exemption ({reason})");
    }
    let unknown: Vec<_> = proof.iter().filter(|name| !public.contains(**name)).collect();
    assert!(unknown.is_empty(), "rows of types that are not in the sources: {unknown:?}");
}

/// A source file, with the path of its module.
struct Source {
    folder: PathBuf,
    module: String,
    text: String,
}

fn implementing(implementation: &str, least: usize) -> BTreeSet<String> {
    let sources = sources();
    let mut found = BTreeSet::new();
    for source in &sources {
        for line in source.text.lines().filter(|line| line.starts_with("impl")) {
            let Some((_, name)) = line.split_once(implementation) else { continue };
            let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
            // References and boxes forward.
            if name.is_empty() || name == "Box" {
                continue;
            }
            let defines = |other: &&Source| {
                let text = &other.text;
                [' ', '<', ';', '('].iter().any(|end| text.contains(&format!("\npub struct {name}{end}")))
            };
            let near = sources.iter().filter(|other| other.folder == source.folder);
            if let Some(home) = std::iter::once(source).chain(near).find(defines) {
                found.insert(format!("{}::{name}", home.module));
            }
        }
    }
    assert!(found.len() >= least, "the sources are elsewhere: {found:?}");
    found
}

/// All sources of the library's crates; modules of the solvers' crate have no crate in front, as in
/// [`type_of`](super::solvers::type_of).
fn sources() -> Vec<Source> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let mut all = Vec::new();
    for entry in fs::read_dir(&crates).expect("crates").map(|entry| entry.expect("a crate")) {
        let name = entry.file_name().into_string().expect("text").replace('-', "_");
        let prefix = if name == "langevin_schedulers" { String::new() } else { format!("{name}::") };
        let root = entry.path().join("src");
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.expect("a file")) {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let inside = path.strip_prefix(&root).expect("inside").with_extension("");
                    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
                    let module = prefix.clone() + parts.join("::").trim_end_matches("::mod");
                    let text = fs::read_to_string(&path).expect("a source");
                    all.push(Source { folder: folder.clone(), module, text });
                }
            }
        }
    }
    all
}
