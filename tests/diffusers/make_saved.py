"""Writes saved.json: the text that diffusers 0.42.1 saves for each of its schedulers with nothing but defaults. Needs diffusers.

Texts, not objects: Python writes -Infinity into them, which is no JSON.
"""

import importlib
import inspect
import json
import pathlib
import pkgutil

import diffusers
import diffusers.schedulers
import diffusers.schedulers.deprecated


def classes():
    for package in [diffusers.schedulers, diffusers.schedulers.deprecated]:
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            for name, value in vars(importlib.import_module(module.name)).items():
                if inspect.isclass(value) and value.__module__ == module.name and issubclass(value, diffusers.ConfigMixin):
                    yield name, value


# What has no default.
NEEDED = {
    "AmusedScheduler": {"mask_token_id": 5},
    "VQDiffusionScheduler": {"num_vec_classes": 16},
    "RFD4ProteinaScheduler": {"schedule_mode": "log", "noise_mode": "1/t", "tsr_k": 2.0, "tsr_sigma": 0.5},
}


def main():
    saved = {name: value(**NEEDED.get(name, {})).to_json_string() for name, value in sorted(classes())}
    text = json.dumps({"made_by": "diffusers 0.42.1", "files": saved}, indent=0)
    pathlib.Path(__file__).with_name("saved.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
