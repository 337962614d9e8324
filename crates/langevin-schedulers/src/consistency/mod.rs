//! Few-step solvers for distilled networks, whose answers are good from anywhere to the end.

mod lcm;
mod multistep;
mod tcd;

pub use lcm::Lcm;
pub use multistep::Multistep;
pub use tcd::Tcd;
