//! Which fixtures these are: the known ones of `known.txt`, a part of them, or others.
//!
//! Every case has to agree, wherever it is from. How many there are, which of them show a difference from an original, and
//! how many numbers of plans they show is known of the known ones alone.

use crate::fixture::{Fixture, find};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

#[derive(Debug, PartialEq)]
pub enum Which {
    Known,
    /// Nothing but known cases, and some are missing: these.
    Part(Vec<String>),
    Others,
}

/// Stands where something is not compared.
pub const NOTE: &str = "these are not the known fixtures: counts, pages and shares of the known ones are not compared";

/// The folder in the repository.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn list() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/known.txt")
}

static KNOWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let text = std::fs::read_to_string(list()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
});

/// Those of a folder.
pub fn which(root: &Path) -> Which {
    let found: Vec<Fixture> = find(root).iter().filter_map(|path| Fixture::read(path)).collect();
    judged(&found.iter().flat_map(lines).collect(), &KNOWN)
}

/// Whether a fixture has known cases alone.
pub fn is_known(fixture: &Fixture) -> bool {
    lines(fixture).iter().all(|line| KNOWN.contains(line))
}

fn judged(found: &BTreeSet<String>, known: &BTreeSet<String>) -> Which {
    if found == known {
        Which::Known
    } else if found.is_subset(known) {
        Which::Part(known.difference(found).cloned().collect())
    } else {
        Which::Others
    }
}

/// A line for each case, and one for what else a manifest says: a digest of it and of its tensors, and names.
fn lines(fixture: &Fixture) -> Vec<String> {
    let name = fixture.manifest["fixture"].as_str().unwrap_or("?");
    let mut rest = fixture.manifest.clone();
    rest["cases"].take();
    let mut digest = Digest::default();
    digest.value(&rest);
    let mut lines = vec![format!("{:016x} {name}", digest.0)];
    for case in fixture.cases() {
        let mut digest = Digest::default();
        digest.value(case.value);
        for tensor in case.fields().iter().filter_map(|field| case.tensor(field)) {
            tensor.shape.iter().for_each(|size| digest.bytes(&(*size as u64).to_le_bytes()));
            tensor.data.iter().for_each(|value| digest.bytes(&value.to_le_bytes()));
        }
        lines.push(format!("{:016x} {name}: {}", digest.0, case.name()));
    }
    lines
}

/// FNV-1a, which is the same everywhere and in every version.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    /// What JSON means, not how it is written: line ends and the order of keys do not matter.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(b"null"),
            Value::Bool(flag) => self.bytes(&[u8::from(*flag)]),
            Value::Number(number) => self.bytes(&number.as_f64().unwrap_or(f64::NAN).to_le_bytes()),
            Value::String(text) => self.bytes(format!("\"{text}\"").as_bytes()),
            Value::Array(values) => {
                self.bytes(b"[");
                values.iter().for_each(|value| self.value(value));
                self.bytes(b"]");
            }
            Value::Object(entries) => {
                self.bytes(b"{");
                for (key, value) in entries.iter().collect::<BTreeMap<_, _>>() {
                    self.bytes(format!("\"{key}\":").as_bytes());
                    self.value(value);
                }
                self.bytes(b"}");
            }
        }
    }
}

/// A case that is lost would take its proofs along; other fixtures in their place bring their own.
#[test]
fn the_known_fixtures_are_whole() {
    if std::env::var_os("LANGEVIN_WRITE_KNOWN").is_some() {
        let fixtures: Vec<Fixture> = find(&home()).iter().filter_map(|path| Fixture::read(path)).collect();
        let lines: BTreeSet<String> = fixtures.iter().flat_map(lines).collect();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        return std::fs::write(list(), text).expect("the list can be written");
    }
    match which(&home()) {
        Which::Known => {}
        Which::Others => println!("{NOTE}"),
        Which::Part(missing) => panic!(
            "{} parts of tests/fixtures are missing, and nothing stands in their place: {}. Restore them or, if they are \
             not wanted any more, write the list anew with LANGEVIN_WRITE_KNOWN=1",
            missing.len(),
            missing.join(", "),
        ),
    }
}

#[test]
fn a_lost_case_is_told_from_another_one() {
    let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<BTreeSet<String>>();
    let known = set(&["1 a", "2 a: x", "3 a: y"]);
    assert_eq!(judged(&known, &known), Which::Known);
    assert_eq!(judged(&set(&["1 a", "3 a: y"]), &known), Which::Part(vec!["2 a: x".into()]));
    for others in [&["1 a", "2 a: x", "4 a: y"][..], &["1 a", "2 a: x", "3 a: y", "4 a: z"], &["5 b"]] {
        assert_eq!(judged(&set(others), &known), Which::Others, "{others:?}");
    }
}

/// Everything that a case says and has is in its digest.
#[test]
fn digests_read_what_a_manifest_means() {
    let digest = |json: &str| {
        let mut digest = Digest::default();
        digest.value(&serde_json::from_str(json).expect("JSON"));
        digest.0
    };
    let text = r#"{"a": [1, 2.5, null, true], "b": "x"}"#;
    assert_eq!(digest(text), digest("{\r\n\"b\":\"x\", \"a\":[1.0, 2.5, null, true]}"));
    for other in [
        r#"{"a": [1, 2.5, null, false], "b": "x"}"#,
        r#"{"a": [1, 2.6, null, true], "b": "x"}"#,
        r#"{"a": [1, 2.5, true, null], "b": "x"}"#,
        r#"{"a": [1, 2.5, null, true], "b": "y"}"#,
        r#"{"a": [1, 2.5, null, true], "c": "x"}"#,
        r#"{"a": [[1, 2.5], null, true], "b": "x"}"#,
    ] {
        assert_ne!(digest(text), digest(other), "{other}");
    }
}
