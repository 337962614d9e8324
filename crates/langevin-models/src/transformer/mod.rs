//! Transformers over patches, tokens and embeddings, with diffusers' names, configurations and weights.

mod checks;
pub mod dit;
pub mod flux;
pub mod pixart;
pub mod sd3;
mod streams;

pub use dit::{DiT, DiTConfig};
pub use flux::{Flux, FluxConfig, FluxTokens};
pub use pixart::{PixArt, PixArtConfig};
pub use sd3::{Sd3, Sd3Config};
