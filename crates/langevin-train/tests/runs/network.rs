//! A small network with everything that makes resuming hard: dropout, a class table, lazily drawn parameters.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use langevin_core::process::VpSde;
use langevin_core::{Condition, DenoiseError, Network, Prediction};
use langevin_data::VectorSet;
use langevin_train::{FromLabels, Objective, Trainer};
use std::sync::{Mutex, MutexGuard};

/// Burn's generator belongs to the process: tests with dropout take turns.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Classes with 0 for "no class".
#[derive(Clone, Debug)]
pub struct Classes(pub Vec<usize>);

impl Condition for Classes {
    fn rows(&self) -> Option<usize> {
        Some(self.0.len())
    }
    fn expand(&self, rows: usize) -> Result<Self, DenoiseError> {
        match self.0.as_slice() {
            [class] => Ok(Self(vec![*class; rows])),
            classes if classes.len() == rows => Ok(self.clone()),
            classes => Err(DenoiseError::ConditionRows { condition: classes.len(), batch: rows }),
        }
    }
    fn cat(parts: &[&Self]) -> Result<Self, DenoiseError> {
        Ok(Self(parts.iter().flat_map(|part| part.0.clone()).collect()))
    }
}

impl FromLabels for Classes {
    fn from_labels(labels: &[Option<usize>]) -> Result<Self, DenoiseError> {
        Ok(Self(labels.iter().map(|label| label.map_or(0, |label| label + 1)).collect()))
    }
}

#[derive(Module, Debug)]
pub struct Net {
    input: Linear,
    classes: Embedding,
    hidden: Linear,
    dropout: Dropout,
    output: Linear,
}

impl Net {
    pub fn new(dim: usize, width: usize, dropout: f64, device: &Device) -> Self {
        Self {
            input: LinearConfig::new(dim + 1, width).init(device),
            classes: EmbeddingConfig::new(4, width).init(device),
            hidden: LinearConfig::new(width, width).init(device),
            dropout: DropoutConfig::new(dropout).init(),
            output: LinearConfig::new(width, dim).init(device),
        }
    }
}

impl Network<2> for Net {
    type Cond = Classes;

    fn forward(&self, x: Tensor<2>, time: Tensor<1>, cond: &Classes) -> Result<Tensor<2>, DenoiseError> {
        let batch = x.dims()[0];
        let classes: Vec<i64> = cond.expand(batch)?.0.into_iter().map(|class| class as i64).collect();
        let classes = Tensor::<2, Int>::from_data(TensorData::new(classes, [batch, 1]), &x.device());
        let classes = self.classes.forward(classes).reshape([batch as i32, -1]);
        let h = self.input.forward(Tensor::cat(vec![x, time.reshape([-1, 1])], 1)).add(classes);
        let h = silu(self.hidden.forward(silu(h)));
        Ok(self.output.forward(self.dropout.forward(h)))
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }
}

/// Points around three centers, labeled 0, 1, 2.
pub fn points(n: usize) -> VectorSet {
    let values = (0..n).flat_map(|i| {
        let angle = i as f32 * 0.7;
        [angle.cos() + (i % 3) as f32, angle.sin()]
    });
    VectorSet::new(values.collect(), [n, 2]).unwrap().with_labels((0..n).map(|i| i % 3).collect(), 3).unwrap()
}

pub fn objective() -> Objective {
    Objective::new(VpSde::default(), Prediction::Velocity).unwrap()
}

/// Dropout in the network and of the labels, warm-up, average.
pub fn trainer(steps: u64) -> Trainer<Net, 2> {
    Trainer::new(Net::new(2, 8, 0.1, &Device::flex()), objective())
        .steps(steps)
        .batch_size(4)
        .seed(11)
        .learning_rate(1e-2)
        .warmup(5)
        .condition_dropout(0.2)
        .ema(0.9)
        .quiet()
}

/// All parameters of a network, bit by bit.
pub fn bits<M: Module>(network: &M) -> Vec<u32> {
    struct Bits(Vec<u32>);
    impl burn::module::ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            let values = param.val().try_into_vec_as::<f32>().unwrap();
            self.0.extend(values.into_iter().map(f32::to_bits));
        }
    }
    let mut bits = Bits(Vec::new());
    network.visit(&mut bits);
    bits.0
}
