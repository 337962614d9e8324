//! Indices of sharded weights: no accepted index names a file outside of its folder.
#![no_main]

use langevin_fuzz::format::read_index;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|json: &[u8]| {
    let Ok(index) = read_index(json) else { return };
    let folder = Path::new("/folder");
    for file in &index.files {
        let path = folder.join(file);
        assert_eq!(path.parent(), Some(folder), "{file:?}");
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(file.as_str()));
    }
    assert!(index.tensors.iter().all(|(_, file)| *file < index.files.len()));
});
