//! Cases of `score_sde/`.

use crate::fixture::Case;
use crate::outcome::{Outcome, Unsupported};

pub fn run(case: &Case<'_>) -> Outcome {
    Err(Unsupported(case.class().to_owned()))
}
