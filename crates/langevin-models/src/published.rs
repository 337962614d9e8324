//! Values of published configurations that have more than one form.

use serde::{Deserialize, Serialize};

use crate::error::{MOST_LAYERS, ModelError};

/// The entry of a table that has a published name.
pub(crate) fn named<T: Copy>(
    key: &'static str,
    name: &str,
    table: &[(&str, T)],
    supported: &'static str,
) -> Result<T, ModelError> {
    let entry = table.iter().find(|(known, _)| *known == name);
    entry.map(|(_, value)| *value).ok_or_else(|| unsupported(key, name, supported))
}

/// The first published name of a value that a table has.
pub(crate) fn name_of<T: PartialEq>(value: &T, table: &[(&str, T)]) -> Option<String> {
    table.iter().find(|(_, known)| known == value).map(|(name, _)| (*name).to_owned())
}

/// The name of a block; configurations that were written before the blocks were renamed have longer ones.
pub(crate) fn block_name(name: &str) -> &str {
    name.strip_prefix("UNetRes").unwrap_or(name)
}

/// An option of a published configuration that has no implementation.
pub(crate) fn unsupported(key: &'static str, value: impl ToString, supported: &'static str) -> ModelError {
    ModelError::Unsupported { key, value: value.to_string(), supported }
}

/// One value for all levels of a network, or one for each, finest first.
///
/// # Example
///
/// ```
/// use langevin_models::unet::video::PerLevel;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// assert_eq!(PerLevel::Same(5).levels("heads", 3)?, [5, 5, 5]);
/// assert_eq!(PerLevel::Each(vec![5, 10]).levels("heads", 2)?, [5, 10]);
/// assert!(PerLevel::Each(vec![5, 10]).levels("heads", 3).is_err());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected one value (a whole number, or true and false for a switch), or a list of such \
                                 values, one for each level"
)]
pub enum PerLevel<T> {
    /// One for each level. First, because a value may be a list itself.
    Each(Vec<T>),
    /// The same for all.
    Same(T),
}

impl<T: Clone> PerLevel<T> {
    /// The values of `count` levels.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] for `field` if there are values for another number of levels, or more levels than 4096.
    pub fn levels(&self, field: &'static str, count: usize) -> Result<Vec<T>, ModelError> {
        match self {
            Self::Same(_) if count > MOST_LAYERS => Err(ModelError::Config {
                field,
                given: format!("one value for each of {count}"),
                expected: format!("at most {MOST_LAYERS}"),
            }),
            Self::Same(value) => Ok(vec![value.clone(); count]),
            Self::Each(values) if values.len() == count => Ok(values.clone()),
            Self::Each(values) => Err(ModelError::Config {
                field,
                given: format!("a list of {}", values.len()),
                expected: format!("one value, or one for each of {count}"),
            }),
        }
    }

    /// The values in the other order.
    pub(crate) fn reversed(&self) -> Self {
        match self {
            Self::Same(value) => Self::Same(value.clone()),
            Self::Each(values) => Self::Each(values.iter().rev().cloned().collect()),
        }
    }
}

impl<T: Clone + PartialEq> PerLevel<T> {
    /// One value where all are the same.
    pub(crate) fn gather(values: Vec<T>) -> Self {
        match values.split_first() {
            Some((first, rest)) if rest.iter().all(|value| value == first) => Self::Same(first.clone()),
            _ => Self::Each(values),
        }
    }
}

impl<T> From<T> for PerLevel<T> {
    fn from(value: T) -> Self {
        Self::Same(value)
    }
}

/// Height and width, written as one number for squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a whole number for squares, or a list of two: height, width")]
pub enum Sides {
    /// Of squares.
    Square(usize),
    /// Height, width.
    Both([usize; 2]),
}

impl From<Sides> for [usize; 2] {
    fn from(sides: Sides) -> Self {
        match sides {
            Sides::Square(side) => [side, side],
            Sides::Both(both) => both,
        }
    }
}

impl From<[usize; 2]> for Sides {
    fn from([height, width]: [usize; 2]) -> Self {
        if height == width { Self::Square(height) } else { Self::Both([height, width]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_lists_are_told_from_lists() {
        type Nested = PerLevel<PerLevel<usize>>;
        let read = |json: &str| serde_json::from_str::<Nested>(json).unwrap();
        let layers = |json: &str| -> Vec<Vec<usize>> {
            let levels = read(json).levels("layers", 2).unwrap();
            levels.iter().map(|level| level.levels("layers", 3).unwrap()).collect()
        };
        assert_eq!(layers("2"), [[2, 2, 2], [2, 2, 2]]);
        assert_eq!(layers("[1, 2]"), [[1, 1, 1], [2, 2, 2]]);
        assert_eq!(layers("[[1, 2, 3], 4]"), [[1, 2, 3], [4, 4, 4]]);
        for json in ["2", "[1,2]", "[[1,2,3],4]"] {
            assert_eq!(serde_json::to_string(&read(json)).unwrap(), json);
        }
        assert_eq!(read("[[1, 2, 3], 4]").reversed(), read("[4, [1, 2, 3]]"));
    }
}
