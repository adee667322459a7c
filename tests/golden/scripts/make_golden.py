"""Writes the golden data: models, PEFT modules, and what Hugging Face, PEFT and lorahub compute with them.

    python make_golden.py [--out tests/golden] [--only NAME]

Everything is drawn from the seeds in golden_models.py; a second run writes the same bytes (PROVENANCE.md).
"""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT writes target_modules in the order of a set
    os.environ.update(PYTHONHASHSEED="0")
    os.execv(sys.executable, [sys.executable, *sys.argv])

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import golden_cases as cases  # noqa: E402
import golden_models as models  # noqa: E402
import golden_reference as reference  # noqa: E402
import golden_tokenizer as tokenizer  # noqa: E402

CORPUS = HERE / "corpus.txt"
LIBRARIES = ["torch", "transformers", "peft", "safetensors", "tokenizers", "sentencepiece", "numpy", "lorahub",
             "nevergrad", "datasets", "pandas"]

TOKENIZER_TEXTS = [
    "", "The river runs north.", "Ｔｈｅ ﬁsh swims… ½ mile²", "cafe\u0301 cre\u0300me bru\u0302le\u0301e", "café crème brûlée",
    "tab\tand\nline\u00a0break\u3000wide", "zero\u200bwidth soft\u00adhyphen \ufeffmark", "crab 🦀🦀 and 漢字 here",
    "naïve Œuvre Ελλάδα", "  leading and   trailing  ", "<extra_id_3> in the middle</s>of it <pad>", "a", "▁a ▁▁ b",
    "2 + 2 = 4; (x) \"y\" 'z'", "UPPER lower MiXeD", "👩‍👩‍👧 family", "\u0301 lone mark", "e\u0301\u0301 doubled mark",
    "ＡＢＣ１２３", "™ № ²",
]


SEEDS = 30


def build_model(spec, out: Path, tokenizer_json: str) -> dict:
    """The model from the first seed that gives what the goldens need."""
    for seed in range(spec.seed, spec.seed + SEEDS):
        try:
            return build_seed(dataclasses.replace(spec, seed=seed), spec.seed, out, tokenizer_json)
        except cases.Unfit as reason:
            print(f"{spec.name}: seed {seed}: {reason}", file=sys.stderr, flush=True)
    raise SystemExit(f"{spec.name}: none of {SEEDS} seeds fits; change the scale of its weights")


def build_seed(spec, first_seed: int, out: Path, tokenizer_json: str) -> dict:
    folder = out / "models" / spec.name
    if folder.exists():
        shutil.rmtree(folder)
    base = models.write_base(spec, folder / "base", tokenizer_json, tokenizer.config())
    parameters = sum(p.numel() for p in base.parameters())
    builder = cases.Builder(spec, folder, CORPUS)
    texts = builder.texts
    one_token = builder.greedy("base-one-token", None, [""], optional=not spec.one_token)
    for index, module in enumerate(models.MODULES):
        models.write_module(module, index, spec, folder / "base", folder / "modules" / module.name)
    builder.compose()

    # Logits: odd lengths on the base, one short case for each composition, one long one under a composition.
    top = spec.config["vocab_size"] - 1
    rng = texts.random
    draw = lambda n: [rng.randrange(3, top + 1) for _ in range(n - 1)] + [1]
    for inputs, targets in ((1, 9), (2, 1), (40, 52), (130, 6)):
        text = texts.of_length(inputs) if inputs > 1 else ""
        builder.logits(f"base-{inputs}x{targets}", None, texts.ids(text), draw(targets), text)
    # Ids no text gives: the last row of the embedding, extra ids, <unk>, </s> in the middle.
    builder.logits("base-raw-ids", None, [top, 352, 2, 1, 361, top, 1], [top, 2, 1, 355, 1])
    if spec.extreme:  # only large rows, only tiny ones, both: layer norm's epsilon decides the second
        for name, ids in (("large", [4, 11, 18, 25]), ("tiny", [5, 12, 19, 26]), ("mixed", [5, 4, 6, 12, 11, 1])):
            builder.logits(f"base-{name}-rows", None, ids, ids[::-1])
    for composition in cases.COMPOSITIONS:
        text = texts.of_length(rng.randrange(5, 20))
        builder.logits(composition.id, composition.id, texts.ids(text), draw(rng.randrange(3, 7)), text)
    text = texts.of_length(33)
    builder.logits("ref-33x48", "ref", texts.ids(text), draw(48), text)
    text = texts.of_length(21)
    builder.logits("exact-all-21x24", "exact-all", texts.ids(text), draw(24), text)

    # Losses: five shots of very unequal length; one shot; unknown and full-width characters.
    five = [(texts.of_length(i), texts.of_length(o)) for i, o in ((2, 2), (130, 44), (17, 3), (9, 12), (40, 1 + 6))]
    one = [(texts.of_length(12), "yes")]
    odd = [("crab 🦀🦀 and 漢字", "Ｙｅｓ…"), ("cafe\u0301\ttab", "naïve 🦀")]
    for name, shots, which in (
        ("five", five, [None] + [c.id for c in cases.COMPOSITIONS]),
        ("one", one, [None, "ref-bounds", "exact"]),
        ("odd", odd, [None, "ref", "exact-dropped"]),
    ):
        for composition in which:
            weights = next((c.weights for c in cases.COMPOSITIONS if c.id == composition), ())
            builder.losses(name, composition, shots, weights)

    # Greedy ids: inputs are drawn until a text meets the conditions on margin, variety and length.
    pool = lambda n: [texts.sentence() for _ in range(n)]
    builder.greedy("base-1", None, pool(60))
    builder.greedy("base-2", None, pool(60))
    builder.greedy("base-3", None, pool(60))
    builder.greedy("base-long", None, [texts.of_length(130) for _ in range(60)])
    builder.greedy("base-short", None, texts.shortest())
    for composition in ("ref", "exact"):
        builder.greedy(f"{composition}-1", composition, pool(60))
        builder.greedy(f"{composition}-2", composition, pool(60))
    builder.greedy("ref-all-1", "ref-all", pool(60))
    builder.greedy("exact-all-1", "exact-all", pool(60))
    optional = {
        "base-one-token": one_token,
        "base-unknown": builder.greedy(
            "base-unknown", None, [f"{s} 🦀🦀 漢字 {s}" for s in pool(60)], optional=True),
        "base-stops": builder.greedy("base-stops", None, pool(300), stops=True, optional=True),
        "ref-stops": builder.greedy("ref-stops", "ref", pool(300), stops=True, optional=True),
    }
    builder.check_batched_greedy()

    objective = reference.objectives(folder, "five", five)
    sensitivity = builder.sensitivity()
    encode = [{"text": t, "ids": texts.ids(t), "tokens": builder.tokenizer.tokenize(t),
               "decoded": builder.tokenizer.decode(texts.ids(t), skip_special_tokens=True)} for t in TOKENIZER_TEXTS]
    unit = "the seven letters "
    cut = builder.tokenizer(unit * 1000, max_length=2048, truncation=True).input_ids
    data = {
        "schema": 1,
        "model": spec.name,
        "about": spec.about,
        "made_with": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "seed": spec.seed,
        "first_seed": first_seed,
        "scale": spec.scale,
        "parameters": parameters,
        "modules": {m.name: {"rank": m.rank, "alpha": m.alpha} for m in models.MODULES},
        "noise": builder.noise,
        "sensitivity": sensitivity,
        **builder.cases,
        "objective": objective,
        "tokenizer": encode,
        "truncation": {"unit": unit, "times": 1000, "length": len(cut), "head": cut[:8], "tail": cut[-8:]},
    }
    (folder / "cases.json").write_text(dump(data), encoding="utf-8")
    save_file({k: v.contiguous() for k, v in sorted(builder.arrays.items())}, folder / "arrays.safetensors")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    return {"seed": spec.seed, "parameters": parameters, "bytes": size, "sensitivity": data["sensitivity"], "noise": builder.noise, "optional": optional,
            "margins": min(c["margin"] for c in builder.cases["greedy"])}


def dump(data: dict) -> str:
    """JSON with one line for each case: small, and still readable in a diff."""
    lines = []
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f"  {json.dumps(key)}: [\n    {rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parent, help="folder to write models/ into (tests/golden)")
    parser.add_argument("--only", help="one model's name")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Could not find a config file")  # the golden names are on no hub
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    specs = [s for s in models.SPECS if arguments.only in (None, s.name)]
    if not specs:
        parser.error(f"no model {arguments.only!r}; there are {', '.join(s.name for s in models.SPECS)}")
    with tempfile.TemporaryDirectory() as work:
        tokenizer_json = tokenizer.build(CORPUS, Path(work))
    for spec in specs:
        print(spec.name, json.dumps(build_model(spec, arguments.out, tokenizer_json)), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
