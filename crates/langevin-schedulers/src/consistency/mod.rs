//! Few-step solvers for distilled networks, whose answers are good from anywhere to the end.

mod lcm;
mod multistep;
mod resize;
mod scalewise;
mod tcd;

pub use lcm::Lcm;
pub use multistep::Multistep;
pub use resize::Resize;
pub use scalewise::Scalewise;
pub use tcd::Tcd;
