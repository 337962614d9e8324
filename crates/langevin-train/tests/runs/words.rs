//! A network that is told by words learns what they mean, its encoder of text with it.

use crate::network::alone;
use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor, TensorData};
use langevin_core::process::RectifiedFlow;
use langevin_core::{Condition, DenoiseError, Network, Prediction};
use langevin_data::VectorSet;
use langevin_models::layers::{Linear, LinearConfig};
use langevin_models::text::{ByteText, ByteTextConfig, Tokens};
use langevin_train::{Objective, Trainer};

/// Two of them differ in their last letter only.
const WORDS: [&str; 4] = ["red", "ref", "blue", ""];
const PLACES: [[f32; 2]; 4] = [[2.0, 2.0], [-2.0, 2.0], [2.0, -2.0], [-2.0, -2.0]];

/// A network for points, with an encoder of text inside.
#[derive(Module, Debug)]
struct Told {
    text: ByteText,
    input: Linear,
    output: Linear,
}

impl Told {
    fn new(device: &Device) -> Self {
        Self {
            text: ByteTextConfig::new(16).layers(1).heads(2).length(8).init(device).unwrap(),
            input: LinearConfig::new(2 + 1 + 16, 64).init(device).unwrap(),
            output: LinearConfig::new(64, 2).init(device).unwrap(),
        }
    }
}

impl Network<2> for Told {
    type Cond = Tokens;

    fn forward(&self, x: Tensor<2>, time: Tensor<1>, cond: &Tokens) -> Result<Tensor<2>, DenoiseError> {
        let batch = x.dims()[0];
        let told = self.text.forward(&cond.expand(batch)?)?;
        // The first state has seen the whole word.
        let word = told.states.narrow(1, 0, 1).reshape([batch, 16]);
        let h = Tensor::cat(vec![x, time.expand([batch]).reshape([batch, 1]), word], 1);
        Ok(self.output.forward(silu(self.input.forward(h))))
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }
}

#[test]
fn words_are_learned() {
    let _turn = alone();
    let device = Device::flex();
    let network = Told::new(&device);
    let n = 64;
    let values = (0..n).flat_map(|i| PLACES[i % 4].map(|v| v + 0.1 * ((i / 4) as f32 - 7.5) / 7.5)).collect();
    let data = VectorSet::new(values, [n, 2]).unwrap().with_labels((0..n).map(|i| i % 4).collect(), 4).unwrap();
    let objective = Objective::new(RectifiedFlow::new(), Prediction::Sample).unwrap();
    let text = network.text.clone();
    let words = move |labels: &[Option<usize>]| {
        let words: Vec<&str> = labels.iter().map(|label| label.map_or("", |label| WORDS[label])).collect();
        Ok(text.tokens(&words)?)
    };
    let trained = Trainer::conditioned(network, objective, words)
        .steps(300)
        .batch_size(32)
        .learning_rate(1e-2)
        .cosine()
        .ema(0.9)
        .quiet()
        .fit(&data)
        .unwrap();
    let mean = |steps: &[(u64, f32)]| steps.iter().map(|(_, loss)| f64::from(*loss)).sum::<f64>() / steps.len() as f64;
    let (first, last) = (mean(&trained.history[..5]), mean(&trained.history[280..]));
    assert!(first > 20.0 * last, "{first} to {last}");
    // From pure noise only the word tells the place.
    let network = trained.for_sampling();
    let x =
        Tensor::<2>::from_data(TensorData::new(vec![0.3f32, -0.2, 0.3, -0.2, 0.3, -0.2, 0.3, -0.2], [4, 2]), &device);
    let tokens = network.text.tokens(&WORDS).unwrap();
    let y = network.forward(x, Tensor::from_data([1.0], &device), &tokens).unwrap();
    let y = y.try_into_vec_as::<f32>().unwrap();
    for (word, (given, place)) in WORDS.iter().zip(y.chunks(2).zip(PLACES)) {
        let off = (given[0] - place[0]).hypot(given[1] - place[1]);
        assert!(off < 0.4, "{word:?}: {given:?} instead of {place:?}");
    }
}
