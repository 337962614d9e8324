//! Attention.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use langevin_kernels::attention::{Answered, AttentionSizes, Bias};

use super::halves::widen;
use super::{Operation, Value, numbers, run, tensor};

#[derive(Debug, Clone)]
struct Attention {
    sizes: AttentionSizes,
    /// Added to the scores, with the distances that its own sizes give.
    bias: Option<(FlexTensor, [usize; 3])>,
}

impl Attention {
    fn bias(&self) -> Option<Bias<'_>> {
        self.bias.as_ref().map(|(bias, steps)| Bias { values: numbers(bias), steps: *steps })
    }
}

impl Operation<3> for Attention {
    /// The result, and the logarithms of the sums of exponentials.
    type Saved = (FlexTensor, Arc<[f32]>);

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        let [q, k, v] = inputs.map(|input| input.to_contiguous());
        let AttentionSizes { batch, heads, queries, value_width, .. } = self.sizes;
        let mut out = vec![0.0; batch * heads * queries * value_width];
        let sums = self.sizes.forward(numbers(&q), numbers(&k), numbers(&v), self.bias(), &mut out);
        let out = tensor(out, [batch, heads, queries, value_width]);
        (out.clone(), (out, sums.into()))
    }

    fn backward(
        &self,
        inputs: [FlexTensor; 3],
        (out, sums): Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let [q, k, v] = inputs.map(|input| input.to_contiguous());
        let gradient = gradient.to_contiguous();
        let [mut of_q, mut of_k, mut of_v] = [&q, &k, &v].map(|of| vec![0.0; numbers(of).len()]);
        self.sizes.gradient(
            [numbers(&q), numbers(&k), numbers(&v)],
            self.bias(),
            Answered { out: numbers(&out), sums: &sums, gradient: numbers(&gradient) },
            [&mut of_q, &mut of_k, &mut of_v],
        );
        let AttentionSizes { batch, heads, queries, keys, width, value_width, .. } = self.sizes;
        let gradients = [
            tensor(of_q, [batch, heads, queries, width]),
            tensor(of_k, [batch, heads, keys, width]),
            tensor(of_v, [batch, heads, keys, value_width]),
        ];
        let mut wanted = wanted.into_iter();
        gradients.map(|gradient| wanted.next().unwrap_or(false).then_some(gradient))
    }
}

/// `softmax(scale·q·kᵀ + bias)·v` for each head, in the element type of the values. `None` also for a bias with a gradient.
///
/// # Shapes
///
/// - query: `[batch, heads, queries, d]`
/// - key: `[batch, heads, keys, d]`
/// - value: `[batch, heads, keys, width]`
/// - bias: `[batch or 1, heads or 1, queries or 1, keys]`
pub(crate) fn attend(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    bias: Option<&Tensor<4>>,
    scale: f64,
) -> Option<Tensor<4>> {
    let ([batch, heads, queries, width], [_, _, keys, _]) = (query.dims(), key.dims());
    let value_width = value.dims()[3];
    let fits = key.dims() == [batch, heads, keys, width] && value.dims() == [batch, heads, keys, value_width];
    if !fits || [batch, heads, queries, keys, width, value_width].contains(&0) {
        return None;
    }
    let bias = match bias {
        None => None,
        Some(bias) => {
            let [b, h, q, k] = bias.dims();
            let one_or = |given: usize, size: usize| given == 1 || given == size;
            if !(one_or(b, batch) && one_or(h, heads) && one_or(q, queries) && k == keys) {
                return None;
            }
            let step = |size: usize, step: usize| if size == 1 { 0 } else { step };
            let steps = [step(b, h * q * k), step(h, q * k), step(q, k)];
            let plain = match Value::of(bias)? {
                Value::Plain(tensor) => tensor,
                Value::Tracked(tensor) if !tensor.is_tracked() => tensor.into_primitive(),
                Value::Tracked(_) => return None,
            };
            Some((widen(plain).to_contiguous(), steps))
        }
    };
    let sizes = AttentionSizes { batch, heads, queries, keys, width, value_width, scale: scale as f32 };
    Some(run(Attention { sizes, bias }, [Value::of(query)?, Value::of(key)?, Value::of(value)?], value.dtype()))
}
