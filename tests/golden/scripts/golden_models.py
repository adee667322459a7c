"""The golden models: tiny random T5s, written as Hugging Face writes them, and their PEFT modules."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration


@dataclass(frozen=True)
class ModelSpec:
    """A shape, a seed and the scales of the random weights (factors on T5's own initial deviations)."""

    name: str
    about: str
    config: dict
    seed: int
    # Classic `config.json` (transformers 4: `tie_word_embeddings` decides) or what transformers 5 writes
    # (`tie_word_embeddings` always true, `scale_decoder_outputs` beside it).
    classic: bool
    tied: bool
    scale: dict = field(default_factory=dict)
    extreme: bool = False  # some rows of the embedding a hundred times larger, some a million times smaller
    one_token: bool = False  # greedy ids of an input that is `</s>` alone must be fit (rare: its cross-attention is constant)
    matrices: bool = False  # keep the composed matrices of some compositions


SPECS = [
    ModelSpec(
        "gated", "Flan style: gated GELU, untied head, heads * d_kv != d_model, classic config.json",
        dict(vocab_size=389, d_model=40, d_kv=12, num_heads=3, d_ff=61, num_layers=2, num_decoder_layers=2,
             feed_forward_proj="gated-gelu"),
        seed=11, classic=True, tied=False, matrices=True,
    ),
    ModelSpec(
        "relu", "T5 1.0 style: ReLU, tied head scaled by d_model^-0.5, classic config.json without num_decoder_layers",
        dict(vocab_size=376, d_model=32, d_kv=8, num_heads=4, d_ff=75, num_layers=2, feed_forward_proj="relu"),
        seed=21, classic=True, tied=True,
    ),
    ModelSpec(
        "uneven", "three encoder and two decoder blocks, every width odd, untied, config.json as transformers 5 writes it",
        dict(vocab_size=397, d_model=33, d_kv=7, num_heads=3, d_ff=53, num_layers=3, num_decoder_layers=2,
             feed_forward_proj="gated-gelu"),
        seed=31, classic=False, tied=False,
    ),
    ModelSpec(
        "buckets", "16 buckets up to distance 40, layer norm epsilon 1e-5, gated and tied, as transformers 5 writes it",
        dict(vocab_size=363, d_model=28, d_kv=16, num_heads=2, d_ff=49, num_layers=2, num_decoder_layers=3,
             feed_forward_proj="gated-gelu", relative_attention_num_buckets=16, relative_attention_max_distance=40,
             layer_norm_epsilon=1e-5),
        seed=41, classic=False, tied=True,
    ),
    ModelSpec(
        "deep", "six encoder and eight decoder blocks, five narrow heads, ReLU and untied, classic config.json",
        dict(vocab_size=371, d_model=20, d_kv=5, num_heads=5, d_ff=31, num_layers=6, num_decoder_layers=8,
             feed_forward_proj="relu"),
        seed=51, classic=True, tied=False,
    ),
    ModelSpec(
        "extreme", "embedding rows of 1e2 and of 1e-6, one block each, attention and feed-forward twice as strong",
        dict(vocab_size=367, d_model=24, d_kv=6, num_heads=5, d_ff=83, num_layers=1, num_decoder_layers=1,
             feed_forward_proj="gated-gelu"),
        seed=61, classic=False, tied=False, extreme=True, one_token=True,
        scale={"qk": 2.0, "o": 2.0, "wo": 2.0},
    ),
]


def build_config(spec: ModelSpec) -> T5Config:
    return T5Config(tie_word_embeddings=spec.tied, decoder_start_token_id=0, **spec.config)


def deviation(name: str, config: T5Config, scale: dict) -> float:
    """T5's initial deviation of a tensor, times the spec's factor for its kind."""
    d, kv, inner = config.d_model, config.d_kv, config.d_kv * config.num_heads
    leaf = name.split(".")[-2]
    base, kind = {
        "q": ((d * kv) ** -0.5, "qk"), "k": (d**-0.5, "qk"), "v": (d**-0.5, "v"), "o": (inner**-0.5, "o"),
        "wi": (d**-0.5, "wi"), "wi_0": (d**-0.5, "wi"), "wi_1": (d**-0.5, "wi"), "wo": (config.d_ff**-0.5, "wo"),
        "relative_attention_bias": (1.0, "bias"), "shared": (1.0, "embed"), "lm_head": (d**-0.5, "head"),
    }[leaf]
    return base * scale.get(kind, 1.0)


def random_weights(model, spec: ModelSpec) -> None:
    """Fills every parameter in the order of its name; the layer norms' weights are random too, signs included."""
    rng = np.random.default_rng(spec.seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = rng.standard_normal(tuple(parameter.shape))
        if name.endswith("layer_norm.weight"):
            value = 1.0 + 0.4 * noise if "final" not in name else noise * spec.scale.get("norm", 1.0)
        else:
            value = noise * deviation(name, model.config, spec.scale)
        if spec.extreme and name == "shared.weight":
            value[4::7] *= 1e2
            value[5::7] *= 1e-6
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(value.astype(np.float32)))


def write_base(spec: ModelSpec, folder: Path, tokenizer_json: str, tokenizer_config: dict):
    """Makes the model, saves it with `save_pretrained`, and returns it as loaded from there."""
    config = build_config(spec)
    model = T5ForConditionalGeneration(config)
    if not spec.tied:  # transformers 5 ties on construction whatever the configuration says
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.shared.weight))
    random_weights(model, spec)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()  # nothing in it that config.json does not say
    if spec.classic:
        path = folder / "config.json"
        data = json.loads(path.read_text())
        data["tie_word_embeddings"] = spec.tied
        del data["scale_decoder_outputs"]
        data["torch_dtype"] = data.pop("dtype")
        if "num_decoder_layers" not in spec.config:
            del data["num_decoder_layers"]  # older files leave it out: as many as the encoder has
        data["transformers_version"] = "4.23.1"
        path.write_text(json.dumps(dict(sorted(data.items())), indent=2) + "\n")
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=1) + "\n")
    loaded = load_base(folder)
    for (name, made), (other, read) in zip(sorted(model.named_parameters()), sorted(loaded.named_parameters())):
        assert name == other and torch.equal(made, read), name
    assert loaded.config.scale_decoder_outputs == spec.tied
    return loaded


def load_base(folder: Path):
    return T5ForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()


@dataclass(frozen=True)
class ModuleSpec:
    name: str
    rank: int
    alpha: float
    targets: object  # as LoraConfig takes it


MODULES = [
    ModuleSpec("qv-a", 4, 8, ["q", "v"]),
    ModuleSpec("qv-b", 4, 8, ["q", "v"]),
    ModuleSpec("qv-c", 4, 8, ["q", "v"]),
    ModuleSpec("qv-alpha", 4, 6, ["q", "v"]),
    ModuleSpec("qv-rank2", 2, 4.5, ["q", "v"]),
    ModuleSpec("all-a", 3, 5, "all-linear"),
    ModuleSpec("all-b", 3, 4, "all-linear"),
]


def write_module(spec: ModuleSpec, index: int, model: ModelSpec, base_folder: Path, folder: Path) -> None:
    """One module, saved by PEFT's own `save_pretrained`; A as PEFT scales it, B random and not zero."""
    base = load_base(base_folder)
    peft = get_peft_model(base, LoraConfig(
        r=spec.rank, lora_alpha=spec.alpha, target_modules=spec.targets, lora_dropout=0.1, bias="none",
        task_type="SEQ_2_SEQ_LM",
    ))
    peft.peft_config["default"].base_model_name_or_path = f"golden/{model.name}"
    rng = np.random.default_rng([model.seed, 1000 + index])
    strength = model.scale.get("lora", 1.0)
    with torch.no_grad():
        for name, parameter in sorted(peft.named_parameters()):
            if "lora_" not in name:
                continue
            rows, columns = parameter.shape
            noise = rng.standard_normal((rows, columns))
            value = noise * columns**-0.5 if "lora_A" in name else noise * strength * 0.25 * rows**-0.5
            parameter.copy_(torch.from_numpy(value.astype(np.float32)))
    if folder.exists():
        shutil.rmtree(folder)
    peft.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # an empty model card
