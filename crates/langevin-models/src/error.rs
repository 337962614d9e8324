//! What can go wrong when a network is configured, loaded or called.

use std::path::PathBuf;

use burn::tensor::DType;
use safetensors::SafeTensorError;

use crate::weights::FileProblem;

/// An error of this crate. Every message says what was given, what was expected and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A field of a configuration has a value with which the network cannot be built.
    #[error("`{field}` is {given}, expected {expected}")]
    Config {
        /// Name of the configuration field.
        field: &'static str,
        /// The value that was given.
        given: String,
        /// What the field accepts.
        expected: String,
    },

    /// A published configuration has keys that this crate does not know. Ignoring them could build a
    /// different network than the one that was trained.
    #[error("the configuration of `{class}` has unknown keys: {}; remove them if they do not change the network", .keys.join(", "))]
    UnknownKeys {
        /// The class whose configuration was read.
        class: &'static str,
        /// The unknown keys, sorted.
        keys: Vec<String>,
    },

    /// A published configuration asks for something that exists but is not implemented here.
    #[error("`{key}` = {value} is not supported; supported: {supported}")]
    Unsupported {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The values that are supported.
        supported: &'static str,
    },

    /// A key of a published configuration has a value of the wrong type.
    #[error("`{key}` = {value} of `{class}` cannot be read: {reason}")]
    BadValue {
        /// The class whose configuration was read.
        class: &'static str,
        /// The configuration key.
        key: String,
        /// Its value as JSON.
        value: String,
        /// What the JSON reader says.
        reason: String,
    },

    /// The configuration belongs to another class.
    #[error("the configuration is of a `{given}`, expected `{expected}`: load it with that class")]
    WrongClass {
        /// The class this loader builds.
        expected: &'static str,
        /// The class named by the configuration.
        given: String,
    },

    /// A configuration file is not a JSON object.
    #[error("the configuration of `{class}` is not a JSON object: {reason}")]
    Json {
        /// The class whose configuration was read.
        class: &'static str,
        /// What the JSON reader says.
        reason: String,
    },

    /// The configuration file of a model folder is refused.
    #[error("`{}`: {problem}", .path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in the words of the file: its keys, not the fields of the configuration made from it.
        problem: Box<ModelError>,
    },

    /// A tensor given to a network has the wrong shape.
    #[error("`{what}` has shape {given:?}, expected {expected}")]
    Shape {
        /// Which argument.
        what: &'static str,
        /// The shape it has.
        given: Vec<usize>,
        /// The shapes that fit.
        expected: String,
    },

    /// The condition does not have one row for each sample of the batch.
    #[error(
        "the condition has {given} rows for a batch of {batch}: {}",
        if *.batch == 0 { "give at least one sample" } else { "give one row for each sample" }
    )]
    Rows {
        /// Rows of the condition.
        given: usize,
        /// Samples in the batch.
        batch: usize,
    },

    /// A class index is not below the number of classes.
    #[error("class {label} in row {row} is out of range: the network knows {classes} classes, 0 to {}", .classes.saturating_sub(1))]
    ClassOutOfRange {
        /// Row of the condition.
        row: usize,
        /// The class index that was given.
        label: usize,
        /// Number of classes of the network, without the "no class" row.
        classes: usize,
    },

    /// A token is not in the vocabulary.
    #[error(
        "token {token} at position {position} of row {row} is out of range: the vocabulary has {vocabulary} tokens, \
         0 to {}; the text was split by another network's tokenizer",
        .vocabulary.saturating_sub(1)
    )]
    TokenOutOfRange {
        /// Row of the batch.
        row: usize,
        /// Position in the row.
        position: usize,
        /// The token.
        token: u32,
        /// Number of tokens that the network knows.
        vocabulary: usize,
    },

    /// A tokenizer cannot be read or does not do what is asked.
    #[error("the tokenizer `{}` cannot be used: {reason}", .path.display())]
    Tokenizer {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// "No class" was asked of a network that has no embedding for it.
    #[error(
        "row {row} asks for no class, but the network was built without a \"no class\" row: \
         give a class, or build it with such a row (`UNet2dConfig::classes` and `MlpConfig::classes` do)"
    )]
    NoNullClass {
        /// Row of the condition.
        row: usize,
    },

    /// The condition is of another kind than the network takes.
    #[error("the condition holds {given}, but the network takes {expected}")]
    ConditionKind {
        /// What the condition holds.
        given: &'static str,
        /// What the network takes.
        expected: &'static str,
    },

    /// Conditions of different kinds cannot be concatenated.
    #[error("cannot concatenate a condition that holds {left} with one that holds {right}")]
    MixedConditions {
        /// Kind of the first part.
        left: &'static str,
        /// Kind of the part that does not fit.
        right: &'static str,
    },

    /// The network, or the condition that this one is put beside, has a part that is missing here.
    #[error("the condition has no `{part}`, which it needs here: set it with `TextCondition::{part}`")]
    MissingPart {
        /// The part.
        part: &'static str,
    },

    /// The network does not know a part of the condition.
    #[error("the condition has a `{part}`, which this network does not know: leave it out")]
    UnknownPart {
        /// The part.
        part: &'static str,
    },

    /// A condition holds a number that is NaN or infinite.
    #[error("the value {value} in row {row} of the condition is not finite")]
    NotFinite {
        /// Row of the condition.
        row: usize,
        /// The value.
        value: f64,
    },

    /// A time is not a row of the network's table of steps.
    #[error("time {time} is not a step of the network: give a whole number from 0 to {}", .steps.saturating_sub(1))]
    StepOutOfRange {
        /// The time.
        time: f64,
        /// Number of steps of the network.
        steps: usize,
    },

    /// An index is not a row of the network's codebook.
    #[error("code {index} is out of range: the codebook has {codes} entries, 0 to {}", .codes.saturating_sub(1))]
    CodeOutOfRange {
        /// The index that was given.
        index: i64,
        /// Number of entries of the codebook.
        codes: usize,
    },

    /// A file could not be read or written.
    #[error("cannot access `{}`: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A weights file, or the index of several, breaks its format.
    #[error("`{}` is no weights file to trust: {problem}", .path.display())]
    WeightsFile {
        /// The file.
        path: PathBuf,
        /// In which way.
        problem: FileProblem,
    },

    /// A folder has no weights under a name that is looked for.
    #[error(
        "`{}` has no weights: looked for {}, found {}; a part like `.fp16` in a name is asked for with `Load::variant`",
        .folder.display(), .expected.join(" and "), if .found.is_empty() { "nothing".to_owned() } else { .found.join(", ") }
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// The first names that were looked for.
        expected: Vec<String>,
        /// Files that look like weights.
        found: Vec<String>,
    },

    /// A folder has several sets of weights, and nothing says which to take.
    #[error("`{}` has several sets of weights: {}; remove all but one, or give the path of a file", .folder.display(), .found.join(", "))]
    SeveralWeights {
        /// The folder.
        folder: PathBuf,
        /// Files and indices that are weights on their own.
        found: Vec<String>,
    },

    /// A file of a model folder is a link that leads out of it.
    #[error("`{}` leads out of its folder, to `{}`: give that path itself if it is meant", .path.display(), .target.display())]
    OutsideFolder {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },

    /// Weights could not be written as safetensors.
    #[error("`{}` cannot be written as safetensors: {source}", .path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the safetensors writer says.
        source: SafeTensorError,
    },

    /// The weights file does not fit the network.
    #[error("`{}` does not fit the network: {mismatch}", .path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Everything that does not fit.
        mismatch: WeightMismatch,
    },

    /// The parts that a network is put together from do not have what it needs.
    #[error("the parts do not make a `{what}`: {mismatch}")]
    Parts {
        /// The network.
        what: &'static str,
        /// Everything that does not fit.
        mismatch: WeightMismatch,
    },

    /// A parameter or stored tensor has an element type that weights cannot have.
    #[error("`{name}` is stored as {dtype}, expected F64, F32, F16 or BF16")]
    StoredType {
        /// Name of the tensor.
        name: String,
        /// Its element type.
        dtype: String,
    },

    /// The asked element type is not a float type that the device computes with.
    #[error("the device cannot compute in {dtype:?}: ask for another `Load::dtype`")]
    ComputeType {
        /// The asked type.
        dtype: DType,
    },
}

/// Fields of a configuration, each with the key that the published file has for it. Fields that are not listed are
/// called in the file as they are here.
pub(crate) type Keys = [(&'static str, &'static str)];

/// Reads or checks a configuration for those who call its fields otherwise: an error names the key that is to be changed.
pub(crate) fn told_by_key<T>(keys: &Keys, read: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    let key = |field| keys.iter().find(|(ours, _)| *ours == field).map_or(field, |(_, key)| *key);
    let words = |text: String| {
        keys.iter().fold(text, |text, (ours, key)| text.replace(&format!("`{ours}`"), &format!("`{key}`")))
    };
    read().map_err(|error| match error {
        ModelError::Config { field, given, expected } => {
            ModelError::Config { field: key(field), given, expected: words(expected) }
        }
        other => other,
    })
}

/// Everything in which a weights file differs from the network that it is loaded into. A message shows the first of each
/// kind; the lists have them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeightMismatch {
    /// Parameters of the network that the file does not have.
    pub missing: Vec<String>,
    /// Tensors of the file that the network does not have.
    pub unused: Vec<String>,
    /// Tensors that both have, with different shapes.
    pub misshapen: Vec<Misshapen>,
}

/// A tensor whose stored shape is not the shape of the parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// Name of the parameter.
    pub name: String,
    /// Shape in the file.
    pub stored: Vec<usize>,
    /// Shape of the parameter.
    pub expected: Vec<usize>,
}

impl WeightMismatch {
    /// Whether the file fits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.misshapen.is_empty()
    }
}

impl std::fmt::Display for WeightMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} missing, {} unused, {} misshapen", self.missing.len(), self.unused.len(), self.misshapen.len())?;
        list(f, &self.missing, |f, name| write!(f, "\n  missing   {name}"))?;
        list(f, &self.unused, |f, name| write!(f, "\n  unused    {name}"))?;
        list(f, &self.misshapen, |f, m| {
            write!(f, "\n  misshapen {}: stored {:?}, expected {:?}", m.name, m.stored, m.expected)
        })
    }
}

/// The entries of a list that a message shows.
const SHOWN: usize = 12;

/// Writes the first entries, and how many there are more.
fn list<T>(
    f: &mut std::fmt::Formatter<'_>,
    entries: &[T],
    write: impl Fn(&mut std::fmt::Formatter<'_>, &T) -> std::fmt::Result,
) -> std::fmt::Result {
    // One more costs the same line as to say that there is one.
    let shown = if entries.len() <= SHOWN + 1 { entries.len() } else { SHOWN };
    entries[..shown].iter().try_for_each(|entry| write(f, entry))?;
    match entries.len() - shown {
        0 => Ok(()),
        more => write!(f, "\n  … and {more} more"),
    }
}

/// The largest size: that of configurations in files, too. Products of three of them are counted without overflow.
const LARGEST_SIZE: usize = 1 << 20;

/// Checks that a size of a configuration is at least one, and not beyond that of any network.
pub(crate) fn at_least_one(field: &'static str, given: usize) -> Result<(), ModelError> {
    if given == 0 {
        return Err(ModelError::Config { field, given: "0".into(), expected: "at least 1".into() });
    }
    at_most(LARGEST_SIZE, field, given)
}

/// The largest number of layers: that of configurations in files, too.
pub(crate) const MOST_LAYERS: usize = 1 << 12;

/// Checks the number of layers of a kind, of which there is one at least.
pub(crate) fn layer_count(field: &'static str, given: usize) -> Result<(), ModelError> {
    layer_limit(field, given)?;
    at_least_one(field, given)
}

/// Checks the number of layers of a kind, of which there may be none.
pub(crate) fn layer_limit(field: &'static str, given: usize) -> Result<(), ModelError> {
    at_most(MOST_LAYERS, field, given)
}

/// Checks the number of levels of resolution, each of which but one halves the sides.
pub(crate) fn level_count(field: &'static str, given: usize) -> Result<(), ModelError> {
    at_most(32, field, given)?;
    at_least_one(field, given)
}

fn at_most(most: usize, field: &'static str, given: usize) -> Result<(), ModelError> {
    if given > most {
        return Err(ModelError::Config { field, given: given.to_string(), expected: format!("at most {most}") });
    }
    Ok(())
}

/// Checks that heads share a width evenly.
pub(crate) fn whole_heads(field: &'static str, heads: usize, width: usize) -> Result<(), ModelError> {
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(ModelError::Config {
            field,
            given: heads.to_string(),
            expected: format!("a divisor of the width {width}"),
        });
    }
    Ok(())
}

/// Checks that a float of a configuration is finite and above zero.
pub(crate) fn positive(field: &'static str, given: f64) -> Result<(), ModelError> {
    if !(given > 0.0 && given.is_finite()) {
        return Err(ModelError::Config { field, given: given.to_string(), expected: "a finite number above 0".into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_in_messages_and_kept_in_the_error() {
        let names = |count: usize| (0..count).map(|i| format!("layer.{i}.weight")).collect::<Vec<_>>();
        let mismatch = WeightMismatch { missing: names(SHOWN + 1), unused: names(SHOWN + 200), misshapen: Vec::new() };
        let text = mismatch.to_string();
        assert!(text.starts_with(&format!("{} missing, {} unused, 0 misshapen", SHOWN + 1, SHOWN + 200)), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("  missing")).count(), SHOWN + 1);
        assert_eq!(text.lines().filter(|line| line.starts_with("  unused")).count(), SHOWN);
        assert!(text.ends_with("\n  … and 200 more"), "{text}");
    }

    #[test]
    fn errors_about_files_speak_of_keys() {
        let read = || -> Result<(), ModelError> {
            let expected = "one for each of the 2 levels in `channels`".into();
            Err(ModelError::Config { field: "down", given: "3 blocks".into(), expected })
        };
        let keys: &Keys = &[("channels", "block_out_channels"), ("down", "down_block_types")];
        assert_eq!(
            told_by_key(keys, read).unwrap_err().to_string(),
            "`down_block_types` is 3 blocks, expected one for each of the 2 levels in `block_out_channels`"
        );
        assert_eq!(told_by_key(&[], read).unwrap_err().to_string(), read().unwrap_err().to_string());
    }

    #[test]
    fn sizes_have_two_ends() {
        at_least_one("width", LARGEST_SIZE).unwrap();
        for given in [0, LARGEST_SIZE + 1, 1 << 62, usize::MAX] {
            assert!(matches!(at_least_one("width", given), Err(ModelError::Config { field: "width", .. })), "{given}");
        }
    }
}
