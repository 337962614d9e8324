//! Denoisers: what solvers ask.
//!
//! A [`Network`] is what models implement; bound to a prediction and a [`Condition`] it becomes a [`Denoiser`],
//! which answers a [`Query`] with an [`Estimate`]. The levels in the query say all that is needed of a process. Guidance, thresholding and the like wrap one
//! denoiser in another, in an explicit order.

mod answers;
mod bound;
mod combine;
mod composed;
mod constraint;
mod each;
mod energy;
mod estimate;
mod gradient;
mod guided;
mod projection;
#[cfg(test)]
mod testing;
mod threshold;

pub use answers::{Answers, Conditions, Several};
pub use bound::{Bound, FromFn, SelfCondition, from_fn};
pub use composed::Composed;
pub use constraint::{Clamp, ConstraintFn, constraint_fn};
pub(crate) use energy::check_gradient;
pub use energy::{Energy, EnergyFn, EnergyGuided, energy_fn};
pub use estimate::{Estimate, EstimateParts};
pub use gradient::{Graded, check_autodiff, gradient, pull_back};
pub use guided::Guided;
pub use projection::Projection;
pub use threshold::{Threshold, Thresholded};

use crate::exact::ExactError;
use crate::inverse::InverseError;
use crate::level::{Level, Levels};
use crate::noise::{NoiseError, NoiseSource};
use crate::prediction::{Prediction, PredictionError};
use burn::tensor::{DType, Tensor};

/// A question: what is clean and what is noise in `x`?
pub struct Query<'a, const D: usize> {
    /// The state, `[batch, ..]`.
    pub x: Tensor<D>,
    /// The level of each sample.
    pub levels: &'a Levels,
    /// Estimates of earlier steps, oldest first; as many as [`Denoiser::memory`] asks for, fewer at the start.
    pub past: &'a [Estimate<D>],
    /// Randomness, for denoisers that need it.
    pub noise: &'a dyn NoiseSource,
}

/// Answers queries. `&T` and `Box<T>` forward; closures become denoisers through [`from_fn`].
pub trait Denoiser<const D: usize>: Send + Sync {
    /// Estimates the clean sample and the noise in `query.x`.
    ///
    /// # Errors
    /// [`DenoiseError`]: wrong shapes or conditions, or a failure inside a network.
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError>;

    /// How many estimates of earlier steps this denoiser wants to see in [`Query::past`].
    fn memory(&self) -> usize {
        0
    }

    /// Answers for several states of the same samples: `states[i]`, each `[batch, ..]`, at `levels[i]`. A bound network is
    /// called once for all of them; denoisers that do not know better are asked one after the other. None of them sees
    /// earlier estimates.
    ///
    /// # Errors
    /// As [`denoise`](Self::denoise).
    fn denoise_each(
        &self,
        states: &[Tensor<D>],
        levels: &[Level],
        noise: &dyn NoiseSource,
    ) -> Result<Vec<Estimate<D>>, DenoiseError> {
        let ask = |(x, level): (&Tensor<D>, &Level)| {
            self.denoise(Query { x: x.clone(), levels: &Levels::Shared(*level), past: &[], noise })
        };
        states.iter().zip(levels).map(ask).collect()
    }

    /// Whether x̂_0 and ε̂ answer different questions, so that only a sampler that goes on from the two alone
    /// (`x' = a·x̂_0 + b·ε̂ + noise`, as DDIM does) makes sense of them: true of CFG++. Combinators forward it.
    fn is_split(&self) -> bool {
        false
    }

    /// What autodiff does not see through, by name: guidance by a gradient, of which there is no second one. What takes gradients
    /// through a denoiser ([`gradient`], and with it DPS, ΠGDM and energies of x̂_0) refuses such a one, for its gradient would
    /// lack a part. Combinators forward it.
    fn beyond_autodiff(&self) -> Option<&'static str> {
        None
    }

    /// What makes x̂_0 or ε̂ another than the output says, by name: thresholds, known values, CFG++. What works on outputs
    /// (rescaled guidance, CFG-Zero*) refuses such a one. Combinators forward it.
    fn beyond_output(&self) -> Option<&'static str> {
        None
    }

    /// What makes x̂_0 another than ε̂ says, by name: thresholds and known values that leave ε̂ as it was. A sampler that reads ε̂
    /// alone would not see it, and refuses such a one. Combinators forward it, unless they make ε̂, or what they add to it, of x̂_0: there
    /// it is seen.
    fn beyond_eps(&self) -> Option<&'static str> {
        None
    }

    /// Checks a batch's shape, `[batch, ..]`, before a run starts: the sample's shape, the rows of conditions, labels.
    ///
    /// # Errors
    /// [`DenoiseError`] if states of this shape could not be answered.
    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        let _ = shape;
        Ok(())
    }
}

impl<const D: usize, T: Denoiser<D> + ?Sized> Denoiser<D> for &T {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        (**self).denoise(query)
    }
    fn memory(&self) -> usize {
        (**self).memory()
    }
    fn denoise_each(
        &self,
        states: &[Tensor<D>],
        levels: &[Level],
        noise: &dyn NoiseSource,
    ) -> Result<Vec<Estimate<D>>, DenoiseError> {
        (**self).denoise_each(states, levels, noise)
    }
    fn is_split(&self) -> bool {
        (**self).is_split()
    }
    fn beyond_autodiff(&self) -> Option<&'static str> {
        (**self).beyond_autodiff()
    }
    fn beyond_output(&self) -> Option<&'static str> {
        (**self).beyond_output()
    }
    fn beyond_eps(&self) -> Option<&'static str> {
        (**self).beyond_eps()
    }
    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        (**self).check(shape)
    }
}

impl<const D: usize, T: Denoiser<D> + ?Sized> Denoiser<D> for Box<T> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        (**self).denoise(query)
    }
    fn memory(&self) -> usize {
        (**self).memory()
    }
    fn denoise_each(
        &self,
        states: &[Tensor<D>],
        levels: &[Level],
        noise: &dyn NoiseSource,
    ) -> Result<Vec<Estimate<D>>, DenoiseError> {
        (**self).denoise_each(states, levels, noise)
    }
    fn is_split(&self) -> bool {
        (**self).is_split()
    }
    fn beyond_autodiff(&self) -> Option<&'static str> {
        (**self).beyond_autodiff()
    }
    fn beyond_output(&self) -> Option<&'static str> {
        (**self).beyond_output()
    }
    fn beyond_eps(&self) -> Option<&'static str> {
        (**self).beyond_eps()
    }
    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        (**self).check(shape)
    }
}

/// Combinators that every denoiser has.
pub trait DenoiserExt<const D: usize>: Denoiser<D> + Sized {
    /// Keeps x̂_0 in range; ε̂ stays the network's unless
    /// [`rederive_eps`](Thresholded::rederive_eps) is called.
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] for a range, quantile or maximum that makes no sense.
    fn thresholded(self, threshold: Threshold) -> Result<Thresholded<Self>, DenoiseError> {
        Thresholded::new(self, threshold)
    }

    /// Autoguidance (Karras et al. 2024): `worse + scale·(self − worse)`, away from a smaller or less trained network
    /// that makes the same errors more strongly. It is [`Guided`] with `worse` in place of the unconditional answer, and
    /// takes two calls.
    ///
    /// ```
    /// use burn::tensor::Tensor;
    /// use langevin_core::{DenoiserExt, Prediction, denoiser::from_fn};
    /// let main = from_fn(Prediction::Sample, |x: Tensor<2>, _levels| Ok(x.mul_scalar(0.9)));
    /// let worse = from_fn(Prediction::Sample, |x: Tensor<2>, _levels| Ok(x.mul_scalar(0.5)));
    /// let guided = DenoiserExt::<2>::autoguided(main, worse, 2.0)?;
    /// # Ok::<(), langevin_core::DenoiseError>(())
    /// ```
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless the scale is finite.
    fn autoguided<U: Denoiser<D>>(self, worse: U, scale: f64) -> Result<Guided<Several<U, Self>>, DenoiseError> {
        Guided::new(Several::new(worse, vec![self]), scale)
    }

    /// Composition of denoisers (Liu et al. 2022): `ε̂ + Σ weight·(ε̂ of other − ε̂)`, where ε̂ is the answer of `self`.
    /// Positive weights are a conjunction ("and"), negative ones a negation ("not"). Each denoiser is asked by itself;
    /// for conditions of one network [`Bound::composed`] takes one call.
    ///
    /// # Errors
    /// [`DenoiseError::Empty`] for no others, [`DenoiseError::Setting`] for a weight that is not finite.
    fn composed_with<U: Denoiser<D>>(self, others: Vec<(U, f64)>) -> Result<Composed<Several<Self, U>>, DenoiseError> {
        let (others, weights) = others.into_iter().unzip();
        Composed::new(Several::new(self, others), weights)
    }
}

impl<const D: usize, T: Denoiser<D>> DenoiserExt<D> for T {}

/// What a network is told beside the state: labels, text, control images.
pub trait Condition: Clone + Send + Sync {
    /// Rows it is for; `None` if it fits any batch.
    fn rows(&self) -> Option<usize>;

    /// The same condition with exactly `rows` rows; a single row is repeated.
    ///
    /// # Errors
    /// [`DenoiseError::ConditionRows`] if it has another number of rows, more than one.
    fn expand(&self, rows: usize) -> Result<Self, DenoiseError>;

    /// The rows of all parts behind one another.
    ///
    /// # Errors
    /// [`DenoiseError`] if the parts do not fit together.
    fn cat(parts: &[&Self]) -> Result<Self, DenoiseError>;
}

/// No condition.
impl Condition for () {
    fn rows(&self) -> Option<usize> {
        None
    }
    fn expand(&self, _rows: usize) -> Result<Self, DenoiseError> {
        Ok(())
    }
    fn cat(_parts: &[&Self]) -> Result<Self, DenoiseError> {
        Ok(())
    }
}

/// A network as models implement it.
pub trait Network<const D: usize>: Clone + Send + Sync {
    /// What it is told beside state and time.
    type Cond: Condition;

    /// The raw output for states `[batch, ..]` at network times `[batch]`.
    ///
    /// # Errors
    /// [`DenoiseError`] if shapes or the condition do not fit the network.
    fn forward(&self, x: Tensor<D>, time: Tensor<1>, cond: &Self::Cond) -> Result<Tensor<D>, DenoiseError>;

    /// The network as sampling wants it: no dropout, no gradients. For a Burn module this is `self.valid()`.
    fn for_sampling(&self) -> Self;

    /// Whether [`forward`](Self::forward) brings state and condition to the type of the parameters, and its output back to that of the state:
    /// `let y = layers(x.clone().cast(weight.dtype()), ..); y.cast(x.dtype())`. Times come in the type of the states and are best kept in `f32`
    /// until their features are made. Training in half precision asks: a network that does not, as is taken for granted, would end in a
    /// panic of Burn there.
    fn casts_input(&self) -> bool {
        false
    }

    /// The name of the first sub-module, in the order in which they run, whose output has a NaN or an infinity; none if all are finite,
    /// or if the network does not know the names of its parts. What a trainer says of a loss that is not finite.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn first_not_finite(
        &self,
        x: Tensor<D>,
        time: Tensor<1>,
        cond: &Self::Cond,
    ) -> Result<Option<String>, DenoiseError> {
        let _ = (x, time, cond);
        Ok(None)
    }

    /// What the shapes of the parameters do not show (dropout, heads, activations), as text: checkpoints of a network
    /// that says otherwise are refused.
    fn describe(&self) -> String {
        String::new()
    }

    /// How many classes it may be told of, if it is told of classes at all. A trainer asks, so that a network with classes is not
    /// trained on data without labels by oversight.
    fn known_classes(&self) -> Option<usize> {
        None
    }

    /// Checks one sample's shape, without the batch dimension, before a run starts.
    ///
    /// # Errors
    /// [`DenoiseError::Shape`] if the network cannot take it.
    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        let _ = sample;
        Ok(())
    }

    /// Checks a condition when it is bound, and again for the rows of a batch before a run starts: labels in range, of the kind that the
    /// network takes.
    ///
    /// # Errors
    /// [`DenoiseError`] naming what does not fit.
    fn check_condition(&self, cond: &Self::Cond) -> Result<(), DenoiseError> {
        let _ = cond;
        Ok(())
    }

    /// Binds the network to a prediction and a condition; it then answers on any process.
    ///
    /// # Errors
    /// [`DenoiseError::Prediction`] if the prediction's settings are bad, [`DenoiseError::EmptyCondition`] for a condition without rows,
    /// and what [`check_condition`](Self::check_condition) says of the condition.
    fn denoiser(&self, prediction: Prediction, cond: Self::Cond) -> Result<Bound<Self, D>, DenoiseError>
    where
        Self: Sized,
    {
        Bound::new(self, prediction, cond)
    }
}

/// Where a committed step has led: what a [`Constraint`] may know beside the state.
#[derive(Clone, Copy)]
pub struct After<'a> {
    /// Where the samples are now.
    pub levels: &'a Levels,
    /// Number of the step, from 0.
    pub step: usize,
    /// Global number of the first sample of the batch.
    pub first_sample: u64,
    /// Randomness, for constraints that need it.
    pub noise: &'a dyn NoiseSource,
}

/// A map of the state after each committed step: inpainting's known region, projections.
pub trait Constraint<const D: usize>: Send + Sync {
    /// The state to go on with, of the same shape.
    ///
    /// # Errors
    /// [`DenoiseError`] if the constraint does not fit the state, or lacks noise.
    fn apply(&self, x: Tensor<D>, after: &After<'_>) -> Result<Tensor<D>, DenoiseError>;
}

/// What can go wrong when a denoiser is built or asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DenoiseError {
    /// The prediction has bad settings or is singular at the level.
    #[error(transparent)]
    Prediction(#[from] PredictionError),
    /// Noise could not be delivered.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// An exact problem has no answer.
    #[error(transparent)]
    Exact(#[from] ExactError),
    /// An operator, a measurement or a method for inverse problems cannot be used.
    #[error(transparent)]
    Inverse(#[from] InverseError),
    /// A tensor has the wrong shape.
    #[error("{what} has shape {given:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: String,
        /// Its shape.
        given: Vec<usize>,
        /// What was expected, in words.
        expected: String,
    },
    /// A tensor has another dtype than the states.
    #[error(
        "{what} is of {given:?}, and the states are of {states:?}: cast it, or start the run in its dtype (`Load::dtype`)"
    )]
    DType {
        /// Which tensor.
        what: &'static str,
        /// Its dtype.
        given: DType,
        /// That of the states.
        states: DType,
    },
    /// A condition for no samples.
    #[error("the condition has no rows: give one row, or one for each sample")]
    EmptyCondition,
    /// The condition's rows do not match the batch.
    #[error(
        "the condition has {condition} rows, the batch has {batch}: {}",
        if *.batch == 0 { "give at least one sample" } else { "give one row, or one for each sample" }
    )]
    ConditionRows {
        /// Rows of the condition.
        condition: usize,
        /// Rows of the batch.
        batch: usize,
    },
    /// Per-sample levels do not match the batch.
    #[error(
        "levels were given for {levels} samples, the batch has {batch}: give a shared level, or one for each sample"
    )]
    LevelRows {
        /// Number of levels.
        levels: usize,
        /// Rows of the batch.
        batch: usize,
    },
    /// A class label that the network does not know.
    #[error("class {given} is out of range: the network knows classes 0..{classes}")]
    Class {
        /// The label given.
        given: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A network was given a condition it has no use for, or lacks one it needs.
    #[error("the network {problem}")]
    Condition {
        /// What does not fit, as a clause: "was built without classes; …".
        problem: String,
    },
    /// A setting of a combinator is out of range.
    #[error("{setting} is {given}, expected {expected}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        given: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// A list that must not be empty.
    #[error("{what} is empty: give at least one")]
    Empty {
        /// Which list.
        what: &'static str,
    },
    /// Two parts that do not go together.
    #[error("{first} cannot be combined with {second}: {reason}")]
    Combination {
        /// One part.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// Why they do not, and what to do.
        reason: &'static str,
    },
    /// A gradient guides at a level without signal.
    #[error(
        "guidance by a gradient says nothing of x_0 at alpha = 0 (sigma = {sigma}, time {time}), where the state does not \
         depend on it: begin where there is some signal, for instance with `Grid::between`"
    )]
    PureNoise {
        /// σ of the level.
        sigma: f64,
        /// The network's time at the level.
        time: f64,
    },
    /// A gradient that guides has a NaN or an infinity.
    #[error(
        "the gradient of {of} is not finite: look at it near the state it was asked about, and at the guidance scale"
    )]
    GradientNotFinite {
        /// What was differentiated.
        of: &'static str,
    },
    /// A gradient could not be read from its device.
    #[error("the device could not be read: {message}")]
    Read {
        /// What the backend said.
        message: String,
    },
    /// An estimate was asked for a variance that the network does not predict.
    #[error(
        "the solver needs the network's predicted variance; bind it with `.with_learned_variance()`, or use a fixed variance"
    )]
    NoVariance,
    /// A derivative was asked for, but the answer is no function of the state that autodiff can see.
    #[error(
        "{what} does not depend on the state through tensor operations, so it has no gradient: compute it from `query.x` \
         without `detach`, `inner` or a detour over the host (a true constant is `x.mul_scalar(0.0)` plus the constant)"
    )]
    NoGradient {
        /// What was to be differentiated.
        what: &'static str,
    },
}

impl DenoiseError {
    /// The same error with the whole shape of a batch, where [`Network::check_shape`] has only seen that of a sample:
    /// what it expects is said with the batch.
    #[must_use]
    pub fn of_batch(self, shape: &[usize]) -> Self {
        match self {
            Self::Shape { what, given, expected } if shape.get(1..) == Some(given.as_slice()) => {
                Self::Shape { what, given: shape.to_vec(), expected }
            }
            other => other,
        }
    }
}
