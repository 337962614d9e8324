//! What a network is trained for.

use crate::times::steps;
use crate::{Times, TrainError, Weighting};
use burn::tensor::Tensor;
use langevin_core::{DenoiseError, Level, Levels, Network, Prediction, Process};
use std::sync::Arc;

/// Points of a continuous process at which an objective is checked when it is built.
const PROBES: usize = 257;

/// Denoising as regression: noise the data to a random level, ask the network, weigh the squared error.
///
/// For data `x_0`, noise ε and a level (α, σ) drawn as [`Times`] says, the loss of one sample is
/// `w·mean((F(s·x_t, time) − target)²)` with `x_t = α·x_0 + σ·ε`; the target and the input scale `s` are those of the
/// [`Prediction`], the weight `w` that of the [`Weighting`]. Coefficients are `f64` on the host; a step sends them to the
/// device as one number a sample.
///
/// A prediction that is trainable everywhere on the process need not be samplable everywhere: ε on a chain with zero
/// terminal SNR trains, but its last step carries no information about x_0, and sampling from there is an error (use
/// v, flow or x_0). The variance is not learned: the loss is of the prediction alone.
///
/// ```
/// use langevin_core::Prediction;
/// use langevin_core::process::{RectifiedFlow, SubVpSde, VpSde};
/// use langevin_train::{Objective, Times, Weighting};
/// let objective = Objective::new(VpSde::default(), Prediction::Velocity)?
///     .weighting(Weighting::MinSnr(5.0))?
///     .times(Times::Stratified)?;
/// // Where there is no noise the score is infinite:
/// assert!(Objective::new(RectifiedFlow::new().range(0.0, 1.0)?, Prediction::Score).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Objective {
    process: Arc<dyn Process>,
    prediction: Prediction,
    weighting: Weighting,
    times: Times,
}

impl Objective {
    /// Regression on `prediction` along `process`, with [`Weighting::Constant`] and [`Times::Uniform`].
    ///
    /// # Errors
    /// [`TrainError::Prediction`] where the prediction has bad settings or no finite target (score at σ = 0, EDM at
    /// α = 0); [`TrainError::Process`] and [`TrainError::Level`] for a process whose numbers are not finite.
    pub fn new(process: impl Process + 'static, prediction: Prediction) -> Result<Self, TrainError> {
        let objective = Self {
            process: Arc::new(process),
            prediction: prediction.validate()?,
            weighting: Weighting::Constant,
            times: Times::Uniform,
        };
        langevin_core::process::validate(objective.process.as_ref())?;
        objective.check()?;
        Ok(objective)
    }

    /// Sets the loss weights.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a bad γ, [`TrainError::Weight`] where the weight is infinite on the process.
    pub fn weighting(mut self, weighting: Weighting) -> Result<Self, TrainError> {
        self.weighting = weighting.validate()?;
        self.check()?;
        Ok(self)
    }

    /// Sets how noise levels are drawn.
    ///
    /// # Errors
    /// [`TrainError::Times`] or [`TrainError::Setting`] if that is not possible on the process.
    pub fn times(mut self, times: Times) -> Result<Self, TrainError> {
        self.times = times.validate(self.process.as_ref())?;
        Ok(self)
    }

    /// The process.
    pub fn process(&self) -> &dyn Process {
        self.process.as_ref()
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The number the plain mean squared error is multiplied by at `level`.
    ///
    /// # Errors
    /// [`TrainError::Weight`] where it is infinite.
    pub fn weight(&self, level: &Level) -> Result<f64, TrainError> {
        self.weighting.weight(self.prediction, level)
    }

    /// The levels of the `rows` samples of step `step`: a pure function of its arguments, sample by sample.
    ///
    /// # Errors
    /// [`TrainError::Process`] if the process cannot invert its λ, which only [`Times::LogNormal`] asks for.
    pub fn levels(&self, seed: u64, step: u64, rows: usize) -> Result<Levels, TrainError> {
        Ok(self.times.levels(self.process.as_ref(), seed, step, rows)?)
    }

    /// The loss of a batch, `[1]`: data and noise `[batch, ..]`, one level for each sample.
    ///
    /// Gradients flow to the network's parameters if it is in training (`Module::train`).
    ///
    /// # Errors
    /// [`TrainError::Denoise`] if shapes, levels or the condition do not fit; [`TrainError::Prediction`] and
    /// [`TrainError::Weight`] at levels outside the process that are singular.
    pub fn loss<N: Network<D>, const D: usize>(
        &self,
        network: &N,
        x0: Tensor<D>,
        noise: Tensor<D>,
        levels: &Levels,
        cond: &N::Cond,
    ) -> Result<Tensor<1>, TrainError> {
        // Layers such as dropout ask the input whether training goes on, so it must be on the autodiff device too.
        self.regress(network, x0, noise, levels, cond, Tensor::from_inner)
    }

    /// The loss of held-out data, `[1]`: as [`loss`](Self::loss), for a network that samples (`Network::for_sampling`),
    /// without gradients.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn evaluate<N: Network<D>, const D: usize>(
        &self,
        network: &N,
        x0: Tensor<D>,
        noise: Tensor<D>,
        levels: &Levels,
        cond: &N::Cond,
    ) -> Result<Tensor<1>, TrainError> {
        self.regress(network, x0, noise, levels, cond, |tensor| tensor)
    }

    fn regress<N: Network<D>, const D: usize>(
        &self,
        network: &N,
        x0: Tensor<D>,
        noise: Tensor<D>,
        levels: &Levels,
        cond: &N::Cond,
        place: impl Fn(Tensor<D>) -> Tensor<D>,
    ) -> Result<Tensor<1>, TrainError> {
        let batch = x0.dims()[0];
        check_shapes(network, &x0, &noise, levels)?;
        let prediction = self.prediction;
        let x = self.noised(x0.clone(), noise.clone(), levels)?;
        let target_x0 = levels.try_map(|level| Ok::<_, TrainError>(prediction.target(level)?.x0))?;
        let target_eps = levels.try_map(|level| Ok::<_, TrainError>(prediction.target(level)?.eps))?;
        let weights = levels.try_map(|level| self.weight(level))?;
        let target = target_x0.times(x0).add(target_eps.times(noise));
        let (x, target) = (place(x), place(target));
        let time = levels.times(&x);
        let output = network.forward(x, time, cond)?;
        if output.dims() != target.dims() {
            let expected = format!("{:?}, the shape of the batch", target.dims());
            let given = output.dims().to_vec();
            return Err(DenoiseError::Shape { what: "the network's output".into(), given, expected }.into());
        }
        let (given, states) = (output.dtype(), target.dtype());
        if given != states {
            return Err(DenoiseError::DType { what: "the network's output", given, states }.into());
        }
        let squares = output.sub(target).square().reshape([batch as i32, -1]);
        Ok(weights.times(squares.mean_dim(1)).mean())
    }

    /// What the network is asked about: the data, noised and scaled.
    pub(crate) fn noised<const D: usize>(
        &self,
        x0: Tensor<D>,
        noise: Tensor<D>,
        levels: &Levels,
    ) -> Result<Tensor<D>, TrainError> {
        let scale = levels.try_map(|level| Ok::<_, TrainError>(self.prediction.input_scale(level)?))?;
        let x = levels.map(|level| level.alpha).times(x0);
        Ok(scale.times(x.add(levels.map(|level| level.sigma).times(noise))))
    }

    /// Asks every coefficient on a chain, or on a fine grid of a continuous process, whether it is finite.
    fn check(&self) -> Result<(), TrainError> {
        self.nodes().try_for_each(|t| {
            let level = self.process.level(t);
            let (alpha, sigma) = (level.alpha, level.sigma);
            if !(alpha >= 0.0 && sigma >= 0.0 && alpha + sigma > 0.0 && (alpha + sigma + level.time).is_finite()) {
                return Err(TrainError::Level { t, alpha, sigma });
            }
            self.prediction.target(&level)?;
            self.prediction.input_scale(&level)?;
            self.weight(&level)?;
            Ok(())
        })
    }

    /// All steps of a chain, or a grid over the range of a continuous process with both ends.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = f64> {
        let (min, max) = self.process.time_range();
        let steps = steps(self.process.as_ref());
        let count = steps.unwrap_or(PROBES);
        (0..count).map(move |i| match steps {
            Some(_) => i as f64,
            // The last point must be the end itself, not the end up to rounding.
            None if i + 1 == count => max,
            None => min + (max - min) * i as f64 / (count - 1) as f64,
        })
    }

    /// What decides the result of training, in words and numbers, for the fingerprint of a checkpoint.
    pub(crate) fn describe(&self) -> ObjectiveDescription {
        let mut hash = crate::checkpoint::Hash::default();
        for t in self.nodes() {
            let level = self.process.level(t);
            for number in [level.alpha, level.sigma, level.time] {
                // In f32, so that the last bit of another machine's mathematics does not count.
                hash.write(&(number as f32).to_bits().to_le_bytes());
            }
        }
        let debug = format!("{:?}", self.process);
        let name = debug.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        ObjectiveDescription {
            process: format!("{name} with levels #{:016x}", hash.finish()),
            prediction: format!("{:?}", self.prediction),
            weighting: format!("{:?}", self.weighting),
            times: format!("{:?}", self.times),
        }
    }
}

/// An [`Objective`] as a checkpoint remembers it.
pub(crate) struct ObjectiveDescription {
    pub(crate) process: String,
    pub(crate) prediction: String,
    pub(crate) weighting: String,
    pub(crate) times: String,
}

fn check_shapes<N: Network<D>, const D: usize>(
    network: &N,
    x0: &Tensor<D>,
    noise: &Tensor<D>,
    levels: &Levels,
) -> Result<(), DenoiseError> {
    network.check_shape(&x0.dims()[1..]).map_err(|error| error.of_batch(&x0.dims()))?;
    if noise.dims() != x0.dims() {
        let expected = format!("{:?}, the shape of the data", x0.dims());
        return Err(DenoiseError::Shape { what: "the noise".into(), given: noise.dims().to_vec(), expected });
    }
    match levels.rows() {
        Some(rows) if rows != x0.dims()[0] => Err(DenoiseError::LevelRows { levels: rows, batch: x0.dims()[0] }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use langevin_core::PredictionError;
    use langevin_core::process::{Betas, DiscreteChain, RectifiedFlow, VpSde};

    const ALL: [Prediction; 10] = [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::Velocity,
        Prediction::Score,
        Prediction::ScaledScore,
        Prediction::Flow,
        Prediction::FlowToData,
        Prediction::Edm { sigma_data: 0.5 },
        Prediction::EdmVelocity { sigma_data: 0.7 },
        Prediction::Consistency { sigma_data: 0.5, sigma_min: 0.002 },
    ];

    /// Answers with its input times the time.
    #[derive(Clone)]
    struct Echo;

    impl Network<2> for Echo {
        type Cond = ();
        fn forward(&self, x: Tensor<2>, time: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
            Ok(x.mul(time.reshape([-1, 1])))
        }
        fn for_sampling(&self) -> Self {
            Self
        }
    }

    fn tensor(values: &[[f64; 2]]) -> Tensor<2> {
        let data = TensorData::new(values.concat(), [values.len(), 2]);
        Tensor::from_data(data, &Device::flex())
    }

    #[test]
    fn the_loss_is_the_weighted_squared_error_of_every_prediction() {
        let (x0, eps) = ([[0.3, -0.7], [1.1, 0.2]], [[-0.4, 0.9], [0.5, -1.3]]);
        let levels = [Level { alpha: 0.8, sigma: 0.6, time: 0.25 }, Level { alpha: 0.28, sigma: 0.96, time: 0.75 }];
        for prediction in ALL {
            for weighting in [Weighting::Constant, Weighting::Snr, Weighting::MinSnr(1.0)] {
                let objective = Objective::new(VpSde::default(), prediction).unwrap().weighting(weighting).unwrap();
                let each = Levels::Each(levels.to_vec());
                let loss = objective.loss(&Echo, tensor(&x0), tensor(&eps), &each, &()).unwrap().into_scalar::<f32>();
                let mut expected = 0.0;
                for (sample, level) in levels.iter().enumerate() {
                    let Level { alpha, sigma, time } = *level;
                    for (x0, eps) in x0[sample].into_iter().zip(eps[sample]) {
                        let x = alpha * x0 + sigma * eps;
                        let (input, target) = match prediction {
                            Prediction::Epsilon => (x, eps),
                            Prediction::Sample => (x, x0),
                            Prediction::Velocity => (x, alpha * eps - sigma * x0),
                            Prediction::Score => (x, -eps / sigma),
                            Prediction::ScaledScore => (x, -eps),
                            Prediction::Flow => (x, eps - x0),
                            Prediction::FlowToData => (x, x0 - eps),
                            // Table 1 of Karras et al. for x/α, whose noise level is σ/α.
                            Prediction::Edm { sigma_data: d } => {
                                let (y, k) = (x / alpha, sigma / alpha);
                                let n = (k * k + d * d).sqrt();
                                (y / n, (x0 - d * d / (n * n) * y) / (k * d / n))
                            }
                            Prediction::EdmVelocity { sigma_data: d } => {
                                let (y, k) = (x / alpha, sigma / alpha);
                                let n = (k * k + d * d).sqrt();
                                (y / n, (d * d / (n * n) * y - x0) / (k * d / n))
                            }
                            // Appendix C of Song et al. 2023, in the same way.
                            Prediction::Consistency { sigma_data: d, sigma_min } => {
                                let (y, k) = (x / alpha, sigma / alpha);
                                let (n, above) = ((k * k + d * d).sqrt(), k - sigma_min);
                                (y / n, (x0 - d * d / (above * above + d * d) * y) / (above * d / n))
                            }
                        };
                        expected +=
                            weighting.weight(prediction, level).unwrap() * (input * time - target).powi(2) / 4.0;
                    }
                }
                assert!((f64::from(loss) / expected - 1.0).abs() < 1e-5, "{prediction:?} {weighting:?}: {loss}");
            }
        }
    }

    #[test]
    fn predictions_that_a_process_makes_singular_are_rejected() {
        let singular = |prediction| {
            let error = Objective::new(RectifiedFlow::new(), prediction).unwrap_err();
            matches!(error, TrainError::Prediction(PredictionError::Singular { .. }))
        };
        assert!(singular(Prediction::Score), "no noise at time 0");
        assert!(singular(Prediction::Consistency { sigma_data: 0.5, sigma_min: 0.002 }), "nothing to learn at its end");
        // Pure noise is a level as any other to it.
        Objective::new(RectifiedFlow::new(), Prediction::Edm { sigma_data: 0.5 }).unwrap();
        let sigma_data = Objective::new(VpSde::default(), Prediction::Edm { sigma_data: -1.0 });
        assert!(matches!(sigma_data, Err(TrainError::Prediction(PredictionError::SigmaData { .. }))));
        let flow = Objective::new(RectifiedFlow::new(), Prediction::Sample).unwrap();
        assert!(matches!(flow.clone().weighting(Weighting::Snr), Err(TrainError::Weight { .. })));
        assert!(matches!(flow.weighting(Weighting::MinSnr(f64::NAN)), Err(TrainError::Setting { .. })));
        // ε can be learned on a chain that ends in pure noise; it is sampling from there that is an error.
        let chain = DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 100).unwrap();
        let chain = chain.rescale_zero_terminal_snr().unwrap();
        Objective::new(chain, Prediction::Epsilon).unwrap().weighting(Weighting::MinSnr(5.0)).unwrap();
    }

    #[test]
    fn bad_processes_are_rejected() {
        /// α is NaN from the middle on.
        #[derive(Debug)]
        struct Broken;
        impl Process for Broken {
            fn alpha(&self, t: f64) -> f64 {
                if t > 0.5 { f64::NAN } else { 1.0 - t }
            }
            fn sigma(&self, t: f64) -> f64 {
                t
            }
            fn alpha_dot(&self, _: f64) -> f64 {
                -1.0
            }
            fn sigma_dot(&self, _: f64) -> f64 {
                1.0
            }
            fn time_range(&self) -> (f64, f64) {
                (0.1, 0.9)
            }
        }
        assert!(matches!(Objective::new(Broken, Prediction::Flow), Err(TrainError::Process(_))));
    }

    #[test]
    fn shapes_and_levels_must_fit_the_batch() {
        let objective = Objective::new(VpSde::default(), Prediction::Epsilon).unwrap();
        let level = Level { alpha: 0.8, sigma: 0.6, time: 0.25 };
        let two = tensor(&[[0.0; 2]; 2]);
        let loss = |noise, levels| objective.loss(&Echo, two.clone(), noise, &levels, &()).unwrap_err();
        let error = loss(tensor(&[[0.0; 2]]), Levels::Shared(level));
        assert!(matches!(error, TrainError::Denoise(DenoiseError::Shape { .. })), "{error}");
        let error = loss(two.clone(), Levels::Each(vec![level; 3]));
        assert!(matches!(error, TrainError::Denoise(DenoiseError::LevelRows { levels: 3, batch: 2 })), "{error}");
    }

    #[test]
    fn the_fingerprint_sees_every_level() {
        let of = |beta_max| Objective::new(VpSde::new(0.1, beta_max).unwrap(), Prediction::Epsilon).unwrap().describe();
        assert_eq!(of(20.0).process, of(20.0).process);
        assert_ne!(of(20.0).process, of(20.001).process);
        assert!(of(20.0).process.starts_with("VpSde"), "{}", of(20.0).process);
    }
}
