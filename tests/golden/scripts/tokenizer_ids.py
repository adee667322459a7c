"""Writes the ids that Hugging Face's tokenizers give for seeded random Unicode strings and for the inputs of BBH.

    python tokenizer_ids.py [--t5 tokenizer.json] [--bbh FOLDER] [--out FILE]

`--t5` is the tokenizer of google/flan-t5-*, `--bbh` a folder TASK/*.jsonl whose rows have their input as `context`.
Neither is in the repository: of what they give, the file keeps hashes and the first few lists. Without them the old
file's parts about them stay as they are.
"""

import argparse
import hashlib
import json
from pathlib import Path

import tokenizers
import transformers

ROOT = Path(__file__).resolve().parents[3]
SMALL = {
    "golden": "tests/golden/models/gated/base/tokenizer.json",
    "demo": "www/models/demo/base/tokenizer.json",
}
SMALL_STRINGS = 2000
REAL_STRINGS = 10000
SHOWN = 50
MASK = (1 << 64) - 1

# The generator of crates/t5/tests/tokenizer.rs, line by line.
RANGES = [
    (0x20, 0x7E), (0x20, 0x7E), (0x61, 0x7A), (0x61, 0x7A), (0xA0, 0x24F), (0x300, 0x36F), (0x2000, 0x206F),
    (0x370, 0x52F), (0x3000, 0x9FFF), (0xFF00, 0xFFEF), (0x1F300, 0x1FAFF), (0x00, 0x20), (0x1100, 0x11FF),
    (0xAC00, 0xD7A3), (0x590, 0xEFF), (0x00, 0x10FFFF), (0x2070, 0x2BFF), (0x20, 0x20),
]
WORDS = ["</s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_99>", "\u2581", "  ", "...", "the ", "e\u0301"]


class Numbers:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n


def random_strings(seed, count):
    numbers = Numbers(seed)
    strings = []
    for _ in range(count):
        text = ""
        # One string in four stays in one script; the others mix.
        kept = numbers.below(len(RANGES)) if numbers.below(4) == 0 else None
        for _ in range(numbers.below(33)):
            if numbers.below(24) == 0:
                text += WORDS[numbers.below(len(WORDS))]
                continue
            first, last = RANGES[numbers.below(len(RANGES)) if kept is None else kept]
            code = first + numbers.below(last - first + 1)
            text += chr(code + 0x800 if 0xD800 <= code < 0xE000 else code)
        strings.append(text)
    return strings


def bbh_inputs(folder):
    texts = []
    for path in sorted(Path(folder).glob("*/*.jsonl"), key=lambda path: path.relative_to(folder).parts):
        with path.open(encoding="utf-8") as file:
            texts += [json.loads(line)["context"] for line in file if line.strip()]
    return texts


def sha256(lines):
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def ids_of(tokenizer, texts):
    return [" ".join(map(str, tokenizer(text).input_ids)) for text in texts]


def record(tokenizer, texts, everything=False):
    ids = ids_of(tokenizer, texts)
    found = {
        "strings": len(texts),
        "texts_sha256": sha256(texts),
        "sha256_per_thousand": [sha256(ids[at : at + 1000]) for at in range(0, len(ids), 1000)],
        "ids": ids if everything else ids[:SHOWN],
    }
    return found


def load(path):
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    # Ids are compared as they are, however long.
    tokenizer.model_max_length = 1 << 40
    return tokenizer, hashlib.sha256(Path(path).read_bytes()).hexdigest()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--t5")
    arguments.add_argument("--bbh")
    arguments.add_argument("--out", default=ROOT / "tests/golden/tokenizer/ids.json", type=Path)
    arguments = arguments.parse_args()
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    found["made_with"] = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__}
    for seed, (name, path) in enumerate(SMALL.items(), start=1):
        tokenizer, digest = load(ROOT / path)
        texts = random_strings(seed, SMALL_STRINGS)
        found[name] = {"tokenizer_sha256": digest, "random": record(tokenizer, texts, everything=name == "golden")}
    if arguments.t5:
        tokenizer, digest = load(arguments.t5)
        found["t5"] = {"tokenizer_sha256": digest, "random": record(tokenizer, random_strings(3, REAL_STRINGS))}
        if arguments.bbh:
            found["t5"]["bbh"] = record(tokenizer, bbh_inputs(arguments.bbh))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
