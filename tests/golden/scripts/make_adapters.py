"""Writes the adapters that PEFT makes for a golden base, with what PEFT computes with them.

    python make_adapters.py [--out tests/golden]

`adapters/imported/NAME` are to be imported: their logits are PEFT's, in f32. `adapters/refused/NAME` are to be refused:
PEFT writes them too, and they mean more than two matrices for each of T5's linears. Everything is drawn from SEED.

How PEFT is loaded: `PeftModel.from_pretrained` on the base in f32, with its default `autocast_adapter_dtype=True`, which
turns f16 and bf16 matrices into f32 as they are. That is exact, so the reference is f32 arithmetic on the very numbers in
the file, whatever their format, and needs no tolerance of its own (asserted below: the loaded values are f32 and equal the
file's).
"""

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT writes target_modules in the order of a set
    os.environ.update(PYTHONHASHSEED="0")
    os.execv(sys.executable, [sys.executable, *sys.argv])

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")

import numpy as np  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from peft.tuners.lora import config as lora_config  # noqa: E402
from peft.tuners.lora.layer import LoraLayer  # noqa: E402
from peft.utils.other import get_pattern_key  # noqa: E402
from peft.utils.save_and_load import get_peft_model_state_dict, set_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import golden_models as models  # noqa: E402
from golden_cases import logits_of  # noqa: E402
from make_golden import dump  # noqa: E402

BASE = "buckets"  # the smallest gated model with more than one block
SEED = 71
TASK = "SEQ_2_SEQ_LM"
LIBRARIES = ["torch", "transformers", "peft", "safetensors", "numpy"]
PREFIX = "base_model.model."
# (tokens of the input, tokens of the target): `</s>` alone, and more than 40 on either side.
LENGTHS = ((1, 3), (13, 5), (47, 2))
LONG = (5, 43)
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Adapter:
    name: str
    config: dict  # as LoraConfig takes it
    dtype: torch.dtype = torch.float32
    bin: bool = False  # adapter_model.bin
    keys: str = "peft"  # or "default": with the adapter's name left in; or "bare": without the prefix
    eva: bool = False  # ranks given out by PEFT's EVA

    @property
    def file(self) -> str:
        return "adapter_model.bin" if self.bin else "adapter_model.safetensors"


QV = ["q", "v"]
RANKS = {"v": 8, "^encoder.block.0.layer.0.SelfAttention.q": 1}
F16, BF16 = torch.float16, torch.bfloat16

ADAPTERS = [
    Adapter("qv-r1", dict(r=1, lora_alpha=2, target_modules=QV)),
    Adapter("qv-r3-f16", dict(r=3, lora_alpha=5, target_modules=QV), F16),
    Adapter("qv-r3-bf16-bin", dict(r=3, lora_alpha=4, target_modules=QV), BF16, bin=True),
    Adapter("qv-r8-bin", dict(r=8, lora_alpha=16, target_modules=QV), bin=True),
    Adapter("all-r1-bf16", dict(r=1, lora_alpha=3, target_modules="all-linear"), BF16),
    Adapter("all-r3-f16-bin", dict(r=3, lora_alpha=2.5, target_modules="all-linear"), F16, bin=True),
    Adapter("o-wo", dict(r=3, lora_alpha=1.5, target_modules=["o", "wo"], bias="lora_only")),
    Adapter("wi", dict(r=1, lora_alpha=3, target_modules=["wi_0", "wi_1"], init_lora_weights="gaussian")),
    Adapter("expression", dict(r=3, lora_alpha=4, target_modules=r"decoder.*\.(SelfAttention|EncDecAttention)\.[kv]"), F16),
    Adapter("layers", dict(r=3, lora_alpha=6, target_modules=["q", "v", "o"], layers_to_transform=[1], layers_pattern="block")),
    Adapter("excluded", dict(r=1, lora_alpha=2, target_modules="all-linear", exclude_modules=["wo", "EncDecAttention.o"])),
    Adapter("rank-pattern", dict(r=3, lora_alpha=6, target_modules=QV, rank_pattern=RANKS)),
    Adapter("rank-pattern-alphas", dict(r=3, lora_alpha=3, target_modules=QV, rank_pattern=RANKS, alpha_pattern={"q": 5})),
    Adapter("alpha-pattern", dict(r=3, lora_alpha=4, target_modules=QV, alpha_pattern={
        "EncDecAttention.(q|v)": 7, r"encoder\.block\.1\..*\.v": 1.5})),
    Adapter("patterns-f16", dict(r=1, lora_alpha=2, target_modules="all-linear", rank_pattern={
        "wi_[01]": 3, "SelfAttention.o": 8}, alpha_pattern={"wo": 5, ".*decoder.block.2.*k": 0.5, "wi_0": 9}), F16),
    Adapter("rslora-r8", dict(r=8, lora_alpha=4, target_modules=QV, use_rslora=True)),
    Adapter("rslora-r3", dict(r=3, lora_alpha=2, target_modules=QV, use_rslora=True)),
    Adapter("rslora-patterns-bf16-bin", dict(r=3, lora_alpha=2, target_modules="all-linear", use_rslora=True, rank_pattern={
        "q": 8, "wo": 1}, alpha_pattern={"v": 3, "^decoder.*[.]o": 0.7}), BF16, bin=True),
    Adapter("eva", dict(r=3, lora_alpha=6, target_modules=QV, init_lora_weights="eva",
                        eva_config=peft.EvaConfig(rho=2.0, adjust_scaling_factors=True)), eva=True),
    Adapter("default-in-keys", dict(r=3, lora_alpha=6, target_modules=QV, rank_pattern=RANKS), keys="default"),
    Adapter("no-prefix-in-keys", dict(r=3, lora_alpha=6, target_modules=QV, alpha_pattern={"q": 5}), keys="bare"),
]


@dataclass(frozen=True)
class Composition:
    id: str
    rule: str
    adapters: tuple
    weights: tuple


COMPOSITIONS = [
    Composition("exact-unequal", "exact", ("qv-r1", "rank-pattern", "rslora-r8", "alpha-pattern", "qv-r8-bin"),
                (0.7, -0.9, 0.45, 1.2, -0.3)),
    Composition("exact-dropped", "exact", ("rank-pattern", "rslora-r8", "qv-r3-f16"), (0.0, 0.8, -0.5)),
    Composition("exact-all", "exact", ("all-r1-bf16", "patterns-f16", "rslora-patterns-bf16-bin"), (0.6, -0.8, 0.5)),
    Composition("reference-alphas", "reference", ("alpha-pattern", "qv-r3-f16", "rslora-r3"), (0.9, -0.6, 0.4)),
    Composition("reference-rslora", "reference", ("rslora-r3", "alpha-pattern"), (0.8, -0.7)),
    Composition("reference-ranks", "reference", ("rank-pattern", "rank-pattern-alphas"), (-0.5, 1.1)),
]

# Keys of `rank_pattern` and `alpha_pattern`, for which the linears that they mean are recorded.
KEYS = [
    "q", "wo", "SelfAttention.q", "encoder.block.0.layer.0.SelfAttention.q", "^encoder.block.0.layer.0.SelfAttention.q",
    "^encoder.block.0.layer.0.SelfAttention.q$", r"block\.1\.layer\.1\.EncDecAttention\.q", "q|v", "EncDecAttention.(q|v)",
    "^encoder.*", ".*[qo]", "w.", "wi_[01]", "wi.0", ".*o", "^.*v", "SelfAttention_q|SelfAttention.q", "0.SelfAttention.v",
    "1.layer.0.SelfAttention.k", "(encoder|decoder).block.1.*wo", "decoder$|o", "^decoder|v", "EncDec.*", "block.[01].*k",
    r"layer\.\d\..*\.v", "q?v", "o+", "^q|k",
    "attention.q", "elfAttention.q", "^q", "Q", "SelfAttention", r"SelfAttention\.q\.", "layer.0", "", "^", "$", ".", "q$v", "wi",
]

ONE = r"encoder\.block\.0\.layer\.0\.SelfAttention\.q"


def lora(**settings) -> LoraConfig:
    return LoraConfig(**{**dict(r=1, lora_alpha=2, target_modules=ONE, task_type=TASK), **settings})


# Each with one linear where PEFT lets it, so that they are small.
REFUSED = {
    "dora": lora(use_dora=True),
    "lora-bias": lora(lora_bias=True),
    "modules-to-save": lora(modules_to_save=["final_layer_norm"]),
    "trained-tokens": lora(trainable_token_indices=[5, 6]),
    "embedding": lora(target_modules=rf"shared|{ONE}"),
    "head": lora(target_modules=rf"lm_head|{ONE}"),
    "saved-embeddings": lora(),
    "pissa": lora(init_lora_weights="pissa"),
    "pissa-niter": lora(r=2, init_lora_weights="pissa_niter_2"),
    "olora": lora(init_lora_weights="olora"),
    "qalora": lora(use_qalora=True),
    "activated": lora(alora_invocation_tokens=[5]),
    "target-parameters": lora(target_parameters=["encoder.block.0.layer.0.SelfAttention.k.weight"]),
    "kasa": lora(kasa_config=lora_config.KasaConfig()),
    "bdlora": lora(use_bdlora=lora_config.BdLoraConfig(target_modules_bd_a=["q"], nblocks=1)),
    "velora": lora(velora_config=lora_config.VeloraConfig(num_groups=4)),
    "monteclora": lora(monteclora_config=lora_config.MontecloraConfig(num_samples=2, buffer_size=2)),
    "unmatched-rank": lora(rank_pattern={"k": 3}),
    "unmatched-alpha": lora(alpha_pattern={"^q": 3}),
    "ambiguous-alpha": lora(alpha_pattern={"q": 3, "SelfAttention.q": 5}),
    "adalora": peft.AdaLoraConfig(target_modules=ONE, init_r=2, target_r=1, total_step=10, tinit=1, tfinal=1),
    "ia3": peft.IA3Config(target_modules=ONE, feedforward_modules=[], task_type=TASK),
    "loha": peft.LoHaConfig(target_modules=ONE, r=1),
    "lokr": peft.LoKrConfig(target_modules=ONE, r=1),
    "oft": peft.OFTConfig(target_modules=ONE, oft_block_size=4),
    "boft": peft.BOFTConfig(target_modules=ONE, boft_block_size=4),
    "vera": peft.VeraConfig(target_modules=ONE, r=1),
    "ln-tuning": peft.LNTuningConfig(target_modules=r"encoder\.block\.0\.layer\.0\.layer_norm", task_type=TASK),
    "prefix-tuning": peft.PrefixTuningConfig(num_virtual_tokens=1, task_type=TASK),
    "prompt-tuning": peft.PromptTuningConfig(num_virtual_tokens=1, task_type=TASK),
    "trainable-tokens": peft.TrainableTokensConfig(target_modules=["shared"], token_indices=[5]),
}


def layers_of(model) -> dict:
    """The LoRA layers of a PEFT model by the path of their linear."""
    return {name.removeprefix(PREFIX): module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def give_out_ranks(model, vocabulary: int) -> None:
    """PEFT's EVA on random inputs; it writes `rank_pattern` and `alpha_pattern` by whole paths."""
    generator = torch.Generator().manual_seed(SEED)
    draw = lambda length: torch.randint(3, vocabulary, (4, length), generator=generator)
    batches = [{"input_ids": draw(17), "labels": draw(17)} for _ in range(8)]
    flat = lambda layer_input, model_input, name: (
        layer_input[0] if isinstance(layer_input, tuple) else layer_input).reshape(-1, model.config.d_model)
    peft.initialize_lora_eva_weights(
        model, dataloader=batches, prepare_model_inputs_fn=None, prepare_layer_inputs_fn=flat, show_progress_bar=False)
    config = model.peft_config["default"]
    assert len(set(config.rank_pattern.values())) > 1 and config.alpha_pattern, "EVA gave every target the same rank"


def write(adapter: Adapter, index: int, base: Path, folder: Path) -> None:
    """An adapter with random matrices, saved by PEFT; the forms of the keys that it no longer writes are made of its."""
    model = get_peft_model(models.load_base(base), LoraConfig(lora_dropout=0.1, task_type=TASK, **adapter.config))
    if adapter.eva:
        give_out_ranks(model, model.config.vocab_size)
    model.peft_config["default"].base_model_name_or_path = f"golden/{BASE}"
    rng = np.random.default_rng([SEED, index])
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            rows, columns = parameter.shape
            noise = rng.standard_normal((rows, columns))
            value = noise * columns**-0.5 if "lora_A" in name else noise * 0.5 * rows**-0.5
            parameter.data = torch.from_numpy(value.astype(np.float32)).to(adapter.dtype)
    model.save_pretrained(folder, safe_serialization=not adapter.bin)
    (folder / "README.md").unlink(missing_ok=True)  # an empty model card
    if adapter.keys != "peft":
        rename = {"default": lambda key: key.replace(".weight", ".default.weight"), "bare": lambda key: key.removeprefix(PREFIX)}
        file = folder / adapter.file
        save_file({rename[adapter.keys](k): v for k, v in load_file(file).items()}, file, metadata={"format": "pt"})


def stored(folder: Path) -> dict:
    """The tensors of an adapter's file by PEFT's keys."""
    file = folder / "adapter_model.bin"
    tensors = torch.load(file, weights_only=True) if file.is_file() else load_file(folder / "adapter_model.safetensors")
    return {PREFIX + key.removeprefix(PREFIX).replace(".default.", "."): value for key, value in tensors.items()}


def load(folder: Path, base: Path):
    """The adapter in PEFT, which must use exactly what is in the file, in f32, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", message="Could not find a config file")  # the golden names are on no hub
        warnings.filterwarnings("ignore", message=".*eva.*")  # PEFT says so of every EVA adapter that it loads
        model = PeftModel.from_pretrained(models.load_base(base), folder).eval()
    used, file = get_peft_model_state_dict(model), stored(folder)
    assert used.keys() == file.keys(), folder.name
    for key, value in used.items():
        assert value.dtype == torch.float32 and torch.equal(value, file[key].float()), (folder.name, key)
    return model


def reference(adapter: Adapter, folder: Path, base: Path):
    """The adapter in PEFT. Without the prefix PEFT passes over every tensor and uses the base alone, so those are given
    back their prefix first."""
    if adapter.keys != "bare":
        return load(folder, base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        silent = PeftModel.from_pretrained(models.load_base(base), folder).eval()
    alone = models.load_base(base)
    assert torch.equal(logits_of(silent, [5, 9, 1], [7, 1]), logits_of(alone, [5, 9, 1], [7, 1])), "PEFT reads them now"
    with tempfile.TemporaryDirectory() as work:
        twin = Path(work) / folder.name
        shutil.copytree(folder, twin)
        save_file(stored(folder), twin / adapter.file, metadata={"format": "pt"})
        return load(twin, base)


def updates(model) -> dict:
    """`s B A` of every target in f64, with the scaling that PEFT has found."""
    return {path: layer.scaling["default"] * layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double()
            for path, layer in layers_of(model).items()}


def merged(base: Path, deltas: dict):
    """The base with updates added, in f64."""
    model = models.load_base(base).double()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for path, delta in deltas.items():
            parameters[path + ".weight"] += delta
    return model


def composed(composition: Composition, folder: Path, base: Path, loaded: dict):
    """The composition in PEFT, and what it adds to the base, in f64."""
    parts = [loaded[name] for name in composition.adapters]
    if composition.rule == "exact":
        # PEFT adds up active adapters, each with its own ranks and scalings. (`add_weighted_adapter(..., "cat")` would
        # keep the first one's use_rslora beside an alpha that is meant without.)
        first, *others = composition.adapters
        model = PeftModel.from_pretrained(models.load_base(base), folder / first, adapter_name=first)
        for name in others:
            model.load_adapter(folder / name, adapter_name=name)
        model.base_model.set_adapter(list(composition.adapters))
        for layer in layers_of(model).values():
            for name, weight in zip(composition.adapters, composition.weights):
                layer.lora_B[name].weight.data *= weight
        deltas: dict = {}
        for part, weight in zip(parts, composition.weights):
            for path, update in updates(part).items():
                deltas[path] = deltas.get(path, 0.0) + weight * update
        return model.eval(), deltas
    model = PeftModel.from_pretrained(models.load_base(base), folder / composition.adapters[0]).eval()
    total: dict = {}
    for part, weight in zip(parts, composition.weights):
        for path, layer in layers_of(part).items():
            fold = layer.scaling["default"] / layers_of(parts[0])[path].scaling["default"]
            for matrix, factor in (("lora_A", weight), ("lora_B", weight * fold)):
                key = f"{PREFIX}{path}.{matrix}.weight"
                total[key] = total.get(key, 0.0) + factor * getattr(layer, matrix)["default"].weight.data.double()
    set_peft_model_state_dict(model, {key: value.float() for key, value in total.items()})
    deltas = {path: layer.scaling["default"] * total[f"{PREFIX}{path}.lora_B.weight"] @ total[f"{PREFIX}{path}.lora_A.weight"]
              for path, layer in layers_of(parts[0]).items()}
    return model, deltas


class Cases:
    """Collects logits with the checks that they are worth comparing with."""

    def __init__(self, base: Path):
        self.base = base
        self.random = random.Random(SEED)
        self.logits: list = []
        self.arrays: dict = {}
        self.noise = 0.0

    def draw(self, tokens: int) -> list:
        return [self.random.randrange(3, 363) for _ in range(tokens - 1)] + [1]

    def add(self, field: str, name: str, model, deltas: dict, lengths) -> None:
        exact = merged(self.base, deltas)
        for inputs, targets in lengths:
            ids, labels = self.draw(inputs), self.draw(targets)
            value = logits_of(model, ids, labels).contiguous()
            largest = value.abs().max().item()
            noise = (value - logits_of(exact, ids, labels)).abs().max().item() / max(1.0, largest)
            assert noise < 0.05 * TOLERANCE, (name, noise)
            self.noise = max(self.noise, noise)
            array = f"{name}/{inputs}x{targets}"
            self.arrays[array] = value
            self.logits.append({field: name, "id": f"{inputs}x{targets}", "input_ids": ids, "target_ids": labels, "array": array, "max_abs": largest})

    def distance(self, field: str, name: str, model) -> float:
        """How far a mistaken model is from these logits, in tolerances; the case that shows it best."""
        return max((logits_of(model, case["input_ids"], case["target_ids"]) - self.arrays[case["array"]]).abs().max().item()
                   / (TOLERANCE * max(1.0, case["max_abs"])) for case in self.logits if case.get(field) == name)


def with_scalings(model, scaling_of):
    """Calls back with the model while its scalings are others."""
    layers = layers_of(model)
    kept = {path: layer.scaling["default"] for path, layer in layers.items()}
    for path, layer in layers.items():
        layer.scaling["default"] = scaling_of(kept[path], layer)
    return lambda: [layer.scaling.update(default=kept[path]) for path, layer in layers.items()]


def sensitivity(adapter: Adapter, cases: Cases, model) -> dict:
    """What mistaken scalings would do, in tolerances."""
    config = model.peft_config["default"]
    mistakes = {"every scaling off by 1 %": lambda scaling, layer: scaling * 1.01}
    if config.alpha_pattern:
        root = 0.5 if config.use_rslora else 1.0
        mistakes["alpha_pattern ignored"] = lambda scaling, layer: config.lora_alpha / layer.r["default"] ** root
    if config.rank_pattern:
        mistakes["alpha over the one r"] = lambda scaling, layer: scaling * layer.r["default"] / config.r
    if config.use_rslora:
        mistakes["use_rslora ignored"] = lambda scaling, layer: scaling * layer.r["default"] ** -0.5
    found = {}
    for name, mistake in mistakes.items():
        restore = with_scalings(model, mistake)
        found[name] = cases.distance("adapter", adapter.name, model)
        restore()
        assert found[name] >= (1 if "1 %" in name else 10), (adapter.name, name, found[name])
    return found


def meanings(model) -> list:
    """The linears of an adapter that PEFT means by each of KEYS."""
    paths = sorted(layers_of(model))
    return [{"key": key, "means": [path for path in paths if get_pattern_key([key], path) == key]} for key in KEYS]


def write_refused(base: Path, folder: Path) -> None:
    for name, config in REFUSED.items():
        torch.manual_seed(SEED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(models.load_base(base), config)
            model.peft_config["default"].base_model_name_or_path = f"golden/{BASE}"
            model.save_pretrained(folder / name, save_embedding_layers=True if name == "saved-embeddings" else "auto")
        (folder / name / "README.md").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parent, help="folder to write adapters/ into (tests/golden)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Could not find a config file")  # the golden names are on no hub
    warnings.simplefilter("ignore", FutureWarning)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    base = HERE.parent / "models" / BASE / "base"
    out = arguments.out / "adapters"
    if out.exists():
        shutil.rmtree(out)
    imported = out / "imported"
    cases, loaded, entries = Cases(base), {}, []
    for index, adapter in enumerate(ADAPTERS):
        write(adapter, index, base, imported / adapter.name)
        model = reference(adapter, imported / adapter.name, base)
        loaded[adapter.name] = model
        cases.add("adapter", adapter.name, model, updates(model), LENGTHS + ((LONG,) if adapter.name == "patterns-f16" else ()))
        targets = {path: [layer.r["default"], layer.scaling["default"]] for path, layer in sorted(layers_of(model).items())}
        entries.append({"name": adapter.name, "file": adapter.file, "sensitivity": sensitivity(adapter, cases, model),
                        "targets": targets})
    for composition in COMPOSITIONS:
        model, deltas = composed(composition, imported, base, loaded)
        cases.add("composition", composition.id, model, deltas, LENGTHS)
    write_refused(base, out / "refused")
    data = {
        "schema": 1,
        "model": BASE,
        "seed": SEED,
        "made_with": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "noise": cases.noise,
        "adapters": entries,
        "compositions": [{"id": c.id, "rule": c.rule, "adapters": c.adapters, "weights": c.weights} for c in COMPOSITIONS],
        "refused": sorted(REFUSED),
        "patterns": meanings(loaded["all-r1-bf16"]),
        "logits": cases.logits,
    }
    (out / "cases.json").write_text(dump(data), encoding="utf-8")
    save_file(dict(sorted(cases.arrays.items())), out / "arrays.safetensors")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{len(ADAPTERS)} adapters, {len(COMPOSITIONS)} compositions, {len(REFUSED)} to be refused: {size} bytes, "
          f"noise {cases.noise:.2g}", file=sys.stderr)


if __name__ == "__main__":
    main()
