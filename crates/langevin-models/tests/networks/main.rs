//! Every network as users meet it: built, loaded, saved, asked, trained and refused.

mod autoencoders;
mod bounds;
mod clip;
mod common;
mod config_files;
mod control;
mod edm2;
mod formula;
mod mlp;
mod parity;
mod published;
mod temporal_decoder;
mod text_encoders;
mod transformers;
mod unet;
mod unet1d;
mod unet_blocks;
mod unet_conditional;
mod video;
