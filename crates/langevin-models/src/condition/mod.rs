//! What networks are told beside the state and the time.

mod control;
mod labels;
mod text;

pub use control::ControlCondition;
pub use labels::Labels;
pub(crate) use text::Part;
pub use text::TextCondition;
