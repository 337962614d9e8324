//! Reverse steps: Bayes' rule in logarithms, and draws from it.

use super::DiscreteError;
use super::mask_and_replace::{LOG_ZERO, MaskAndReplace, Rates};
use crate::noise::{Key, NoiseSource, zeros};
use burn::tensor::{Int, Tensor, TensorData};

/// A logarithm, with ln(1e-30) for that of 0.
fn log(p: f64) -> f64 {
    libm::log(p).max(LOG_ZERO)
}

/// The tokens as indicators, `[batch, classes + 1, positions]`.
fn one_hot(tokens: &Tensor<2, Int>, like: &Tensor<3>, classes: usize) -> Tensor<3> {
    let [batch, positions] = tokens.dims();
    let shape = [batch, classes + 1, positions];
    let numbers = Tensor::<1, Int>::arange(0..(classes + 1) as i64, &like.device()).reshape([1, -1, 1]);
    let tokens = tokens.clone().unsqueeze_dim::<3>(1).expand(shape);
    tokens.equal(numbers.expand(shape)).float().cast(like.dtype())
}

/// `ln(e^a + e^b)` for a number b.
fn log_add(a: Tensor<3>, b: f64) -> Tensor<3> {
    let most = a.clone().clamp_min(b);
    let sum = a.sub(most.clone()).exp().add(most.clone().neg().add_scalar(b).exp());
    most.add(sum.log())
}

impl MaskAndReplace {
    /// Log-probabilities of the tokens at `earlier` (clean for `None`), given the tokens at `later` and what a denoiser takes
    /// the clean ones for: `Σ_k q(x_s | x_t, x_0 = k)·p(x_0 = k | x_t)` for each position.
    ///
    /// `log_clean` is `[batch, classes, positions]`, `tokens` `[batch, positions]` in `0..=classes`. The answer is
    /// `[batch, classes + 1, positions]`, or `log_clean` itself for clean tokens, which are never masked. It is normalized
    /// as `log_clean` is. The logarithm of 0 is that of 1e-30, as in published code.
    ///
    /// # Errors
    /// [`DiscreteError::Order`] for steps that do not follow each other, [`DiscreteError::Shape`] for tensors that do not
    /// fit together.
    ///
    /// # References
    /// Gu et al. 2022, eq. 11.
    pub fn posterior(
        &self,
        log_clean: Tensor<3>,
        tokens: &Tensor<2, Int>,
        earlier: Option<usize>,
        later: usize,
    ) -> Result<Tensor<3>, DiscreteError> {
        let (so_far, step) = (self.between(None, later)?, self.between(earlier, later)?);
        let [batch, positions] = tokens.dims();
        let (given, classes) = (log_clean.dims(), self.classes());
        fits(given, [batch, classes, positions])?;
        let Some(earlier) = earlier else { return Ok(log_clean) };
        let before = self.between(None, earlier)?;
        let hot = one_hot(tokens, &log_clean, classes);
        let masked = hot.clone().narrow(1, classes, 1);

        // Relative to the largest, so that answers need not be normalized.
        let floor = log_clean.clone().max_dim(1).add_scalar(LOG_ZERO);
        let log_clean = log_clean.clone().max_pair(floor.expand(given));
        // p(x_0)/q(x_t | x_0), normalized, carried on to x_s, and multiplied by q(x_t | x_s).
        let q = log_clean.sub(arriving(&hot, &masked, so_far, classes));
        let total = log_total(q.clone());
        let carried = log_add(q.sub(total.clone()).add_scalar(log(before.keep)), log(before.replace));
        let to_mask = masked.zeros_like().add_scalar(log(before.mask));
        let from_mask = masked.clone().neg().add_scalar(1.0).mul_scalar(LOG_ZERO);
        let onwards = Tensor::cat(vec![arriving(&hot, &masked, step, classes), from_mask], 1);
        let answer = Tensor::cat(vec![carried, to_mask], 1).add(onwards).add(total);
        if so_far.replace > 0.0 {
            return Ok(answer);
        }
        // Nothing is ever replaced: a token that is not masked is the clean one, whatever the denoiser says.
        let certain = hot.neg().add_scalar(1.0).mul_scalar(LOG_ZERO);
        let unmasked = masked.clone().neg().add_scalar(1.0);
        Ok(answer.mul(masked).add(certain.mul(unmasked)))
    }

    /// Log-probabilities of each token at `step` given all others there, from what a denoiser takes the clean tokens for given
    /// every token: `Σ_k q(x_t | x_0 = k)·p(x_0 = k | the others)`, where the last factor is `p(x_0 = k | x_t)/q(x_t | x_0 = k)`,
    /// normalized. Drawing one token anew from it leaves the law of the tokens at this step as it is.
    ///
    /// Shapes as in [`posterior`](Self::posterior); the answer is normalized and has a row for the mask.
    ///
    /// # Errors
    /// As [`posterior`](Self::posterior), and [`DiscreteError::LeaveOneOut`] where no token is replaced.
    ///
    /// # References
    /// "Uniform Diffusion Models Revisited: Leave-One-Out Denoiser and Absorbing State Reformulation", arXiv 2605.22765, eq. 13.
    pub fn conditional(
        &self,
        log_clean: Tensor<3>,
        tokens: &Tensor<2, Int>,
        step: usize,
    ) -> Result<Tensor<3>, DiscreteError> {
        let rates = self.between(None, step)?;
        let [batch, positions] = tokens.dims();
        let classes = self.classes();
        fits(log_clean.dims(), [batch, classes, positions])?;
        if !(rates.replace > 0.0) {
            return Err(DiscreteError::LeaveOneOut { step });
        }
        let hot = one_hot(tokens, &log_clean, classes);
        let masked = hot.clone().narrow(1, classes, 1);
        let others = log_clean.sub(arriving(&hot, &masked, rates, classes));
        let others = others.clone().sub(log_total(others));
        let to_mask = masked.zeros_like().add_scalar(log(rates.mask));
        let unmasked = log_add(others.add_scalar(log(rates.keep)), log(rates.replace));
        Ok(Tensor::cat(vec![unmasked, to_mask], 1))
    }

    /// Tokens of the law that sampling starts from, `[samples, positions]` as class numbers: masked with
    /// [`prior_mask`](Self::prior_mask), any class otherwise.
    ///
    /// # Errors
    /// [`DiscreteError::Noise`] if the source cannot deliver uniform noise, or there is no memory for so many tokens.
    pub fn prior(
        &self,
        noise: &dyn NoiseSource,
        samples: std::ops::Range<u64>,
        positions: usize,
    ) -> Result<Vec<i64>, DiscreteError> {
        let (mask, classes) = (self.prior_mask(), self.classes());
        let mut tokens = zeros(&samples, positions)?;
        if mask == 1.0 {
            tokens.fill(classes as i64);
            return Ok(tokens);
        }
        let mut uniform = zeros(&(0..1), positions)?;
        for (sample, tokens) in samples.zip(tokens.chunks_mut(positions.max(1))) {
            noise.fill_uniform(sample, Key::INITIAL, &mut uniform)?;
            for (token, u) in tokens.iter_mut().zip(&uniform) {
                let class = (u - mask) / (1.0 - mask) * classes as f64;
                *token = if *u < mask { classes as i64 } else { (class as i64).min(classes as i64 - 1) };
            }
        }
        Ok(tokens)
    }
}

fn fits(given: [usize; 3], [batch, classes, positions]: [usize; 3]) -> Result<(), DiscreteError> {
    if given == [batch, classes, positions] {
        return Ok(());
    }
    let expected = format!("[{batch}, {classes}, {positions}]: for each clean class and position");
    Err(DiscreteError::Shape { what: "the denoiser's answer", given: given.to_vec(), expected })
}

/// The logarithm of the sum over classes, `[batch, 1, positions]`.
fn log_total(log_p: Tensor<3>) -> Tensor<3> {
    let most = log_p.clone().max_dim(1);
    log_p.sub(most.clone()).exp().sum_dim(1).log().add(most)
}

/// `ln q(x_t | x_s = k)` for each class k, the mask left out.
fn arriving(hot: &Tensor<3>, masked: &Tensor<3>, rates: Rates, classes: usize) -> Tensor<3> {
    let (other, same) = (log(rates.replace), log(rates.keep + rates.replace));
    let unmasked = hot.clone().narrow(1, 0, classes).mul_scalar(same - other).add_scalar(other);
    let kept = masked.clone().neg().add_scalar(1.0);
    unmasked.mul(kept).add(masked.clone().mul_scalar(log(rates.mask)))
}

/// Draws one class at each position: the largest of log-probabilities `[batch, classes, positions]` plus standard Gumbel
/// noise, `−ln(−ln u)`, from uniform noise of the key `key`. Samples are numbered from `first` on. They need not be normalized.
///
/// # Errors
/// [`DiscreteError::SampleNumbers`] if the numbers do not fit into 64 bits, [`DiscreteError::Noise`] if the source
/// cannot deliver uniform noise.
pub fn gumbel_max(
    log_p: Tensor<3>,
    noise: &dyn NoiseSource,
    first: u64,
    key: Key,
) -> Result<Tensor<2, Int>, DiscreteError> {
    let [batch, classes, positions] = log_p.dims();
    let last = first.checked_add(batch as u64).ok_or(DiscreteError::SampleNumbers { first, rows: batch })?;
    let values = gumbel(noise, first..last, key, classes * positions)?;
    let data = TensorData::new(values, [batch, classes, positions]);
    let gumbel = Tensor::<3>::from_data(data, (&log_p.device(), log_p.dtype()));
    Ok(log_p.add(gumbel).argmax(1).reshape([batch, positions]))
}

/// Standard Gumbel noise `−ln(−ln u)` from uniform noise of the key `key`, `numel` values for each of the samples, in order.
///
/// # Errors
/// [`DiscreteError::Noise`] if the source cannot deliver uniform noise, or there is no memory for so many values.
pub fn gumbel(
    noise: &dyn NoiseSource,
    samples: std::ops::Range<u64>,
    key: Key,
    numel: usize,
) -> Result<Vec<f64>, DiscreteError> {
    let mut values = zeros(&samples, numel)?;
    for (sample, values) in samples.zip(values.chunks_mut(numel.max(1))) {
        noise.fill_uniform(sample, key, values)?;
    }
    // 0 and 1 come with recorded noise: they count as the smallest that is not, as in published code.
    let gumbel = |u: f64| -libm::log((-libm::log(u + 1e-30)).max(0.0) + 1e-30);
    values.iter_mut().for_each(|u| *u = gumbel(*u));
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::super::Cumulative;
    use super::*;
    use crate::noise::{Injected, NoiseError, Seeded};
    use burn::tensor::{DType, Device};

    fn chains() -> Vec<MaskAndReplace> {
        vec![
            MaskAndReplace::linear(3, 20, Cumulative { keep: (0.95, 0.01), mask: (0.01, 0.9) }).unwrap(),
            MaskAndReplace::absorbing(3, 20).unwrap(),
            MaskAndReplace::linear(3, 20, Cumulative { keep: (0.95, 0.01), mask: (0.0, 0.0) }).unwrap(),
        ]
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.try_into_vec_as::<f64>().unwrap()
    }

    /// Clean probabilities of four positions that hold the classes 0, 1, 2 and the mask.
    fn problem(dtype: DType) -> (Tensor<3>, Tensor<2, Int>, [[f64; 4]; 3]) {
        let p = [[0.2, 0.5, 0.1, 0.25], [0.3, 0.25, 0.2, 0.35], [0.5, 0.25, 0.7, 0.4]];
        let device = Device::flex();
        let logs: Vec<f64> = p.iter().flatten().map(|p: &f64| p.ln()).collect();
        let log_clean = Tensor::<3>::from_data(TensorData::new(logs, [1, 3, 4]), (&device, dtype));
        (log_clean, Tensor::from_data([[0, 1, 2, 3]], &device), p)
    }

    /// Bayes' rule with explicit matrices, in f64.
    #[test]
    fn the_posterior_is_that_of_the_matrices() {
        for chain in chains() {
            for (earlier, later) in [(0, 1), (3, 4), (2, 15), (17, 18)] {
                let matrix = |from: Option<usize>, to: usize| chain.between(from, to).unwrap().matrix(3);
                let (to_s, to_t, step) = (matrix(None, earlier), matrix(None, later), matrix(Some(earlier), later));
                let (log_clean, tokens, p) = problem(DType::F64);
                let found = chain.posterior(log_clean, &tokens, Some(earlier), later).unwrap();
                let found = values(found);
                // Without masks there is no masked token.
                for position in 0..if chain.prior_mask() == 0.0 { 3 } else { 4 } {
                    let unreplaced = chain.cumulative(Some(later)).unwrap().replace == 0.0;
                    for s in 0..4 {
                        // A token that cannot have come from another is itself.
                        let clean = |k: usize| match () {
                            () if unreplaced && position < 3 => f64::from(u8::from(k == position)),
                            () => p[k][position],
                        };
                        let terms = (0..3).filter(|k| clean(*k) > 0.0 && to_t[*k][position] > 0.0);
                        let expected: f64 =
                            terms.map(|k| step[s][position] * to_s[k][s] * clean(k) / to_t[k][position]).sum();
                        let found = found[s * 4 + position].exp();
                        assert!(
                            (found - expected).abs() < 1e-12,
                            "{earlier} to {later}, token {position}, state {s}: {found} is not {expected}"
                        );
                    }
                    let total: f64 = (0..4).map(|s| found[s * 4 + position].exp()).sum();
                    assert!((total - 1.0).abs() < 1e-12, "{total}");
                }
            }
        }
    }

    /// One token with the exact denoiser: the reverse chain has the marginals of the forward one, at every step.
    #[test]
    fn reverse_steps_with_the_exact_denoiser_keep_the_marginals() {
        let data = [0.6, 0.3, 0.1];
        for chain in chains() {
            let marginal = |t: usize| -> Vec<f64> {
                let matrix = chain.between(None, t).unwrap().matrix(3);
                (0..4).map(|x| (0..3).map(|k| data[k] * matrix[k][x]).sum()).collect()
            };
            for (earlier, later) in [(18, 19), (10, 19), (0, 7)] {
                let (at, matrix) = (marginal(later), chain.between(None, later).unwrap().matrix(3));
                let mut logs = vec![0.0; 12];
                for x in 0..4 {
                    for k in 0..3 {
                        // States that are never reached have any posterior.
                        let p = if at[x] > 0.0 { data[k] * matrix[k][x] / at[x] } else { 1.0 / 3.0 };
                        logs[k * 4 + x] = p.max(1e-30).ln();
                    }
                }
                let device = Device::flex();
                let log_clean = Tensor::<3>::from_data(TensorData::new(logs, [1, 3, 4]), (&device, DType::F64));
                let tokens = Tensor::<2, Int>::from_data([[0, 1, 2, 3]], &device);
                let step = values(chain.posterior(log_clean, &tokens, Some(earlier), later).unwrap());
                for (s, expected) in marginal(earlier).iter().enumerate() {
                    let found: f64 = (0..4).filter(|x| at[*x] > 0.0).map(|x| at[x] * step[s * 4 + x].exp()).sum();
                    assert!((found - expected).abs() < 1e-10, "{earlier} to {later}, {s}: {found} is not {expected}");
                }
            }
        }
    }

    /// Two tokens that depend on each other, by sums over all pairs of clean ones.
    #[test]
    fn the_law_given_the_others_is_that_of_all_pairs() {
        let data = [[0.30, 0.02, 0.08], [0.05, 0.20, 0.05], [0.0, 0.10, 0.20]];
        let device = Device::flex();
        let chains = [MaskAndReplace::uniform(3, 10).unwrap(), chains().remove(0)];
        for (chain, states) in chains.into_iter().zip([3, 4]) {
            for step in [0, 4, 8] {
                let matrix = chain.between(None, step).unwrap().matrix(3);
                let pair = |i: usize, x: [usize; 2]| data[i / 3][i % 3] * matrix[i / 3][x[0]] * matrix[i % 3][x[1]];
                let law = |x: [usize; 2]| (0..9).map(|i| pair(i, x)).sum::<f64>();
                for x in (0..states * states).map(|i| [i / states, i % states]) {
                    let mut p = [[0.0; 2]; 3];
                    for i in 0..9 {
                        p[i / 3][0] += pair(i, x) / law(x);
                        p[i % 3][1] += pair(i, x) / law(x);
                    }
                    let logs = Tensor::<3>::from_data(TensorData::from([p]), (&device, DType::F64)).log();
                    let tokens = Tensor::<2, Int>::from_data([[x[0] as i64, x[1] as i64]], &device);
                    let found = values(chain.conditional(logs, &tokens, step).unwrap());
                    for position in 0..2 {
                        let at =
                            |state| -> [usize; 2] { std::array::from_fn(|i| if i == position { state } else { x[i] }) };
                        let total: f64 = (0..states).map(|state| law(at(state))).sum();
                        for state in 0..states {
                            let (found, expected) = (found[state * 2 + position].exp(), law(at(state)) / total);
                            assert!((found - expected).abs() < 1e-12, "step {step}, {x:?}: {found} is not {expected}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn half_the_precision_has_no_infinities() {
        let chain = MaskAndReplace::linear(3, 100, Cumulative::default()).unwrap();
        for (earlier, later) in [(0, 1), (98, 99)] {
            let (log_clean, tokens, _) = problem(DType::F32);
            let sure = log_clean.mul_scalar(200.0);
            let found = values(chain.posterior(sure, &tokens, Some(earlier), later).unwrap());
            assert!(found.iter().all(|value| value.is_finite()), "{found:?}");
        }
    }

    /// The frequencies of draws are the probabilities.
    #[test]
    fn draws_follow_their_probabilities() {
        let p = [0.1, 0.2, 0.3, 0.4f64];
        let n = 20_000;
        let logs: Vec<f64> = p.iter().flat_map(|p| vec![p.ln() + 5.0; n]).collect();
        let log_p = Tensor::<3>::from_data(TensorData::new(logs, [1, 4, n]), (&Device::flex(), DType::F32));
        let drawn = gumbel_max(log_p, &Seeded::new(3), 0, Key::step(0, 0)).unwrap();
        let drawn: Vec<i64> = drawn.into_data().iter::<i64>().collect();
        for (class, p) in p.iter().enumerate() {
            let share = drawn.iter().filter(|x| **x == class as i64).count() as f64 / n as f64;
            assert!((share - p).abs() < 4.0 * (p * (1.0 - p) / n as f64).sqrt(), "{class}: {share} is not {p}");
        }
    }

    #[test]
    fn recorded_uniforms_are_taken_as_they_are() {
        let key = Key::step(2, 0);
        // The noise decides against the larger probability; 0 and 1 are no infinities.
        let noise = Injected::new().with(key, 0..1, vec![0.001, 1.0, 0.9, 0.0]).unwrap();
        let log_p = Tensor::<3>::from_data([[[0.7f32.ln(), -3.0], [0.3f32.ln(), 0.0]]], &Device::flex());
        let drawn = gumbel_max(log_p, &noise, 0, key).unwrap();
        assert_eq!(drawn.into_data().iter::<i64>().collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn the_prior_is_noise_alone() {
        let noise = Seeded::new(9);
        let [mixed, absorbing, uniform] = [0, 1, 2].map(|i| chains().remove(i));
        assert_eq!(absorbing.prior(&noise, 0..2, 3).unwrap(), [3; 6]);
        let n = 30_000;
        for (chain, mask) in [(mixed, 0.9 / 0.99), (uniform, 0.0)] {
            let tokens = chain.prior(&noise, 0..1, n).unwrap();
            for class in 0..4 {
                let p: f64 = if class == 3 { mask } else { (1.0 - mask) / 3.0 };
                let share = tokens.iter().filter(|x| **x == class).count() as f64 / n as f64;
                assert!((share - p).abs() <= 4.0 * (p * (1.0 - p) / n as f64).sqrt(), "{class}: {share} is not {p}");
            }
        }
    }

    #[test]
    fn more_samples_than_numbers_or_memory_are_refused() {
        let (noise, key) = (Seeded::new(9), Key::step(0, 0));
        let log_p = Tensor::<3>::zeros([2, 3, 1], &Device::flex());
        let error = gumbel_max(log_p.clone(), &noise, u64::MAX, key).unwrap_err();
        assert_eq!(error, DiscreteError::SampleNumbers { first: u64::MAX, rows: 2 });
        assert!(gumbel_max(log_p, &noise, u64::MAX - 2, key).is_ok());
        for (rows, numel) in [(u64::MAX, 2), (3, usize::MAX)] {
            let too_many = DiscreteError::Noise(NoiseError::TooMany { rows, numel });
            assert_eq!(gumbel(&noise, 0..rows, key, numel).unwrap_err(), too_many);
            for chain in chains() {
                assert_eq!(chain.prior(&noise, 0..rows, numel).unwrap_err(), too_many);
            }
        }
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused() {
        let chain = MaskAndReplace::absorbing(3, 5).unwrap();
        let (log_clean, tokens, _) = problem(DType::F32);
        let narrow = log_clean.clone().narrow(1, 0, 2);
        assert!(matches!(chain.posterior(narrow, &tokens, Some(0), 1), Err(DiscreteError::Shape { .. })));
        assert!(matches!(chain.posterior(log_clean.clone(), &tokens, Some(1), 1), Err(DiscreteError::Order { .. })));
        assert!(matches!(chain.posterior(log_clean.clone(), &tokens, None, 5), Err(DiscreteError::Order { .. })));
        let error = chain.conditional(log_clean.clone(), &tokens, 2).unwrap_err();
        assert_eq!(error, DiscreteError::LeaveOneOut { step: 2 });
        let replaces = MaskAndReplace::uniform(3, 5).unwrap();
        let narrow = log_clean.clone().narrow(1, 0, 2);
        assert!(matches!(replaces.conditional(narrow, &tokens, 0), Err(DiscreteError::Shape { .. })));
        assert!(matches!(replaces.conditional(log_clean.clone(), &tokens, 5), Err(DiscreteError::Order { .. })));
        let clean = chain.posterior(log_clean.clone(), &tokens, None, 3).unwrap();
        assert_eq!(values(clean), values(log_clean));
    }
}
