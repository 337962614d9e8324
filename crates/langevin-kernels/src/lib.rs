//! Kernels for the CPU: convolution, affine maps, attention, normalization and activations of `f32` numbers in slices,
//! with their gradients; and weighted sums.
//!
//! They are what the layers of langevin compute with on Burn's backend for the CPU, and know neither tensors nor backends. Each
//! runs on all threads of the rayon pool that it is called in, and uses the widest vectors that the processor has: loops are
//! written so that the compiler makes vector instructions of them, [`pulp`] picks those at run time, and [`gemm`] multiplies
//! matrices. Results do not depend on the number of threads.
//!
//! Slices are in the order of their shapes' axes, the last axis side by side. A slice of a length that does not belong to the
//! sizes is a mistake of the caller's, and panics.

pub mod activation;
pub mod attention;
pub mod convolution;
mod exponential;
pub mod linear;
pub mod normalization;
mod product;
mod scratch;
pub mod sums;
#[cfg(test)]
mod testing;
mod vectors;
