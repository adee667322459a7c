"""Writes the PyTorch files beside it, and what PyTorch itself reads from them (`expected.json`).

    python make_torch.py [--out DIR]

Values are whole multiples of 1/64, so that they are the same in every format and on every machine.
"""

import argparse
import json
import pathlib
from collections import OrderedDict

import torch

PATHS = [
    "encoder.block.0.layer.0.SelfAttention",
    "decoder.block.0.layer.0.SelfAttention",
    "decoder.block.0.layer.1.EncDecAttention",
]
D_MODEL, INNER, RANK = 6, 4, 2


def values(seed, *shape):
    """Small numbers that differ, from a linear congruential generator."""
    count = 1
    for dim in shape:
        count *= dim
    numbers = []
    for _ in range(count):
        seed = (seed * 1103515245 + 12345) % 2**31
        numbers.append(((seed >> 16) % 128 - 64) / 64)
    return torch.tensor(numbers, dtype=torch.float32).reshape(shape)


def adapter():
    """The tensors of a LoRA on q and v, under the names that PEFT gives them."""
    tensors = {}
    for number, path in enumerate(PATHS):
        for leaf in "qv":
            key = f"base_model.model.{path}.{leaf}"
            tensors[f"{key}.lora_A.weight"] = values(10 * number + ord(leaf), RANK, D_MODEL)
            tensors[f"{key}.lora_B.weight"] = values(10 * number + ord(leaf) + 5, INNER, RANK)
    return tensors


def views():
    """Tensors that are not simply all of their storage."""
    whole = values(3, 4, 6)
    return {
        "whole": whole,
        "transposed": whole.t(),
        "rows": whole[1:3],
        "columns": whole[:, 1:4],
        "stepped": whole[::2, ::3],
        "last": whole[3, 5],
        "expanded": whole[0:1].expand(3, 6),
        "permuted": values(4, 2, 3, 4).permute(2, 0, 1),
        "one_row": whole[2:3, :],
        "empty": torch.zeros(0, 3),
        "halves": values(5, 3, 5).half().t(),
    }


def mixed():
    """What `state_dict()` of a module gives: an OrderedDict with `_metadata`, in the three formats."""
    module = torch.nn.Sequential(OrderedDict(first=torch.nn.Linear(3, 2), second=torch.nn.Linear(2, 2, bias=False)))
    state = module.state_dict()
    state["first.weight"] = values(6, 2, 3)
    state["first.bias"] = values(7, 2).half()
    state["second.weight"] = values(8, 2, 2).bfloat16()
    assert isinstance(state, OrderedDict) and state._metadata
    return state


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    readable = {
        "adapter_model.bin": adapter(),
        "mixed.bin": mixed(),
        "parameters.bin": {"a": torch.nn.Parameter(values(9, 2, 3)), "b": torch.nn.Parameter(values(1, 4), False)},
        "views.bin": views(),
    }
    refused = {
        "checkpoint.bin": {"model": {"a": values(2, 2)}, "epoch": 3},
        "double.bin": {"a": values(2, 2).double()},
        "module.bin": torch.nn.Linear(2, 2),
        "negated.bin": {"a": torch._neg_view(values(2, 2))},
        "tensor.bin": values(2, 2),
    }
    for name, state in (readable | refused).items():
        torch.save(state, out / name)
    torch.save({"a": values(2, 2)}, out / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"a": values(2, 2)}, out / "protocol4.bin", pickle_protocol=4)
    expected = {}
    for name in readable:
        tensors = torch.load(out / name, weights_only=True)
        expected[name] = {
            key: {
                "dtype": {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[tensor.dtype],
                "shape": list(tensor.shape),
                "bits": [bits % 2**32 for bits in tensor.detach().float().contiguous().view(torch.int32).flatten().tolist()],
            }
            for key, tensor in tensors.items()
        }
    (out / "expected.json").write_text(json.dumps({"made_with": f"torch {torch.__version__}", "files": expected}, indent=1) + "\n")


if __name__ == "__main__":
    main()
