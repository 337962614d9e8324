"""Writes the files of this folder: a linear layer of 3 inputs and 2 outputs, as PyTorch saves it, and files that are no weights.

python make.py (torch 2.15; the files are small and committed)
"""

import collections

import os
import pathlib
import pickle
import zipfile

import torch

here = pathlib.Path(__file__).parent
weight = torch.arange(6.0).reshape(2, 3) / 4
bias = torch.tensor([-1.0, 0.5])
layer = torch.nn.Linear(3, 2)
layer.load_state_dict({"weight": weight, "bias": bias})


def save(name, value, **options):
    torch.save(value, here / name, **options)


def repacked(name, change, method=zipfile.ZIP_STORED):
    """The archive of `state_dict.pt` with other contents."""
    with zipfile.ZipFile(here / "state_dict.pt") as old, zipfile.ZipFile(here / name, "w", method) as new:
        for entry in old.namelist():
            for path, data in change(entry, old.read(entry)):
                new.writestr(path, data)


# With torch's own class for the dictionary and its metadata.
save("state_dict.pt", layer.state_dict())
save("plain.pt", {"weight": weight, "bias": bias})
save("half.pt", {"weight": weight.half(), "bias": bias.bfloat16()})
save("parameters.pt", dict(layer.named_parameters()))
save("legacy.pt", layer.state_dict(), _use_new_zipfile_serialization=False)
save("nested.ckpt", {"state_dict": layer.state_dict(), "epoch": 3, "lr": 0.5, "name": "x", "seen": [1, 2]})
# Views: a transposed one, and a part of a larger storage.
save("views.pt", {"weight": weight.t().contiguous().t(), "bias": torch.tensor([9.0, -1.0, 0.5, 9.0])[1:3]})
save("integers.pt", {"weight": weight.long(), "bias": bias})

# Not weights.
save("repeated.pt", {"weight": torch.zeros(1).expand(2, 300_000_000), "bias": bias})
save("protocol4.pt", layer.state_dict(), pickle_protocol=4)


class Code:
    def __reduce__(self):
        return os.system, (f"touch {os.environ.get('MARK', '/tmp/langevin-was-here')}",)


save("code.pt", collections.OrderedDict(weight=weight, bias=bias, more=Code()))
save("legacy_code.pt", {"weight": weight, "more": Code()}, _use_new_zipfile_serialization=False)
repacked("compressed.pt", lambda path, data: [(path, data)], zipfile.ZIP_DEFLATED)
repacked("two_pickles.pt", lambda path, data: [(path, data)] + [("x/data.pkl", data)] * path.endswith("data.pkl"))
repacked("no_pickle.pt", lambda path, data: [(path, data)] if not path.endswith("data.pkl") else [])
repacked("trailing.pt", lambda path, data: [(path, data + b"N." if path.endswith("data.pkl") else data)])
repacked("short_storage.pt", lambda path, data: [(path, data[:-4] if path.endswith("data/0") else data)])
repacked("no_storage.pt", lambda path, data: [] if path.endswith("data/0") else [(path, data)])
repacked("big_endian.pt", lambda path, data: [(path, b"big" if path.endswith("byteorder") else data)])
repacked("deep.pt", lambda path, data: [(path, b"\x80\x02" + b"]" * 3000 + b"\x85" * 3000 + b"." if path.endswith("data.pkl") else data)])
(here / "pickle.pt").write_bytes(pickle.dumps({"weight": [1.0]}, protocol=2))
