"""Checks the `lorahub` binary against PEFT and the reference package, both run live.

    python verify.py [--lorahub target/debug/lorahub] [--exports DIR] [--only NAME]
    python verify.py --record [--lorahub target/debug/lorahub]

For every golden model: exports each composition and loads it with `PeftModel.from_pretrained` (no warning of missing
keys, every tensor used, logits as recorded); exports merged bases and loads them with transformers; and compares
`lorahub score` with the objective that the reference package computes at that moment, also for weights that no golden
file holds. The adapters of `adapters/` and their compositions are exported, loaded and merged likewise. Exits with 1 if anything differs. With --record it writes tests/golden/exports instead: a few exports of the
binary, with the logits of PEFT that has loaded them.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")

import torch  # noqa: E402
import transformers  # noqa: E402
from peft import PeftModel  # noqa: E402
from peft.utils.save_and_load import get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import golden_models as models  # noqa: E402
import golden_reference as reference  # noqa: E402
from golden_cases import logits_of  # noqa: E402

LOGITS = 1e-4
OBJECTIVE = 1e-5
MERGED = ("ref", "exact-all")
RECORDED = (("gated", "ref-folded"), ("uneven", "exact-all"))


@dataclass(frozen=True)
class Modules:
    """A base, and where the modules for it lie."""

    name: str
    base: Path
    modules: Path


def of_model(folder: Path) -> Modules:
    return Modules(folder.name, folder / "base", folder / "modules")


class Check:
    """Runs the binary, counts what was compared, and keeps what differed."""

    def __init__(self, binary: Path, exports: Path):
        self.binary, self.exports = binary, exports
        self.failures: list = []
        self.compared = 0
        self.worst = {"logits": 0.0, "merged": 0.0, "objective": 0.0}

    def run(self, *arguments) -> str:
        command = [str(self.binary), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"exit {done.returncode}: {' '.join(command)}\n{done.stderr.strip()}")
        return done.stdout

    def expect(self, what: str, kind: str, difference: float, allowed: float) -> None:
        self.compared += 1
        self.worst[kind] = max(self.worst[kind], difference / allowed)
        if not difference <= allowed:  # a NaN fails too
            self.failures.append(f"{what}: differs by {difference:.3g}, allowed {allowed:.3g}")

    def arguments(self, of: Modules, modules, weights, rule) -> list:
        named = [argument for name in modules for argument in ("--module", of.modules / name)]
        return ["--base", of.base, *named, "--weights=" + ",".join(map(repr, weights)), "--rule", rule]

    def export(self, of: Modules, composition: dict, out: Path, *more) -> None:
        self.run("export", *self.arguments(of, composition["modules"], composition["weights"], composition["rule"]),
                 *more, "--out", out)

    def adapter(self, of: Modules, composition: dict, cases: list, arrays: dict) -> None:
        what = f"{of.name} {composition['id']}"
        out = self.exports / of.name / composition["id"]
        self.export(of, composition, out)
        base = models.load_base(of.base)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            peft = PeftModel.from_pretrained(base, out).eval()
        said = [str(w.message) for w in caught if "key" in str(w.message).lower()]
        if said:
            self.failures.append(f"{what}: PEFT warns: {said}")
        file, used = load_file(out / "adapter_model.safetensors"), get_peft_model_state_dict(peft)
        if file.keys() != used.keys() or any(not torch.equal(file[k].float(), used[k]) for k in file):
            self.failures.append(f"{what}: PEFT does not use exactly the exported tensors")
        targets = {key.rsplit(".lora_", 1)[0] for key in file}
        if len(file) != 2 * len(targets) or not targets:
            self.failures.append(f"{what}: {len(file)} tensors for {len(targets)} targets")
        self.logits(what, "logits", peft, cases, arrays)

    def merged(self, of: Modules, composition: dict, cases: list, arrays: dict) -> None:
        out = self.exports / of.name / f"{composition['id']}-merged"
        self.export(of, composition, out, "--merge")
        self.logits(f"{of.name} {composition['id']} merged", "merged", models.load_base(out), cases, arrays)

    def logits(self, what: str, kind: str, model, cases: list, arrays: dict) -> None:
        if not cases:
            self.failures.append(f"{what}: no case with logits")
        for case in cases:
            difference = (logits_of(model, case["input_ids"], case["target_ids"]) - arrays[case["array"]]).abs().max()
            self.expect(f"{what} {case['id']}", kind, difference.item(), LOGITS * max(1.0, case["max_abs"]))

    def objective(self, folder: Path, data: dict) -> None:
        modules = data["objective"]["modules"]
        shots = [(shot["input"], shot["output"]) for shot in data["shot_sets"][data["objective"]["shot_set"]]]
        live = reference.Reference(folder / "base", [folder / "modules" / name for name in modules])
        rng = random.Random(data["seed"])
        fresh = [[round(rng.uniform(-1.5, 1.5), 3) for _ in modules] for _ in range(3)]
        with tempfile.TemporaryDirectory() as work:
            file = Path(work) / "shots.jsonl"
            lines = [json.dumps({"input": i, "output": o}, ensure_ascii=False) for i, o in shots]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
            for weights in [v["weights"] for v in data["objective"]["values"]] + fresh:
                expected = live.objective(shots, weights)
                found = json.loads(self.run(
                    "score", *self.arguments(of_model(folder), modules, weights, "reference"), "--shots", file, "--json"))
                self.expect(f"{folder.name} objective {weights}", "objective",
                            abs(found["objective_reference"] - expected), OBJECTIVE * max(1.0, abs(expected)))


def record(check: Check, golden: Path) -> None:
    """Writes `exports/`: adapters as the binary exports them, and what PEFT computes with them."""
    entries, arrays = [], {}
    for name, composition_id in RECORDED:
        folder = golden / "models" / name
        data = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
        composition = next(c for c in data["compositions"] if c["id"] == composition_id)
        out = golden / "exports" / f"{name}-{composition_id}"
        if out.exists():
            shutil.rmtree(out)
        check.export(of_model(folder), composition, out)
        (out / "README.md").unlink()  # not read by anything
        peft = PeftModel.from_pretrained(models.load_base(folder / "base"), out).eval()
        for case in (c for c in data["logits"] if c["composition"] == composition_id):
            array = f"{name}/{case['id']}"
            arrays[array] = logits_of(peft, case["input_ids"], case["target_ids"]).contiguous()
            entries.append({"model": name, "adapter": out.name, "composition": composition_id, "id": case["id"],
                            "input_ids": case["input_ids"], "target_ids": case["target_ids"], "array": array,
                            "max_abs": arrays[array].abs().max().item()})
    save_file(arrays, golden / "exports" / "arrays.safetensors")
    rows = ",\n    ".join(map(json.dumps, entries))
    (golden / "exports" / "cases.json").write_text(f'{{\n  "schema": 1,\n  "logits": [\n    {rows}\n  ]\n}}\n')


def adapters(check: Check, golden: Path) -> None:
    """The adapters that PEFT wrote, each alone under either rule, and their compositions."""
    folder = golden / "adapters"
    data = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    arrays = load_file(folder / "arrays.safetensors")
    of = Modules(folder.name, golden / "models" / data["model"] / "base", folder / "imported")
    alone = [{"id": f"{adapter['name']}-{rule}", "rule": rule, "modules": [adapter["name"]], "weights": [1.0]}
             for adapter in data["adapters"] for rule in ("reference", "exact")]
    together = [{**composition, "modules": composition["adapters"]} for composition in data["compositions"]]
    for composition in alone + together:
        named = {"adapter": composition["modules"][0]} if composition in alone else {"composition": composition["id"]}
        cases = [case for case in data["logits"] if named.items() <= case.items()]
        try:
            check.adapter(of, composition, cases, arrays)
            if composition in together:
                check.merged(of, composition, cases, arrays)
        except Exception as error:  # one failure must not hide the others
            check.failures.append(f"{folder.name} {composition['id']}: {type(error).__name__}: {error}")
    print(f"{folder.name}: checked", flush=True)


def main() -> None:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lorahub", type=Path, default=target / "debug" / "lorahub", help="the binary to check")
    parser.add_argument("--golden", type=Path, default=HERE.parent, help="the golden data (tests/golden)")
    parser.add_argument("--exports", type=Path, help="keep the exports in this folder")
    parser.add_argument("--only", help="one model's name, or `adapters`")
    parser.add_argument("--record", action="store_true", help="write tests/golden/exports instead")
    arguments = parser.parse_args()
    if not arguments.lorahub.is_file():
        parser.error(f"no binary at {arguments.lorahub}: run `cargo build -p lorahub-cli`, or pass --lorahub")
    warnings.filterwarnings("ignore", message="Could not find a config file")  # the golden names are on no hub
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folders = sorted(f for f in (arguments.golden / "models").iterdir() if arguments.only in (None, f.name))
    if not folders and arguments.only != "adapters":
        parser.error(f"no golden model {arguments.only!r} in {arguments.golden / 'models'}")
    with tempfile.TemporaryDirectory() as work:
        check = Check(arguments.lorahub, arguments.exports or Path(work))
        if arguments.record:
            return record(check, arguments.golden)
        for folder in folders:
            data = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
            arrays = load_file(folder / "arrays.safetensors")
            for composition in data["compositions"]:
                cases = [case for case in data["logits"] if case["composition"] == composition["id"]]
                try:
                    check.adapter(of_model(folder), composition, cases, arrays)
                    if composition["id"] in MERGED:
                        check.merged(of_model(folder), composition, cases, arrays)
                except Exception as error:  # one failure must not hide the others
                    check.failures.append(f"{folder.name} {composition['id']}: {type(error).__name__}: {error}")
            try:
                check.objective(folder, data)
            except Exception as error:
                check.failures.append(f"{folder.name} objective: {type(error).__name__}: {error}")
            print(f"{folder.name}: checked", flush=True)
        if arguments.only in (None, "adapters"):
            adapters(check, arguments.golden)
    share = ", ".join(f"{kind} {100 * value:.1f} %" for kind, value in check.worst.items())
    print(f"{check.compared} comparisons, {len(check.failures)} failures; largest share of the tolerance: {share}")
    for failure in check.failures:
        print(f"FAILED {failure}")
    sys.exit(1 if check.failures else 0)


if __name__ == "__main__":
    main()
