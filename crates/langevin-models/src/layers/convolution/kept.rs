//! Transforms of weights that are kept from one call to the next.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;

/// What a weight was transformed to.
#[cfg_attr(not(any(feature = "flex", feature = "cube")), expect(dead_code, reason = "no device has transforms"))]
#[derive(Debug, Clone)]
pub(crate) enum Transform {
    #[cfg(feature = "flex")]
    Cpu(Arc<langevin_kernels::convolution::TransformedKernels>),
    /// `[entries, input, output]`
    #[cfg(feature = "cube")]
    Gpu(Tensor<3>),
}

/// The transforms of the last weight that was asked for, one for each size of tiles. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<Of>>>);

struct Of {
    /// Held, so that nobody writes to its memory: as long as a weight lies there, it is this one.
    weight: Tensor<4>,
    transforms: Vec<Transform>,
}

#[cfg(any(feature = "flex", feature = "cube"))]
impl Kept {
    /// The transform of a weight that fits; it is made and kept if there is none. `None` if none is made, and for a weight whose memory
    /// cannot be told from another's: one with a place in a graph of gradients, or of another backend.
    pub(crate) fn transform(
        &self,
        weight: &Tensor<4>,
        fits: impl Fn(&Transform) -> bool,
        make: impl FnOnce() -> Option<Transform>,
    ) -> Option<Transform> {
        if !is_same(weight, weight) {
            return None;
        }
        // What is kept is whole whenever it is there.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.as_ref().is_some_and(|of| is_same(&of.weight, weight)) {
            *kept = None;
        }
        if let Some(found) = kept.as_ref().and_then(|of| of.transforms.iter().find(|transform| fits(transform))) {
            return Some(found.clone());
        }
        let made = make()?;
        let of = kept.get_or_insert_with(|| Of { weight: weight.clone(), transforms: Vec::new() });
        of.transforms.push(made.clone());
        Some(made)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Kept({})", kept.as_ref().map_or(0, |of| of.transforms.len()))
    }
}

/// Whether two tensors are the same numbers in the same memory.
#[cfg(any(feature = "flex", feature = "cube"))]
fn is_same(a: &Tensor<4>, b: &Tensor<4>) -> bool {
    #[cfg(feature = "flex")]
    if crate::cpu::is_same(a, b) {
        return true;
    }
    #[cfg(feature = "cube")]
    if langevin_gpu::is_same(a, b) {
        return true;
    }
    false
}
