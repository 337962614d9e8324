//! Watching what the sub-modules of a network return.

use std::fmt::Display;

use burn::tensor::{DType, Tensor, TensorData};

/// What a sub-module returned, by its rank.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Tapped<'a> {
    /// A `[batch, features]` tensor, as the time embedding returns.
    Rank2(&'a Tensor<2>),
    /// A `[batch, tokens, features]` tensor, as the projections of attention return.
    Rank3(&'a Tensor<3>),
    /// A `[batch, channels, height, width]` tensor.
    Rank4(&'a Tensor<4>),
    /// A `[batch, channels, frames, height, width]` tensor.
    Rank5(&'a Tensor<5>),
}

impl Tapped<'_> {
    /// The shape of the tensor.
    #[must_use]
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::Rank2(t) => t.dims().to_vec(),
            Self::Rank3(t) => t.dims().to_vec(),
            Self::Rank4(t) => t.dims().to_vec(),
            Self::Rank5(t) => t.dims().to_vec(),
        }
    }

    /// Copies the tensor to the host. This waits for the device.
    #[must_use]
    pub fn to_data(&self) -> TensorData {
        match self {
            Self::Rank2(t) => t.to_data(),
            Self::Rank3(t) => t.to_data(),
            Self::Rank4(t) => t.to_data(),
            Self::Rank5(t) => t.to_data(),
        }
    }
}

impl Tapped<'_> {
    /// Waits until the device has computed it: one value is read.
    pub(crate) fn wait(&self) {
        fn one<const D: usize>(tensor: &Tensor<D>) {
            let first = tensor.clone().slice(std::array::from_fn::<_, D, _>(|_| 0..1));
            first.into_data();
        }
        match self {
            Self::Rank2(t) => one(t),
            Self::Rank3(t) => one(t),
            Self::Rank4(t) => one(t),
            Self::Rank5(t) => one(t),
        }
    }

    /// Whether every number is finite. This waits for the device.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        fn finite<const D: usize>(tensor: &Tensor<D>) -> bool {
            // Zero times a number is zero, or NaN.
            tensor.clone().mul_scalar(0.0).sum().cast(DType::F32).into_scalar::<f32>() == 0.0
        }
        match self {
            Self::Rank2(t) => finite(t),
            Self::Rank3(t) => finite(t),
            Self::Rank4(t) => finite(t),
            Self::Rank5(t) => finite(t),
        }
    }
}

impl<'a> From<&'a Tensor<2>> for Tapped<'a> {
    fn from(tensor: &'a Tensor<2>) -> Self {
        Self::Rank2(tensor)
    }
}

impl<'a> From<&'a Tensor<3>> for Tapped<'a> {
    fn from(tensor: &'a Tensor<3>) -> Self {
        Self::Rank3(tensor)
    }
}

impl<'a> From<&'a Tensor<4>> for Tapped<'a> {
    fn from(tensor: &'a Tensor<4>) -> Self {
        Self::Rank4(tensor)
    }
}

impl<'a> From<&'a Tensor<5>> for Tapped<'a> {
    fn from(tensor: &'a Tensor<5>) -> Self {
        Self::Rank5(tensor)
    }
}

/// A callback that sees the output of every named sub-module of a network, in the order in which they
/// run. One mechanism serves comparisons with a reference, the search for a NaN and feature extraction.
///
/// Names are the module paths of the published network, such as `down_blocks.0.resnets.1.conv1`. A
/// module that returns several tensors is seen once for each, with its position appended: `down_blocks.0`
/// returns `(hidden, (skip, skip))`, seen as `down_blocks.0.0`, `down_blocks.0.1.0` and `down_blocks.0.1.1`.
///
/// # Example
///
/// ```
/// use langevin_models::Tap;
///
/// let mut names = Vec::new();
/// let mut see = |name: &str, _: langevin_models::Tapped<'_>| names.push(name.to_owned());
/// let mut tap = Tap::new(&mut see);
/// // network.forward_with(x, time, &cond, &mut tap)?;
/// ```
pub struct Tap<'a> {
    callback: Option<Callback<'a>>,
    path: String,
}

type Callback<'a> = &'a mut dyn FnMut(&str, Tapped<'_>);

impl std::fmt::Debug for Tap<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("listening", &self.callback.is_some()).field("path", &self.path).finish()
    }
}

impl<'a> Tap<'a> {
    /// A tap that calls `callback` with the name and the output of each sub-module.
    pub fn new(callback: &'a mut dyn FnMut(&str, Tapped<'_>)) -> Self {
        Self { callback: Some(callback), path: String::new() }
    }

    /// A tap that nobody listens to: what a plain forward pass uses. No name is ever built.
    #[must_use]
    pub fn none() -> Self {
        Self { callback: None, path: String::new() }
    }

    /// Whether somebody listens: what is computed for showing alone is worth it then.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.callback.is_some()
    }

    /// Runs a network, and names the first sub-module whose output has a NaN or an infinity: where numbers leave the range of half
    /// precision, or a division has gone wrong. Each output is summed up on its device and read back until one is found.
    ///
    /// # Example
    ///
    /// ```
    /// use langevin_models::{Tap, UNet2dConfig, Labels};
    /// use burn::tensor::Tensor;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let device = burn::tensor::Device::flex();
    /// let mut net = UNet2dConfig::images(1, 8).channels(&[32, 32]).init(&device)?;
    /// net.conv_in.weight = net.conv_in.weight.map(|weight| weight * f32::INFINITY);
    /// let (x, time) = (Tensor::<4>::ones([1, 1, 8, 8], &device), Tensor::<1>::zeros([1], &device));
    /// let (_, name) = Tap::first_not_finite(|tap| net.forward_with(x, time, &Labels::none(1), tap))?;
    /// assert_eq!(name.as_deref(), Some("conv_in"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the network.
    pub fn first_not_finite<T, E>(run: impl FnOnce(&mut Tap<'_>) -> Result<T, E>) -> Result<(T, Option<String>), E> {
        let mut found = None;
        let mut see = |name: &str, tensor: Tapped<'_>| {
            if found.is_none() && !tensor.is_finite() {
                found = Some(name.to_owned());
            }
        };
        let result = run(&mut Tap::new(&mut see))?;
        Ok((result, found))
    }

    /// Runs `inside` with `name` appended to the path.
    pub fn scope<R>(&mut self, name: impl Display, inside: impl FnOnce(&mut Self) -> R) -> R {
        if self.callback.is_none() {
            return inside(self);
        }
        let length = self.path.len();
        self.push(name);
        let result = inside(self);
        self.path.truncate(length);
        result
    }

    /// Shows the output of the sub-module `name` of the current path; an empty name is the path itself.
    pub fn see<'t>(&mut self, name: impl Display, tensor: impl Into<Tapped<'t>>) {
        if self.callback.is_none() {
            return;
        }
        let length = self.path.len();
        self.push(name);
        if let Some(callback) = &mut self.callback {
            callback(&self.path, tensor.into());
        }
        self.path.truncate(length);
    }

    fn push(&mut self, name: impl Display) {
        let length = self.path.len();
        self.path.push('.');
        self.path.push_str(&name.to_string());
        // An empty name leaves a lone dot, and the first name of a path has none before it.
        if self.path.len() == length + 1 {
            self.path.truncate(length);
        } else if length == 0 {
            self.path.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_first_output_that_is_not_finite_is_named() {
        let device = Device::flex();
        let outputs = [1.0, f32::NAN, f32::INFINITY].map(|v| Tensor::<2>::from_data([[0.5, v]], &device));
        let run = |tap: &mut Tap<'_>| {
            tap.scope("blocks", |tap| outputs.iter().enumerate().for_each(|(i, output)| tap.see(i, output)));
            Ok::<_, ()>(7)
        };
        assert_eq!(Tap::first_not_finite(run), Ok((7, Some("blocks.1".to_owned()))));
        let fine = |tap: &mut Tap<'_>| {
            tap.see("a", &outputs[0]);
            Ok::<_, ()>(())
        };
        assert_eq!(Tap::first_not_finite(fine), Ok(((), None)));
        assert_eq!(Tap::first_not_finite(|_| Err::<(), _>("refused")), Err("refused"));
    }

    #[test]
    fn names_follow_the_scopes() {
        let device = Device::flex();
        let x = Tensor::<2>::zeros([1, 3], &device);
        let mut seen = Vec::new();
        let mut callback = |name: &str, value: Tapped<'_>| seen.push((name.to_owned(), value.dims()));
        let mut tap = Tap::new(&mut callback);
        tap.scope("down_blocks", |tap| {
            tap.scope(0, |tap| {
                tap.see("resnets", &x);
                tap.see("", &x);
            });
        });
        tap.see("conv_out", &x);
        let names: Vec<_> = seen.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["down_blocks.0.resnets", "down_blocks.0", "conv_out"]);
        assert!(seen.iter().all(|(_, dims)| dims == &[1, 3]));
    }

    #[test]
    fn a_silent_tap_runs_the_scope() {
        let mut tap = Tap::none();
        assert_eq!(tap.scope("a", |_| 3), 3);
        assert!(!tap.is_listening() && Tap::new(&mut |_, _| ()).is_listening());
    }
}
