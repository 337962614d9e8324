//! Embeddings of sentences with the real weights of all-MiniLM-L6-v2, where they are.

use langevin::core::Load;
use langevin::models::text::{Bert, TextTokenizer};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Recorded from transformers.
#[derive(Deserialize)]
struct Reference {
    sentences: Vec<String>,
    input_ids: Vec<Vec<u32>>,
    embeddings: Vec<Vec<f64>>,
    last_hidden_first_token: Vec<Vec<f64>>,
}

fn compare(what: &str, given: &[f64], expected: &[Vec<f64>]) {
    let expected = expected.concat();
    assert_eq!(given.len(), expected.len(), "{what}");
    let worst = given.iter().zip(&expected).map(|(g, e)| (g - e).abs()).fold(0.0, |worst: f64, off| {
        // A NaN must not be lost in a maximum.
        if off.is_nan() { f64::INFINITY } else { worst.max(off) }
    });
    println!("minilm: {what} within {worst:.1e}");
    assert!(worst < 1e-4, "{what}: {worst:e} off");
}

pub fn run(root: &Path) {
    let asked = std::env::var_os("LANGEVIN_MINILM").map(PathBuf::from);
    let weights = asked.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/minilm"));
    let reference = root.join("minilm/reference_embeddings.json");
    if asked.is_none() && !weights.exists() {
        return println!("skipped minilm: {} is not there (see docs/models/text.md)", weights.display());
    }
    if !reference.exists() && std::env::var_os("LANGEVIN_FIXTURES").is_some() {
        return println!("skipped minilm: these fixtures have no {}", reference.display());
    }
    let json = std::fs::read(&reference).expect("the recorded values");
    let reference: Reference = serde_json::from_slice(&json).expect("the recorded values");
    let tokenizer = TextTokenizer::load(&weights).expect("the tokenizer");
    let encoder = Bert::load(&weights, Load::on(&crate::networks::device())).expect("the weights");
    let tokens = tokenizer.encode(&reference.sentences).expect("tokens");
    for (row, ids) in tokens.ids().iter().zip(&reference.input_ids) {
        assert_eq!(row[..ids.len()], ids[..]);
        assert!(row[ids.len()..].iter().all(|id| *id == 0));
    }
    let states = encoder.forward(&tokens).expect("states").last_hidden_state.narrow(1, 0, 1);
    let read = |data: langevin::burn::tensor::TensorData| data.iter::<f64>().collect::<Vec<f64>>();
    compare("first states", &read(states.to_data()), &reference.last_hidden_first_token);
    let sentences = encoder.sentences(&tokens).expect("sentences");
    compare("sentences", &read(sentences.to_data()), &reference.embeddings);
}
