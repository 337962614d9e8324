//! Values of published configurations that are one for all levels, or one for each.

use serde::{Deserialize, Serialize};

use crate::error::ModelError;

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
#[serde(untagged)]
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
    /// [`ModelError::Config`] for `field` if there are values for another number of levels.
    pub fn levels(&self, field: &'static str, count: usize) -> Result<Vec<T>, ModelError> {
        match self {
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
    pub(super) fn reversed(&self) -> Self {
        match self {
            Self::Same(value) => Self::Same(value.clone()),
            Self::Each(values) => Self::Each(values.iter().rev().cloned().collect()),
        }
    }
}

impl<T> From<T> for PerLevel<T> {
    fn from(value: T) -> Self {
        Self::Same(value)
    }
}

/// The kind of a level of a network for video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoLevel {
    /// Residual blocks, and what the network has over frames beside them.
    Plain,
    /// With attention to the text or image, too.
    Attention,
}

/// Reads and writes levels under the two names that a class has for them, as a serde module.
macro_rules! level_names {
    ($module:ident, $plain:literal, $attention:literal) => {
        pub(super) mod $module {
            use super::VideoLevel;
            use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

            pub fn serialize<S: Serializer>(levels: &[VideoLevel], serializer: S) -> Result<S::Ok, S::Error> {
                let name = |level: &VideoLevel| match level {
                    VideoLevel::Plain => $plain,
                    VideoLevel::Attention => $attention,
                };
                levels.iter().map(name).collect::<Vec<_>>().serialize(serializer)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VideoLevel>, D::Error> {
                let level = |name: String| match name.as_str() {
                    $plain => Ok(VideoLevel::Plain),
                    $attention => Ok(VideoLevel::Attention),
                    other => Err(D::Error::unknown_variant(other, &[$plain, $attention])),
                };
                Vec::<String>::deserialize(deserializer)?.into_iter().map(level).collect()
            }
        }
    };
}

level_names!(down_3d, "DownBlock3D", "CrossAttnDownBlock3D");
level_names!(up_3d, "UpBlock3D", "CrossAttnUpBlock3D");
level_names!(down_motion, "DownBlockMotion", "CrossAttnDownBlockMotion");
level_names!(up_motion, "UpBlockMotion", "CrossAttnUpBlockMotion");
level_names!(down_spatio_temporal, "DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal");
level_names!(up_spatio_temporal, "UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal");

/// Height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sides {
    /// Of squares.
    Square(usize),
    /// Height, width.
    Both([usize; 2]),
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
