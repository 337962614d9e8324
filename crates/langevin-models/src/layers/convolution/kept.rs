//! Transforms of weights that are kept from one call to the next.

use std::fmt;
#[cfg(any(feature = "flex", feature = "cube"))]
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Device;
#[cfg(any(feature = "flex", feature = "cube"))]
use burn::tensor::Tensor;

/// What a weight was transformed to.
#[cfg(any(feature = "flex", feature = "cube"))]
#[derive(Debug, Clone)]
pub(crate) enum Transform {
    #[cfg(feature = "flex")]
    Cpu(Arc<langevin_kernels::convolution::TransformedKernels>),
    /// `[entries, input, output]`
    #[cfg(feature = "cube")]
    Gpu(Box<Tensor<3>>),
}

/// The transforms of the last weight that was asked for, one for each size of tiles, if they are to be kept. Clones share them.
///
/// For Burn it is a module that shows its mappers a flag, by which [`keep_transforms`](crate::layers::keep_transforms) finds it.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    is_on: bool,
    #[cfg(any(feature = "flex", feature = "cube"))]
    last: Arc<Mutex<Option<Of>>>,
}

#[cfg(any(feature = "flex", feature = "cube"))]
struct Of {
    /// Held, so that nobody writes to its memory: as long as a weight lies there, it is this one.
    weight: Tensor<4>,
    transforms: Vec<Transform>,
}

impl Kept {
    /// Itself, if transforms are to be kept.
    pub(crate) fn if_on(&self) -> Option<&Self> {
        self.is_on.then_some(self)
    }
}

#[cfg(any(feature = "flex", feature = "cube"))]
impl Kept {
    /// What is kept is whole whenever it is there.
    fn lock(&self) -> MutexGuard<'_, Option<Of>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
        let found = |kept: &Option<Of>| {
            let of = kept.as_ref().filter(|of| is_same(&of.weight, weight))?;
            of.transforms.iter().find(|transform| fits(transform)).cloned()
        };
        if let Some(found) = found(&self.lock()) {
            return Some(found);
        }
        // Not under the lock: a thread of a pool that waits for its share of this may be given another call of the same layer.
        let made = make()?;
        let mut kept = self.lock();
        if let Some(found) = found(&kept) {
            return Some(found);
        }
        match kept.as_mut().filter(|of| is_same(&of.weight, weight)) {
            Some(of) => of.transforms.push(made.clone()),
            None => *kept = Some(Of { weight: weight.clone(), transforms: vec![made.clone()] }),
        }
        Some(made)
    }
}

impl Module for Kept {
    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let is_on = mapper.map_flag(Param::from_bool(self.is_on)).is_enabled();
        // Who keeps nothing more lets go of what was kept.
        let mut kept = if is_on { self } else { Self::default() };
        kept.is_on = is_on;
        kept
    }

    fn visit<V: ModuleVisitor>(&self, _: &mut V) {}

    fn to_device(self, _: &Device) -> Self {
        self
    }

    fn fork(self, _: &Device) -> Self {
        self
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        devices
    }

    fn materialize(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn train(self) -> Self {
        self
    }
}

impl ModuleDisplayDefault for Kept {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.is_on).optional()
    }
}

impl ModuleDisplay for Kept {}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(any(feature = "flex", feature = "cube"))]
        return write!(f, "Kept({})", self.lock().as_ref().map_or(0, |of| of.transforms.len()));
        #[cfg(not(any(feature = "flex", feature = "cube")))]
        write!(f, "Kept")
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
