"""Writes reference_flows.json: runs of diffusers 0.42.1, of the schedulers of single models on flows. Needs torch and diffusers.

Samples, noise and network are the formulas of make.py. Every case has the configuration, the shape that the run begins with, what
`set_timesteps` was given, and the states after each step.
"""

import json
import pathlib
import types
from unittest import mock

import torch
from diffusers import FlowMapEulerDiscreteScheduler, LTXEulerAncestralRFScheduler
from diffusers.schedulers import scheduling_consistency_decoder, scheduling_ltx_euler_ancestral_rf
from diffusers.schedulers.scheduling_consistency_decoder import ConsistencyDecoderScheduler
from diffusers.schedulers.scheduling_minimax_h3 import MiniMaxH3Scheduler
from diffusers.pipelines.helios.pipeline_helios_pyramid import HeliosPyramidPipeline
from diffusers.schedulers.scheduling_helios import HeliosScheduler
from diffusers.schedulers.scheduling_helios_dmd import HeliosDMDScheduler
from make import network, state, wave

SHAPE = (3, 2)

ANCESTRAL = [
    ({}, {"num_inference_steps": 6}),
    ({"eta": 0.5, "s_noise": 1.1, "num_train_timesteps": 100}, {"num_inference_steps": 5}),
    ({"eta": 0.0}, {"num_inference_steps": 4}),
    # Options of the class that lays its grid.
    ({"shift": 3.0, "shift_terminal": 0.1}, {"num_inference_steps": 4}),
    ({"use_dynamic_shifting": True, "use_karras_sigmas": True}, {"num_inference_steps": 4, "mu": 0.7}),
    ({"eta": 0.8}, {"sigmas": [1.0, 0.9, 0.4, 0.05, 0.0]}),
    # Ends with noise.
    ({"num_train_timesteps": 500}, {"timesteps": [0.95, 0.5, 0.2]}),
]


def ancestral(config, given):
    config = {"_class_name": "LTXEulerAncestralRFScheduler", **config}
    scheduler = LTXEulerAncestralRFScheduler.from_config(config)
    scheduler.set_timesteps(**given)
    x, states = wave(SHAPE, 0.71, 0.0), []
    for step in range(len(scheduler.sigmas) - 1):
        scheduling_ltx_euler_ancestral_rf.randn_tensor = lambda shape, **_: wave(shape, 0.37, float(step + 1))
        timestep = scheduler.timesteps[step]
        output = network(x, timestep, scheduler.config.num_train_timesteps)
        x = scheduler.step(output, timestep, x, return_dict=False)[0]
        states.append(state(x))
    return {"config": config, "shape": SHAPE, "given": given, "states": states}


FROM_NOISE = [
    ({}, {"num_inference_steps": 7}),
    ({"shift": 3.0}, {"num_inference_steps": 2}),
    ({}, {"sigmas": [0.95, 0.6, 0.1, 0.0]}),
    # So steep that float32 sets three sigmas to 1.
    ({"shift": 1e8}, {"num_inference_steps": 8}),
]


def from_noise(config, given):
    scheduler = MiniMaxH3Scheduler(**config)
    scheduler.set_timesteps(**given)
    x, states = wave(SHAPE, 0.71, 0.0), []
    for timestep in scheduler.timesteps:
        x = scheduler.step(network(x, timestep, 1), timestep, x, return_dict=False)[0]
        states.append(state(x))
    return {"config": {"_class_name": "MiniMaxH3Scheduler", **config}, "shape": SHAPE, "given": given, "states": states}


DECODED = [{}, {"sigma_data": 1.3}, {"num_train_timesteps": 1100}]


def decoded(config):
    scheduler = ConsistencyDecoderScheduler(**config)
    given = {"num_inference_steps": 2}
    scheduler.set_timesteps(**given)
    x, states = wave(SHAPE, 0.71, 0.0) * scheduler.init_noise_sigma, []
    for step, timestep in enumerate(scheduler.timesteps):
        scheduling_consistency_decoder.randn_tensor = lambda shape, **_: wave(shape, 0.37, float(step + 1))
        output = network(scheduler.scale_model_input(x, timestep), timestep, scheduler.config.num_train_timesteps)
        x = scheduler.step(output, timestep, x, return_dict=False)[0]
        states.append(state(x))
    return {
        "config": {"_class_name": "ConsistencyDecoderScheduler", **config},
        "shape": SHAPE,
        "given": given,
        "init_noise_sigma": scheduler.init_noise_sigma.item(),
        "states": states,
    }


MAPPED = [
    ({}, {"num_inference_steps": 1}),
    ({"shift": 5.0}, {"num_inference_steps": 6}),
    ({"shift": 3.0, "num_train_timesteps": 100}, {"sigmas": [0.9, 0.5, 0.2]}),
    ({}, {"timesteps": [1000.0, 300.0]}),
]


def mapped(config, given):
    scheduler = FlowMapEulerDiscreteScheduler(**config)
    scheduler.set_timesteps(**given)
    steps = scheduler.config.num_train_timesteps
    ends = torch.cat([scheduler.timesteps[1:], torch.zeros(1)])
    x, states = wave(SHAPE, 0.71, 0.0), []
    for index, (timestep, end) in enumerate(zip(scheduler.timesteps, ends)):
        # The original looks both up, or goes to the next.
        told = end if index % 2 else None
        output = network(x + 0.4 * (end / steps).float(), timestep.float(), steps)
        x = scheduler.step(output, timestep, x, told, return_dict=False)[0]
        states.append(state(x))
    config = {"_class_name": "FlowMapEulerDiscreteScheduler", **config}
    return {"config": config, "shape": SHAPE, "given": given, "states": states}


STAGED = [
    # Class, configuration, steps of each stage, mu.
    (HeliosScheduler, {}, [6, 3, 2], None),
    (HeliosScheduler, {"scheduler_type": "euler", "shift": 3.0, "gamma": 0.2}, [4, 3, 1], None),
    (HeliosScheduler, {"solver_order": 3, "solver_type": "bh1", "disable_corrector": [1]}, [7, 6, 5], None),
    (HeliosScheduler, {"use_dynamic_shifting": True, "stages": 2, "stage_range": [0.0, 0.4, 1.0]}, [5, 4], 0.7),
    (HeliosScheduler, {"stages": 1, "shift": 1.5, "num_train_timesteps": 100}, [5], None),
    (HeliosDMDScheduler, {}, [3, 2, 1], None),
    (HeliosDMDScheduler, {"use_dynamic_shifting": True, "num_train_timesteps": 500}, [4, 2, 2], 1.4),
    (HeliosDMDScheduler, {"stages": 1, "shift": 4.0}, [4], None),
]


def entered(scheduler, stage, x):
    """What the pipeline does between stages; its own function makes the noise, of blocks of a given image."""
    sides = [2 * side for side in x.shape[-2:]]
    x = torch.nn.functional.interpolate(x.flatten(0, 1), size=sides, mode="nearest").unflatten(0, x.shape[:2])
    drawn = wave(x.shape, 0.37, float(stage))
    blocks = drawn.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).transpose(-3, -2).reshape(-1, 4)
    # Its covariance is singular for gamma 1/3, and what it adds to that is lost in float32: its factorization fails here.
    gamma, factor = scheduler.config.gamma, torch.linalg.cholesky
    exact = (1 + gamma + 1e-8) * torch.eye(4, dtype=torch.float64) - gamma
    root = mock.patch("torch.linalg.cholesky", lambda _: factor(exact).float())
    with mock.patch("torch.randn", lambda *_, **__: blocks), root:
        holder = types.SimpleNamespace(scheduler=scheduler)
        noise = HeliosPyramidPipeline.sample_block_noise(holder, *x.shape, generator=torch.Generator())
    signal = 1 - scheduler.ori_start_sigmas[stage]
    alpha = 1 / ((1 + 1 / gamma) ** 0.5 * (1 - signal) + signal)
    return alpha * x + alpha * (1 - signal) / gamma**0.5 * noise


def part(x):
    """Of a wide state numbers of all rows and columns, and the mean of all by weights that tell places apart."""
    x = x.flatten()
    places = torch.arange(16) * (len(x) // 16 | 1) % len(x)
    return {**state(x[places]), "mean": (x.double() * wave(x.shape, 0.53, 0.0).double()).mean().item()}


def staged(kind, config, steps, mu):
    scheduler = kind(**config)
    shape = (1, 2, 1, 2, 4)
    x, stages = wave(shape, 0.71, 0.0), []
    for stage, count in enumerate(steps):
        if stage > 0:
            x = entered(scheduler, stage, x).float()
        scheduler.set_timesteps(count, stage, mu=mu)
        begin, states = x, [state(x)]
        for index, timestep in enumerate(scheduler.timesteps):
            output = network(x, timestep.float(), scheduler.config.num_train_timesteps)
            more = {}
            if kind is HeliosDMDScheduler:
                more = {
                    "cur_sampling_step": index,
                    "dmd_noisy_tensor": begin,
                    "dmd_sigmas": scheduler.sigmas,
                    "dmd_timesteps": scheduler.timesteps,
                    "all_timesteps": scheduler.timesteps,
                }
            x = scheduler.step(output, timestep, x, return_dict=False, **more)[0].float()
            states.append(part(x))
        stages.append({"steps": count, "states": states})
    config = {"_class_name": kind.__name__, **config}
    return {"config": config, "shape": shape, "mu": mu, "stages": stages}


def main():
    reference = {
        "made_by": "diffusers 0.42.1",
        "ancestral": [ancestral(*case) for case in ANCESTRAL],
        "from_noise": [from_noise(*case) for case in FROM_NOISE],
        "decoded": [decoded(case) for case in DECODED],
        "mapped": [mapped(*case) for case in MAPPED],
        "staged": [staged(*case) for case in STAGED],
    }
    text = json.dumps(reference, separators=(",", ":")).replace('{"config"', '\n{"config"').replace('{"shape"', '\n {"shape"')
    pathlib.Path(__file__).with_name("reference_flows.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
