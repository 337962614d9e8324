//! Watching what the sub-modules of a network return.

use std::fmt::Display;

use burn::tensor::{Tensor, TensorData};

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
