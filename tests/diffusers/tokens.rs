//! Schedulers of tokens, draw by draw, against runs that `make_tokens.py` recorded.

use crate::{count, numbers};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use langevin::core::DenoiseError;
use langevin::core::discrete::{TokenDenoiser, tokens_fn};
use langevin::core::noise::{Key, NoiseError, NoiseSource};
use langevin::schedulers::diffusers::{
    amused_from_config, block_refinement_from_config, discrete_ddim_from_config, entropy_bound_from_config,
};
use langevin::schedulers::discrete::{BlockRefinement, TokenMethod, TokenStep};
use serde_json::Value;

/// Noise that is a formula of whole numbers.
struct Formula;

impl NoiseSource for Formula {
    fn fill(&self, _sample: u64, _key: Key, _out: &mut [f64]) -> Result<(), NoiseError> {
        Err(NoiseError::HostUnsupported)
    }

    fn fill_uniform(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        let numel = out.len() as u64;
        let (index, lane) = (key.index, u64::from(key.lane));
        for (k, out) in (sample * numel..).zip(out) {
            let h = k * 2_654_435_761 + index * 40_503 * 65_537 + lane * 2_971_215_073 + 12_345;
            let mut h = h as u32;
            h ^= h >> 16;
            h = h.wrapping_mul(2_246_822_519);
            h ^= h >> 13;
            h = h.wrapping_mul(3_266_489_917);
            h ^= h >> 16;
            *out = (f64::from(h >> 8) + 0.5) / f64::from(1 << 24);
        }
        Ok(())
    }
}

/// The network of recorded runs.
fn network(case: &Value) -> impl TokenDenoiser {
    let (classes, scale) = (count(&case["classes"]), case["scale"].as_f64().expect("a number"));
    tokens_fn(move |tokens: Tensor<2, Int>, asked: usize| -> Result<Tensor<3>, DenoiseError> {
        let (device, [batch, positions]) = (tokens.device(), tokens.dims());
        let tokens = list(&tokens);
        let mut logits = vec![0.0f32; batch * classes * positions];
        for (b, row) in tokens.chunks(positions).enumerate() {
            for p in 0..positions {
                let (x, before) = (row[p] as f64, row[p.saturating_sub(1)] as f64);
                let at = 0.9 * x + 0.4 * before + 0.31 * p as f64 + 0.2 * asked as f64;
                for c in 0..classes {
                    let logit = scale * (1.7 * (c + 1) as f64 + at).sin();
                    logits[(b * classes + c) * positions + p] = logit as f32;
                }
            }
        }
        Ok(Tensor::from_data(TensorData::new(logits, [batch, classes, positions]), &device))
    })
}

fn list(tokens: &Tensor<2, Int>) -> Vec<i64> {
    tokens.to_data().iter::<i64>().collect()
}

/// Rows of whole numbers, one after the other.
fn rows(value: &Value) -> Vec<i64> {
    let rows = value.as_array().expect("rows").iter();
    rows.flat_map(|row| numbers(row).into_iter().map(|token| token as i64)).collect()
}

fn cases(kind: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/diffusers/reference_tokens.json");
    let text = std::fs::read_to_string(path).expect("a file");
    let mut reference: Value = serde_json::from_str(&text).expect("JSON");
    serde_json::from_value(reference[kind].take()).expect("cases")
}

fn start(case: &Value) -> Tensor<2, Int> {
    let (tokens, batch) = (rows(&case["start"]), case["start"].as_array().expect("rows").len());
    let positions = tokens.len() / batch;
    Tensor::from_data(TensorData::new(tokens, [batch, positions]), &Device::flex())
}

fn run(case: &Value, method: &impl TokenMethod) -> Vec<TokenStep> {
    let network = network(case);
    let run = method.start_from(0, start(case), &network, &Formula).expect("a run");
    run.map(|step| step.expect("a step")).collect()
}

fn compare(case: &Value, steps: &[TokenStep]) {
    let states = case["states"].as_array().expect("states");
    assert_eq!(steps.len(), states.len(), "{}", case["config"]);
    for (step, state) in steps.iter().zip(states) {
        assert_eq!(list(&step.tokens), rows(&state["x"]), "{}, step {}", case["config"], step.index);
        if let Some(drawn) = state.get("drawn") {
            assert_eq!(list(&step.drawn), rows(drawn), "{}, step {}", case["config"], step.index);
        }
        if let Some(accepted) = state.get("accepted") {
            assert_eq!(list(&step.accepted.clone().int()), rows(accepted), "{}, step {}", case["config"], step.index);
        }
    }
}

#[test]
fn amused_agrees() {
    for case in cases("amused") {
        let (classes, steps, after) = (count(&case["classes"]), count(&case["steps"]), count(&case["after"]));
        let temperature = numbers(&case["temperature"]);
        let sampler = amused_from_config(&case["config"].to_string(), classes, steps).expect("a configuration");
        let sampler = sampler.temperature(temperature[0], temperature[1]).expect("temperatures");
        let sampler = sampler.starting_ratio(case["ratio"].as_f64().expect("a number")).expect("a ratio");
        if after > 0 {
            let mut clean = vec![0.0; start(&case).dims().iter().product()];
            Formula.fill_uniform(0, Key::step(1000, 2), &mut clean).expect("noise");
            let clean = clean.iter().map(|u| (u * classes as f64) as i64).collect();
            let clean = Tensor::from_data(TensorData::new::<i64, _>(clean, start(&case).dims()), &Device::flex());
            let noised = sampler.noised(&clean, after, &Formula, 0, 1001).expect("masks");
            assert_eq!(list(&noised), list(&start(&case)));
        }
        compare(&case, &run(&case, &sampler.after(after).expect("steps")));
    }
}

#[test]
fn discrete_ddim_agrees() {
    for case in cases("ddim") {
        let sampler = discrete_ddim_from_config(&case["config"].to_string(), count(&case["classes"]));
        let temperature = case["temperature"].as_f64().expect("a number");
        compare(&case, &run(&case, &sampler.expect("a configuration").temperature(temperature).expect("a number")));
    }
}

#[test]
fn entropy_bound_agrees() {
    let mut several = false;
    for case in cases("entropy") {
        let sampler = entropy_bound_from_config(&case["config"].to_string(), count(&case["classes"]));
        let steps = run(&case, &sampler.expect("a configuration"));
        several |= steps.iter().any(|step| list(&step.accepted.clone().int()).iter().sum::<i64>() > 2);
        compare(&case, &steps);
    }
    assert!(several, "the bound is never met by two");
}

#[test]
fn the_forward_process_of_block_refinement_agrees() {
    for case in cases("noised") {
        let clean = start(&case);
        let [batch, positions] = clean.dims();
        let (prompt, padding) = (count(&case["prompt"]), count(&case["padding"]));
        let sampler = BlockRefinement::new(6, count(&case["block"]), 1).and_then(|sampler| sampler.masked(6));
        let sampler = sampler.expect("settings").prompt(prompt);
        let valid = (0..batch * positions).map(|i| i % positions < positions - padding).collect();
        let valid =
            Tensor::<2, Bool>::from_data(TensorData::new::<bool, _>(valid, [batch, positions]), &Device::flex());
        let [noisy, others] = sampler.noised(&clean, Some(&valid), &Formula, 0, 7).expect("masks");
        assert_eq!((list(&noisy), list(&others)), (rows(&case["noisy"]), rows(&case["others"])));
        if padding == 0 {
            let [again, _] = sampler.noised(&clean, None, &Formula, 0, 7).expect("masks");
            assert_eq!(list(&again), list(&noisy));
        }
    }
}

#[test]
fn block_refinement_agrees() {
    let mut left_out = 0;
    for case in cases("blocks") {
        let name = format!("{} {} until {}", case["config"], case["options"], case["end"]);
        let sampler = block_refinement_from_config(&case["config"].to_string(), count(&case["classes"]));
        let mut sampler = sampler.expect("a configuration").prompt(count(&case["prompt"]));
        sampler = sampler.post_steps(count(&case["posts"]) as u32);
        let options = &case["options"];
        if let (Some(temperature), false) = (options["temperature"].as_f64(), options["sampling_method"] == "greedy") {
            sampler = sampler.temperature(temperature).expect("a temperature");
        }
        if let Some(k) = options["top_k"].as_u64() {
            sampler = sampler.top_k(k as usize).expect("a number");
        }
        if let Some(p) = options["top_p"].as_f64() {
            sampler = sampler.top_p(p).expect("a number");
        }
        if let Some(mask) = case["mask"].as_u64() {
            sampler = sampler.masked(mask as usize).expect("a mask");
        }
        if let Some(end) = case["end"].as_u64() {
            sampler = sampler.until(end as usize).expect("a class");
        }
        let mut steps = run(&case, &sampler).into_iter().peekable();
        let block = count(&case["config"]["block_length"]);
        let (mut at, mut tokens) = ((usize::MAX, 0), rows(&case["start"]));
        for state in case["states"].as_array().expect("states") {
            let recorded = (count(&state["block"]), count(&state["call"]));
            // Steps that decide nothing are not made here.
            if steps.peek().is_some_and(|step| {
                let here = step.positions.start / block;
                recorded == if here == at.0 { (here, at.1 + 1) } else { (here, 0) }
            }) {
                let step = steps.next().expect("a step");
                at = recorded;
                tokens = list(&step.tokens);
                let accepted = list(&step.accepted.int());
                assert_eq!(accepted, rows(&state["accepted"]), "{name}, call {at:?}");
            } else {
                left_out += 1;
            }
            assert_eq!(tokens, rows(&state["x"]), "{name}, call {recorded:?}");
        }
        assert!(steps.next().is_none(), "{name}");
    }
    assert!(left_out > 0, "every recorded step decides something");
}
