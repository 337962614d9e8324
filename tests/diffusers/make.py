"""Writes reference.json: runs of diffusers 0.42.1, of FlowMatchLCMScheduler with scale factors, of
FlowMatchHeunDiscreteScheduler with churn and of the schedulers of CogVideoX. Needs torch and diffusers.

Samples, noise and network are formulas in f32, so that only the states are written. Every case has the configuration, the shape
that the run begins with, the number of steps, and the states after each of them.
"""

import itertools
import json
import math
import pathlib

import diffusers
import torch
from diffusers import FlowMatchHeunDiscreteScheduler, FlowMatchLCMScheduler
from diffusers.schedulers import (
    scheduling_dpm_cogvideox,
    scheduling_flow_match_heun_discrete,
    scheduling_flow_match_lcm,
)

LINE, IMAGE, VOLUME = (2, 2, 5), (2, 1, 3, 5), (2, 1, 2, 1, 3)
# Half of an odd side is rounded to even; sides shrink, stay, and grow to what is no multiple.
FACTORS = [1.5, 2.0, 2.5]

GROWN = [
    *[(LINE, {"upscale_mode": mode}) for mode in ["nearest", "nearest-exact", "area", "linear"]],
    *[(IMAGE, {"upscale_mode": mode}) for mode in ["nearest", "nearest-exact", "area", "bilinear"]],
    # Bicubic unless said otherwise.
    (IMAGE, {}),
    *[(VOLUME, {"upscale_mode": mode}) for mode in ["nearest", "nearest-exact", "area", "trilinear"]],
    *[
        ((2, 1, 6, 7), {"upscale_mode": mode, "scale_factors": [0.5, 1.0, 1.25, 0.75]})
        for mode in ["nearest", "nearest-exact", "area", "bilinear", "bicubic"]
    ],
    (IMAGE, {"shift": 3.0, "scale_factors": [4.0]}),
    (IMAGE, {"use_karras_sigmas": True, "num_train_timesteps": 100, "scale_factors": [1.0, 1.0, 1.7]}),
    # Here torch's floats round to another pixel than the exact ratio does.
    ((1, 1, 2), {"upscale_mode": "nearest", "scale_factors": [41.0]}),
    ((1, 1, 2), {"upscale_mode": "nearest-exact", "scale_factors": [30.5]}),
]


def wave(shape, factor, shift):
    k = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.float64)
    return (1.5 * torch.sin(factor * k * k + shift)).to(torch.float32).reshape(shape)


def network(x, timestep, steps):
    return 0.3 * x + 0.7 * torch.sin(1.3 * x + 2.0 * timestep / steps + 0.2)


def state(x):
    return {"shape": list(x.shape), "x": [float(f"{value:.7g}") for value in x.flatten().tolist()]}


def grown(shape, config):
    config = {"scale_factors": FACTORS, **config}
    scheduler = FlowMatchLCMScheduler(**config)
    steps = len(config["scale_factors"]) + 1
    scheduler.set_timesteps(steps)
    draws = itertools.count(1)
    scheduling_flow_match_lcm.randn_tensor = lambda shape, **_: wave(shape, 0.37, float(next(draws)))
    x, states = wave(shape, 0.71, 0.0), []
    for timestep in scheduler.timesteps:
        output = network(x, timestep, scheduler.config.num_train_timesteps)
        x = scheduler.step(output, timestep, x, return_dict=False)[0]
        states.append(state(x))
    config = {"_class_name": "FlowMatchLCMScheduler", **config}
    return {"config": config, "shape": shape, "steps": steps, "states": states}


CHURNED = [
    # Steps, configuration, and s_churn, s_tmin, s_tmax, s_noise.
    (5, {}, (1.0, 0.0, math.inf, 1.0)),
    (4, {"shift": 3.0}, (0.5, 0.3, 0.9, 1.1)),
    # More than a step takes.
    (6, {"num_train_timesteps": 100}, (40.0, 0.0, 0.6, 0.9)),
    (1, {}, (0.2, 0.0, math.inf, 1.0)),
]


def churned(steps, config, churn):
    scheduler = FlowMatchHeunDiscreteScheduler(**config)
    scheduler.set_timesteps(steps)
    x, states = wave((3, 2), 0.71, 0.0), []
    for call, timestep in enumerate(scheduler.timesteps):
        # The second draw of a step changes nothing.
        scheduling_flow_match_heun_discrete.randn_tensor = lambda shape, **_: wave(shape, 0.37, float(call + 1))
        output = network(x, timestep, scheduler.config.num_train_timesteps)
        x = scheduler.step(output, timestep, x, *churn, return_dict=False)[0]
        # The last step is one call, after which another would be expected.
        if scheduler.state_in_first_order or call + 1 == len(scheduler.timesteps):
            states.append(state(x))
    config = {"_class_name": "FlowMatchHeunDiscreteScheduler", **config}
    churn = [str(value) if math.isinf(value) else value for value in churn]
    return {"config": config, "shape": (3, 2), "steps": steps, "churn": churn, "states": states}


TRAILING = {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
VIDEO = [
    (5, {}),
    # As published, for two and five billion parameters.
    (10, TRAILING),
    (8, {**TRAILING, "snr_shift_scale": 1.0}),
    (4, {"prediction_type": "sample", "beta_schedule": "linear", "steps_offset": 1, "num_train_timesteps": 100}),
    (20, {"beta_schedule": "squaredcos_cap_v2", "snr_shift_scale": 0.7, "set_alpha_to_one": False, "steps_offset": 3}),
]


def video(name, steps, config):
    scheduler = getattr(diffusers, name)(**config)
    scheduler.set_timesteps(steps)
    x, old, states = wave((3, 2), 0.71, 0.0), None, []
    for step, timestep in enumerate(scheduler.timesteps):
        scheduling_dpm_cogvideox.randn_tensor = lambda shape, **_: wave(shape, 0.37, float(step + 1))
        output = network(x, timestep, scheduler.config.num_train_timesteps)
        if name == "CogVideoXDPMScheduler":
            back = scheduler.timesteps[step - 1] if step > 0 else None
            x, old = scheduler.step(output, old, timestep, back, x, return_dict=False)
        else:
            x = scheduler.step(output, timestep, x, return_dict=False)[0]
        x = x.to(torch.float32)
        states.append(state(x))
    return {"config": {"_class_name": name, **config}, "shape": (3, 2), "steps": steps, "states": states}


def main():
    reference = {
        "made_by": "diffusers 0.42.1",
        "grown": [grown(*case) for case in GROWN],
        "churned": [churned(*case) for case in CHURNED],
        "video": [video(name, *case) for name in ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"] for case in VIDEO],
    }
    text = json.dumps(reference, separators=(",", ":")).replace('{"config"', '\n{"config"').replace('{"shape"', '\n {"shape"')
    pathlib.Path(__file__).with_name("reference.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
