//! What networks are told beside the state and the time.

mod labels;
mod text;

pub use labels::Labels;
pub(crate) use text::Part;
pub use text::TextCondition;
