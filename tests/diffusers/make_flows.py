"""Writes reference_flows.json: runs of diffusers 0.42.1, of the schedulers of single models on flows. Needs torch and diffusers.

Samples, noise and network are the formulas of make.py. Every case has the configuration, the shape that the run begins with, what
`set_timesteps` was given, and the states after each step.
"""

import json
import pathlib

from diffusers import LTXEulerAncestralRFScheduler
from diffusers.schedulers import scheduling_ltx_euler_ancestral_rf
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


def main():
    reference = {
        "made_by": "diffusers 0.42.1",
        "ancestral": [ancestral(*case) for case in ANCESTRAL],
    }
    text = json.dumps(reference, separators=(",", ":")).replace('{"config"', '\n{"config"').replace('{"shape"', '\n {"shape"')
    pathlib.Path(__file__).with_name("reference_flows.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
