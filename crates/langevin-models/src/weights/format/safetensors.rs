//! The header of a safetensors file.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::unique::{REPEATED, Unique, refuse_repeated};
use super::{FileProblem, MOST_DIMENSIONS, StoredTensor, StoredType};

/// Key of the entry that describes the file and no tensor.
const METADATA: &str = "__metadata__";
/// Bytes before the header: its length.
const PREFIX: u64 = 8;

/// The tensors of a safetensors file, in the order of their data.
///
/// `header` is the JSON after the first eight bytes, which hold its length, and `length` that of the whole file. The
/// data of the tensors fills the rest of the file without overlaps and holes.
///
/// # Errors
///
/// Any difference from the format, as a [`FileProblem`].
pub fn read_header(header: &[u8], length: u64) -> Result<Vec<StoredTensor>, FileProblem> {
    let Header(mut tensors) = parse(header)?;
    // Empty tensors begin where the next one does.
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let start = PREFIX + header.len() as u64;
    let mut next = 0;
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, info) in tensors {
        let (from, to) = info.data_offsets;
        if from != next || to < from {
            return Err(FileProblem::Place { name, from, to, expected: next });
        }
        let (bits, dtype) = element(&info.dtype)?;
        let expected = bytes(&info.shape.0, bits);
        if to - from != expected {
            return Err(FileProblem::Size { name, given: to - from, expected });
        }
        next = to;
        let shape = info.shape.0.iter().map(|&side| side as usize).collect();
        stored.push(StoredTensor { name, dtype, shape, offset: start + from });
    }
    match start.checked_add(next) {
        Some(expected) if expected == length => Ok(stored),
        expected => Err(FileProblem::Length { given: length, expected: expected.unwrap_or(u64::MAX) }),
    }
}

/// Reads JSON; what is wrong with it becomes a [`FileProblem`].
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, FileProblem> {
    serde_json::from_slice(json).map_err(|error| {
        let reason = error.to_string();
        match reason.strip_prefix(REPEATED) {
            // The reader adds the place where it noticed.
            Some(name) => {
                FileProblem::Duplicate { name: name.rsplit_once(" at line ").map_or(name, |(name, _)| name).to_owned() }
            }
            None => FileProblem::Header { reason },
        }
    })
}

/// Bytes of a tensor, `u64::MAX` if more than can be counted or if they are no whole number. Sides beside a side of zero
/// must be countable, too: others take their product in any order.
fn bytes(shape: &[u64], bits: u64) -> u64 {
    let full = shape.iter().filter(|side| **side > 0).try_fold(1u64, |product, side| product.checked_mul(*side));
    let elements = full.map(|full| if shape.contains(&0) { 0 } else { u128::from(full) });
    let bits = elements.and_then(|elements| elements.checked_mul(u128::from(bits)));
    bits.filter(|bits| bits.is_multiple_of(8)).and_then(|bits| u64::try_from(bits / 8).ok()).unwrap_or(u64::MAX)
}

/// Bits of an element, and its type.
fn element(name: &str) -> Result<(u64, StoredType), FileProblem> {
    Ok(match name {
        "F64" => (64, StoredType::F64),
        "F32" => (32, StoredType::F32),
        "F16" => (16, StoredType::F16),
        "BF16" => (16, StoredType::BF16),
        other => {
            let bits = match other {
                "F4" => 4,
                "F6_E2M3" | "F6_E3M2" => 6,
                "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
                "I16" | "U16" => 16,
                "I32" | "U32" => 32,
                "I64" | "U64" | "C64" => 64,
                _ => return Err(FileProblem::Header { reason: format!("`{other}` is no type of elements") }),
            };
            (bits, StoredType::Other(other.to_owned()))
        }
    })
}

/// The descriptions of the tensors, in the order of the header.
struct Header(Vec<(String, Info)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut entries, mut described) = (Vec::new(), false);
                while let Some(name) = map.next_key::<String>()? {
                    if name != METADATA {
                        entries.push((name, map.next_value()?));
                    } else if described {
                        return Err(A::Error::custom(format_args!("{REPEATED}{METADATA}")));
                    } else {
                        let Unique(_) = map.next_value::<Unique<String>>()?;
                        described = true;
                    }
                }
                refuse_repeated(&entries)?;
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// A shape, of few dimensions: a long list of ones would take more memory than the file has bytes.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shape")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut sides = Vec::new();
                while let Some(side) = list.next_element::<u64>()? {
                    if sides.len() == MOST_DIMENSIONS {
                        return Err(A::Error::custom(format_args!(
                            "a shape of more than {MOST_DIMENSIONS} dimensions"
                        )));
                    }
                    sides.push(side);
                }
                Ok(Shape(sides))
            }
        }
        deserializer.deserialize_seq(Sides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a header that promises `data` bytes behind it and is right about that.
    fn read(json: &str, data: u64) -> Result<Vec<StoredTensor>, FileProblem> {
        read_header(json.as_bytes(), 8 + json.len() as u64 + data)
    }

    fn tensor(shape: &str, from: u64, to: u64) -> String {
        format!(r#"{{"dtype": "F16", "shape": {shape}, "data_offsets": [{from}, {to}]}}"#)
    }

    #[test]
    fn tensors_are_described_in_the_order_of_their_data() {
        let (a, b, empty) = (tensor("[2, 3]", 4, 16), tensor("[2]", 0, 4), tensor("[3, 0]", 4, 4));
        let json = format!(r#"{{"__metadata__": {{"format": "pt"}}, "a": {a}, "b": {b}, "none": {empty}}}"#);
        let tensors = read(&json, 16).unwrap();
        let names: Vec<_> = tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["b", "none", "a"]);
        let start = 8 + json.len() as u64;
        let expected = StoredTensor { name: "a".into(), dtype: StoredType::F16, shape: vec![2, 3], offset: start + 4 };
        assert_eq!(tensors[2], expected);
        assert!(read("{}", 0).unwrap().is_empty());
    }

    #[test]
    fn overlaps_holes_and_reversed_places_are_refused() {
        for (a, b) in [((0, 4), (2, 6)), ((0, 4), (6, 10)), ((2, 6), (6, 10)), ((0, 4), (0, 4)), ((0, 4), (4, 0))] {
            let json = format!(r#"{{"a": {}, "b": {}}}"#, tensor("[2]", a.0, a.1), tensor("[2]", b.0, b.1));
            let problem = read(&json, a.1.max(b.1)).unwrap_err();
            assert!(matches!(problem, FileProblem::Place { .. }), "{a:?} {b:?}: {problem}");
        }
    }

    #[test]
    fn lies_about_sizes_are_refused() {
        let most = u64::MAX;
        for (shape, given, expected) in [
            ("[3]".to_owned(), 4, 6),
            ("[]".to_owned(), 4, 2),
            (format!("[{most}]"), 4, most),
            (format!("[{most}, {most}]"), 4, most),
            ("[4294967296, 4294967296]".to_owned(), 0, most),
        ] {
            let json = format!(r#"{{"a": {}}}"#, tensor(&shape, 0, given));
            let problem = read(&json, given).unwrap_err();
            assert_eq!(problem, FileProblem::Size { name: "a".into(), given, expected }, "{shape}");
        }
        let json = format!(r#"{{"a": {}}}"#, tensor("[2]", 0, 4));
        for data in [0, 3, 5, 1 << 40] {
            let given = 8 + json.len() as u64 + data;
            let expected = 8 + json.len() as u64 + 4;
            assert_eq!(read(&json, data).unwrap_err(), FileProblem::Length { given, expected });
        }
        let huge = format!(r#"{{"a": {}}}"#, tensor("[9223372036854775807]", 0, most - 1));
        assert!(matches!(read(&huge, 0).unwrap_err(), FileProblem::Length { expected: u64::MAX, .. }));
    }

    #[test]
    fn names_may_not_repeat() {
        let (a, b) = (tensor("[2]", 0, 4), tensor("[2]", 4, 8));
        let problem = read(&format!(r#"{{"a": {a}, "a": {b}}}"#), 8).unwrap_err();
        assert_eq!(problem, FileProblem::Duplicate { name: "a".into() });
        let problem = read(r#"{"__metadata__": {}, "__metadata__": {}}"#, 0).unwrap_err();
        assert_eq!(problem, FileProblem::Duplicate { name: METADATA.into() });
        let problem = read(r#"{"__metadata__": {"x": "1", "x": "2"}}"#, 0).unwrap_err();
        assert_eq!(problem, FileProblem::Duplicate { name: "x".into() });
        let twice = r#"{"a": {"dtype": "F16", "dtype": "F32", "shape": [1], "data_offsets": [0, 2]}}"#;
        assert!(matches!(read(twice, 2).unwrap_err(), FileProblem::Header { .. }));
    }

    #[test]
    fn other_json_and_bad_utf_8_are_refused() {
        let deep = "[".repeat(100_000);
        let long = format!(r#"{{"a": {}}}"#, tensor("[1,1,1,1,1,1,1,1,1]", 0, 2));
        for json in [
            "",
            "[]",
            "{",
            r#"{"a": 1}"#,
            r#"{"a": {"dtype": "F16", "shape": [1]}}"#,
            r#"{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2], "more": 1}}"#,
            r#"{"a": {"dtype": "F17", "shape": [1], "data_offsets": [0, 2]}}"#,
            r#"{"a": {"dtype": "F16", "shape": [-1], "data_offsets": [0, 2]}}"#,
            r#"{"a": {"dtype": "F16", "shape": [1.5], "data_offsets": [0, 2]}}"#,
            r#"{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2, 4]}}"#,
            r#"{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 99999999999999999999]}}"#,
            r#"{"__metadata__": {"format": 1}}"#,
            "{} {}",
            &deep,
            &format!(r#"{{"a": {deep}}}"#),
            &long,
        ] {
            let problem = read(json, 2).unwrap_err();
            let start: String = json.chars().take(60).collect();
            assert!(matches!(problem, FileProblem::Header { .. }), "{start}: {problem}");
        }
        let bad = b"{\"a\xff\": 1}";
        assert!(matches!(read_header(bad, 8 + bad.len() as u64).unwrap_err(), FileProblem::Header { .. }));
    }

    #[test]
    fn types_that_are_no_weights_are_known_by_name() {
        let json = r#"{"a": {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [0, 3]}}"#;
        assert_eq!(read(json, 3).unwrap()[0].dtype, StoredType::Other("F8_E4M3".into()));
        let odd = r#"{"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}"#;
        assert!(matches!(read(odd, 1).unwrap_err(), FileProblem::Size { .. }));
    }
}
