"""Makes reference.safetensors with diffusers 0.42.1 and torch 2.15 (CPU, float64): what the fixtures at the root do not have.

Weights are no file but a formula, which the test has too: entry i of the k-th parameter, names sorted, is
sin((i + 1) * 12.9898 * (0.1 + k / 7)), divided by the root of the fan-in for weights of more than one dimension, and times 0.2
plus the start of the parameter (1 for scales of normalizations, 0 for shifts and biases) for others. Inputs are
sin((i + 1) * 12.9898 * (seed + 0.1)).
"""

import math
import pathlib

import diffusers
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"


def numbers(shape, factor):
    count = math.prod(shape)
    return torch.sin((torch.arange(count, dtype=torch.float64) + 1) * 12.9898 * factor).reshape(shape)


def filled(net):
    net = net.double().eval()
    state = net.state_dict()
    for k, name in enumerate(sorted(state)):
        shape = state[name].shape
        values = numbers(shape, 0.1 + k / 7)
        if len(shape) > 1:
            values = values / math.sqrt(math.prod(shape[1:]))
        else:
            scale = name.endswith(".weight")
            values = values * 0.2 + (1.0 if scale else 0.0)
        state[name] = values
    net.load_state_dict(state)
    return net


out = {}


def keep(name, tensor):
    out[name] = tensor.detach().to(torch.float32).contiguous().clone()


with torch.no_grad():
    kl = filled(
        diffusers.AutoencoderKL(
            block_out_channels=(4, 8), down_block_types=(DOWN,) * 2, up_block_types=(UP,) * 2, norm_num_groups=4, sample_size=16
        )
    )
    kl.enable_tiling()
    posterior = kl.encode(numbers((1, 3, 38, 29), 0.4)).latent_dist
    keep("kl.tiled.mean", posterior.mean)
    keep("kl.tiled.logvar", posterior.logvar)
    keep("kl.tiled.image", kl.decode(numbers((1, 4, 19, 13), 0.5)).sample)

    tiny = filled(
        diffusers.AutoencoderTiny(
            encoder_block_out_channels=(4,) * 4,
            decoder_block_out_channels=(4,) * 4,
            num_encoder_blocks=(1,) * 4,
            num_decoder_blocks=(1,) * 4,
        )
    )
    tiny.enable_tiling()
    tiny.tile_sample_min_size, tiny.tile_latent_min_size, tiny.tile_overlap_factor = 32, 4, 0.5
    keep("tiny.tiled.latents", tiny.encode(numbers((1, 3, 56, 40), 0.4)).latents)
    keep("tiny.tiled.image", tiny.decode(numbers((1, 4, 7, 5), 0.5)).sample)
    keep("tiny.scaled", tiny.scale_latents(numbers((1, 4, 2, 2), 0.6) * 5))
    keep("tiny.unscaled", tiny.unscale_latents(numbers((1, 4, 2, 2), 0.7)))

    movq = filled(
        diffusers.VQModel(
            block_out_channels=(32, 64),
            down_block_types=(DOWN, "AttnDownEncoderBlock2D"),
            up_block_types=("AttnUpDecoderBlock2D", UP),
            latent_channels=4,
            num_vq_embeddings=24,
            norm_num_groups=8,
            norm_type="spatial",
        )
    )
    z = numbers((2, 4, 5, 4), 0.5)
    keep("movq.latents", movq.encode(numbers((2, 3, 10, 8), 0.4)).latents)
    keep("movq.image", movq.decode(z).sample)
    keep("movq.unquantized", movq.decode(z, force_not_quantize=True).sample)
    quantized, loss, (_, _, indices) = movq.quantize(z)
    keep("movq.quantized", quantized)
    keep("movq.loss", loss.reshape(1))
    keep("movq.indices", indices.double())

save_file(out, str(pathlib.Path(__file__).with_name("reference.safetensors")))
