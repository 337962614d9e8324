//! Layers and networks in candle on the CPU, for `networks.py --peer candle`: a name on a line of standard input is answered with a
//! line of JSON, the milliseconds of a round and the seconds of the first call, or `null` for a name that is not known.

mod ddpm;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use ddpm::Ddpm;
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

/// A round is at least this long.
const ROUND: f64 = 0.06;

type Work = Box<dyn FnMut() -> Result<Tensor>>;

/// The numbers in the brackets of a name.
fn sizes(name: &str) -> Option<Vec<usize>> {
    let inside = name.split_once('[')?.1.split_once(']')?.0;
    inside.split(',').map(|n| n.trim().parse().ok()).collect()
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu)
}

fn builder(map: &VarMap) -> VarBuilder<'static> {
    VarBuilder::from_varmap(map, DType::F32, &Device::Cpu)
}

/// A layer's forward pass, or its gradients with respect to parameters and input.
fn layer(module: impl Module + 'static, shape: &[usize], gradients: bool) -> Result<Work> {
    let x = random(shape)?;
    if !gradients {
        return Ok(Box::new(move || module.forward(&x)));
    }
    let factors = random(module.forward(&x)?.dims())?;
    let x = Var::from_tensor(&x)?;
    Ok(Box::new(move || {
        let loss = (module.forward(x.as_tensor())? * &factors)?.sum_all()?;
        loss.backward()?;
        Ok(loss)
    }))
}

fn prepare(name: &str) -> Result<Option<Work>> {
    let map = VarMap::new();
    let vb = builder(&map);
    let (kind, rest) = name.split_once(' ').unwrap_or((name, ""));
    let gradients = rest.ends_with("gradients");
    let shape = sizes(name);
    if let (Some(rest), Some(shape)) = (kind.strip_prefix("conv"), &shape) {
        let digits: Vec<usize> = rest.split(['x', 's']).filter_map(|n| n.parse().ok()).collect();
        let [kernel, _, stride] = digits[..] else { return Ok(None) };
        let config = candle_nn::Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
        return layer(candle_nn::conv2d(shape[1], shape[1], kernel, config, vb)?, shape, gradients).map(Some);
    }
    match (kind, shape) {
        ("groupnorm-silu", Some(shape)) => {
            let norm = candle_nn::group_norm(32, shape[1], 1e-5, vb)?;
            let module = candle_nn::func(move |x| norm.forward(x)?.silu());
            layer(module, &shape, gradients).map(Some)
        }
        ("linear", Some(shape)) => {
            layer(candle_nn::linear(shape[2], shape[3], vb)?, &shape[..3], gradients).map(Some)
        }
        ("attention", Some(shape)) if !gradients => {
            let (q, k, v) = (random(&shape)?, random(&shape)?, random(&shape)?);
            let scale = 1.0 / (shape[3] as f64).sqrt();
            Ok(Some(Box::new(move || {
                let scores = (q.matmul(&k.t()?)? * scale)?;
                candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)
            })))
        }
        ("ddpm-unet", None) => network(rest, &map, vb),
        _ => Ok(None),
    }
}

fn network(what: &str, map: &VarMap, vb: VarBuilder<'_>) -> Result<Option<Work>> {
    let net = Ddpm::new(vb)?;
    let batch = 4;
    let x = random(&[batch, 3, 32, 32])?;
    let steps: Vec<f32> = (0..batch).map(|i| (i * 997 % 1000) as f32).collect();
    let time = Tensor::new(steps, &Device::Cpu)?;
    match what {
        // candle keeps the graph of parameters also where nobody asks for gradients; detached ones have none.
        "forward" => Ok(Some(Box::new(move || net.forward(&x, &time)))),
        "training step" => {
            let target = random(&[batch, 3, 32, 32])?;
            let settings = ParamsAdamW { lr: 1e-4, eps: 1e-5, weight_decay: 1e-2, ..Default::default() };
            let mut optimizer = AdamW::new(map.all_vars(), settings)?;
            Ok(Some(Box::new(move || {
                let loss = (net.forward(&x, &time)? - &target)?.sqr()?.mean_all()?;
                optimizer.backward_step(&loss)?;
                Ok(loss)
            })))
        }
        _ => Ok(None),
    }
}

fn timed(work: &mut Work, calls: usize) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..calls {
        work()?;
    }
    Ok(start.elapsed().as_secs_f64() / calls as f64)
}

fn main() -> Result<()> {
    let mut ready: HashMap<String, (Work, usize, f64)> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let name = line?;
        if name.is_empty() {
            ready.clear();
            continue;
        }
        if !ready.contains_key(&name) {
            let start = Instant::now();
            if let Some(mut work) = prepare(&name)? {
                work()?;
                let first = start.elapsed().as_secs_f64();
                let one = timed(&mut work, 1)?;
                let calls = ((ROUND / one) as usize + 1).min(200);
                ready.insert(name.clone(), (work, calls, first));
            }
        }
        let answer = match ready.get_mut(&name) {
            Some((work, calls, first)) => {
                serde_json::json!({ "first": *first, "rounds": [timed(work, *calls)? * 1e3] })
            }
            None => serde_json::Value::Null,
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
