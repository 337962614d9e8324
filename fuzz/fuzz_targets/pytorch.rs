//! PyTorch files: the look at archive and pickle, and behind it the reader, on whatever passes the look.
#![no_main]

use langevin_fuzz::format::{read_archive, scan_legacy, scan_pickle};
use libfuzzer_sys::fuzz_target;
use std::io::{Cursor, Write};

fuzz_target!(|bytes: &[u8]| {
    let passes = if bytes.starts_with(b"PK") {
        read_archive(Cursor::new(bytes), bytes.len() as u64)
            .and_then(|pickle| Ok(scan_pickle(&pickle)? == pickle.len()))
            .unwrap_or(false)
    } else {
        scan_legacy(bytes).is_ok()
    };
    if !passes {
        return;
    }
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    let Ok(reader) = pytorch_reader::PytorchReader::new(file.path()) else { return };
    for tensor in reader.tensors().values() {
        // Views that repeat their elements are refused by the library at this point.
        if tensor.byte_len() <= bytes.len() {
            let _ = tensor.read().map(|data| assert_eq!(data.len(), tensor.byte_len()));
        }
    }
});
