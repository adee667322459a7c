"""Compares what `lorahub` computed with transformers and PEFT, on a base and modules that were downloaded.

    python check.py JOB.json

JOB.json (written by `cargo xtask check-real`): `base` and `modules` (folders), `weights`, `shots`, `inputs`, and `ours`:
`shot_loss` and `ids` under rule `reference`. Prints one JSON object; exits with 1 if anything differs.
"""

import json
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")

import torch  # noqa: E402
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict  # noqa: E402
from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration  # noqa: E402

#: Means of f32 sums in another order, as in the golden tests.
LOSS = 1e-5


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{job['base']}/tokenizer.json", eos_token="</s>", pad_token="<pad>")
    base = T5ForConditionalGeneration.from_pretrained(job["base"], torch_dtype=torch.float32)
    model = PeftModel.from_pretrained(base, job["modules"][0], adapter_name="m0")
    for index, folder in enumerate(job["modules"][1:], start=1):
        model.load_adapter(folder, adapter_name=f"m{index}")
    # The reference's rule: one module whose A and B are the weighted sums.
    states = [get_peft_model_state_dict(model, adapter_name=f"m{i}") for i in range(len(job["modules"]))]
    summed = {key: sum(w * state[key] for w, state in zip(job["weights"], states)) for key in states[0]}
    set_peft_model_state_dict(model, summed, adapter_name="m0")
    model.set_adapter("m0")
    model.eval()

    def ids(text: str) -> torch.Tensor:
        found = tokenizer(text).input_ids
        return torch.tensor([found if found[-1:] == [1] else found + [1]])

    problems = []
    worst = 0.0
    with torch.no_grad():
        for shot, ours in zip(job["shots"], job["ours"]["shot_loss"], strict=True):
            theirs = model(input_ids=ids(shot["input"]), labels=ids(shot["output"])).loss.item()
            difference = abs(ours - theirs) / max(1.0, abs(theirs))
            worst = max(worst, difference)
            if not difference <= LOSS:
                problems.append(f"loss of {shot['input']!r}: {ours}, expected {theirs}")
        for text, ours in zip(job["inputs"], job["ours"]["ids"], strict=True):
            answer = model.generate(input_ids=ids(text), max_new_tokens=len(ours), do_sample=False, num_beams=1)
            theirs = answer[0, 1:].tolist()
            if theirs != ours:
                problems.append(f"ids of {text!r}: {ours}, expected {theirs}")
    print(json.dumps({"largest_loss_difference": worst, "answers": len(job["inputs"]), "problems": problems}))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
