"""The reference's way with PyTorch and PEFT: one process that does the work when it is told to.

A line of JSON on standard input is an order, a line on standard output its answer; `cargo xtask bench peers` gives them.
An evaluation is the reference package's own `get_score`, called, not copied: compose the modules' state dicts, set the
sum, run the five shots padded to one batch, add the penalty. Weights and modules are random.
"""

import json
import os
import sys
import time
import warnings

# What libraries print is no answer.
answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
warnings.simplefilter("ignore")

import lorahub.algorithm as algorithm  # noqa: E402
import numpy as np  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from datasets import Dataset  # noqa: E402

from shapes import config_of  # noqa: E402

MODULES, RANK = 20, 16


class Subject:
    """A model with its modules, ready for one job."""

    def __init__(self, options: dict, job: dict):
        torch.set_num_threads(options["threads"])
        torch.manual_seed(7)
        config = transformers.T5Config(**config_of(job["shape"]))
        lora = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
        self.model = peft.get_peft_model(transformers.T5ForConditionalGeneration(config), lora).eval()
        state = algorithm.get_peft_model_state_dict(self.model)
        self.cache = {f"module-{index}": {key: 0.05 * torch.randn_like(value) for key, value in state.items()}
                      for index in range(MODULES)}
        self.weights = np.random.default_rng(8).uniform(-0.5, 0.5, MODULES)
        self.job = job
        if job["work"] == "evaluation":
            self.dataset = shots(job["inputs"], job["targets"])
        else:
            self.input_ids = torch.randint(2, config.vocab_size, (1, job["input_tokens"]))
            total = algorithm.get_final_weights(self.weights, list(self.cache), self.cache)
            algorithm.set_peft_model_state_dict(self.model, total)

    def run(self, count: int) -> float:
        """Evaluates `count` candidates one after another, or generates; a loss, or the number of new tokens."""
        if self.job["work"] == "evaluation":
            return [self.evaluate() for _ in range(count)][-1]
        new = self.job["new_tokens"]
        with torch.no_grad():
            ids = self.model.generate(input_ids=self.input_ids, max_new_tokens=new, min_new_tokens=new, do_sample=False)
        return ids.shape[1] - 1

    def evaluate(self) -> float:
        return float(algorithm.get_score(self.weights, self.model, self.cache, self.dataset, None,
                                         algorithm.default_get_loss, algorithm.default_l1_regularization))


def shots(inputs: list, targets: list) -> Dataset:
    """What the reference's preprocessing makes of shots: padded to the longest."""
    random = np.random.default_rng(10)
    longest_in, longest_out = max(inputs), max(targets)
    row = lambda length, longest, pad: [*random.integers(2, 32100, length).tolist(), *[pad] * (longest - length)]  # noqa: E731
    return Dataset.from_dict({
        "input": [""] * len(inputs),
        "input_ids": [row(length, longest_in, 0) for length in inputs],
        "attention_mask": [[1] * length + [0] * (longest_in - length) for length in inputs],
        "labels": [row(length, longest_out, -100) for length in targets],
    })


def answer(value: dict):
    print(json.dumps(value), file=answers, flush=True)


def main():
    name = f"torch {torch.__version__}, transformers {transformers.__version__}, PEFT {peft.__version__}"
    answer({"program": name})
    subject = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if "setup" in order:
                subject = Subject(order["setup"], order["job"])
                answer({})
            else:
                wall, cpu = time.perf_counter(), time.process_time()
                value = subject.run(order["run"])
                answer({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "value": value})
        except Exception as error:  # The driver prints it.
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
