//! Kernels for the CPU: convolution, affine maps, attention, normalization and activations of `f32` numbers in slices,
//! with their gradients; images of twice and half the size; weighted sums; Adam's update; and 16-bit floats to `f32` and back.
//!
//! They are what the layers of langevin compute with on Burn's backend for the CPU, and know neither tensors nor backends. They
//! share their work, as far as sizes allow, among the threads of the rayon pool that they are called in, and use the widest
//! vectors that the processor has: [`pulp`] picks their instructions at run time, which loops are compiled to or name, and [`gemm`] multiplies matrices. Results do not depend on the number of threads. A thread keeps up to
//! 64 MiB of scratch memory for its next call, all of a pool together up to 512 MiB.
//!
//! Slices are in the order of their shapes' axes, the last axis side by side. A slice of a length that does not belong to the
//! sizes is a mistake of the caller's, and panics.

pub mod activation;
pub mod adam;
pub mod attention;
pub mod convolution;
mod exponential;
pub mod halves;
pub mod linear;
pub mod normalization;
mod product;
pub mod resampling;
pub mod rows;
mod scratch;
pub mod sums;
#[cfg(test)]
mod testing;
mod vectors;
