"""Runs of the schedulers of diffusers that have loops of their own, for record.py: RePaint, score SDE, Karras VE, VQ-Diffusion, Wuerstchen.

A case is drawn with its options by `draw`, and `record` has its tensors and its entry in a manifest. Loops are those that `note` says in
tests/fixtures/schedulers/special.json.
"""

import json
import pathlib
import sys

import diffusers
import torch
from record_options import number

SHAPE = [2, 2, 3, 4]


def repaint_options(rng):
    steps = rng.choice([60, 80, 100, 250])
    options = {"num_train_timesteps": steps, "beta_schedule": rng.choice(["linear", "scaled_linear"])}
    options |= {"beta_start": number(rng, 1e-4, 1e-3), "beta_end": number(rng, 0.02, 0.2)}
    options |= {"eta": rng.choice([0.0, 1.0, number(rng, 0.0, 1.0)]), "clip_sample": rng.random() < 0.5}
    given = {"num_inference_steps": rng.randint(4, 12), "jump_length": rng.randint(1, 3), "jump_n_sample": rng.randint(1, 3)}
    return options, given


def ve_options(rng):
    options = {"num_train_timesteps": rng.choice([2000, 1000]), "snr": number(rng, 0.05, 0.25), "correct_steps": rng.randint(1, 2)}
    options |= {"sigma_min": number(rng, 0.005, 0.05), "sigma_max": rng.choice([1348.0, number(rng, 30.0, 500.0)])}
    return options, {"num_inference_steps": rng.randint(3, 16)}


def vp_options(rng):
    options = {"beta_min": number(rng, 0.05, 0.2), "beta_max": rng.choice([20, number(rng, 8.0, 25.0)])}
    return options | {"sampling_eps": rng.choice([0.001, 0.01])}, {"num_inference_steps": rng.randint(3, 20)}


def karras_options(rng):
    options = {"sigma_min": number(rng, 0.01, 0.1), "sigma_max": rng.choice([100, number(rng, 20.0, 100.0)])}
    options |= {"s_noise": number(rng, 0.99, 1.02), "s_churn": rng.choice([0, 80, number(rng, 1.0, 100.0)])}
    return options | {"s_min": number(rng, 0.02, 0.5), "s_max": number(rng, 10.0, 100.0)}, {"num_inference_steps": rng.randint(2, 16)}


def vq_options(rng):
    options = {"num_vec_classes": rng.randint(4, 12), "num_train_timesteps": rng.choice([100, 50])}
    return options, {"num_inference_steps": rng.randint(2, 16)}


def wuerstchen_options(rng):
    options = {"scaler": rng.choice([1.0, number(rng, 0.5, 2.5)]), "s": rng.choice([0.008, number(rng, 0.002, 0.02)])}
    return options, {"num_inference_steps": rng.randint(2, 20)}


OPTIONS = {
    "RePaintScheduler": repaint_options,
    "ScoreSdeVeScheduler": ve_options,
    "ScoreSdeVpScheduler": vp_options,
    "KarrasVeScheduler": karras_options,
    "VQDiffusionScheduler": vq_options,
    "DDPMWuerstchenScheduler": wuerstchen_options,
}


def draw(name, rng):
    options, given = OPTIONS[name](rng)
    model = {"kind": "gmm"}
    if name.startswith(("RePaint", "VQ")):
        model = {"kind": "sin", "a": number(rng, 0.5, 2.0), "b": number(rng, 0.0, 4.0), "c": number(rng, 0.3, 1.0), "d": number(rng, 0.0, 0.3)}
    return {"options": options, "set_timesteps": given, "model": model}


def repaint(case, scheduler, x, noise, formulas, given):
    rows = {key: [] for key in ("prev_sample", "model_output", "pred_original_sample")}
    last, undo = int(scheduler.timesteps[0]) + 1, []
    for i, t in enumerate(scheduler.timesteps):
        noise.step, nothing = i, torch.zeros_like(x)
        undo.append(int(t >= last))
        if t < last:
            output = formulas.sine(case["model"], x, t).to(x.dtype)
            result = scheduler.step(output, t, x, given["original_image"], given["mask"])
            x, original = result.prev_sample, result.pred_original_sample
        else:
            x, output, original = scheduler.undo_step(x, last), nothing, nothing
        last = t
        for key, value in zip(rows, (x, output, original)):
            rows[key].append(value.clone())
    tensors = {key: torch.stack(values) for key, values in rows.items()}
    tensors |= {"is_undo": torch.tensor(undo), "alphas_cumprod": scheduler.alphas_cumprod.clone()}
    return tensors | {"timesteps": torch.tensor([int(t) for t in scheduler.timesteps])}


def ve(case, scheduler, x, noise, formulas, _):
    scheduler.set_sigmas(case["set_timesteps"]["num_inference_steps"])
    rows = {key: [] for key in ("corrected", "prev_sample", "prev_sample_mean", "score_corr", "score_pred")}
    for i, t in enumerate(scheduler.timesteps):
        noise.step, sigma = i, float(scheduler.sigmas[i])
        score = lambda x: ((formulas.mixture(x, 1.0, sigma, "sample") - x.double()) / sigma**2).to(x.dtype)  # noqa: B023, E731
        for _ in range(scheduler.config.correct_steps):
            rows["score_corr"].append(score(x))
            x = scheduler.step_correct(rows["score_corr"][-1], x).prev_sample
            rows["corrected"].append(x.clone())
        rows["score_pred"].append(score(x))
        result = scheduler.step_pred(rows["score_pred"][-1], t, x)
        x = result.prev_sample
        rows["prev_sample"].append(x.clone())
        rows["prev_sample_mean"].append(result.prev_sample_mean.clone())
    tensors = {key: torch.stack(values) for key, values in rows.items()}
    tensors |= {"timesteps": scheduler.timesteps.clone(), "sigmas": scheduler.sigmas.clone()}
    return tensors | {"discrete_sigmas": scheduler.discrete_sigmas.clone()}


def vp(case, scheduler, x, noise, formulas, _):
    rows, config = {key: [] for key in ("prev_sample", "prev_sample_mean", "model_output")}, scheduler.config
    for i, t in enumerate(scheduler.timesteps):
        noise.step, time = i, float(t)
        alpha = float(torch.tensor(-0.25 * time**2 * (config.beta_max - config.beta_min) - 0.5 * time * config.beta_min).double().exp())
        output = formulas.mixture(x, alpha, (1.0 - alpha**2) ** 0.5, "epsilon").to(x.dtype)
        x, mean = scheduler.step_pred(output, x, t)
        for key, value in zip(rows, (x, mean, output)):
            rows[key].append(value.clone())
    return {key: torch.stack(values) for key, values in rows.items()} | {"timesteps": scheduler.timesteps.clone()}


def karras(case, scheduler, x, noise, formulas, _):
    rows = {key: [] for key in ("sample_hat", "sigma_hat", "prev_sample", "pred_original_sample", "model_output")}
    said = lambda x, sigma: ((formulas.mixture(x, 1.0, sigma, "sample") - x.double()) / sigma).to(x.dtype)  # noqa: E731
    for i, t in enumerate(scheduler.timesteps):
        noise.step = i
        sigma, before = scheduler.schedule[t], scheduler.schedule[t - 1] if t > 0 else 0
        hat, sigma_hat = scheduler.add_noise_to_input(x, sigma)
        output = said(hat, float(sigma_hat))
        result = scheduler.step(output, sigma_hat, before, hat)
        if before != 0:
            again = said(result.prev_sample, float(before))
            result = scheduler.step_correct(again, sigma_hat, before, hat, result.prev_sample, result.derivative)
        x = result.prev_sample
        for key, value in zip(rows, (hat, torch.as_tensor(sigma_hat), x, result.pred_original_sample, output)):
            rows[key].append(value.clone())
    tensors = {key: torch.stack(values) for key, values in rows.items()}
    return tensors | {"timesteps": scheduler.timesteps.clone(), "schedule": scheduler.schedule.clone()}


def vq(case, scheduler, x, noise, formulas, _):
    module, tensors = sys.modules[type(scheduler).__module__], {}
    rows, classes = {"prev_sample": [], "model_output": []}, scheduler.num_embed
    positions = 0.37 * torch.arange(x.shape[1]).double()
    for i, t in enumerate(scheduler.timesteps):
        kinds = 0.7 * torch.arange(classes - 1).double()
        logits = 2.0 * formulas.sine(case["model"], kinds[None, :, None] + 1.3 * x[:, None, :].double() + positions, t)
        output = torch.log_softmax(logits, dim=1).float()

        def gumbel(values, _, i=i):
            uniform = torch.rand(values.shape, generator=noise.generator, dtype=torch.float32)
            tensors[f"q_posterior_{i}"], tensors[f"noise_{i}"] = values.clone(), uniform
            return -torch.log(-torch.log(uniform + 1e-30) + 1e-30) + values

        before, module.gumbel_noised = module.gumbel_noised, gumbel
        x = scheduler.step(output, t, x).prev_sample
        module.gumbel_noised = before
        rows["prev_sample"].append(x.clone())
        rows["model_output"].append(output)
    tensors |= {key: torch.stack(values) for key, values in rows.items()}
    for letter in "abc":
        for key in (f"log_{letter}t", f"log_cumprod_{letter}t"):
            tensors[key] = getattr(scheduler, key).clone()
    steps = torch.arange(len(scheduler.timesteps))
    return tensors | {"timesteps": torch.as_tensor(scheduler.timesteps).clone(), "noise_step": steps}


def wuerstchen(case, scheduler, x, noise, formulas, _):
    rows, bars = {"prev_sample": [], "model_output": []}, []
    for i, t in enumerate(scheduler.timesteps[:-1]):
        noise.step = i
        bars.append(float(scheduler._alpha_cumprod(t[None], "cpu")))  # noqa: SLF001
        output = formulas.mixture(x, bars[-1] ** 0.5, (1.0 - bars[-1]) ** 0.5, "epsilon").to(x.dtype)
        x = scheduler.step(output, t * torch.ones(x.shape[0]), x).prev_sample
        rows["prev_sample"].append(x.clone())
        rows["model_output"].append(output)
    tensors = {key: torch.stack(values) for key, values in rows.items()} | {"timesteps": scheduler.timesteps.clone()}
    return tensors | {"model_alphas_cumprod": torch.tensor(bars, dtype=torch.float64)}


LOOPS = dict(zip(OPTIONS, (repaint, ve, vp, karras, vq, wuerstchen)))


def record(case, generator, formulas):
    """As `record.record`; `formulas` is that module."""
    name, cls = case["class"], getattr(diffusers.schedulers, case["class"])
    draw_ = lambda scale=1.0: scale * torch.randn(SHAPE, generator=generator)  # noqa: E731
    made = cls(**case["options"])
    given = {"original_image": draw_(0.5), "mask": (draw_() > 0).float()} if name.startswith("RePaint") else {}
    x = draw_(float(getattr(made, "init_noise_sigma", 1.0)))
    if name.startswith("VQ"):
        x = torch.full((2, 10), made.num_embed - 1)

    def walk(x, draws):
        scheduler = cls(**case["options"])
        scheduler.set_timesteps(**case["set_timesteps"])
        noise = formulas.Noise(generator, draws)
        with formulas.drawing_from(sys.modules[cls.__module__], noise):
            return LOOPS[name](case, scheduler, x, noise, formulas, given), noise, scheduler

    run, noise, scheduler = walk(x, None)
    if name.startswith("VQ"):
        bounds = [1e-4 * max(1.0, float(run[f"q_posterior_{i}"].abs().clamp(max=1e3).max())) for i in range(len(run["noise_step"]))]
    else:
        if not torch.isfinite(run["prev_sample"]).all():
            raise ValueError("non-finite values in the trajectory (diffusers' own result)")
        again, _, _ = walk(x * (1.0 + 1e-6), noise.draws)
        pairs = zip(run["prev_sample"], again["prev_sample"])
        bounds = [50.0 * float((a - b).abs().max()) + 2e-4 * max(1.0, float(a.abs().max())) for a, b in pairs]
    tensors = {"x_init": x, **given, **run}
    if noise.draws:
        tensors |= {"noise": torch.stack(noise.draws), "noise_step": torch.tensor(noise.steps)}
    config = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    home = json.loads((pathlib.Path(__file__).parents[1] / "fixtures/schedulers/special.json").read_text())
    note = next(other["note"] for other in home["cases"] if other["class"] == name)
    entry = {"name": case["name"], "class": name, "config": config, "set_timesteps": case["set_timesteps"], "model": case["model"]}
    entry |= {"note": note, "tolerance": {"per_step_atol": bounds, "rtol": 1e-4}}
    entry["tensors"] = {
        key: {"key": f"{case['name']}/{key}", "dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
        for key, value in tensors.items()
    }
    return entry, {f"{case['name']}/{key}": value.contiguous() for key, value in tensors.items()}
