"""Recomputes the reference values of the motion diffusion model with torch's own encoder.

usage: python reference.py FOLDER    writes FOLDER/{text,action,none}/

Each folder has a configuration, random weights under the names of the authors' checkpoints (Tevet et al. 2022,
arXiv:2209.14916) and `io.safetensors`: an input, times, a condition, and the output. Made with torch 2.15 on the CPU.
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

CONFIG = dict(njoints=3, nfeats=2, latent_dim=8, ff_size=12, num_layers=2, num_heads=2, dropout=0.1, activation="gelu",
              clip_dim=5, num_actions=4, max_len=24)


class Positions(nn.Module):
    def __init__(self, width, rows):
        super().__init__()
        place = torch.arange(rows, dtype=torch.float64)[:, None]
        rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
        table = torch.stack([torch.sin(place * rate), torch.cos(place * rate)], dim=2).reshape(rows, 1, width)
        self.register_buffer("pe", table.float())


class Motion(nn.Module):
    def __init__(self, kind, c):
        super().__init__()
        numbers, width = c["njoints"] * c["nfeats"], c["latent_dim"]
        self.input_process = nn.ModuleDict({"poseEmbedding": nn.Linear(numbers, width)})
        self.sequence_pos_encoder = Positions(width, c["max_len"])
        layer = nn.TransformerEncoderLayer(width, c["num_heads"], c["ff_size"], c["dropout"], c["activation"])
        self.seqTransEncoder = nn.TransformerEncoder(layer, c["num_layers"], enable_nested_tensor=False)
        self.embed_timestep = nn.Module()
        self.embed_timestep.sequence_pos_encoder = self.sequence_pos_encoder
        self.embed_timestep.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        if kind == "text":
            self.embed_text = nn.Linear(c["clip_dim"], width)
        if kind == "action":
            self.embed_action = nn.Module()
            self.embed_action.action_embedding = nn.Parameter(torch.randn(c["num_actions"], width))
        self.output_process = nn.ModuleDict({"poseFinal": nn.Linear(width, numbers)})

    def forward(self, x, time, cond):
        batch, joints, features, frames = x.shape
        token = self.embed_timestep.time_embed(self.sequence_pos_encoder.pe[time]).squeeze(1)
        if hasattr(self, "embed_text"):
            token = token + self.embed_text(cond)
        if hasattr(self, "embed_action"):
            known = (cond >= 0)[:, None]
            token = token + torch.where(known, self.embed_action.action_embedding[cond.clamp(min=0)], 0.0)
        tokens = self.input_process["poseEmbedding"](x.permute(3, 0, 1, 2).reshape(frames, batch, joints * features))
        tokens = torch.cat([token[None], tokens])
        tokens = self.seqTransEncoder(tokens + self.sequence_pos_encoder.pe[: frames + 1])[1:]
        y = self.output_process["poseFinal"](tokens)
        return y.reshape(frames, batch, joints, features).permute(1, 2, 3, 0)


for seed, kind in enumerate(["text", "action", "none"]):
    torch.manual_seed(seed)
    model = Motion(kind, CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4 + (0.5 if parameter.dim() == 1 else 0.0))
        x, time = torch.randn(3, 3, 2, 7), torch.tensor([0, 7, 23])
        cond = {"text": torch.randn(3, 5), "action": torch.tensor([3, -1, 0]), "none": torch.zeros(3)}[kind]
        y = model(x, time, cond)
    folder = Path(sys.argv[1]) / kind
    folder.mkdir(parents=True, exist_ok=True)
    mode = "no_cond" if kind == "none" else kind
    (folder / "config.json").write_text(json.dumps({"_class_name": "MDM", **CONFIG, "cond_mode": mode}, indent=2) + "\n")
    weights = {name: value.clone().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    io = {"x": x, "time": time.float(), "cond": cond.float(), "out": y.contiguous()}
    save_file(io, folder / "io.safetensors")
