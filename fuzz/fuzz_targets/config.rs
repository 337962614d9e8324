//! Configurations: what is accepted is read again as the same, and a key more is refused by its name.
#![no_main]

use langevin_fuzz::format::{ConfigProblem, read_object};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

/// Values of the kinds that published configurations have.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    in_channels: usize,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    attention_head_dim: OneOrMany,
    norm_num_groups: Option<usize>,
    norm_eps: f64,
    flip_sin_to_cos: bool,
    act_fn: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(usize),
    Many(Vec<usize>),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_channels: 3,
            block_out_channels: vec![224, 448],
            down_block_types: vec!["DownBlock2D".into()],
            attention_head_dim: OneOrMany::One(8),
            norm_num_groups: None,
            norm_eps: 1e-5,
            flip_sin_to_cos: true,
            act_fn: "silu".into(),
        }
    }
}

fuzz_target!(|json: &str| {
    let Ok(config) = read_object::<Config>(json, "Net") else { return };
    let again = serde_json::to_string(&config).expect("JSON");
    assert_eq!(read_object::<Config>(&again, "Net").as_ref(), Ok(&config));
    let more = format!(r#"{{"more": 1,{}"#, &again[1..]);
    assert_eq!(read_object::<Config>(&more, "Net"), Err(ConfigProblem::Keys { keys: vec!["more".into()] }));
});
