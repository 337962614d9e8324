//! What the headers of weight files say: bytes in, plain structs out.
//!
//! Nothing here knows a network, a tensor or the rest of this crate, so that a fuzzer compiles this folder alone. No
//! header is believed: what it says about sizes is compared with the file before anything is allocated for it.

#[cfg(feature = "pytorch")]
mod archive;
mod config;
mod index;
#[cfg(feature = "pytorch")]
mod pickle;
mod problem;
mod safetensors;
mod unique;

#[cfg(feature = "pytorch")]
pub use archive::read_archive;
pub use config::{ConfigProblem, parse_object, read_object};
pub use index::read_index;
#[cfg(feature = "pytorch")]
pub use pickle::{scan_legacy, scan_pickle};
pub use problem::FileProblem;
pub use safetensors::read_header;

/// The most bytes that a header or an index may have; the limit of the safetensors format itself.
pub const LARGEST_HEADER: u64 = 100_000_000;
/// The most bytes that the pickle of a PyTorch file may have; it describes tensors and does not hold them.
#[cfg(feature = "pytorch")]
pub const LARGEST_PICKLE: u64 = 1 << 24;
/// The most dimensions that a stored tensor may have.
pub const MOST_DIMENSIONS: usize = 8;

/// A tensor that is described by a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub dtype: StoredType,
    /// Its shape.
    pub shape: Vec<usize>,
    /// First byte of its data, from the start of the file.
    pub offset: u64,
}

/// Type of the elements of a stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredType {
    /// 64 bits.
    F64,
    /// 32 bits.
    F32,
    /// 16 bits, half precision.
    F16,
    /// 16 bits, brain float.
    BF16,
    /// Integers and floats that weights are not read from, by name: `I64`, `F8_E4M3`.
    Other(String),
}

impl StoredType {
    /// Its name in safetensors headers.
    pub fn name(&self) -> &str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Other(name) => name,
        }
    }
}
