//! What can be wrong with a weights file.

/// One way in which a weights file or an index of such files is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// The file is shorter or longer than its header says, usually a download that stopped.
    #[error("it has {given} bytes where {expected} were expected: it is truncated or damaged, get it again")]
    Length {
        /// Bytes that the file has.
        given: u64,
        /// Bytes that its header asks for.
        expected: u64,
    },
    /// The header says that it is larger than headers may be.
    #[error("its header claims {size} bytes, allowed are {limit}")]
    HeaderTooLarge {
        /// The size it claims.
        size: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// The header or the index is not the JSON that it should be: another structure, bad UTF-8, a missing field.
    #[error("its header cannot be read: {reason}")]
    Header {
        /// What the JSON reader says.
        reason: String,
    },
    /// A tensor is described twice, perhaps once under an old name.
    #[error("`{name}` is there twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Shape and type of a tensor ask for another number of bytes than it has.
    #[error("`{name}` has {given} bytes, its shape and type ask for {expected}")]
    Size {
        /// The tensor.
        name: String,
        /// Bytes that it has.
        given: u64,
        /// Bytes that its shape and type ask for, `u64::MAX` if more than can be counted.
        expected: u64,
    },
    /// The data of a tensor does not begin where that of the one before it ends, or it ends before it begins.
    #[error(
        "`{name}` has the bytes {from} to {to} where {expected} is the next free one: tensors overlap or leave holes"
    )]
    Place {
        /// The tensor.
        name: String,
        /// First byte, from the start of the data.
        from: u64,
        /// First byte after it.
        to: u64,
        /// Where the data should have begun.
        expected: u64,
    },
    /// An index names a file that is not a plain name beside the index.
    #[error("it names the file `{name}`: allowed are files of the same folder, by their name alone")]
    FileName {
        /// The name.
        name: String,
    },
    /// Index and files disagree about where a tensor is.
    #[error("the index and the file `{file}` disagree: `{name}` is only in one of them")]
    Index {
        /// The tensor.
        name: String,
        /// The file that the index names or that has the tensor.
        file: String,
    },
    /// A PyTorch file is not the archive that PyTorch writes.
    #[error("it is not an archive as PyTorch saves them: {reason}")]
    Archive {
        /// What is wrong with it.
        reason: String,
    },
    /// The pickle of a PyTorch file has instructions that weights do not need, or cannot be read.
    #[error("its pickle cannot be read: {reason}")]
    Pickle {
        /// What is wrong with it.
        reason: String,
    },
    /// The pickle of a PyTorch file names something that could run code. Nothing was run.
    #[error(
        "its pickle asks for `{name}`, which could run code; if you trust it, load it in Python and save its tensors \
         as safetensors"
    )]
    Code {
        /// What it names.
        name: String,
    },
    /// A PyTorch file, which is read with the feature `pytorch`.
    #[error("it is a PyTorch file: enable the feature `pytorch` of langevin, or save it as safetensors")]
    PytorchFeature,
}
