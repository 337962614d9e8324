"""Records runs of diffusers' schedulers with options drawn at random, as fixtures of the format of tests/fixtures/schedulers.

    python tests/conformance/record.py SEED PER_CLASS OUT [--class NAME] [--float64] [--check]
    LANGEVIN_FIXTURES=OUT cargo test --test conformance conformance -- --nocapture

Needs torch, diffusers, safetensors and NumPy 2, which subtracts in float64 where NumPy 1 did in float32: timesteps that are cut off differ
by one (torch 2.15, diffusers 0.42.1 and numpy 2.4.6 were used). SEED is any whole number: the same one gives the same
cases, with `--class` too. OUT becomes a folder with schedulers/CLASS.json and .safetensors; what an original refuses, or computes as
something that is not finite, is in `skipped` with the reason. `--float64` computes the same cases with every float32 in the source of
the originals read as float64, but for the betas of a chain: what agrees then, and did not before, was rounding. `--check` records every case of the fixtures in OUT
anew, from their own noise, and prints what differs: nothing, unless the formulas here or the versions are others.
"""

import argparse
import contextlib
import json
import math
import pathlib
import random
import re
import sys
import types

import diffusers
import numpy
import record_options
import record_special
import scipy
import torch
from safetensors.torch import load_file, save_file

WEIGHTS, MEANS, WIDTHS = [0.3, 0.5, 0.2], [-0.8, 0.1, 0.9], [0.15, 0.3, 0.1]
VARIANCE = {"a": 0.9, "b": 1.3, "c": 0.7, "d": 0.0}
CHANNELS = "model_output[:, C:] = SinModel(0.9,1.3,0.7,0)(model_input, t); for 'learned': 0.02+0.01*that"
# Classes that ask at x/sqrt(sigma^2+1), by alpha-bar at a timestep, and on a flow; all others by their list of sigmas.
SCALED = ("EulerDiscrete", "EulerAncestral", "Heun", "KDPM2", "LMS", "DPMSolverSDE")
BY_CHAIN = ("DDPM", "DDIM", "LCM", "TCD", "PNDM", "UnCLIP")
PREPARED = (*SCALED, "EDM", "Cosine", "CMStochastic")
WITHOUT_LEVELS = ("CMStochastic", "SCM")


def level_kind(name):
    """How the levels of the mixture follow from a scheduler; None where its answers are those of `sin` alone."""
    table = [(WITHOUT_LEVELS, None), (("EDM", "Cosine"), "edm"), (("IPNDM",), "ipndm"), (("FlowMatch",), "flow")]
    table += [(SCALED, "scaled"), (BY_CHAIN, "vp"), (("",), "index")]
    return next(kind for starts, kind in table if name.startswith(starts))


def sine(p, x, t):
    x = x.double()
    return p["c"] * torch.sin(p["a"] * x + p["b"] * float(t) / 1000.0) + p["d"] * x


def mixture(x, alpha, sigma, prediction):
    """The exact answer for a mixture of Gaussians, element by element."""
    x = x.double()
    variances = [alpha**2 * s**2 + sigma**2 for s in WIDTHS]
    rows = zip(WEIGHTS, MEANS, variances)
    logs = torch.stack([math.log(w) - (x - alpha * m) ** 2 / (2 * v) - math.log(v) / 2 for w, m, v in rows])
    rows = zip(MEANS, WIDTHS, variances)
    means = torch.stack([m + alpha * s**2 / v * (x - alpha * m) for m, s, v in rows])
    data = (torch.softmax(logs, 0) * means).sum(0)
    noise = (x - alpha * data) / sigma if sigma > 0 else torch.zeros_like(x)
    if prediction == "v_prediction":
        return alpha * noise - sigma * data
    if prediction in ("sample", "flow"):
        return data if prediction == "sample" else noise - data
    return noise


def raw_edm(scheduler, x, sigma):
    """What a network of EDM says, of the mixture's answer for the sample itself."""
    data = scheduler.config.sigma_data
    of_x = data**2 / (sigma**2 + data**2)
    of_output = sigma * data / (sigma**2 + data**2) ** 0.5
    if scheduler.config.prediction_type == "v_prediction":
        of_output = -of_output
    return (mixture(x, 1.0, sigma, "sample") - of_x * x.double()) / of_output


def levels(scheduler, kind, index, t):
    if kind == "vp":
        bar = float(scheduler.alphas_cumprod[int(t)])
        return bar**0.5, (1.0 - bar) ** 0.5
    if kind == "scaled":
        scale = float(scheduler.scale_model_input(torch.ones(1, dtype=torch.float64), t))
        return scale, max(0.0, 1.0 - scale**2) ** 0.5
    if kind == "ipndm":
        return float(scheduler.alphas[index]), float(scheduler.betas[index])
    sigma = float(scheduler.sigmas[index])
    if kind == "flow" or scheduler.config.get("use_flow_sigmas"):
        return 1.0 - sigma, sigma
    if kind == "edm":
        return 1.0, sigma
    alpha = 1.0 / (sigma**2 + 1.0) ** 0.5
    return alpha, sigma * alpha


class Noise:
    """Draws in the order of calls: drawn anew, or given again."""

    def __init__(self, generator, given=None):
        self.generator, self.given, self.draws, self.steps, self.step = generator, given, [], [], 0

    def __call__(self, shape, *_, **__):
        again = self.given is not None and len(self.draws) < len(self.given)
        z = self.given[len(self.draws)] if again else torch.randn(tuple(shape), generator=self.generator, dtype=torch.float32)
        self.draws.append(z.float())
        self.steps.append(self.step)
        return z.to(torch.get_default_dtype())


@contextlib.contextmanager
def drawing_from(module, noise):
    """Lets a scheduler's module draw from `noise`."""
    before = getattr(module, "randn_tensor", None)
    module.randn_tensor = noise
    try:
        yield
    finally:
        module.randn_tensor = before


def on_the_chain_of(scheduler, narrow):
    """Gives a scheduler of float64 the betas of one of float32, so that both are on one chain."""
    for key in ("betas", "alphas", "alphas_cumprod", "final_alpha_cumprod", "initial_alpha_cumprod"):
        if isinstance(getattr(narrow, key, None), torch.Tensor):
            setattr(scheduler, key, getattr(narrow, key).double())
    if hasattr(scheduler, "lambda_t"):
        scheduler.alpha_t, scheduler.sigma_t = scheduler.alphas_cumprod.sqrt(), (1 - scheduler.alphas_cumprod).sqrt()
        scheduler.lambda_t = scheduler.alpha_t.log() - scheduler.sigma_t.log()


def prepared(case, cls):
    scheduler = cls(**case["options"])
    if hasattr(cls, "of_module") and not case["class"].startswith("IPNDM"):
        torch.set_default_dtype(torch.float32)
        on_the_chain_of(scheduler, getattr(diffusers, case["class"])(**case["options"]))
        torch.set_default_dtype(torch.float64)
    given = dict(case["set_timesteps"])
    if isinstance(given.get("timesteps"), list) and case["class"].startswith("FlowMatch"):
        given["num_inference_steps"] = len(given["timesteps"])
    with contextlib.redirect_stdout(sys.stderr):
        scheduler.set_timesteps(**given)
    return scheduler


def stepped(name, scheduler):
    """The timesteps that steps begin at: the last of an SCM is where it arrives."""
    return scheduler.timesteps[:-1] if name.startswith("SCM") else scheduler.timesteps


def walk(case, cls, module, x, noise):
    """A whole run from the state `x`: tensors by their fields, and the scheduler."""
    scheduler = prepared(case, cls)
    begin, name, config = case["begin_index"] or 0, case["class"], scheduler.config
    if begin and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    if hasattr(scheduler, "noise_sampler"):
        scheduler.noise_sampler = lambda *_: noise(x.shape)
    arguments = {key: math.inf if value == "inf" else value for key, value in case["step_kwargs"].items()}
    kind = level_kind(name) if case["model"]["kind"] == "gmm" else None
    prediction = {"edm": "sample", "flow": "flow"}.get(kind, config.get("prediction_type", "epsilon"))
    prediction = "flow" if prediction == "flow_prediction" else prediction
    single = torch.get_default_dtype()
    fields = {key: [] for key in ("model_input", "model_output", "prev_sample", "pred_original_sample")}
    sigmas, alphas = [], []
    with drawing_from(module, noise):
        times = stepped(name, scheduler)[begin:]
        for i, t in enumerate(times):
            noise.step = i
            seen = scheduler.scale_model_input(x, t) if name.startswith(PREPARED) else x
            if kind is None:
                output = sine(case["model"], seen, t)
            else:
                alpha, sigma = levels(scheduler, kind, begin + i, t)
                alphas.append(alpha)
                sigmas.append(sigma)
                output = raw_edm(scheduler, x, sigma) if kind == "edm" else mixture(seen, alpha, sigma, prediction)
            output = output.to(single)
            if str(config.get("variance_type")).startswith("learned"):
                raw = sine(VARIANCE, seen, t)
                variance = 0.02 + 0.01 * raw if config.variance_type == "learned" else raw
                output = torch.cat([output, variance.to(single)], dim=1)
            if name.startswith("UnCLIP") and i + 1 < len(times):
                # As its pipeline does.
                arguments["prev_timestep"] = times[i + 1]
            elif name.startswith("UnCLIP"):
                del arguments["prev_timestep"]
            result = scheduler.step(output, t, x, **arguments)
            x = result.prev_sample
            if not torch.isfinite(x).all():
                raise ValueError(f"non-finite values in the trajectory (diffusers' own result), first at step {i}")
            original = getattr(result, "pred_original_sample", getattr(result, "denoised", None))
            for key, value in zip(fields, (seen, output, x, original)):
                if value is not None:
                    fields[key].append(value.clone())
    if not name.startswith(PREPARED):
        del fields["model_input"]
    tensors = {key: torch.stack(values) for key, values in fields.items() if values}
    if kind is not None:
        tensors["model_alpha"] = torch.tensor(alphas, dtype=torch.float64)
        tensors["model_sigma"] = torch.tensor(sigmas, dtype=torch.float64)
    return tensors, scheduler


def beside(case, cls, given, generator):
    """What a scheduler lists and computes beside its steps, and errors of that."""
    scheduler, notes = prepared(case, cls), {}
    whole = stepped(case["class"], scheduler)
    tensors = {"timesteps": whole[case["begin_index"] or 0 :].clone()}
    for key in ("sigmas", "sigmas_interpol"):
        if isinstance(getattr(scheduler, key, None), torch.Tensor) and not case["class"].startswith("IPNDM"):
            tensors[key] = getattr(scheduler, key).clone()
    shape = case["shape"]
    draw = lambda: torch.randn(shape, generator=generator, dtype=torch.float32).to(torch.get_default_dtype())  # noqa: E731
    x0 = given.get("add_noise_x0", draw())
    eps = given.get("add_noise_eps", draw())
    t = torch.stack([whole[0], whole[(len(whole) - 1) // 2]])
    noising = {"add_noise": (x0, eps, t), "scale_noise": (x0, t, eps), "velocity": (x0, eps, t)}
    for what, values in noising.items():
        function = getattr(scheduler, {"velocity": "get_velocity"}.get(what, what), None)
        if function is None:
            continue
        try:
            result = function(*(value.clone() for value in values))
        except Exception as error:  # noqa: BLE001
            notes[f"{what}_error"] = repr(error)
            continue
        if not torch.isfinite(result).all():
            notes[f"{what}_error"] = "not finite"
            continue
        tensors[f"{what}_out"] = result
        tensors.update({"add_noise_x0": x0, "add_noise_eps": eps, "add_noise_t": t})
    return tensors, notes


def prior(scheduler):
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def start(case, cls, generator):
    """Noise of the prior's deviation, or data raised to the level where a run begins."""
    scheduler = prepared(case, cls)
    noise = torch.randn(case["shape"], generator=generator, dtype=torch.float32)
    data = torch.randn(case["shape"], generator=generator, dtype=torch.float32) * 0.5
    begin, name = case["begin_index"], case["class"]
    if "Inverse" in name:
        return data
    if not begin:
        return (noise * prior(scheduler)).float()
    if not hasattr(scheduler, "sigmas") or level_kind(name) in (None, "ipndm", "vp"):
        kind = level_kind(name)
        t = scheduler.timesteps[begin]
        alpha, sigma = levels(scheduler, kind, begin, t) if kind else (0.5, float(t) if name.startswith("CM") else 0.5)
        return (alpha * data + sigma * noise).float()
    sigma = float(scheduler.sigmas[begin])
    alpha = 1.0 - sigma if name.startswith("FlowMatch") or scheduler.config.get("use_flow_sigmas") else 1.0
    if level_kind(name) == "index" and not scheduler.config.get("use_flow_sigmas"):
        alpha, sigma = 1.0 / (sigma**2 + 1) ** 0.5, sigma / (sigma**2 + 1) ** 0.5
    return (alpha * data + sigma * noise).float()


def record(case, cls, generator, given=None):
    """The tensors of a case and its entry in a manifest."""
    given, module = given or {}, sys.modules[cls.__module__]
    module = getattr(cls, "of_module", module)
    x = given.get("x_init", None)
    if x is None:
        x = start(case, cls, generator)
    wide = x.to(torch.get_default_dtype())
    noise = Noise(generator, given.get("noise"))
    run, scheduler = walk(case, cls, module, wide, noise)
    again, _ = walk(case, cls, module, wide * (1.0 + 1e-6), Noise(generator, noise.draws))
    tensors = {"x_init": x, **run}
    other, notes = beside(case, cls, given, generator)
    tensors.update(other)
    if noise.draws:
        tensors["noise"] = torch.stack(noise.draws)
        tensors["noise_step"] = torch.tensor(noise.steps)
    bounds = []
    for before, after in zip(run["prev_sample"], again["prev_sample"]):
        bounds.append(5.0 * float((before - after).abs().max()) + 1e-5 * max(1.0, float(before.abs().max())))
    inf = lambda value: {math.inf: "inf", -math.inf: "-inf"}.get(value, value) if isinstance(value, float) else value  # noqa: E731
    config = {key: inf(value) for key, value in scheduler.config.items() if not key.startswith("_")}
    bars = getattr(scheduler, "alphas_cumprod", None)
    shared = None
    if isinstance(bars, torch.Tensor):
        words = [config.get(key) for key in ("beta_schedule", "beta_start", "beta_end", "num_train_timesteps")]
        shared = "alphas_cumprod/" + "_".join(map(str, words)) + f"_{case['name']}"
    learned = str(config.get("variance_type")).startswith("learned")
    entry = {"name": case["name"], "class": case["class"], "config": config}
    entry |= {key: case[key] for key in ("set_timesteps", "step_kwargs", "begin_index")}
    entry |= {"init_noise_sigma": prior(scheduler), "order": getattr(scheduler, "order", 1), "alphas_cumprod": shared}
    entry |= {"model": case["model"], "gmm_level": level_kind(case["class"]) if case["model"]["kind"] == "gmm" else None}
    entry |= {"variance_channels": CHANNELS if learned else None, "notes": notes}
    entry |= {"tolerance": {"per_step_atol": bounds, "rtol": 1e-5}}
    entry["tensors"] = {
        key: {"key": f"{case['name']}/{key}", "dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
        for key, value in tensors.items()
    }
    stored = {f"{case['name']}/{key}": value.contiguous() for key, value in tensors.items()}
    return entry, stored | ({shared: bars.clone()} if shared else {})


def in_float64(cls):
    """The class, of a source in which every float32 is a float64."""
    module = sys.modules[cls.__module__]
    source = pathlib.Path(module.__file__).read_text()
    source = source.replace("float32", "float64")
    source = re.sub(r"torch\.float\b(?!\d)", "torch.float64", source)
    wide = types.ModuleType(module.__name__)
    wide.__package__, wide.__file__ = module.__package__, module.__file__
    exec(compile(source, module.__file__, "exec"), wide.__dict__)  # noqa: S102
    cls = getattr(wide, cls.__name__)
    cls.of_module = wide
    return cls


def manifest(name, seed):
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    versions |= {"scipy": scipy.__version__, "numpy": numpy.__version__}
    home = pathlib.Path(__file__).parents[1] / "fixtures/schedulers/ddim.json"
    said = json.loads(home.read_text())
    what = {key: said[key] for key in ("library", "variant", "gmm_levels", "tolerance_rule", "analytic_models")}
    return {"fixture": f"schedulers/{name}", "title": f"diffusers schedulers: {name}", "versions": versions, "seed": seed, **what}


def check(folder):
    """Records the cases of a folder anew from their own noise, and says what differs."""
    for path in sorted(pathlib.Path(folder).glob("**/*.json")):
        tensors = load_file(path.with_suffix(".safetensors"))
        for entry in json.loads(path.read_text()).get("cases", []):
            if entry.get("class") not in record_options.CLASSES:
                continue
            options = {key: float(v) if v in ("inf", "-inf") else v for key, v in entry["config"].items()}
            case = entry | {"options": options}
            given = {key: tensors[field["key"]] for key, field in entry["tensors"].items()}
            case["shape"] = list(given["x_init"].shape)
            cls = getattr(diffusers, entry["class"])
            anew, stored = record(case, cls, torch.Generator().manual_seed(0), given)
            bound = max(entry["tolerance"]["per_step_atol"])
            wrong = [key for key in entry["tensors"] if not same(given[key], stored.get(f"{entry['name']}/{key}"), bound)]
            wrong += [key for key in ("gmm_level", "order", "variance_channels") if anew[key] != entry[key]]
            bounds = zip(anew["tolerance"]["per_step_atol"], entry["tolerance"]["per_step_atol"])
            wrong += ["tolerance"] * any(abs(a - b) > 0.2 * b for a, b in bounds)
            print(f"{path.stem}: {entry['name']}:", ", ".join(wrong) or "as recorded")


def same(a, b, bound):
    if b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.allclose(a.double(), b.double(), rtol=1e-5, atol=bound, equal_nan=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=int)
    parser.add_argument("per_class", type=int)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--class", dest="only", choices=[*record_options.CLASSES, *record_special.OPTIONS])
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if int(numpy.__version__.split(".")[0]) < 2:
        parser.error(f"NumPy {numpy.__version__} is older than 2")
    torch.set_num_threads(1)
    if given.check:
        return check(given.out)
    if given.float64:
        torch.set_default_dtype(torch.float64)
    folder = given.out / "schedulers"
    folder.mkdir(parents=True, exist_ok=True)
    # Those with loops of their own have no wide source.
    others = [] if given.float64 else record_special.OPTIONS
    for name in [given.only] if given.only else [*record_options.CLASSES, *others]:
        special, cls = name in record_special.OPTIONS, getattr(diffusers.schedulers, name)
        cls = in_float64(cls) if given.float64 and not special else cls
        said = manifest(name, given.seed) | {"skipped": [], "cases": []}
        stored = {}
        for k in range(given.per_class):
            rng = random.Random(f"{given.seed}/{name}/{k}")
            case = (record_special if special else record_options).draw(name, rng) | {"name": f"{name}_{k}", "class": name}
            generator = torch.Generator().manual_seed(rng.getrandbits(60))
            try:
                recorded = record_special.record(case, generator, sys.modules[__name__]) if special else record(case, cls, generator)
                entry, tensors = recorded
            except Exception as error:  # noqa: BLE001
                said["skipped"].append({"name": case["name"], "why": repr(error), "options": repr(case["options"])})
                continue
            said["cases"].append(entry)
            stored |= tensors
        (folder / f"{name}.json").write_text(json.dumps(said, indent=1))
        save_file(stored, folder / f"{name}.safetensors")
        print(f"{name}: {len(said['cases'])} recorded, {len(said['skipped'])} skipped")


if __name__ == "__main__":
    main()
