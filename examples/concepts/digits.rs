//! One real digit: forward noising, and what a network may be asked to predict.

use crate::draw::{Sheet, Tile};
use burn::tensor::activation::softmax;
use langevin::core::noise::{Key, like};
use langevin::data::digits;
use langevin::prelude::*;
use std::error::Error;

/// A held-out digit, its noise, and the digits that it was not among.
pub struct Digits {
    one: Tensor<2>,
    noise: Tensor<2>,
    others: Tensor<2>,
    seed: u64,
}

impl Digits {
    /// The first held-out digit of a class.
    pub fn new(class: usize, seed: u64) -> Result<Self, Box<dyn Error>> {
        let (device, data) = (device("cpu")?, digits()?.split(0.9, 7)?);
        let index = data.test.of_class(class)?[0];
        let one = Tensor::<1>::from_data(data.test.image(index)?, &device).reshape([1, 64]);
        let others = Tensor::<1>::from_data(data.train.pixels(), &device).reshape([-1, 64]);
        let noise = like(&Seeded::new(seed), &one, 0, Key::INITIAL)?;
        Ok(Self { one, noise, others, seed })
    }

    /// `α·x_0 + σ·ε`.
    fn noised(&self, level: &Level) -> Tensor<2> {
        self.one.clone().mul_scalar(level.alpha) + self.noise.clone().mul_scalar(level.sigma)
    }

    /// The digit at eight times of three processes, with the same noise in all of them.
    pub fn noising(&self) -> Result<Sheet, Box<dyn Error>> {
        let linear = DiscreteChain::new(Betas::DDPM, 1000)?;
        let cosine = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
        let row = |name: &str, process: &dyn Process| -> Result<(String, Vec<Tile>), Box<dyn Error>> {
            let (clean, noisy) = process.time_range();
            let tile = |i: u32| {
                let t = clean + (noisy - clean) * f64::from(i) / 7.0;
                let t = if process.chain().is_some() { t.round() } else { (100.0 * t).round() / 100.0 };
                Tile::new(&format!("t = {t}"), self.noised(&process.level(t)))
            };
            Ok((name.to_owned(), (0..8).map(tile).collect::<Result<_, _>>()?))
        };
        let rows = vec![
            row("linear β", &linear)?,
            row("squared cosine", &cosine)?,
            row("rectified flow", &RectifiedFlow::new())?,
        ];
        Ok(Sheet { headers: Vec::new(), rows, gap: None })
    }

    /// The best of all networks, if there were no other digits than these: it answers with their mean, each weighted by
    /// how likely it has become x.
    fn best(&self) -> impl Denoiser<2> {
        let others = self.others.clone();
        let squares = others.clone().powf_scalar(2.0).sum_dim(1).transpose();
        denoiser::from_fn(Prediction::Sample, move |x: Tensor<2>, levels| {
            let rows = [x.dims()[0], others.dims()[0]];
            // ln p(x | x_0) = (α·x·x_0 − ½α²·|x_0|²)/σ² + what does not depend on x_0.
            let along =
                levels.map(|level| level.alpha / level.sigma.powi(2)).times(x.matmul(others.clone().transpose()));
            let size =
                levels.map(|level| 0.5 * (level.alpha / level.sigma).powi(2)).times(squares.clone().expand(rows));
            Ok(softmax(along - size, 1).matmul(others.clone()))
        })
    }

    /// At three levels: the state, what training compares a network with, and the best possible answers.
    pub fn predictions(&self) -> Result<Sheet, Box<dyn Error>> {
        let process = VpSde::default();
        let (best, asked) = (self.best(), [Prediction::Sample, Prediction::Epsilon, Prediction::Velocity]);
        let mut rows = Vec::new();
        for lambda in [1.0, 0.0, -1.5] {
            let level = process.level(process.time_at_lambda(lambda)?);
            let (x, levels) = (self.noised(&level), Levels::Shared(level));
            let query = Query { x: x.clone(), levels: &levels, past: &[], noise: &Seeded::new(self.seed) };
            let answer = best.denoise(query)?;
            let mut tiles = vec![Tile::new("", x)?];
            for (x0, eps) in [(self.one.clone(), self.noise.clone()), (answer.x0()?, answer.eps()?)] {
                for prediction in asked {
                    let target = prediction.target(&level)?;
                    tiles.push(Tile::new("", x0.clone().mul_scalar(target.x0) + eps.clone().mul_scalar(target.eps))?);
                }
            }
            rows.push((format!("λ = {lambda}"), tiles));
        }
        let headers = ["x", "x₀", "ε", "v", "best x₀", "best ε", "best v"].map(str::to_owned).to_vec();
        Ok(Sheet { headers, rows, gap: Some(4) })
    }
}
