"""Writes a Flan-T5 of a true shape with random weights, and two LoRA modules for it, laid out as a hub has them.

    python make.py --size small|base|large --hub DIR --modules DIR --tokenizer FILE [--public REPOSITORY ...]

The base goes to DIR/google/flan-t5-SIZE (float32 safetensors, as the published ones). Modules of rank 16 on q and v are
written by PEFT: as the repositories --public in the hub's folder, in the `.bin` form that public modules have; without
it, for the bases that have no public modules, into the folder --modules. Everything is drawn from one seed.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import T5Config, T5ForConditionalGeneration  # noqa: E402

SEED = 20240801
#: d_model, d_ff, heads, layers of either stack; d_kv is 64 and the vocabulary 32128 in all.
SHAPES = {"small": (512, 1024, 6, 8), "base": (768, 2048, 12, 12), "large": (1024, 2816, 16, 24)}


def config_of(size: str) -> T5Config:
    d_model, d_ff, heads, layers = SHAPES[size]
    return T5Config(
        d_model=d_model,
        d_ff=d_ff,
        num_heads=heads,
        num_layers=layers,
        num_decoder_layers=layers,
        d_kv=64,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        architectures=["T5ForConditionalGeneration"],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SHAPES, required=True)
    parser.add_argument("--hub", type=Path, required=True)
    parser.add_argument("--modules", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--public", nargs="*", default=[], metavar="REPOSITORY")
    parser.add_argument("--only-modules", action="store_true", help="the base is a real one in --hub already")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    model = T5ForConditionalGeneration(config_of(options.size))
    # transformers 5 ties the head on construction whatever the configuration says; Flan-T5's is its own.
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) * model.config.d_model**-0.5)
    base = options.hub / f"google/flan-t5-{options.size}"
    if not options.only_modules:
        model.save_pretrained(base, max_shard_size="64GB")
        shutil.copy(options.tokenizer, base / "tokenizer.json")
        # As the published files have it.
        config = json.loads((base / "config.json").read_text())
        config["tie_word_embeddings"] = False
        del config["scale_decoder_outputs"]
        (base / "config.json").write_text(json.dumps(config, indent=2))
    folders = [options.hub / name for name in options.public] or [options.modules / name for name in ("one", "two")]
    for folder in folders:
        adapter = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM"))
        with torch.no_grad():
            for key, value in adapter.named_parameters():
                if "lora_B" in key:
                    value.normal_(0, 0.02)
        adapter.save_pretrained(folder, safe_serialization=not options.public)
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text())
        config["base_model_name_or_path"] = f"google/flan-t5-{options.size}"
        path.write_text(json.dumps(config, indent=2))
        model = adapter.unload()
        print(f"  {folder}")


if __name__ == "__main__":
    main()
