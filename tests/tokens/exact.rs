//! Where a method is exact, and where it is not.

use super::{CLASSES, DATA, Exact, distance, distance_from, list};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use langevin::core::discrete::{MaskAndReplace, TokenDenoiser, tokens_fn};
use langevin::core::noise::{Key, NoiseSource, Seeded};
use langevin::schedulers::TokenSampler;
use langevin::schedulers::diffusers::vq_diffusion_from_config;
use langevin::schedulers::discrete::{
    BlockRefinement, Corrector, DiscreteDdim, EntropyBound, MaskGit, Masking, Selection, TokenContext, TokenMethod,
    TokenState,
};
use langevin::schedulers::solver::PlanError;

/// Masks are those of the absorbing chain, of which the step does not matter.
fn masks() -> MaskAndReplace {
    MaskAndReplace::absorbing(CLASSES, 2).expect("a chain")
}

#[test]
fn unmasking_one_token_at_a_time_by_entropy_is_exact() {
    let chain = masks();
    let sampler = |bound| {
        let sampler = EntropyBound::new(CLASSES, 2).and_then(|sampler| sampler.bound(bound)?.temperature(1.0, 1.0));
        sampler.and_then(|sampler| sampler.masked(CLASSES)).expect("settings")
    };
    let errors = distance(&Exact(&chain), &sampler(0.0), 1);
    println!("one by one: {errors:.2} standard errors");
    assert!(errors < 4.0, "{errors}");
    let errors = distance(&Exact(&chain), &sampler(f64::INFINITY), 1);
    assert!(errors > 10.0, "independent tokens went unnoticed ({errors})");
}

#[test]
fn blocks_of_one_token_are_the_chain_rule() {
    let chain = masks();
    // Behind the end of the block all is masked.
    let ahead = tokens_fn(|tokens: Tensor<2, Int>, step| {
        let [batch, positions] = tokens.dims();
        let masked = Tensor::full([batch, 2 - positions], CLASSES as i64, &tokens.device());
        let whole = if positions == 2 { tokens } else { Tensor::cat(vec![tokens, masked], 1) };
        Ok(Exact(&chain).log_clean(whole, step)?.narrow(2, 0, positions))
    });
    let sampler = |block| {
        let sampler = BlockRefinement::new(CLASSES, block, 1);
        sampler.and_then(|sampler| sampler.masked(CLASSES)?.temperature(1.0)).expect("settings")
    };
    let errors = distance(&ahead, &sampler(1), 2);
    println!("one by one: {errors:.2} standard errors");
    assert!(errors < 4.0, "{errors}");
    let errors = distance(&ahead, &sampler(2), 2);
    assert!(errors > 10.0, "independent tokens went unnoticed ({errors})");
}

/// What is kept by its confidence is too often what is likely.
#[test]
fn mask_git_is_exact_where_it_chooses_at_random() {
    let chain = masks();
    let sampler = |temperature| {
        let sampler = MaskGit::new(CLASSES, CLASSES, 2).expect("settings").masking(Masking::Linear);
        sampler.temperature(temperature, temperature).expect("a temperature")
    };
    let errors = distance(&Exact(&chain), &sampler(1e6), 3);
    println!("at random: {errors:.2} standard errors");
    assert!(errors < 4.0, "{errors}");
    let errors = distance(&Exact(&chain), &sampler(0.0), 3);
    println!("by confidence: {errors:.2} standard errors");
    assert!(errors > 10.0, "{errors}");
}

#[test]
fn discrete_ddim_with_the_exact_denoiser_reproduces_the_data() {
    for (steps, exact) in [(150, true), (1, false)] {
        let sampler = DiscreteDdim::new(CLASSES, steps).and_then(|sampler| sampler.temperature(1.0)).expect("settings");
        let chain = sampler.chain().expect("a chain");
        let errors = distance(&Exact(&chain), &sampler, 4);
        println!("{steps} steps: {errors:.2} standard errors");
        assert!(if exact { errors < 4.0 } else { errors > 10.0 }, "{steps} steps: {errors}");
    }
}

/// One step of many tokens, of which each is on its own, against Bayes' rule.
#[test]
fn a_step_of_discrete_ddim_is_bayes_rule() {
    let (classes, n, steps) = (3, 40_000, 5);
    let p = [0.2f64, 0.7, 0.1];
    let denoiser = tokens_fn(move |tokens: Tensor<2, Int>, _step| {
        let logs = Tensor::<1>::from_data(p.map(f64::ln), &tokens.device()).reshape([1, classes, 1]);
        Ok(logs.expand([tokens.dims()[0], classes, tokens.dims()[1]]))
    });
    let sampler = DiscreteDdim::new(classes, steps).and_then(|sampler| sampler.temperature(1.0)).expect("settings");
    let (chain, noise) = (sampler.chain().expect("a chain"), Seeded::new(8));
    let tokens = Tensor::<2, Int>::from_data(
        TensorData::new((0..3 * n as i64).map(|i| i / n as i64).collect(), [3, n]),
        &Device::flex(),
    );
    for done in 0..steps {
        let mut state = TokenState { first: 0, done, tokens: tokens.clone(), memory: Vec::new() };
        let cx = TokenContext { denoiser: &denoiser, noise: &noise };
        let step = sampler.advance(&mut state, &cx).expect("a step").expect("not the end");
        assert_eq!((step.asked, step.reached), (steps - 1 - done, (steps - 1 - done).checked_sub(1)));
        let answer = denoiser.log_clean(tokens.clone(), step.asked).expect("an answer");
        let law = chain.posterior(answer, &tokens, step.reached, step.asked).expect("a posterior").exp();
        let found = list(&step.tokens);
        for (row, found) in found.chunks(n).enumerate() {
            let law: Vec<f64> =
                law.clone().slice([row..row + 1, 0..classes, 0..1]).try_into_vec_as::<f64>().expect("numbers");
            for (class, p) in law.into_iter().enumerate() {
                let share = found.iter().filter(|token| **token == class as i64).count() as f64 / n as f64;
                let error = (p * (1.0 - p) / n as f64).sqrt();
                assert!((share - p).abs() <= 4.0 * error + 1e-6, "step {done}, {row} to {class}: {share} is not {p}");
            }
        }
    }
}

/// Pairs of the law at a step, and this law.
fn at(chain: &MaskAndReplace, step: usize, n: usize) -> (Tensor<2, Int>, [[f64; CLASSES]; CLASSES]) {
    let matrix = chain.between(None, step).expect("a step").matrix(CLASSES);
    let mut law = [[0.0; CLASSES]; CLASSES];
    for (i, p) in law.iter_mut().flatten().enumerate() {
        let pairs = (0..CLASSES * CLASSES).map(|j| (j / CLASSES, j % CLASSES));
        *p = pairs.map(|(a, b)| DATA[a][b] * matrix[a][i / CLASSES] * matrix[b][i % CLASSES]).sum();
    }
    let mut tokens = Vec::new();
    let mut uniform = vec![0.0; n];
    Seeded::new(77).fill_uniform(0, Key::INITIAL, &mut uniform).expect("noise");
    for mut u in uniform {
        let mut pair = CLASSES * CLASSES - 1;
        for (i, p) in law.iter().flatten().enumerate() {
            if u < *p {
                pair = i;
                break;
            }
            u -= p;
        }
        tokens.extend([(pair / CLASSES) as i64, (pair % CLASSES) as i64]);
    }
    (Tensor::from_data(TensorData::new(tokens, [n, 2]), &Device::flex()), law)
}

/// Sweeps at the level that the sixth of eight steps has reached, where three of four tokens are clean.
fn swept(corrector: Result<Corrector, PlanError>) -> f64 {
    let sampler = DiscreteDdim::new(CLASSES, 80).expect("settings").corrected(corrector.expect("settings"));
    let chain = sampler.chain().expect("a chain");
    assert_eq!(chain.steps(), 8);
    let (tokens, law) = at(&chain, 1, 20_000);
    assert!(distance_from(law, &tokens) < 4.0);
    let (noise, exact) = (Seeded::new(5), Exact(&chain));
    // A step and its sweeps are thirteen evaluations.
    let mut state = TokenState { first: 0, done: 66, tokens, memory: Vec::new() };
    while state.done < 78 {
        let cx = TokenContext { denoiser: &exact, noise: &noise };
        let step = sampler.advance(&mut state, &cx).expect("a step").expect("not the end");
        assert_eq!((step.asked, step.reached), (1, Some(1)));
        (state.tokens, state.done) = (step.tokens, state.done + 1);
    }
    distance_from(law, &state.tokens)
}

#[test]
fn sweeps_of_random_single_tokens_leave_the_law_as_it_is() {
    let corrector = || Corrector::new(12);
    let random = swept(corrector().map(|corrector| corrector.selection(Selection::Random)));
    let greedy = swept(corrector().and_then(|corrector| corrector.selection(Selection::LowestCurrentProb).tau(0.1)));
    let both = swept(corrector().and_then(|corrector| corrector.selection(Selection::Random).positions(2)));
    println!("random {random:.2}, by confidence {greedy:.2}, both at once {both:.2} standard errors");
    assert!(random < 4.0, "{random}");
    assert!(greedy > 10.0, "{greedy}");
    assert!(both > 10.0, "{both}");
}

/// Temperature, the likeliest classes, and those that together are likely enough.
#[test]
fn draws_follow_the_sharpened_law() {
    let p = [0.08f64, 0.4, 0.2, 0.32];
    let n = 20_000;
    let denoiser = tokens_fn(move |tokens: Tensor<2, Int>, _step| {
        let logs = Tensor::<1>::from_data(TensorData::from(p.map(f64::ln)), (&tokens.device(), DType::F32));
        Ok(logs.reshape([1, 4, 1]).expand([tokens.dims()[0], 4, tokens.dims()[1]]))
    });
    let base = || BlockRefinement::new(4, n, 1).and_then(|sampler| sampler.masked(4)?.temperature(1.0));
    let normalized = |weights: [f64; 4]| weights.map(|w| w / weights.iter().sum::<f64>());
    let cases = [
        (base(), p),
        (base().and_then(|sampler| sampler.temperature(0.5)), normalized(p.map(|p| p * p))),
        (base().and_then(|sampler| sampler.top_k(2)), normalized([0.0, 0.4, 0.0, 0.32])),
        (base().and_then(|sampler| sampler.top_k(9)), p),
        (base().and_then(|sampler| sampler.top_p(0.7)), normalized([0.0, 0.4, 0.0, 0.32])),
        (base().and_then(|sampler| sampler.top_p(0.75)), normalized([0.0, 0.4, 0.2, 0.32])),
        (base().and_then(|sampler| sampler.top_p(0.01)), [0.0, 1.0, 0.0, 0.0]),
        (base().and_then(|sampler| sampler.top_p(1.0)), p),
        (base().and_then(|sampler| sampler.top_k(3)?.top_p(0.8)), normalized([0.0, 0.4, 0.2, 0.32])),
        (base().and_then(|sampler| sampler.temperature(1e-30)), [0.0, 1.0, 0.0, 0.0]),
        (base().and_then(|sampler| sampler.temperature(0.0)), [0.0, 1.0, 0.0, 0.0]),
    ];
    for (i, (sampler, law)) in cases.into_iter().enumerate() {
        let sampler = sampler.expect("settings");
        let (noise, device) = (Seeded::new(6), Device::flex());
        let tokens = sampler.start([1, n], &denoiser, &noise, &device).expect("a run").finish().expect("tokens");
        let tokens = list(&tokens);
        for (class, p) in law.into_iter().enumerate() {
            let share = tokens.iter().filter(|token| **token == class as i64).count() as f64 / n as f64;
            let error = (p * (1.0 - p) / n as f64).sqrt();
            assert!((share - p).abs() <= 4.0 * error, "case {i}, class {class}: {share} is not {p}");
        }
    }
}

/// The cleanest steps of a chain, which diffusers takes when there are fewer, and steps spread over it lead to one law: tokens that
/// are all masked say nothing, at whatever step. What differs is what the network is told.
#[test]
fn the_cleanest_steps_of_a_chain_reproduce_the_data_as_well_as_spread_ones() {
    let config = r#"{"_class_name": "VQDiffusionScheduler", "num_vec_classes": 4, "num_train_timesteps": 300,
        "alpha_cum_start": 0.999, "alpha_cum_end": 1e-4, "gamma_cum_start": 5e-4, "gamma_cum_end": 0.9}"#;
    let scheduler = vq_diffusion_from_config(config).expect("a configuration");
    let chain = scheduler.chain();
    for (steps, exact) in [(150, true), (4, false)] {
        let cleanest = scheduler.sampler(steps).expect("steps");
        let spread = TokenSampler::new(chain.clone()).steps(steps).expect("steps");
        assert_ne!(cleanest.times(), spread.times());
        let errors = [&cleanest, &spread].map(|sampler| distance(&Exact(chain), sampler, 3));
        println!(
            "{steps} steps of 300: {:.2} standard errors of the cleanest, {:.2} of spread ones",
            errors[0], errors[1]
        );
        assert!(errors.iter().all(|error| if exact { *error < 4.0 } else { *error > 10.0 }), "{steps}: {errors:?}");
    }
}
