//! What does not fit is refused, before anything is computed where that can be.

use burn::tensor::{Device, Int, Tensor};
use langevin::core::GridError;
use langevin::core::discrete::{DiscreteError, TokenDenoiser, tokens_fn};
use langevin::core::noise::{NoiseError, Seeded};
use langevin::schedulers::SampleError;
use langevin::schedulers::discrete::{
    BlockRefinement, Corrector, DiscreteDdim, EntropyBound, MaskGit, SavedTokens, TokenMethod,
};
use langevin::schedulers::solver::PlanError;
use std::fmt::Debug;

/// The setting that is refused.
fn why<T: Debug>(found: Result<T, PlanError>) -> &'static str {
    match found.expect_err("an error") {
        PlanError::Setting { setting, .. } => setting,
        PlanError::Grid(GridError::ZeroSteps) => "steps",
        other => panic!("{other}"),
    }
}

const BIG: usize = 1 << 31;

#[test]
fn settings_out_of_range_are_refused() {
    let git = || MaskGit::new(3, 3, 4);
    let with = |f: fn(MaskGit) -> Result<MaskGit, PlanError>| why(git().and_then(f));
    assert_eq!(why(MaskGit::new(1, 3, 4)), "the number of classes");
    assert_eq!(why(MaskGit::new(3, 3, 0)), "steps");
    assert_eq!(why(MaskGit::new(3, 3, BIG)), "the number of steps");
    assert_eq!(why(MaskGit::new(3, BIG, 4)), "the mask");
    assert_eq!(with(|sampler| sampler.temperature(-1.0, 0.0)), "the temperature");
    assert_eq!(with(|sampler| sampler.temperature(1.0, f64::NAN)), "the temperature");
    assert_eq!(with(|sampler| sampler.starting_ratio(0.0)), "the share that is masked");
    assert_eq!(with(|sampler| sampler.starting_ratio(1.1)), "the share that is masked");
    assert_eq!(with(|sampler| sampler.after(4)), "the number of steps to leave out");

    let ddim = || DiscreteDdim::new(3, 4);
    assert_eq!(why(DiscreteDdim::new(1, 4)), "the number of classes");
    assert_eq!(why(DiscreteDdim::new(3, 0)), "steps");
    assert_eq!(why(ddim().and_then(|sampler| sampler.steps(0))), "steps");
    assert_eq!(why(ddim().and_then(|sampler| sampler.temperature(-0.1))), "the temperature");
    assert_eq!(why(ddim().and_then(|sampler| sampler.temperature(f64::INFINITY))), "the temperature");
    for sweeps in [0, BIG, usize::MAX] {
        assert_eq!(why(Corrector::new(sweeps)), "the number of sweeps");
    }
    assert_eq!(why(Corrector::new(1).and_then(|corrector| corrector.positions(0))), "the number of positions");
    assert_eq!(why(Corrector::new(1).and_then(|corrector| corrector.tau(0.0))), "tau");
    assert_eq!(why(Corrector::new(1).and_then(|corrector| corrector.tau(f64::INFINITY))), "tau");

    let bound = || EntropyBound::new(3, 4);
    assert_eq!(why(EntropyBound::new(1, 4)), "the number of classes");
    assert_eq!(why(EntropyBound::new(3, 0)), "steps");
    assert_eq!(why(bound().and_then(|sampler| sampler.steps(0))), "steps");
    assert_eq!(why(bound().and_then(|sampler| sampler.bound(-0.1))), "the bound of entropies");
    assert_eq!(why(bound().and_then(|sampler| sampler.bound(f64::NAN))), "the bound of entropies");
    assert_eq!(why(bound().and_then(|sampler| sampler.temperature(1.0, 0.0))), "the temperature");
    assert_eq!(why(bound().and_then(|sampler| sampler.temperature(f64::INFINITY, 1.0))), "the temperature");
    assert_eq!(why(bound().and_then(|sampler| sampler.masked(BIG))), "the mask");

    let blocks = || BlockRefinement::new(3, 2, 2);
    let with = |f: fn(BlockRefinement) -> Result<BlockRefinement, PlanError>| why(blocks().and_then(f));
    assert_eq!(why(BlockRefinement::new(1, 2, 2)), "the number of classes");
    assert_eq!(why(BlockRefinement::new(3, 0, 2)), "the length of a block");
    assert_eq!(why(BlockRefinement::new(3, 2, 0)), "steps");
    assert_eq!(with(|sampler| sampler.steps(0)), "steps");
    assert_eq!(with(|sampler| sampler.steps(BIG)), "the number of steps");
    assert_eq!(with(|sampler| sampler.blocks_of(0)), "the length of a block");
    assert_eq!(with(|sampler| sampler.masked(BIG)), "the mask");
    assert_eq!(with(|sampler| sampler.temperature(-1.0)), "the temperature");
    assert_eq!(with(|sampler| sampler.top_k(0)), "top_k");
    assert_eq!(with(|sampler| sampler.top_p(0.0)), "top_p");
    assert_eq!(with(|sampler| sampler.top_p(1.5)), "top_p");
    assert_eq!(with(|sampler| sampler.top_p(f64::NAN)), "top_p");
    assert_eq!(with(|sampler| sampler.threshold(-0.1)), "the threshold");
    assert_eq!(with(|sampler| sampler.editing(0.0)), "the threshold of edits");
    assert_eq!(with(|sampler| sampler.minimal(0)), "the smallest number of tokens a step");
    assert_eq!(with(|sampler| sampler.until(3)), "the end token");
}

fn flat() -> impl TokenDenoiser {
    tokens_fn(|tokens: Tensor<2, Int>, _step| {
        Ok(Tensor::<3>::zeros([tokens.dims()[0], 3, tokens.dims()[1]], &tokens.device()))
    })
}

/// Bad input and bad answers, with the token that is none.
fn refuses(name: &str, method: Result<impl TokenMethod, PlanError>, none: i64) {
    let (method, noise, device) = (method.expect("settings"), Seeded::new(4), Device::flex());
    let start =
        |first, shape| method.start_at(first, shape, &flat(), &noise, &device).map(|_| ()).expect_err("a shape");
    assert_eq!(start(0, [0, 4]), SampleError::EmptyShape { shape: vec![0, 4] }, "{name}");
    assert_eq!(start(0, [4, 0]), SampleError::EmptyShape { shape: vec![4, 0] }, "{name}");
    assert_eq!(start(u64::MAX, [2, 4]), SampleError::SampleNumbers { first: u64::MAX, rows: 2 }, "{name}");
    for (rows, numel) in [(u64::MAX, 4), (3, usize::MAX)] {
        let too_many = NoiseError::TooMany { rows, numel };
        let error = method.prior(&noise, 0..rows, numel).expect_err("too many");
        assert_eq!(error.to_string(), too_many.to_string(), "{name}");
    }
    for given in [-1, none] {
        let tokens = Tensor::<2, Int>::from_data([[0, 1, 2, given]], &device);
        let error = method.start_from(0, tokens, &flat(), &noise).map(|_| ()).expect_err("no token");
        assert!(
            matches!(error, SampleError::Token { given: found, classes: 3, .. } if found == given),
            "{name}: {error}"
        );
    }
    // Answers of another shape, and no numbers at all.
    let narrow = tokens_fn(|tokens: Tensor<2, Int>, step| Ok(flat().log_clean(tokens, step)?.narrow(1, 0, 2)));
    let mut run = method.start([1, 4], &narrow, &noise, &device).expect("a run");
    let error = run.next().expect("a step").expect_err("an error");
    assert!(matches!(error, SampleError::Discrete(DiscreteError::Shape { .. })), "{name}: {error}");
    assert!(run.next().is_none(), "{name}");
    assert_eq!(run.finish().map(|_| ()), Err(SampleError::Unfinished { step: 0 }), "{name}");
    for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let broken = tokens_fn(move |tokens, step| Ok(flat().log_clean(tokens, step)?.add_scalar(broken)));
        let run = method.start([1, 4], &broken, &noise, &device).expect("a run");
        let error = run.finish().map(|_| ()).expect_err("no numbers");
        assert!(matches!(error, SampleError::NotFinite { .. }), "{name}: {error}");
    }
    // Saved runs of another method, and edited ones.
    let denoiser = flat();
    let mut run = method.start([1, 4], &denoiser, &noise, &device).expect("a run");
    run.next().expect("a step").expect("a step");
    let saved = run.save().expect("a saved run");
    let other = MaskGit::new(5, 5, 9).expect("settings");
    let error = other.resume(&saved, &denoiser, &noise, &device).map(|_| ()).expect_err("another");
    assert!(matches!(error, SampleError::OtherSampler { .. }), "{name}: {error}");
    let edited = |key: &str, value: serde_json::Value| {
        let mut text = serde_json::to_value(&saved).expect("data");
        text[key] = value;
        let saved: SavedTokens = serde_json::from_value(text).expect("data");
        method.resume(&saved, &denoiser, &noise, &device).map(|_| ()).expect_err("edited")
    };
    assert!(matches!(edited("memory", vec![1, 2, 3].into()), SampleError::Incomplete { row: 1 }), "{name}");
    let text = serde_json::to_value(&saved).expect("data");
    if text.get("memory").is_none() {
        assert_eq!(edited("done", 99.into()), SampleError::Incomplete { row: 99 }, "{name}");
    }
}

#[test]
fn input_that_does_not_fit_is_refused() {
    refuses("MaskGit", MaskGit::new(3, 3, 4), 4);
    refuses("MaskGit with a mask far away", MaskGit::new(3, 9, 4), 3);
    refuses("DiscreteDdim", DiscreteDdim::new(3, 4).and_then(|sampler| sampler.temperature(1.0)), 3);
    let corrected = DiscreteDdim::new(3, 6).and_then(|sampler| Ok(sampler.corrected(Corrector::new(2)?)));
    refuses("DiscreteDdim, corrected", corrected, 3);
    refuses("EntropyBound", EntropyBound::new(3, 4), 3);
    refuses("EntropyBound, masked", EntropyBound::new(3, 4).and_then(|sampler| sampler.masked(3)), 4);
    let blocks = || BlockRefinement::new(3, 2, 2).and_then(|sampler| sampler.temperature(1.0)?.top_k(2)?.top_p(0.9));
    refuses("BlockRefinement", blocks(), 3);
    refuses("BlockRefinement, masked", blocks().and_then(|sampler| sampler.masked(3)), 4);
}

#[test]
fn blocks_need_their_positions_and_prompts() {
    let (noise, device, denoiser) = (Seeded::new(4), Device::flex(), flat());
    let sampler = BlockRefinement::new(3, 4, 2).expect("settings");
    let error = sampler.start([1, 6], &denoiser, &noise, &device).map(|_| ()).expect_err("positions");
    assert_eq!(error, SampleError::Blocks { positions: 6, prompt: 0, block: 4 });
    let prompted = sampler.prompt(8);
    let tokens = Tensor::<2, Int>::zeros([1, 8], &device);
    let error = prompted.start_from(0, tokens, &denoiser, &noise).map(|_| ()).expect_err("all given");
    assert_eq!(error, SampleError::Blocks { positions: 8, prompt: 8, block: 4 });
    let error = prompted.start([1, 12], &denoiser, &noise, &device).map(|_| ()).expect_err("no prompt");
    assert!(matches!(error, SampleError::Unsupported { .. }) && error.to_string().contains("start_from"), "{error}");
    let tokens = Tensor::<2, Int>::zeros([1, 12], &device);
    let error = prompted.noised(&tokens, None, &noise, 0, 0).map(|_| ()).expect_err("no masks");
    assert!(matches!(error, SampleError::Unsupported { .. }) && error.to_string().contains("masked"), "{error}");
    let (masked, valid) = (prompted.clone().masked(3).expect("a mask"), Tensor::<2, Int>::zeros([1, 11], &device));
    let error = masked.noised(&tokens, Some(&valid.equal_elem(0)), &noise, 0, 0).map(|_| ()).expect_err("a shape");
    assert!(matches!(error, SampleError::Discrete(DiscreteError::Shape { .. })), "{error}");
    let last = SampleError::SampleNumbers { first: u64::MAX, rows: 1 };
    assert_eq!(masked.noised(&tokens, None, &noise, u64::MAX, 0).map(|_| ()), Err(last.clone()));
    let git = MaskGit::new(3, 3, 4).expect("settings");
    assert_eq!(git.noised(&tokens, 2, &noise, u64::MAX, 0).map(|_| ()), Err(last));
    // A memory that no run of this method writes.
    let tokens = Tensor::<2, Int>::zeros([1, 12], &device);
    let mut run = prompted.start_from(0, tokens, &denoiser, &noise).expect("a run");
    run.next().expect("a step").expect("a step");
    let saved = serde_json::to_value(run.save().expect("a saved run")).expect("data");
    assert!(prompted.resume(&serde_json::from_value(saved.clone()).expect("data"), &denoiser, &noise, &device).is_ok());
    for (place, value) in [(0, -1), (1, 99), (2, -1), (4, 2), (6, 7)] {
        let mut edited = saved.clone();
        edited["memory"][place] = value.into();
        let edited: SavedTokens = serde_json::from_value(edited).expect("data");
        let error = prompted.resume(&edited, &denoiser, &noise, &device).map(|_| ()).expect_err("edited");
        assert_eq!(error, SampleError::Incomplete { row: 1 }, "place {place}");
    }
}
