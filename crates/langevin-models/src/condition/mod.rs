//! What networks are told beside the state and the time.

mod control;
mod labels;
mod parts;
mod text;

pub use control::ControlCondition;
pub use labels::Labels;
pub(crate) use parts::{Part, rows_of};
pub use text::TextCondition;
pub(crate) use text::each_frame;
