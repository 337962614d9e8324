//! Updates of parameters.

use crate::probe::{Measured, tensor};
use burn::optim::{AdamWState, Optimizer};
use burn::tensor::{DType, Device, Tensor};
use langevin::train::AdamW;

/// A parameter and its moments after three updates, whatever the order of their numbers in memory. What else holds a parameter
/// must not see it change; in the second update nothing does, and it may be overwritten.
pub fn updates(device: &Device, dtype: DType) -> Vec<(String, Measured)> {
    let rule = AdamW { beta_1: 0.8, beta_2: 0.9, epsilon: 1e-2, weight_decay: 0.1 };
    let cases = [
        ("side by side", false, false),
        ("a gradient in another order", false, true),
        ("a parameter in another order", true, false),
        ("both in another order", true, true),
    ];
    let sizes = [[6, 4, 2, 1], [7, 3, 1, 5]];
    let run = |shape: [usize; 4], turned: [bool; 2]| {
        let numbers = |seed, turned: bool| -> Tensor<4> {
            // The order of axes in memory that images have on GPUs.
            let [a, b, c, d] = shape;
            let x = if turned {
                tensor([a, c, d, b], seed, device).permute([0, 3, 1, 2])
            } else {
                tensor(shape, seed, device)
            };
            x.cast(dtype)
        };
        let (mut parameter, mut state) = (numbers(1, turned[0]), None);
        let mut values = Vec::new();
        let mut keep = |x: &Tensor<4>| values.extend(x.clone().into_data().iter::<f32>());
        for step in 0..3 {
            let before = (step != 1).then(|| parameter.clone());
            (parameter, state) = rule.step(0.05, parameter, numbers(2 + step, turned[1]), state);
            before.iter().for_each(&mut keep);
        }
        let AdamWState { momentum } = state.expect("a state");
        [&parameter, &momentum.moment_1, &momentum.moment_2].into_iter().for_each(&mut keep);
        Measured { values, gradients: Vec::new() }
    };
    let all = cases.into_iter().flat_map(|case| sizes.map(|shape| (case, shape)));
    all.map(|((name, parameter, gradient), shape)| {
        (format!("AdamW: {shape:?}, {name}"), run(shape, [parameter, gradient]))
    })
    .collect()
}
