//! What can come of a case.

/// The case asks for something that is not there, with the reason.
#[derive(Debug)]
pub struct Unsupported(pub String);

/// A case that ran (its comparisons are in the case), or that cannot.
pub type Outcome = Result<(), Unsupported>;
