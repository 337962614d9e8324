//! Transformers over patches, tokens and embeddings, with the names, configurations and weights of diffusers or of the
//! authors.

mod checks;
pub mod dit;
pub mod flux;
pub mod mdm;
pub mod pixart;
pub mod prior;
pub mod sd3;
mod streams;

pub use dit::{DiT, DiTConfig};
pub use flux::{Flux, FluxConfig, FluxTokens};
pub use mdm::{Mdm, MdmConfig};
pub use pixart::{PixArt, PixArtConfig};
pub use prior::{Prior, PriorConfig};
pub use sd3::{Sd3, Sd3Config};
