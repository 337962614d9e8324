//! Data sets for diffusion models and their preparation.
//!
//! A diffusion model sees its data only as batches of tensors in `[-1, 1]` (images) or of unit variance (vectors).
//! This crate has the parts that bring data there, each of them a pure function of its inputs and of a seed:
//!
//! * [`digits`]: 1797 real handwritten digits, embedded in the crate, so that tests and examples need no download.
//! * [`ImageFolder`], [`idx`], [`csv`], [`npy`]: your own files.
//! * [`ImageSet`] and [`VectorSet`]: labeled data in memory; [`toys`]: the usual distributions in the plane.
//! * [`DataSet`]: what a trainer needs of a data set; write it for your own source of data.
//! * [`stratified_split`] (and `split` on the sets), [`BatchOrder`]: who is trained on, and in which order.
//! * [`scale`]: pixels to `[-1, 1]` and back; [`ImageGrid`]: many images as one PNG.
//!
//! # Example
//!
//! ```
//! use burn::tensor::Device;
//! use langevin_data::{BatchOrder, DataSet, digits};
//!
//! # fn main() -> Result<(), langevin_data::DataError> {
//! let split = digits()?.split(0.9, 7)?;
//! let order = BatchOrder::new(split.train.len(), 64, 7)?;
//! for (step, indices) in order.batches_from(0).take(2).enumerate() {
//!     let batch = split.train.batch(&indices, &Device::flex())?;
//!     assert_eq!(batch.x.dims(), [64, 1, 8, 8], "step {step}");
//!     assert_eq!(batch.labels.map(|labels| labels.len()), Some(64));
//! }
//! # Ok(())
//! # }
//! ```

mod atomic;
mod dataset;
mod digits;
mod error;
mod file;
mod grid;
mod image_set;
mod order;
mod rng;
mod rows;
pub mod scale;
mod split;
mod statistics;
pub mod toys;
mod vector_set;

pub use dataset::{Batch, DataSet};
pub use digits::digits;
pub use error::DataError;
pub use file::{FileError, Fit, ImageFolder, LoadedImages, Problem, csv, idx, npy};
pub use grid::{ImageGrid, Raster, beside};
pub use image_set::ImageSet;
pub use order::{BatchOrder, Batches, batch_indices, permutation};
pub use split::{Split, stratified_split};
pub use statistics::Statistics;
pub use vector_set::{Standardization, VectorSet};
