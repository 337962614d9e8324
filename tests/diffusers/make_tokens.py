"""Writes reference_tokens.json: runs of the schedulers of tokens in diffusers 0.42.1. Needs torch and diffusers.

Noise and network are formulas. Where an original draws from probabilities, the draw is made by Gumbel noise here, so that the law
is the same and every draw is known. Every case has settings, what the run begins with, and the tokens after each call.
"""

import json
import math
import pathlib

import torch
from diffusers import AmusedScheduler, BlockRefinementScheduler, DiscreteDDIMScheduler, EntropyBoundScheduler
from diffusers.schedulers import scheduling_amused

CLASS, DECISION, REPLACEMENT = 0, 1, 2


class Draws:
    """What is drawn in the call `index`, for `batch` rows of `positions`."""

    index = batch = positions = classes = 0
    # Where a corrector draws.
    chosen = None
    # Which draw from probabilities comes next.
    lane = CLASS


def uniform(index, lane, shape):
    count = math.prod(shape)
    values = []
    for k in range(count):
        h = (k * 2654435761 + index * 40503 * 65537 + lane * 2971215073 + 12345) % 2**32
        h ^= h >> 16
        h = h * 2246822519 % 2**32
        h ^= h >> 13
        h = h * 3266489917 % 2**32
        h ^= h >> 16
        values.append(((h >> 8) + 0.5) / 2**24)
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def gumbel(u):
    return -torch.log(-torch.log(u))


def multinomial(probs, num_samples, generator=None):
    batch, positions, classes = Draws.batch, Draws.positions, probs.shape[-1]
    u = uniform(Draws.index, Draws.lane, (batch, classes, positions)).transpose(1, 2)
    Draws.lane = DECISION
    if Draws.chosen is not None:
        rows = torch.arange(batch).unsqueeze(-1).expand_as(Draws.chosen)
        u = u[rows, Draws.chosen]
    keys = torch.log(probs.double().reshape(u.shape)) + gumbel(u)
    return keys.argmax(-1).reshape(-1, 1)


def randint(low, high, size, device=None, generator=None):
    return (uniform(Draws.index, REPLACEMENT, tuple(size)) * high).long()


def rand(*shape, device=None, generator=None):
    shape = shape[0] if len(shape) == 1 else shape
    return uniform(Draws.index, DECISION, tuple(shape))


torch.multinomial, torch.randint, torch.rand = multinomial, randint, rand
scheduling_amused.gumbel_noise = lambda t, generator=None: gumbel(uniform(Draws.index, DECISION, tuple(t.shape)))


def call(index, batch, positions, lane=CLASS, chosen=None):
    Draws.index, Draws.batch, Draws.positions, Draws.lane, Draws.chosen = index, batch, positions, lane, chosen


def network(tokens, asked, classes, scale):
    batch, positions = tokens.shape
    x = tokens.double()
    before = torch.cat([x[:, :1], x[:, :-1]], 1)
    at = 0.9 * x + 0.4 * before + 0.31 * torch.arange(positions) + 0.2 * asked
    logits = scale * torch.sin(1.7 * torch.arange(1, classes + 1)[None, None, :] + at[:, :, None])
    return logits.float()


def anything(batch, positions, classes):
    """The start among random tokens."""
    return (uniform(1000, REPLACEMENT, (batch, positions)) * classes).long()


def amused(config, classes, steps, temperature, shape, scale, ratio=1.0, known=(), after=0, side=None):
    mask = config["mask_token_id"]
    scheduler = AmusedScheduler(**config)
    scheduler.set_timesteps(steps, temperature)
    x = torch.full(shape, mask)
    for row, position, token in known:
        x[row, position] = token
    if after:
        clean = anything(*shape, classes)
        Draws.index = 1001
        x = scheduler.add_noise(clean, scheduler.timesteps[after - 1])
    start, states = x.tolist(), []
    for index, timestep in enumerate(scheduler.timesteps):
        if index < after:
            continue
        call(index, *shape)
        output = network(x, int(timestep), classes, scale)
        if side:
            output = output.transpose(1, 2).reshape(shape[0], classes, *side)
            x = x.reshape(shape[0], *side)
        step = scheduler.step(output, timestep, x, ratio)
        x = step.prev_sample.reshape(shape)
        states.append({"x": x.tolist()})
    pair = list(temperature) if isinstance(temperature, tuple) else [temperature, 0.01]
    return {
        "config": {"_class_name": "AmusedScheduler", **config},
        "classes": classes,
        "steps": steps,
        "temperature": pair,
        "ratio": ratio,
        "after": after,
        "scale": scale,
        "start": start,
        "states": states,
    }


class Ddim(DiscreteDDIMScheduler):
    def _select_positions(self, *arguments):
        Draws.chosen = super()._select_positions(*arguments)
        Draws.lane = CLASS
        return Draws.chosen


def ddim(config, classes, temperature, shape, scale):
    # As DiffusionGemma's pipeline shares out a number of evaluations.
    evaluations, sweeps = config["num_inference_steps"], config.get("corrector_steps", 0)
    corrected = (evaluations - 1) // (1 + sweeps) if sweeps else 0
    steps = evaluations - corrected * sweeps
    scheduler = Ddim(**config)
    scheduler.set_timesteps(steps)
    x = anything(*shape, classes)
    start, states, index = x.tolist(), [], 0
    for step in range(steps):
        # The likeliest class is not drawn.
        call(index, *shape, DECISION if temperature == 0.0 else CLASS)
        output = network(x, steps - 1 - step, classes, scale)
        found = scheduler.step(output, step, x, temperature=temperature)
        x = found.prev_sample
        states.append({"x": x.tolist(), "drawn": found.sampled_tokens.tolist()})
        index += 1
        if step < corrected:
            for _ in range(sweeps):
                call(index, *shape)
                output = network(x, steps - 2 - step, classes, scale)
                x = scheduler.step_correct(output, step, x).prev_sample
                states.append({"x": x.tolist()})
                index += 1
    return {
        "config": {"_class_name": "DiscreteDDIMScheduler", **config},
        "classes": classes,
        "temperature": temperature,
        "scale": scale,
        "start": start,
        "states": states,
    }


def entropy(config, classes, shape, scale):
    scheduler = EntropyBoundScheduler(**config)
    steps = scheduler.num_inference_steps
    x = anything(*shape, classes)
    start, states = x.tolist(), []
    for step in range(steps):
        call(step, *shape)
        found = scheduler.step(network(x, steps - 1 - step, classes, scale), step, x)
        x = found.prev_sample
        states.append(
            {"x": x.tolist(), "drawn": found.sampled_tokens.tolist(), "accepted": found.accepted_index.int().tolist()}
        )
    return {
        "config": {"_class_name": "EntropyBoundScheduler", **config},
        "classes": classes,
        "scale": scale,
        "start": start,
        "states": states,
    }


def blocks(config, classes, shape, scale, mask=None, prompt=(), end=None, posts=16, **options):
    """Masks as in LLaDA2's pipeline, random tokens as in DiffusionGemma's."""
    batch, positions = shape
    scheduler = BlockRefinementScheduler(**config)
    steps, length = scheduler.num_inference_steps, scheduler.config.block_length
    scheduler.set_timesteps(steps)
    x = torch.full(shape, mask) if mask is not None else anything(*shape, classes)
    x[:, : len(prompt)] = torch.tensor(prompt).long()
    editing = (scheduler.config.editing_threshold or 0.0) > 0.0
    finished = torch.zeros(batch, dtype=torch.bool)
    start, states = x.tolist(), []
    for block in range(len(prompt) // length, positions // length):
        until = (block + 1) * length
        prompted = torch.arange(length) + block * length < len(prompt)
        step, post, index = 0, 0, 0
        while True:
            here = x[:, until - length : until]
            masks = mask is None or bool((here == mask).any())
            post += not masks
            asked = steps - 1 - min(index, steps - 1)
            call(block * (steps + posts + 2) + index, batch, length)
            output = network(x[:, :until], asked, classes, scale)[:, -length:]
            found = scheduler.step(output, step, here, mask_token_id=mask, prompt_mask=prompted, **options)
            taken = found.transfer_index | found.editing_transfer_index
            if mask is None:
                x[:, until - length : until] = found.prev_sample
            else:
                taken = taken & ~finished[:, None]
                x[:, until - length : until] = torch.where(taken, found.prev_sample, here)
                if end is not None:
                    finished = scheduler.check_eos_finished(
                        x[:, :until], found.sampled_tokens, taken, finished, end, mask, len(prompt)
                    )
            states.append({"block": block, "call": index, "x": x.tolist(), "accepted": taken.int().tolist()})
            index += 1
            step += masks
            if mask is None:
                if step == steps:
                    break
            elif not scheduler.check_block_should_continue(
                step, masks, editing, found.editing_transfer_index, post, posts, finished
            ):
                break
        if finished.all():
            break
    return {
        "config": {"_class_name": "BlockRefinementScheduler", **config},
        "classes": classes,
        "mask": mask,
        "prompt": len(prompt),
        "end": end,
        "posts": posts,
        "options": options,
        "scale": scale,
        "start": start,
        "states": states,
    }


def noised(shape, length, prompt, padding):
    """The forward process: for each block a share, then a number for each token."""
    drawn = []

    def rand(shape, device=None, generator=None):
        drawn.append(shape)
        return uniform(7, len(drawn), tuple(shape))

    torch.rand, before = rand, torch.rand
    clean, valid = anything(*shape, 6), torch.ones(shape)
    valid[:, shape[1] - padding :] = 0
    found = BlockRefinementScheduler(block_length=length).add_noise(
        clean, valid, prompt_length=prompt, block_length=length, mask_token_id=6
    )
    torch.rand = before
    return {
        "block": length,
        "prompt": prompt,
        "padding": padding,
        "start": clean.tolist(),
        "noisy": found[0].tolist(),
        "others": found[1].tolist(),
    }


SELECTIONS = ["lowest_log_margin", "lowest_maxprob", "lowest_current_prob", "random"]


def main():
    reference = {
        "made_by": "diffusers 0.42.1",
        "amused": [
            amused({"mask_token_id": 9}, 6, 5, (2, 0), (2, 7), 2.0),
            amused({"mask_token_id": 6, "masking_schedule": "linear"}, 6, 4, 3, (2, 7), 2.0),
            amused({"mask_token_id": 9}, 6, 6, (4.5, 0.5), (2, 6), 2.0, side=(2, 3)),
            amused({"mask_token_id": 9}, 6, 4, (2, 0), (2, 9), 2.0, 0.6, [(0, 1, 3), (0, 4, 0), (1, 0, 5), (1, 8, 2)]),
            amused({"mask_token_id": 9, "masking_schedule": "linear"}, 6, 7, (2, 0), (2, 9), 2.0, after=3),
            amused({"mask_token_id": 9}, 6, 1, (2, 0), (2, 5), 2.0),
            # A class that is a mask.
            amused({"mask_token_id": 2}, 6, 5, (2, 0), (2, 9), 2.0),
        ],
        "ddim": [
            *[ddim({"num_inference_steps": 6}, 5, temperature, (2, 6), 2.0) for temperature in [0.0, 1.0, 0.6]],
            ddim({"num_inference_steps": 1}, 5, 1.0, (2, 6), 2.0),
            *[
                ddim(
                    {
                        "num_inference_steps": 10,
                        "corrector_steps": sweeps,
                        "corrector_k": k,
                        "corrector_selection": selection,
                        "corrector_selection_tau": 0.5,
                    },
                    5,
                    1.0,
                    (2, 6),
                    2.0,
                )
                for selection in SELECTIONS
                for sweeps, k in [(1, 1), (2, 3), (3, 8)]
            ],
        ],
        "entropy": [
            entropy({"num_inference_steps": 5}, 5, (2, 6), 4.0),
            entropy({"num_inference_steps": 6, "entropy_bound": 1.0, "t_max": 1.2, "t_min": 0.3}, 5, (2, 6), 2.0),
            entropy({"num_inference_steps": 2, "entropy_bound": 0.0}, 5, (2, 6), 2.0),
        ],
        "noised": [noised((3, 11), 4, 2, 1), noised((2, 6), 3, 0, 0), noised((2, 8), 2, 6, 2)],
        "blocks": [
            blocks({"block_length": 4, "num_inference_steps": 4}, 6, (2, 8), 2.0, mask=6),
            blocks({"block_length": 5, "num_inference_steps": 3, "threshold": 0.4}, 6, (2, 10), 2.0, mask=6, temperature=1.0),
            blocks({"block_length": 5, "num_inference_steps": 3}, 6, (2, 10), 2.0, mask=6, temperature=0.8, top_k=3),
            blocks({"block_length": 5, "num_inference_steps": 3}, 6, (2, 10), 2.0, mask=6, temperature=1.5, top_p=0.7),
            blocks(
                {"block_length": 5, "num_inference_steps": 8},
                6,
                (2, 10),
                2.0,
                mask=6,
                temperature=1.5,
                top_k=4,
                top_p=0.8,
                sampling_method="multinomial",
            ),
            blocks({"block_length": 4, "num_inference_steps": 4}, 6, (2, 8), 2.0, mask=6, temperature=0.8, sampling_method="greedy"),
            blocks({"block_length": 4, "num_inference_steps": 9, "threshold": 0.3}, 6, (2, 12), 2.0, mask=6, prompt=[1, 4, 2, 0, 3]),
            # Edits, alone: in a batch the original stops them for all at once.
            *[
                blocks(
                    {"block_length": 6, "num_inference_steps": 6, "threshold": 0.3, "editing_threshold": editing},
                    6,
                    (1, 12),
                    2.0,
                    mask=6,
                    prompt=[1, 4],
                    posts=posts,
                    temperature=temperature,
                )
                for editing, posts, temperature in [(0.3, 16, 0.0), (0.2, 2, 1.0), (0.2, 0, 1.0), (0.0, 16, 1.0)]
            ],
            # A class that is a mask, and one that ends samples.
            blocks({"block_length": 4, "num_inference_steps": 4}, 6, (2, 8), 2.0, mask=3, temperature=1.0),
            *[
                blocks({"block_length": 2, "num_inference_steps": 2}, 6, (2, 8), 2.0, mask=6, end=end, temperature=1.0)
                for end in [0, 1, 5]
            ],
            blocks({"block_length": 4, "num_inference_steps": 4}, 6, (2, 8), 2.0),
            blocks({"block_length": 6, "num_inference_steps": 4, "threshold": 0.4}, 6, (2, 12), 2.0, temperature=1.0),
            blocks(
                {"block_length": 6, "num_inference_steps": 9, "threshold": 2.0, "editing_threshold": 0.3},
                6,
                (2, 12),
                2.0,
                temperature=0.9,
                top_k=4,
            ),
        ],
    }
    text = json.dumps(reference, separators=(",", ":")).replace('{"config"', '\n{"config"').replace('"states"', '\n "states"')
    pathlib.Path(__file__).with_name("reference_tokens.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
