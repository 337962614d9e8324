"""Opens folders that this library has saved with the classes that publish them. README.md says how it is run."""

import json
import pathlib
import sys

import diffusers
import torch
import transformers
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)


def class_of(folder):
    config = json.loads((folder / "config.json").read_text())
    name = config.get("_class_name") or config["architectures"][0]
    return getattr(diffusers, name, None) or getattr(transformers, name)


def opened(folder):
    kind = class_of(folder)
    if kind.__module__.startswith("transformers"):
        model, info = kind.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
        wrong = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    else:
        model, info = kind.from_pretrained(folder, output_loading_info=True, low_cpu_mem_usage=False, torch_dtype=torch.float32)
        wrong = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"], *info["error_msgs"]]
    return model.eval(), wrong


def arguments(tensors):
    """`in.a`, `in.b.0`, `in.c.key` as keyword arguments."""
    given = {}
    for field, value in tensors.items():
        name, *rest = field.removeprefix("in.").split(".")
        if not rest:
            given[name] = value
        elif rest[0].isdigit():
            given.setdefault(name, []).append(value)
        else:
            given.setdefault(name, {})[rest[0]] = value
    return given


def answer(model, case, tensors):
    """All tensors that a model answers, by the way in which its class is asked."""
    given, name = arguments(tensors), type(model).__name__
    scalars = {k: v for k, v in case.get("scalars", {}).items() if isinstance(v, (int, float, bool))}
    with torch.no_grad():
        if name in ("AutoencoderKL", "AutoencoderKLTemporalDecoder") and "x" in given:
            return [model.encode(given["x"]).latent_dist.parameters]
        if name == "AutoencoderKLTemporalDecoder":
            return [model.decode(given["z"], num_frames=scalars.get("num_frames", len(given["z"]))).sample]
        if name == "AutoencoderTiny":
            return [model.encode(given["x"]).latents] if "x" in given else [model.decode(given["z"]).sample]
        if name == "VQModel" and "x" in given:
            return [model.encode(given["x"]).latents]
        if name in ("AutoencoderKL", "VQModel"):
            return [model.decode(given["z"]).sample]
        if name == "PriorTransformer" and "hidden_states" not in given:
            return [model.post_process_latents(given["x"])]
        if name == "T2IAdapter":
            return model(given["x"])
        if name == "ControlNetModel":
            answer = model(**given, **scalars)
            return [*answer.down_block_res_samples, answer.mid_block_res_sample]
        answer = model(**given)
        return [value for value in answer.values() if isinstance(value, torch.Tensor)]


def check(saved, fixture):
    model, wrong = opened(saved)
    original, _ = opened(fixture)
    if wrong:
        return f"keys: {wrong}"
    state, expected = model.state_dict(), original.state_dict()
    if state.keys() != expected.keys() or not all(torch.equal(state[k], expected[k]) for k in expected):
        return "other parameters"
    manifest, compared = fixture / "io.json", 0
    cases = json.loads(manifest.read_text())["cases"] if manifest.exists() else []
    stored = load_file(fixture / "io.safetensors") if cases else {}
    for case in cases:
        tensors = {f: stored[t["key"]] for f, t in case["tensors"].items() if f.startswith("in.")}
        if not tensors:
            continue
        pairs = list(zip(answer(model, case, tensors), answer(original, case, tensors), strict=True))
        if not all(torch.equal(ours, theirs) for ours, theirs in pairs):
            return f"another answer in {case['name']}"
        compared += len(pairs)
    return compared


def make(folder):
    """Small folders of classes that are not among the fixtures."""
    torch.manual_seed(5)
    bert = transformers.BertConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=20, hidden_dropout_prob=0.2, pad_token_id=3,
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4,
        attention_dropout=0.1,
    )
    ids = torch.arange(12).reshape(2, 6) + 4
    upscaler = diffusers.UNet2DConditionModel(
        in_channels=8, out_channels=5, act_fn="gelu", block_out_channels=(32, 64, 64), layers_per_block=1,
        down_block_types=("KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"), mid_block_type=None,
        up_block_types=("KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"), norm_num_groups=None,
        attention_head_dim=16, cross_attention_dim=6, time_cond_proj_dim=7, resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier", timestep_post_act="gelu", conv_in_kernel=1, conv_out_kernel=1,
    )
    asked = {
        "sample": torch.randn(2, 8, 16, 8), "timestep": torch.tensor([0.7, 1.3]), "encoder_hidden_states": torch.randn(2, 5, 6),
        "timestep_cond": torch.randn(2, 7),
    }
    for name, model, inputs in [
        ("bert", transformers.BertModel(bert), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}),
        ("clip_vision", transformers.CLIPVisionModel(vision), {"pixel_values": torch.randn(2, 3, 16, 16)}),
        ("unet_upscaler", upscaler, asked),
    ]:
        target = folder / "models" / name
        model.save_pretrained(target)
        save_file({f"case/in.{k}": v for k, v in inputs.items()}, target / "io.safetensors")
        tensors = {f"in.{k}": {"key": f"case/in.{k}"} for k in inputs}
        (target / "io.json").write_text(json.dumps({"cases": [{"name": "case", "tensors": tensors}]}))


def main(arguments):
    if arguments[0] == "make":
        return make(pathlib.Path(arguments[1]))
    saved, fixtures = map(pathlib.Path, arguments)
    bad = 0
    for folder in sorted(saved.iterdir()):
        if not (folder / "config.json").exists():
            continue
        try:
            result = check(folder, fixtures / "models" / folder.name)
        except Exception as error:  # whatever the original class says about the folder
            result = f"{type(error).__name__}: {error}"
        bad += isinstance(result, str)
        print(f"{folder.name:28} {class_of(folder).__name__:34} {result if isinstance(result, str) else f'ok, {result} tensors'}")
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
