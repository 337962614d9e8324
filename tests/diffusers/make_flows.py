"""Writes reference_flows.json: runs of diffusers 0.42.1, of the schedulers of single models on flows. Needs torch and diffusers.

Samples, noise and network are the formulas of make.py. Every case has the configuration, the shape that the run begins with, what
`set_timesteps` was given, and the states after each step.
"""

import json
import pathlib

import torch
from diffusers import FlowMapEulerDiscreteScheduler, LTXEulerAncestralRFScheduler
from diffusers.schedulers import scheduling_consistency_decoder, scheduling_ltx_euler_ancestral_rf
from diffusers.schedulers.scheduling_consistency_decoder import ConsistencyDecoderScheduler
from diffusers.schedulers.scheduling_minimax_h3 import MiniMaxH3Scheduler
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


def main():
    reference = {
        "made_by": "diffusers 0.42.1",
        "ancestral": [ancestral(*case) for case in ANCESTRAL],
        "from_noise": [from_noise(*case) for case in FROM_NOISE],
        "decoded": [decoded(case) for case in DECODED],
        "mapped": [mapped(*case) for case in MAPPED],
    }
    text = json.dumps(reference, separators=(",", ":")).replace('{"config"', '\n{"config"').replace('{"shape"', '\n {"shape"')
    pathlib.Path(__file__).with_name("reference_flows.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
