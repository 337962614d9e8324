//! Headers of safetensors files: whatever is accepted describes bytes of the file, each once.
#![no_main]

use langevin_fuzz::format::{LARGEST_HEADER, StoredType, read_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (u16, &[u8])| {
    let (rest, header) = data;
    assert!((header.len() as u64) < LARGEST_HEADER);
    let length = 8 + header.len() as u64 + u64::from(rest);
    let Ok(tensors) = read_header(header, length) else { return };
    let mut at = 8 + header.len() as u64;
    for tensor in &tensors {
        assert_eq!(tensor.offset, at);
        let size = match &tensor.dtype {
            StoredType::F64 => 8,
            StoredType::F32 => 4,
            StoredType::F16 | StoredType::BF16 => 2,
            // Of unknown width: the next tensor says where it ends.
            StoredType::Other(_) => return,
        };
        at += size * tensor.shape.iter().product::<usize>() as u64;
    }
    assert_eq!(at, length);
});
