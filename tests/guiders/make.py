"""Writes reference.json: what the guiders of diffusers 0.42.1 make of fixed answers. Needs torch and diffusers.

Every case is a class, its settings, and a few steps of answers with and without the condition, in f64. NaN is written as null.
"""

import json
import math
import pathlib

import torch
from diffusers import guiders

SHAPE = (2, 2, 2)
STEPS = 3

CASES = [
    ("ClassifierFreeGuidance", {"guidance_scale": 7.5}),
    ("ClassifierFreeGuidance", {"guidance_scale": 1.0}),
    ("ClassifierFreeGuidance", {"guidance_scale": -0.5}),
    ("ClassifierFreeGuidance", {"guidance_scale": 7.5, "guidance_rescale": 0.7}),
    ("ClassifierFreeGuidance", {"guidance_scale": 3.0, "guidance_rescale": 1.0}),
    ("ClassifierFreeGuidance", {"guidance_scale": 4.0, "use_original_formulation": True}),
    ("ClassifierFreeZeroStarGuidance", {"guidance_scale": 5.0, "zero_init_steps": 0}),
    ("ClassifierFreeZeroStarGuidance", {"guidance_scale": 5.0, "zero_init_steps": 1}),
    ("ClassifierFreeZeroStarGuidance", {"guidance_scale": 2.0, "zero_init_steps": 2, "guidance_rescale": 0.3}),
    ("AdaptiveProjectedGuidance", {"guidance_scale": 6.0, "eta": 0.0, "adaptive_projected_guidance_rescale": 0.0}),
    ("AdaptiveProjectedGuidance", {"guidance_scale": 6.0, "eta": 1.0, "adaptive_projected_guidance_rescale": 2.5}),
    (
        "AdaptiveProjectedGuidance",
        {
            "guidance_scale": 8.0,
            "eta": 0.25,
            "adaptive_projected_guidance_rescale": 2.5,
            "adaptive_projected_guidance_momentum": -0.75,
        },
    ),
    (
        "AdaptiveProjectedGuidance",
        {
            "guidance_scale": 7.0,
            "eta": 0.0,
            "adaptive_projected_guidance_rescale": 3.0,
            "adaptive_projected_guidance_momentum": 0.5,
            "use_original_formulation": True,
            "guidance_rescale": 0.4,
        },
    ),
    ("AutoGuidance", {"guidance_scale": 2.8, "dropout": 1.0, "auto_guidance_layers": [1]}),
    ("AutoGuidance", {"guidance_scale": 2.0, "dropout": 1.0, "auto_guidance_layers": [1], "guidance_rescale": 0.5}),
]


def run(name, settings, answers):
    guider = getattr(guiders, name)(**settings)
    outputs = []
    for step, (cond, uncond) in enumerate(answers):
        guider.set_state(step=step, num_inference_steps=STEPS, timestep=torch.tensor(0))
        guider.prepare_inputs({"x": (cond, uncond)})
        outputs.append(guider.forward(cond, uncond).pred)
    return outputs


def main():
    torch.manual_seed(20240917)
    answers = [tuple(torch.randn(2, *SHAPE, dtype=torch.float64).round(decimals=3)) for _ in range(STEPS)]
    number = lambda value: None if math.isnan(value) else float(f"{value:.15g}")
    flat = lambda tensor: [number(value) for value in tensor.flatten().tolist()]
    cases = [
        {"class": name, "config": settings, "outputs": [flat(output) for output in run(name, settings, answers)]}
        for name, settings in CASES
    ]
    reference = {
        "made_by": "diffusers 0.42.1",
        "shape": SHAPE,
        "with": [flat(cond) for cond, _ in answers],
        "without": [flat(uncond) for _, uncond in answers],
        "cases": cases,
    }
    text = json.dumps(reference, separators=(",", ":")).replace('{"class"', '\n{"class"').replace('"outputs"', '\n "outputs"')
    pathlib.Path(__file__).with_name("reference.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
