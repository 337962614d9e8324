"""Writes reference_options.json: runs of diffusers 0.42.1, of the options of classes that integrate in λ: dynamic shifts, ends of
sigmas, their stretching, outputs with a variance, and later starts. Needs torch and diffusers.

Samples, noise and network are the formulas of make.py. Every case has the configuration, the shape that the run begins with, what
`set_timesteps` was given, the timesteps, and the states after each step. A network with a variance has it behind its own channels.
"""

import json
import pathlib

import diffusers
import torch
from diffusers.schedulers import scheduling_dpmsolver_multistep, scheduling_dpmsolver_singlestep, scheduling_sasolver
from make import network, state, wave

# Three channels: the originals take the first three of an output.
SHAPE = (2, 3)
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
DYNAMIC = {**FLOW, "use_dynamic_shifting": True}
KARRAS = {**FLOW, "use_karras_sigmas": True}

CASES = [
    ("UniPCMultistepScheduler", DYNAMIC, 6, 0.83),
    ("UniPCMultistepScheduler", {**DYNAMIC, "time_shift_type": "linear", "final_sigmas_type": "sigma_min"}, 5, 2.5),
    ("UniPCMultistepScheduler", {**FLOW, "flow_shift": 3.0, "shift_terminal": 0.1, "solver_order": 3}, 7, None),
    ("UniPCMultistepScheduler", {**DYNAMIC, "shift_terminal": 0.05, "num_train_timesteps": 100}, 6, -0.4),
    ("UniPCMultistepScheduler", {"use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 20.0}, 6, None),
    ("UniPCMultistepScheduler", {"use_exponential_sigmas": True, "sigma_max": 60.0, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}, 6, None),
    ("UniPCMultistepScheduler", {"use_beta_sigmas": True, "sigma_min": 0.1}, 6, None),
    ("UniPCMultistepScheduler", {**KARRAS, "sigma_min": 0.02, "sigma_max": 200.0}, 6, None),
    ("UniPCMultistepScheduler", {**KARRAS, "final_sigmas_type": "sigma_min", "num_train_timesteps": 500}, 5, None),
    # Rounded timesteps, whatever the betas are.
    ("UniPCMultistepScheduler", {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"}, 6, None),
    ("DEISMultistepScheduler", {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"}, 6, None),
    ("SASolverScheduler", {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"}, 6, None),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"}, 6, None),
    ("DPMSolverMultistepScheduler", DYNAMIC, 6, 0.83),
    # Timesteps are cut off: the first is 99 where even values end exactly at 1/T, and 98 a rounding below.
    ("DPMSolverMultistepScheduler", {**FLOW, "num_train_timesteps": 100, "timestep_spacing": "leading"}, 3, None),
    # As long as nobody gives μ.
    ("DPMSolverMultistepScheduler", {**DYNAMIC, "flow_shift": 2.0, "time_shift_type": "exponential"}, 6, None),
    ("DPMSolverMultistepScheduler", {**FLOW, "flow_shift": 2.0, "time_shift_type": "linear"}, 6, None),
    ("DPMSolverSinglestepScheduler", DYNAMIC, 6, 0.5),
    # The original's weights are float32's: with a first σ so close to 1 as after 1000 steps of training they lose four digits.
    ("DEISMultistepScheduler", {**DYNAMIC, "num_train_timesteps": 50}, 6, 0.5),
    ("DEISMultistepScheduler", {**DYNAMIC, "num_train_timesteps": 50, "flow_shift": 2.0}, 5, None),
    ("DPMSolverMultistepScheduler", {"variance_type": "learned_range"}, 6, None),
    ("DPMSolverMultistepScheduler", {"variance_type": "learned", "algorithm_type": "sde-dpmsolver++"}, 5, None),
    ("DPMSolverMultistepScheduler", {"variance_type": "learned", "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}, 5, None),
    ("DPMSolverMultistepScheduler", {"variance_type": "fixed_small", "prediction_type": "v_prediction"}, 5, None),
    ("DPMSolverSinglestepScheduler", {"variance_type": "learned_range"}, 6, None),
    ("SASolverScheduler", {"variance_type": "learned"}, 6, None),
    # Betas of a chain whose first state is not so close to pure noise that float32 loses x̂_0.
    ("SASolverScheduler", {"variance_type": "learned_range", "algorithm_type": "noise_prediction", "beta_end": 0.01}, 5, None),
    # Later starts: steps without a corrector and lists of orders are those of the whole schedule.
    ("UniPCMultistepScheduler", {"disable_corrector": [0, 4, 5], "solver_order": 3}, 9, None, 4),
    ("UniPCMultistepScheduler", {"disable_corrector": [1, 3], "predict_x0": False, "final_sigmas_type": "sigma_min"}, 8, None, 3),
    ("DPMSolverSinglestepScheduler", {"solver_order": 3, "lower_order_final": True, "final_sigmas_type": "sigma_min"}, 8, None, 5),
    ("DPMSolverSinglestepScheduler", {"solver_order": 2, "lower_order_final": True}, 7, None, 2),
    ("DPMSolverSinglestepScheduler", {"solver_order": 3, "lower_order_final": True, "use_karras_sigmas": True}, 9, None, 4),
    # Timesteps of one's own: those of Align Your Steps for Stable Diffusion 1.5, and some that no spacing has.
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "lambda_min_clipped": -4.0}, [999, 850, 736, 645, 545, 455, 343, 233, 124, 24], None),
    ("DPMSolverMultistepScheduler", {"solver_order": 3, "beta_schedule": "squaredcos_cap_v2", "final_sigmas_type": "sigma_min"}, [900, 899, 400, 77, 3], None, 1),
    ("DPMSolverSinglestepScheduler", {"solver_order": 3, "lower_order_final": True}, [950, 700, 420, 360, 100, 20, 1], None),
]


def run(name, config, count, mu, begin=0):
    scheduler = getattr(diffusers, name)(**config)
    steps = {"num_inference_steps": count} if isinstance(count, int) else {"timesteps": count}
    given = {**steps, **({} if mu is None else {"mu": mu})}
    scheduler.set_timesteps(**given)
    # Else it looks for the first timestep, and takes the second of two that are the same.
    scheduler.set_begin_index(begin)
    x, states = wave(SHAPE, 0.71, 0.0), []
    for step, timestep in enumerate(scheduler.timesteps[begin:]):
        for module in [scheduling_dpmsolver_multistep, scheduling_dpmsolver_singlestep, scheduling_sasolver]:
            # SA-Solver asks for noise of the output's shape, and fails where that has a variance.
            module.randn_tensor = lambda *_, **__: wave(SHAPE, 0.37, float(step + 1))
        output = network(x, timestep, 1000)
        if str(config.get("variance_type")).startswith("learned"):
            output = torch.cat([output, 0.5 * output.cos()], dim=1)
        x = scheduler.step(output, timestep, x, return_dict=False)[0]
        states.append(state(x))
    config = {"_class_name": name, **config}
    timesteps = scheduler.timesteps[begin:].tolist()
    return {"config": config, "shape": SHAPE, "given": given, "begin": begin, "timesteps": timesteps, "states": states}


def main():
    reference = {"made_by": "diffusers 0.42.1", "runs": [run(*case) for case in CASES]}
    text = json.dumps(reference, separators=(",", ":")).replace('{"config"', '\n{"config"').replace('{"shape"', '\n {"shape"')
    pathlib.Path(__file__).with_name("reference_options.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
