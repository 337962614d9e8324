"""Makes reference.safetensors with diffusers 0.42.1 and torch 2.15 (CPU, float64): blocks that the fixtures at the root do
not have. Weights and inputs are those of `tests/autoencoders/make.py`: formulas, which the test has too.
"""

import math
import pathlib

import diffusers
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


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
            values = values * 0.2 + (1.0 if name.endswith(".weight") else 0.0)
        state[name] = values
    net.load_state_dict(state)
    return net


NETWORKS = {
    # Attention of pixels to each other, as in unconditional networks.
    "attention": dict(
        block_out_channels=(8, 16),
        down_block_types=("AttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "AttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=(4, 2),
        cross_attention_dim=6,
    ),
    # The layout of stabilityai/sd-x2-latent-upscaler.
    "upscaler": dict(
        in_channels=8,
        out_channels=5,
        act_fn="gelu",
        block_out_channels=(32, 64, 64),
        down_block_types=("KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"),
        mid_block_type=None,
        up_block_types=("KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"),
        layers_per_block=2,
        norm_num_groups=None,
        attention_head_dim=16,
        cross_attention_dim=6,
        time_cond_proj_dim=7,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
        conv_in_kernel=1,
        conv_out_kernel=1,
    ),
}
# Layers whose outputs are kept.
SEEN = [
    "down_blocks.0.attentions.0",
    "down_blocks.0.resnets.0",
    "down_blocks.0.downsamplers.0",
    "down_blocks.2.attentions.1",
    "up_blocks.0",
    "up_blocks.0.attentions.1",
    "up_blocks.0.upsamplers.0",
    "up_blocks.1.attentions.1",
    "up_blocks.1.resnets.1",
    "up_blocks.2.resnets.1",
]

out = {}
for name, config in NETWORKS.items():
    net = filled(diffusers.UNet2DConditionModel(**config))
    modules = dict(net.named_modules())

    def keep(name):
        # One sample of the batch and few channels tell enough.
        def hook(_, __, y):
            key, y = (name, y) if isinstance(y, torch.Tensor) else (f"{name}.0", y[0])
            out[key] = y[:1, ::8].detach().float().contiguous().clone()

        return hook

    for layer in SEEN:
        if layer in modules:
            modules[layer].register_forward_hook(keep(f"{name}.{layer}"))
    told = dict(timestep_cond=numbers((2, 7), 0.6)) if config.get("time_cond_proj_dim") else {}
    mask = torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0], [1.0] * 5])
    with torch.no_grad():
        y = net(
            numbers((2, config.get("in_channels", 4), 16, 8), 0.4),
            torch.tensor([0.7, 1.3]) * (1 if told else 300),
            numbers((2, 5, 6), 0.5),
            encoder_attention_mask=mask,
            **told,
        ).sample
    out[f"{name}.output"] = y.float().contiguous()

save_file(out, str(pathlib.Path(__file__).with_name("reference.safetensors")))
