//! Few-step solvers for distilled networks, whose answers are good from anywhere to the end.

mod flow_map;
mod lcm;
mod multistep;
mod resize;
mod scalewise;
mod tcd;

pub use flow_map::{Along, FlowMap, MapFn, map_fn};
pub use lcm::Lcm;
pub use multistep::Multistep;
pub use resize::Resize;
pub use scalewise::Scalewise;
pub use tcd::Tcd;
