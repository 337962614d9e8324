//! A look at a pickle without running it.
//!
//! A pickle is a program: it may name any function and have it called. Pickles of weights name a few of torch's, and
//! those are all that is let through here. The tensors themselves are then described by a reader that calls
//! nothing either; this look comes first, so that a file with code in it is refused by name and not half read.

use super::{FileProblem, LARGEST_PICKLE};

/// The most instructions of a pickle; a tensor takes about 25.
const MOST_INSTRUCTIONS: usize = 500_000;

/// What a pickle of weights may name.
const NAMES: [(&str, &[&str]); 4] = [
    ("collections", &["OrderedDict"]),
    ("torch._utils", &["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"]),
    ("torch.storage", &["TypedStorage", "UntypedStorage"]),
    (
        "torch",
        &[
            "FloatStorage",
            "HalfStorage",
            "BFloat16Storage",
            "DoubleStorage",
            "LongStorage",
            "IntStorage",
            "ShortStorage",
            "CharStorage",
            "ByteStorage",
            "BoolStorage",
            "Size",
            "device",
            "float32",
            "float16",
            "bfloat16",
            "float64",
            "int64",
            "int32",
            "int16",
            "int8",
            "uint8",
            "bool",
        ],
    ),
];

/// Checks the pickle at the beginning of `bytes` and returns its length.
///
/// # Errors
///
/// * [`FileProblem::Code`] for a name that is not one of those that weights need;
/// * [`FileProblem::Pickle`] for instructions that weights do not need, and for a pickle that is cut off or too long.
pub fn scan_pickle(bytes: &[u8]) -> Result<usize, FileProblem> {
    let mut reader = Reader { bytes, at: 0 };
    for _ in 0..MOST_INSTRUCTIONS {
        let at = reader.at;
        let [code] = *reader.take(1)? else { return Err(cut()) };
        match code {
            b'.' => return Ok(reader.at),
            // Protocols up to 3; later ones put names together while they run.
            0x80 => match *reader.take(1)? {
                [0..=3] => {}
                _ => return Err(wrong("it has a protocol above 3, save it with torch's default")),
            },
            // Empty and marked collections, None, True, False, and what puts them together.
            b'}' | b'(' | b')' | b']' | b'N' | 0x88 | 0x89 => {}
            b't' | 0x85..=0x87 | b'l' | b'd' | b'a' | b'e' | b's' | b'u' | b'0' => {}
            // A call of a name that was let through, the state of an object, the place of a tensor's data.
            b'R' | b'b' | b'Q' => {}
            // Numbers.
            b'K' => reader.skip(1)?,
            b'M' => reader.skip(2)?,
            b'J' => reader.skip(4)?,
            b'G' => reader.skip(8)?,
            0x8a => reader.skip_counted(1)?,
            // Texts and bytes.
            b'X' | b'T' | b'B' => reader.skip_counted(4)?,
            b'U' | b'C' => reader.skip_counted(1)?,
            // The memory of the program.
            b'q' | b'h' => reader.skip(1)?,
            b'r' | b'j' => reader.skip(4)?,
            b'c' => {
                let (module, name) = (reader.line()?, reader.line()?);
                let known = NAMES.iter().any(|(of, names)| *of == module && names.contains(&name));
                if !known {
                    return Err(FileProblem::Code { name: format!("{module}.{name}") });
                }
            }
            other => return Err(wrong(format!("instruction {other:#04x} at byte {at} is not one that weights need"))),
        }
    }
    Err(wrong(format!("it has more than {MOST_INSTRUCTIONS} instructions")))
}

/// Checks the five pickles that files of PyTorch before 1.6 begin with.
///
/// # Errors
///
/// Those of [`scan_pickle`].
pub fn scan_legacy(bytes: &[u8]) -> Result<(), FileProblem> {
    let mut at = 0;
    for _ in 0..5 {
        at += scan_pickle(&bytes[at..])?;
    }
    if at as u64 > LARGEST_PICKLE {
        return Err(FileProblem::HeaderTooLarge { size: at as u64, limit: LARGEST_PICKLE });
    }
    Ok(())
}

fn wrong(reason: impl Into<String>) -> FileProblem {
    FileProblem::Pickle { reason: reason.into() }
}

fn cut() -> FileProblem {
    wrong("it is cut off")
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], FileProblem> {
        let end = self.at.checked_add(count).ok_or_else(cut)?;
        let bytes = self.bytes.get(self.at..end).ok_or_else(cut)?;
        self.at = end;
        Ok(bytes)
    }

    fn skip(&mut self, count: usize) -> Result<(), FileProblem> {
        self.take(count).map(|_| ())
    }

    /// Skips what begins with its own length.
    fn skip_counted(&mut self, width: usize) -> Result<(), FileProblem> {
        let length = self.take(width)?.iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte));
        self.skip(length)
    }

    fn line(&mut self) -> Result<&'a str, FileProblem> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(256).position(|byte| *byte == b'\n').ok_or_else(cut)?;
        let line = std::str::from_utf8(&rest[..length]).map_err(|_| wrong("a name is no UTF-8"))?;
        self.at += length + 1;
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"a": value}` around instructions that make the value.
    fn with(value: &[u8]) -> Result<usize, FileProblem> {
        scan_pickle(&[b"\x80\x02}q\x00X\x01\x00\x00\x00a", value, b"s."].concat())
    }

    #[test]
    fn weights_are_let_through_and_the_rest_of_the_bytes_is_not_looked_at() {
        let tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQK\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR";
        let length = with(tensor).unwrap();
        let more = [b"\x80\x02}q\x00X\x01\x00\x00\x00a", &tensor[..], b"s.garbage"].concat();
        assert_eq!(scan_pickle(&more).unwrap(), length);
        assert_eq!(length, more.len() - 7);
        with(b"ctorch\nbfloat16\n").unwrap();
        with(b"]q\x01(K\x01M\x02\x00J\x03\x00\x00\x00G\x00\x00\x00\x00\x00\x00\x00\x00\x8a\x01\x07N\x88\x89U\x01xC\x01ye").unwrap();
    }

    #[test]
    fn code_is_refused_by_name() {
        for (module, name) in [
            ("os", "system"),
            ("builtins", "eval"),
            ("__builtin__", "exec"),
            ("posix", "system"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch.storage", "_load_from_bytes"),
            ("torch._utils", "_rebuild_sparse_tensor"),
            ("collections", "OrderedDict.__reduce__"),
            ("numpy.core.multiarray", "scalar"),
            ("", ""),
        ] {
            let call = [b"c", module.as_bytes(), b"\n", name.as_bytes(), b"\nX\x02\x00\x00\x00id\x85R"].concat();
            assert_eq!(with(&call).unwrap_err(), FileProblem::Code { name: format!("{module}.{name}") });
        }
    }

    #[test]
    fn other_ways_to_call_or_to_name_are_refused() {
        // INST, OBJ, NEWOBJ, NEWOBJ_EX, EXT1, EXT2, EXT4, STACK_GLOBAL, PERSID, buffers, text numbers.
        for code in
            [b'i', b'o', 0x81, 0x92, 0x82, 0x83, 0x84, 0x93, b'P', 0x97, 0x98, b'I', b'L', b'F', b'S', b'V', 0xff]
        {
            let problem = with(&[code]).unwrap_err();
            assert!(matches!(problem, FileProblem::Pickle { .. }), "{code:#x}: {problem}");
        }
        for protocol in [4, 5, 255] {
            assert!(matches!(scan_pickle(&[0x80, protocol, b'.']).unwrap_err(), FileProblem::Pickle { .. }));
        }
    }

    #[test]
    fn what_is_cut_off_or_lies_about_lengths_is_refused() {
        let whole =
            b"\x80\x02ccollections\nOrderedDict\nX\x02\x00\x00\x00abG\x00\x00\x00\x00\x00\x00\x00\x00\x8a\x02\x01\x02.";
        assert_eq!(scan_pickle(whole).unwrap(), whole.len());
        for length in 0..whole.len() {
            assert!(matches!(scan_pickle(&whole[..length]).unwrap_err(), FileProblem::Pickle { .. }), "{length}");
        }
        for lie in [&b"X\xff\xff\xff\xff"[..], b"B\xff\xff\xff\x7f", b"U\xff", b"\x8a\xff", b"c\xff\n\n", b"cx"] {
            assert!(matches!(with(lie).unwrap_err(), FileProblem::Pickle { .. }));
        }
        assert!(matches!(scan_pickle(&vec![b'N'; 1 << 20]).unwrap_err(), FileProblem::Pickle { .. }));
        assert!(matches!(scan_legacy(b"N.N.N.N.").unwrap_err(), FileProblem::Pickle { .. }));
        scan_legacy(b"N.N.N.N.N.").unwrap();
    }
}
