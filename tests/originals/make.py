"""Lists how the parameters of the recorded networks are called in the layouts that they were trained in.

python make.py (diffusers 0.42.1, torch 2.15). A line is: name in diffusers, name in the original, how it is stored there.

The lists follow the order in which the original programs build their blocks, not a table of names. They are proven here:
an original checkpoint is put together from the network's recorded weights by its list, and diffusers' own converter must give the recorded weights
back. For guided-diffusion, which diffusers does not convert, both orders of queries, keys and values are proven by
computing attention as the original does.
"""

import json
import pathlib

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import single_file_utils as single
from diffusers.models.attention_processor import Attention
from safetensors.torch import load_file

here = pathlib.Path(__file__).parent
models = here.parent / "fixtures" / "models"

RES = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
       "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}


def weights(name):
    folder = models / name
    file = next(path for path in folder.glob("*.safetensors") if path.name != "io.safetensors")
    return json.loads((folder / "config.json").read_text()), load_file(file)


def under(state, prefix):
    return [key[len(prefix):] for key in state if key.startswith(prefix)]


def unet(name, fused=None):
    """Walks the blocks as `UNetModel.__init__` does and hands out the numbers of its module lists."""
    config, state = weights(name)
    lines = []

    def put(ours, theirs, how="whole"):
        assert ours in state, ours
        lines.append((ours, theirs, how))

    def all_of(ours, theirs, rename=lambda rest: rest):
        for rest in under(state, ours + "."):
            put(f"{ours}.{rest}", f"{theirs}.{rename(rest)}")

    def res(ours, theirs):
        def rename(rest):
            head, tail = rest.split(".", 1)
            return f"{RES[head]}.{tail}"

        all_of(ours, theirs, rename)

    def attention(ours, theirs):
        if fused is None:
            return all_of(ours, theirs)
        for rest in under(state, ours + "."):
            head, tail = rest.rsplit(".", 1)
            part = {"to_q": 0, "to_k": 1, "to_v": 2}.get(head)
            if part is not None:
                put(f"{ours}.{rest}", f"{theirs}.qkv.{tail}", f"{fused}:{part}")
            else:
                put(f"{ours}.{rest}", f"{theirs}.{ {'group_norm': 'norm', 'to_out.0': 'proj_out'}[head] }.{tail}",
                    "pixel" if head == "to_out.0" and tail == "weight" else "whole")

    def sampler(ours, theirs, conv):
        if f"{ours}.conv.weight" in state:
            all_of(f"{ours}.conv", f"{theirs}.{conv}")
        else:
            res(ours, theirs)

    for ours, theirs in [("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
                         ("class_embedding.linear_1", "label_emb.0.0"), ("class_embedding.linear_2", "label_emb.0.2"),
                         ("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2")]:
        all_of(ours, theirs)
    if "class_embedding.weight" in state:
        put("class_embedding.weight", "label_emb.weight")
    all_of("conv_in", "input_blocks.0.0")
    number, levels = 1, len(config["block_out_channels"])
    for level in range(levels):
        for layer in range(config["layers_per_block"]):
            res(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0")
            if under(state, f"down_blocks.{level}.attentions.{layer}."):
                attention(f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1")
            number += 1
        if level != levels - 1:
            sampler(f"down_blocks.{level}.downsamplers.0", f"input_blocks.{number}.0", "op")
            number += 1
    res("mid_block.resnets.0", "middle_block.0")
    attention("mid_block.attentions.0", "middle_block.1")
    res("mid_block.resnets.1", "middle_block.2")
    number = 0
    for level in range(levels):
        for layer in range(config["layers_per_block"] + 1):
            res(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{number}.0")
            place = 1
            if under(state, f"up_blocks.{level}.attentions.{layer}."):
                attention(f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{number}.1")
                place = 2
            if level != levels - 1 and layer == config["layers_per_block"]:
                sampler(f"up_blocks.{level}.upsamplers.0", f"output_blocks.{number}.{place}", "conv")
            number += 1
    all_of("conv_norm_out", "out.0")
    all_of("conv_out", "out.2")
    return config, state, lines


def vae(name):
    config, state = weights(name)
    lines = []
    count = len(config["block_out_channels"])
    for ours in state:
        theirs, how = ours, "whole"
        half, rest = ours.split(".", 1)
        if half in ("encoder", "decoder"):
            rest = rest.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
            if "mid_block.attentions.0" in rest:
                how = "image" if rest.endswith("weight") and "norm" not in rest else "whole"
                for a, b in [("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")]:
                    rest = rest.replace(a, b)
                rest = rest.replace("mid_block.attentions.0", "mid.attn_1")
            for block in range(count):
                rest = rest.replace(f"down_blocks.{block}.resnets", f"down.{block}.block")
                rest = rest.replace(f"up_blocks.{block}.resnets", f"up.{count - 1 - block}.block")
                rest = rest.replace(f"down_blocks.{block}.downsamplers.0", f"down.{block}.downsample")
                rest = rest.replace(f"up_blocks.{block}.upsamplers.0", f"up.{count - 1 - block}.upsample")
            rest = rest.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
            theirs = f"{half}.{rest}"
        lines.append((ours, theirs, how))
    return config, state, lines


def open_clip(name):
    config, state = weights(name)
    lines = []
    for ours in state:
        how = "whole"
        if ours == "text_projection.weight":
            theirs, how = "text_projection", "transposed"
        elif ours.startswith("text_model.encoder.layers."):
            layer, rest = ours[len("text_model.encoder.layers."):].split(".", 1)
            part = {"self_attn.q_proj": 0, "self_attn.k_proj": 1, "self_attn.v_proj": 2}.get(rest.rsplit(".", 1)[0])
            if part is not None:
                rest, how = "attn.in_proj_" + rest.rsplit(".", 1)[1], f"third:{part}"
            for a, b in [("layer_norm", "ln_"), ("fc1", "c_fc"), ("fc2", "c_proj"), ("self_attn", "attn")]:
                rest = rest.replace(a, b)
            theirs = f"transformer.resblocks.{layer}.{rest}"
        else:
            theirs = {"text_model.embeddings.position_embedding.weight": "positional_embedding",
                      "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
                      "text_model.final_layer_norm.weight": "ln_final.weight",
                      "text_model.final_layer_norm.bias": "ln_final.bias"}[ours]
        lines.append((ours, theirs, how))
    return config, state, lines


def original(state, lines, prefix=""):
    made, parts = {}, {}
    for ours, theirs, how in lines:
        value, key = state[ours], prefix + theirs
        if how == "whole":
            made[key] = value
        elif how == "pixel":
            made[key] = value[:, :, None]
        elif how == "image":
            made[key] = value[:, :, None, None]
        elif how == "transposed":
            made[key] = value.T.contiguous()
        else:
            parts.setdefault(key, {})[int(how.split(":")[1])] = value
    for key, thirds in parts.items():
        made[key] = torch.cat([thirds[i] for i in range(3)])
    return made


def write(name, lines):
    text = "".join(" ".join(line) + "\n" for line in lines)
    (here / f"{name}.txt").write_text(text)


def same(a, b, name):
    assert a.keys() == b.keys(), (name, a.keys() ^ b.keys())
    assert all(torch.equal(a[key], b[key]) for key in a), name


for name in ["unet_sd15", "unet_sdxl", "unet_sdxl_refiner", "unet_sd_unclip", "unet_sd_upscaler"]:
    config, state, lines = unet(name)
    assert len(lines) == len(state), set(state) - {line[0] for line in lines}
    made = original(state, lines, "model.diffusion_model.")
    same(single.convert_ldm_unet_checkpoint(made, config), state, name)
    write(name, lines)

config, state, lines = vae("vae_kl_sd")
same(single.convert_ldm_vae_checkpoint(original(state, lines, "first_stage_model."), config), state, "vae_kl_sd")
write("vae_kl_sd", lines)

config, state, lines = open_clip("clip_text_projection")
made = original(state, lines, "conditioner.embedders.1.model.")


class Config:
    hidden_size = config["hidden_size"]


class Text:
    config = Config


# The converter cuts by the width of the projection, which is the width of the network in published ones only.
no_projection = {key: value for key, value in made.items() if not key.endswith("text_projection")}
converted = single.convert_open_clip_checkpoint(Text, no_projection, "conditioner.embedders.1.model.")
converted["text_projection.weight"] = made["conditioner.embedders.1.model.text_projection"].T.contiguous()
same(converted, state, "clip_text_projection")
write("clip_text_projection", lines)

for name in ["unet2d_class_scale_shift", "unet2d_ddpm"]:
    config, state, lines = unet(name, "third")
    assert len(lines) == len(state), set(state) - {line[0] for line in lines}
    write(name, lines)

# Attention as guided-diffusion computes it, `QKVAttentionLegacy` and `QKVAttention`, against diffusers' on the parts.
torch.manual_seed(0)
width, heads = 12, 3
mine = Attention(width, heads=heads, dim_head=width // heads, bias=True, norm_num_groups=4, residual_connection=True)
x = torch.randn(2, width, 5)
parts = [mine.to_q, mine.to_k, mine.to_v]
for by_head in [False, True]:
    if by_head:
        each = [layer.weight.view(heads, -1, width) for layer in parts], [layer.bias.view(heads, -1) for layer in parts]
        weight, bias = torch.stack(each[0], 1).reshape(-1, width), torch.stack(each[1], 1).reshape(-1)
    else:
        weight, bias = torch.cat([layer.weight for layer in parts]), torch.cat([layer.bias for layer in parts])
    normed = torch.nn.functional.group_norm(x, 4, mine.group_norm.weight, mine.group_norm.bias, mine.group_norm.eps)
    qkv = torch.einsum("oc,bct->bot", weight, normed) + bias[None, :, None]
    batch, d = x.shape[0], width // heads
    if by_head:
        q, k, v = qkv.reshape(batch * heads, 3 * d, -1).split(d, dim=1)
    else:
        q, k, v = (part.reshape(batch * heads, d, -1) for part in qkv.chunk(3, dim=1))
    weights_ = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / d**0.5, dim=-1)
    a = torch.einsum("bts,bcs->bct", weights_, v).reshape(batch, width, -1)
    out = x + torch.einsum("oc,bct->bot", mine.to_out[0].weight, a) + mine.to_out[0].bias[None, :, None]
    there = mine(x[..., None]).squeeze(-1)
    assert torch.allclose(out, there, atol=1e-5), (by_head, (out - there).abs().max())
print("every list gives the recorded weights back")
