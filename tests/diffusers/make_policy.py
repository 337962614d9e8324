"""Writes reference_policy.json: predictors and correctors of score SDEs (Song et al. 2021, algorithms 2 to 5, appendix G,
and the corrector of fixed length in their code), written down in torch from the formulas; and runs of PiflowScheduler and
RFD4ProteinaScheduler of diffusers 0.42.1. Needs torch and diffusers.

Samples and noise are formulas, as in make.py; schedules and states are in f64, times in f32. Every case has the configuration, the shape that the run begins with,
the number of steps, and the states after each of them. Noise is counted where it is used.
"""

import itertools
import json
import math
import pathlib

import torch
from diffusers import PiflowScheduler, RFD4ProteinaScheduler
from diffusers.schedulers import scheduling_rfd4_proteina
from diffusers.schedulers.scheduling_piflow import DXPolicy, policy_rollout_fm
from make import state, wave

SHAPE = (3, 2)


class Vp:
    """The continuous process, and the chain of n steps."""

    def __init__(self, model, n):
        self.low, self.high, self.n, self.eps = model["beta_min"], model["beta_max"], n, 1e-3
        self.betas = torch.linspace(self.low / n, self.high / n, n)

    def std(self, t):
        return torch.sqrt(1.0 - torch.exp(-0.5 * t**2 * (self.high - self.low) - t * self.low))

    def share(self, i):
        return 1.0 - self.betas[i]

    def drift(self, x, t):
        return -0.5 * (self.low + t * (self.high - self.low)) * x

    def diffusion(self, t):
        return torch.sqrt(self.low + t * (self.high - self.low))

    def step(self, i):
        """a and v of the forward step x' = a·x + √v·z."""
        return torch.sqrt(1.0 - self.betas[i]), self.betas[i]

    def ancestral_std(self, i):
        return torch.sqrt(self.betas[i])


class Ve:
    def __init__(self, model, n):
        self.low, self.high, self.n, self.eps = model["sigma_min"], model["sigma_max"], n, 1e-5
        self.sigmas = torch.exp(torch.linspace(math.log(self.low), math.log(self.high), n))

    def std(self, t):
        return self.low * (self.high / self.low) ** t

    def share(self, i):
        return torch.ones(())

    def drift(self, x, t):
        return torch.zeros_like(x)

    def diffusion(self, t):
        return self.std(t) * math.sqrt(2.0 * math.log(self.high / self.low))

    def below(self, i):
        return self.sigmas[i - 1] if i > 0 else torch.zeros(())

    def step(self, i):
        return torch.ones(()), self.sigmas[i] ** 2 - self.below(i) ** 2

    def ancestral_std(self, i):
        return self.below(i) * torch.sqrt(self.step(i)[1]) / self.sigmas[i]


def score(x, std):
    return -(0.3 * x + 0.7 * torch.sin(1.3 * x + 2.0 * std + 0.2)) / std


def run(name, model, steps, sampling):
    sde = {"vpsde": Vp, "vesde": Ve}[name](model, steps)
    ratio, flow = sampling["snr"], sampling.get("probability_flow", False)
    draws = itertools.count(1)
    x, states = wave(SHAPE, 0.71, 0.0).to(torch.float64), []
    for k, t in enumerate(torch.linspace(1.0, sde.eps, steps, dtype=torch.float32)):
        i, t = int(t * (steps - 1)), t.to(torch.float64)
        std = sde.std(t)
        for _ in range(sampling["n_steps_each"] if sampling["corrector"] != "none" else 0):
            slope, z = score(x, std), wave(SHAPE, 0.37, float(next(draws))).to(torch.float64)
            if sampling["corrector"] == "ald":
                length = 2.0 * sde.share(i) * (ratio * std) ** 2
            else:
                norm = [torch.linalg.vector_norm(of.reshape(SHAPE[0], -1), dim=1).mean() for of in (z, slope)]
                length = 2.0 * sde.share(i) * (ratio * norm[0] / norm[1]) ** 2
            x = x + length * slope + torch.sqrt(2.0 * length) * z
        if sampling["predictor"] == "none":
            states.append(state(x))
            continue
        a, v = sde.step(i)
        if sampling["predictor"] == "reverse_diffusion":
            mean = (2.0 - a) * x + (0.5 if flow else 1.0) * v * score(x, std)
            spread = torch.zeros(()) if flow else torch.sqrt(v)
        elif sampling["predictor"] == "ancestral_sampling":
            mean, spread = (x + v * score(x, std)) / a, sde.ancestral_std(i)
        else:
            g = sde.diffusion(t)
            mean = x - (sde.drift(x, t) - g**2 * score(x, std)) / steps
            spread = g / math.sqrt(steps)
        last = k + 1 == steps and sampling["noise_removal"]
        x = mean if last or spread == 0 else mean + spread * wave(SHAPE, 0.37, float(next(draws)))
        states.append(state(x))
    config = {"training": {"sde": name}, "model": {**model, "num_scales": steps}, "sampling": sampling}
    return {"config": config, "shape": SHAPE, "steps": steps, "states": states}


def cases():
    models = {"vpsde": {"beta_min": 0.1, "beta_max": 4.0}, "vesde": {"sigma_min": 0.05, "sigma_max": 5.0}}
    predictors = ["euler_maruyama", "reverse_diffusion", "ancestral_sampling", "none"]
    for name, predictor, corrector in itertools.product(models, predictors, ["langevin", "ald", "none"]):
        options = {"n_steps_each": 2, "snr": 0.2, "noise_removal": predictor != "euler_maruyama"}
        yield run(name, models[name], 5, {"predictor": predictor, "corrector": corrector, **options})
    flow = {"predictor": "reverse_diffusion", "corrector": "ald", "probability_flow": True}
    for name in models:
        yield run(name, models[name], 7, {**flow, "n_steps_each": 1, "snr": 0.1, "noise_removal": True})


PIFLOW = [
    # Steps, configuration, mode.
    (4, {}, "grid"),
    (1, {"n_grid": 2}, "grid"),
    (3, {"shift": 1.0, "n_grid": 3, "final_step_size_scale": 1.0}, "grid"),
    (2, {"shift": 0.7, "n_grid": 4, "num_policy_substeps": 7, "num_train_timesteps": 10}, "grid"),
    (5, {"shift": 3.0, "n_grid": 5, "eps": 0.05, "final_step_size_scale": 0.3, "num_policy_substeps": 1}, "grid"),
    (3, {"shift": 3.0, "n_grid": 3}, "polynomial"),
    (2, {"shift": 1.0, "n_grid": 4, "num_policy_substeps": 20}, "polynomial"),
]


def piflow(steps, config, mode):
    scheduler = PiflowScheduler(**config)
    scheduler.set_timesteps(steps)
    shape, n = (2, 3, 2), scheduler.n_grid
    x, states = wave(shape, 0.71, 0.0), []
    ends = [*scheduler._piflow_raw_timesteps[1:], torch.tensor(scheduler.eps)]
    for step, timestep in enumerate(scheduler.timesteps):
        told = 2.0 * timestep / scheduler.config.num_train_timesteps + 0.2
        outputs = [0.3 * x + 0.7 * torch.sin(1.3 * x + told + 0.4 * i) for i in range(n)]
        if mode == "grid":
            x = scheduler.step(torch.cat(outputs, dim=-1), timestep, x, return_dict=False)[0]
        else:
            begin, sigma = scheduler._piflow_raw_timesteps[step].expand(2), scheduler.sigmas[step].expand(2)
            shift, eps = scheduler.config.shift, scheduler.eps
            rolled = DXPolicy(torch.stack(outputs, dim=1), x, sigma, begin - ends[step], shift, mode, eps)
            x = policy_rollout_fm(x, sigma, begin, ends[step].expand(2), scheduler.num_policy_substeps, rolled)[0]
        states.append(state(x))
    config = {"_class_name": "PiflowScheduler", **config}
    return {"config": config, "mode": mode, "shape": shape, "steps": steps, "states": states}


TEMPERED = [
    # Steps, start time, configuration.
    (9, None, {"schedule_mode": "log", "noise_mode": "1/t", "tsr_k": 2.0, "tsr_sigma": 0.5, "tail_steps": 3}),
    (8, None, {"schedule_mode": "power", "noise_mode": "tan", "tsr_k": 1.5, "tsr_sigma": 1.2, "tail_steps": 0}),
    (
        7,
        0.4,
        {
            "schedule_mode": "power",
            "noise_mode": "1/t",
            "tsr_k": 4.0,
            "tsr_sigma": 0.3,
            "tail_steps": 2,
            "tail_step_multiplier": 3,
            "t_lim_ode": 0.8,
            "t_lim_ode_below": 0.45,
        },
    ),
    (6, 0.05, {"schedule_mode": "log", "noise_mode": "tan", "tsr_k": 1.0, "tsr_sigma": 0.5, "tail_steps": 1}),
    (20, None, {"schedule_mode": "log", "noise_mode": "tan", "tsr_k": 3.0, "tsr_sigma": 0.7}),
]


def tempered(steps, start, config):
    scheduler = RFD4ProteinaScheduler(**config)
    scheduler.set_timesteps(steps, start_time=start)
    draws = itertools.count(1)
    scheduling_rfd4_proteina.randn_tensor = lambda shape, **_: wave(shape, 0.37, float(next(draws))).to(torch.float64)
    shape = (2, 3, 2)
    mask = torch.tensor([[True, True, False], [True, False, True]])
    x, states = wave(shape, 0.71, 0.0).to(torch.float64), []
    for timestep in scheduler.timesteps:
        # The time of the flow's noise.
        output = 0.3 * x + 0.7 * torch.sin(1.3 * x + 2.0 * (1.0 - timestep) + 0.2)
        x = scheduler.step(output, timestep, x, mask, return_dict=False)[0]
        states.append(state(x))
    times = [float(f"{time:.7g}") for time in scheduler._times.tolist()]
    config = {"_class_name": "RFD4ProteinaScheduler", **config}
    mask = mask[..., None].expand(shape).flatten().to(torch.int32).tolist()
    return {
        "config": config, "shape": shape, "steps": steps, "start": start, "mask": mask, "times": times, "states": states
    }


def main():
    recorded = [piflow(*case) for case in PIFLOW]
    # In f32 the original's 1 - t is rounded where the score divides by it.
    torch.set_default_dtype(torch.float64)
    rescaled = [tempered(*case) for case in TEMPERED]
    reference = {"score_sde": list(cases()), "piflow": recorded, "tempered": rescaled}
    text = json.dumps(reference, separators=(",", ":")).replace('{"config"', '\n{"config"')
    pathlib.Path(__file__).with_name("reference_policy.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
