"""The reference package's own objective: `lorahub.algorithm`, called, not copied."""

import contextlib
import copy
import io
import warnings
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

MODULES = ("qv-a", "qv-b", "qv-c")
WEIGHTS = [
    [0.0, 0.0, 0.0],
    [0.5, 0.0, 0.0],
    [0.7, -0.4, 0.0],
    [-0.7, 0.4, 0.0],
    [1.5, -1.5, 0.8125],
    [0.1, 0.2, -0.3],
    [0.7, -0.4, 0.0],  # again, after others: must give the same value
]


class Reference:
    """The package's model, tokenizer and module cache for some local folders."""

    def __init__(self, base: Path, modules: list):
        import datasets
        import lorahub.algorithm as algorithm

        datasets.disable_progress_bars()
        datasets.disable_caching()

        self.algorithm = algorithm
        warnings.filterwarnings("ignore", category=UserWarning)  # several adapters on one base, no pinned memory: its way
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # its progress
            self.model, self.tokenizer, cache = algorithm.load_base_model_and_lora_modules(
                [str(m) for m in modules], str(base))
        # 0.1.0 keeps references to live parameters, which each evaluation overwrites.
        self.cache = copy.deepcopy(cache)
        for path, state in self.cache.items():
            file = load_file(Path(path) / "adapter_model.safetensors")
            assert file.keys() == state.keys() and all((file[k] == state[k]).all() for k in file), path

    def objective(self, shots, weights) -> float:
        dataset = self.algorithm.load_dataset([i for i, _ in shots], [o for _, o in shots], self.tokenizer)
        return float(self.algorithm.get_score(
            np.array(weights), self.model, self.cache, dataset, None, self.algorithm.default_get_loss,
            self.algorithm.default_l1_regularization))


def objectives(folder: Path, shot_set: str, shots) -> dict:
    """The objective of the reference for several weights, with its own tokenizer, collator, loss and penalty."""
    reference = Reference(folder / "base", [folder / "modules" / name for name in MODULES])
    values = [reference.objective(shots, w) for w in WEIGHTS]
    assert values[2] == values[6], values
    assert abs(values[2] - values[3]) < 1e-6, values  # w and -w are one model
    return {"modules": list(MODULES), "shot_set": shot_set,
            "values": [{"weights": w, "objective_reference": v} for w, v in zip(WEIGHTS, values)]}
