//! Networks that steer a text-conditional UNet by images: ControlNets and T2I adapters.

mod adapter;
mod config;
mod controlled;
mod controlnet;

pub use adapter::{AdapterBlock, AdapterBody, AdapterKind, AdapterResnet, T2iAdapter, T2iAdapterConfig};
pub use config::{ChannelOrder, ControlNetConfig};
pub use controlled::Controlled;
pub use controlnet::{ControlEmbedding, ControlNet, ControlOptions};
