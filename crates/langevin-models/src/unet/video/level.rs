//! Names of the levels of networks for video.

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
