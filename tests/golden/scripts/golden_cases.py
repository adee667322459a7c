"""Goldens of one model: what Hugging Face and PEFT compute for its base and its compositions."""

import copy
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from peft.utils.save_and_load import get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoTokenizer, DynamicCache, EncoderDecoderCache

import golden_models as models

NEW_TOKENS = 64
MARGIN = 1e-3
DISTINCT = 20
EOS = 1
LAMBDA = 0.05


@dataclass(frozen=True)
class Composition:
    """Modules with their weights under one rule; `arrays` keeps its matrices as well, where the model keeps any."""

    id: str
    rule: str
    modules: tuple
    weights: tuple
    arrays: bool = False


COMPOSITIONS = [
    Composition("ref", "reference", ("qv-a", "qv-b", "qv-c"), (0.7, -0.4, 0.0), arrays=True),
    Composition("ref-bounds", "reference", ("qv-a", "qv-b", "qv-c"), (1.5, -1.5, 0.8125)),
    Composition("ref-single", "reference", ("qv-b",), (1.0,)),
    Composition("ref-zero", "reference", ("qv-a", "qv-b", "qv-c"), (0.0, 0.0, 0.0)),
    Composition("ref-folded", "reference", ("qv-a", "qv-alpha", "qv-b"), (0.5, -0.8, 0.3), arrays=True),
    Composition("ref-all", "reference", ("all-a", "all-b"), (0.9, -0.6), arrays=True),
    Composition("exact", "exact", ("qv-a", "qv-alpha", "qv-rank2"), (0.7, -0.9, 0.45), arrays=True),
    Composition("exact-dropped", "exact", ("qv-a", "qv-b", "qv-rank2"), (0.0, -0.6, 1.2)),
    Composition("exact-single", "exact", ("qv-rank2",), (-1.0,)),
    Composition("exact-zero", "exact", ("qv-a", "qv-rank2"), (0.0, 0.0)),
    Composition("exact-all", "exact", ("all-a", "all-b"), (-0.5, 0.8)),
]


def module_scalings(composition):
    table = {m.name: m.alpha / m.rank for m in models.MODULES}
    return [table[name] for name in composition.modules]


def composed_model(base_folder: Path, modules_folder: Path, composition):
    """The base with the composition applied by PEFT, and the composition's matrices by PEFT's keys."""
    base = models.load_base(base_folder)
    if composition.rule == "reference":
        peft = PeftModel.from_pretrained(base, modules_folder / composition.modules[0]).eval()
        states, scalings = [], module_scalings(composition)
        for name, scaling in zip(composition.modules, scalings):
            other = PeftModel.from_pretrained(models.load_base(base_folder), modules_folder / name)
            state = copy.deepcopy(get_peft_model_state_dict(other))
            fold = scaling / scalings[0]
            states.append({k: v * fold if "lora_B" in k and fold != 1.0 else v for k, v in state.items()})
        total = {k: sum(w * state[k] for w, state in zip(composition.weights, states)) for k in states[0]}
        set_peft_model_state_dict(peft, total)
        return peft, total
    names = [f"m{i}" for i in range(len(composition.modules))]
    peft = PeftModel.from_pretrained(base, modules_folder / composition.modules[0], adapter_name=names[0])
    for name, module in list(zip(names, composition.modules))[1:]:
        peft.load_adapter(modules_folder / module, adapter_name=name)
    peft.add_weighted_adapter(names, list(composition.weights), "composed", combination_type="cat")
    peft.set_adapter("composed")
    return peft.eval(), deltas(modules_folder, composition)


def deltas(modules_folder: Path, composition) -> dict:
    """`sum w_i s_i B_i A_i` by target path, in f64."""
    from safetensors.numpy import load_file

    total: dict = {}
    for name, weight, scaling in zip(composition.modules, composition.weights, module_scalings(composition)):
        state = load_file(modules_folder / name / "adapter_model.safetensors")
        for key in sorted(k for k in state if k.endswith("lora_A.weight")):
            a = state[key].astype(np.float64)
            b = state[key.replace("lora_A", "lora_B")].astype(np.float64)
            path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            total[path] = total.get(path, 0.0) + weight * scaling * (b @ a)
    return {path: torch.from_numpy(value.astype(np.float32)) for path, value in total.items()}


def check_against_merge(base_folder: Path, peft, composition, matrices) -> float:
    """PEFT's composed model against the base with the deltas added in f64; the largest difference of a logit."""
    merged = models.load_base(base_folder).double()
    parameters = dict(merged.named_parameters())
    if composition.rule == "exact":
        updates = {path: value.double() for path, value in matrices.items()}
    else:
        scaling = module_scalings(composition)[0]
        updates = {}
        for key, a in matrices.items():
            if "lora_A" in key:
                path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                updates[path] = scaling * matrices[key.replace("lora_A", "lora_B")].double() @ a.double()
    with torch.no_grad():
        for path, update in updates.items():
            parameters[path + ".weight"] += update
    ids = torch.tensor([[19, 70, 9, 33, 1]])
    with torch.no_grad():
        difference = (merged(ids, labels=ids).logits - peft(input_ids=ids, labels=ids).logits).abs().max().item()
    assert difference < 1e-4, (composition.id, difference)
    return difference


def generate(model, inputs, **options):
    """Greedy `generate`. The cache is ours because transformers 5.23 sizes its own by the encoder's number of blocks,
    and fails where the decoder has more."""
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    return model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False, num_beams=1, past_key_values=cache,
                          **options)


class Unfit(Exception):
    """The weights of this seed do not give what the goldens need."""


class Texts:
    """Sentences of the corpus' words, seeded, and texts of an exact number of tokens."""

    def __init__(self, corpus: Path, tokenizer, seed: int):
        self.lines = corpus.read_text(encoding="utf-8").splitlines()
        self.words = sorted({word for line in self.lines for word in line.split()})
        self.tokenizer = tokenizer
        self.random = random.Random(seed)

    def ids(self, text: str) -> list:
        return self.tokenizer(text).input_ids

    def of_length(self, tokens: int) -> str:
        """A text of exactly `tokens` tokens, `</s>` included."""
        text, misses = "", 0
        while misses < 40:
            longer = (text + " " + self.random.choice(self.words)).strip()
            if len(self.ids(longer)) > tokens:
                misses += 1
            else:
                text = longer
        while len(self.ids(text)) < tokens:
            text = (text + " a").strip()
        assert len(self.ids(text)) == tokens
        return text

    def shortest(self) -> list:
        """Every text of one token and `</s>`, shuffled."""
        pieces = sorted(p[1:] for p in self.tokenizer.get_vocab() if p.startswith("▁") and len(p) > 1)
        texts = [p for p in pieces if len(self.ids(p)) == 2]
        self.random.shuffle(texts)
        return texts

    def sentence(self) -> str:
        return " ".join(self.random.choice(self.words) for _ in range(self.random.randint(2, 12)))


def logits_of(model, input_ids, target_ids):
    with torch.no_grad():
        output = model(input_ids=torch.tensor([input_ids]), labels=torch.tensor([target_ids]))
    return output.logits[0]


def bidirectional_decoder(model):
    """The mistake of candle-transformers' T5: encoder buckets in the decoder."""
    attention = model.decoder.block[0].layer[0].SelfAttention
    bucket = attention._relative_position_bucket
    attention._relative_position_bucket = lambda position, **kw: bucket(position, **{**kw, "bidirectional": True})


def other_scale(model):
    model.config.scale_decoder_outputs = not model.config.scale_decoder_outputs


def other_gelu(model):
    for module in model.modules():
        if type(module).__name__ == "T5DenseGatedActDense":
            module.act = torch.nn.GELU()  # the error function's form, not tanh's


def other_epsilon(model):
    for module in model.modules():
        if type(module).__name__ == "T5LayerNorm":
            module.variance_epsilon *= 0.5


def other_distance(model):
    for stack in (model.encoder, model.decoder):
        stack.block[0].layer[0].SelfAttention.relative_attention_max_distance += 8


def scaled_attention(model):
    for name, parameter in model.named_parameters():
        if name.endswith(("SelfAttention.q.weight", "EncDecAttention.q.weight")):
            parameter.data *= model.config.d_kv**-0.5


MISTAKES = {
    "decoder bias with the encoder's buckets": bidirectional_decoder, "head scale the other way": other_scale,
    "GELU by the error function": other_gelu, "half the layer norm's epsilon": other_epsilon,
    "max_distance larger by 8": other_distance, "attention scaled by d_kv^-0.5": scaled_attention,
}


# A mistake that the goldens of a model cannot see must be one that the model cannot make.
MUST_SHOW = {
    "decoder bias with the encoder's buckets": 100, "head scale the other way": 100, "max_distance larger by 8": 100,
    "attention scaled by d_kv^-0.5": 100, "a composition left out": 10, "one target of a composition left out": 1,
}


def double(model):
    return copy.deepcopy(model).double()


class Builder:
    """Collects the cases of one model."""

    def __init__(self, spec, folder: Path, corpus: Path):
        self.spec, self.folder = spec, folder
        self.base_folder, self.modules_folder = folder / "base", folder / "modules"
        self.tokenizer = AutoTokenizer.from_pretrained(self.base_folder)
        self.texts = Texts(corpus, self.tokenizer, spec.seed)
        self.arrays: dict = {}
        self.cases: dict = {"compositions": [], "shot_sets": {}, "logits": [], "losses": [], "greedy": []}
        self.noise = {"logits": 0.0, "losses": 0.0, "merge": 0.0}
        base = models.load_base(self.base_folder)
        self.models = {None: base}
        self.doubles = {None: double(base)}

    def compose(self) -> None:
        """Applies every composition with PEFT and checks it against a merge in f64."""
        for composition in COMPOSITIONS:
            peft, matrices = composed_model(self.base_folder, self.modules_folder, composition)
            difference = check_against_merge(self.base_folder, peft, composition, matrices)
            self.noise["merge"] = max(self.noise["merge"], difference)
            self.models[composition.id] = peft
            self.doubles[composition.id] = double(peft)
            entry = {"id": composition.id, "rule": composition.rule, "modules": list(composition.modules),
                     "weights": list(composition.weights), "arrays": []}
            if composition.arrays and self.spec.matrices:
                prefix = f"composed/{composition.id}/"
                entry["arrays"] = sorted(prefix + key for key in matrices)
                self.arrays.update({prefix + key: value for key, value in matrices.items()})
            self.cases["compositions"].append(entry)

    def sensitivity(self) -> dict:
        """How far mistakes an engine could make move the base's logits, in units of the tests' tolerance."""
        found = {}
        for name, mistake in MISTAKES.items():
            model = copy.deepcopy(self.models[None])
            mistake(model)
            worst = 0.0
            for case in self.cases["logits"]:
                if case["composition"] is None:
                    worst = max(worst, self.distance(case, model))
            found[name] = worst
        found["a composition left out"] = min(
            self.distance(case, self.models[None]) for case in self.cases["logits"]
            if case["composition"] and not case["composition"].endswith("-zero"))
        found["one target of a composition left out"] = self.target_left_out()
        must = dict(MUST_SHOW)
        if "gated" in self.spec.config["feed_forward_proj"]:
            must["GELU by the error function"] = 1.5
        if self.spec.extreme:
            must["half the layer norm's epsilon"] = 100
        for name, least in must.items():
            if not found[name] >= least:
                raise Unfit(f"{name} would move the logits by only {found[name]:.3g} tolerances")
        return found

    def distance(self, case, model) -> float:
        difference = logits_of(model, case["input_ids"], case["target_ids"]) - self.arrays[case["array"]]
        return difference.abs().max().item() / (1e-4 * max(1.0, case["max_abs"]))

    def target_left_out(self) -> float:
        """The least that any single target of `ref-all` matters to the logits of its case."""
        case = next(c for c in self.cases["logits"] if c["id"] == "ref-all")
        model = copy.deepcopy(self.models["ref-all"])
        least = float("inf")
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                kept = parameter.data.clone()
                parameter.data.zero_()
                least = min(least, self.distance(case, model))
                parameter.data.copy_(kept)
        return least

    def logits(self, case_id, composition, input_ids, target_ids, text=None):
        value = logits_of(self.models[composition], input_ids, target_ids)
        exact = logits_of(self.doubles[composition], input_ids, target_ids)
        largest = value.abs().max().item()
        noise = (value - exact).abs().max().item() / max(1.0, largest)
        assert noise < 1e-5, (case_id, noise)
        self.noise["logits"] = max(self.noise["logits"], noise)
        self.arrays[f"logits/{case_id}"] = value.contiguous()
        self.cases["logits"].append({
            "id": case_id, "composition": composition, "input": text, "input_ids": input_ids, "target_ids": target_ids,
            "array": f"logits/{case_id}", "max_abs": largest,
        })

    def losses(self, shot_set, composition, shots, weights):
        case_id = f"{shot_set}/{composition or 'base'}"
        rows = [(self.texts.ids(i), self.texts.ids(o)) for i, o in shots]
        self.cases["shot_sets"][shot_set] = [
            {"input": i, "output": o, "input_ids": a, "output_ids": b} for (i, o), (a, b) in zip(shots, rows)]
        model, exact = self.models[composition], self.doubles[composition]

        def shot_loss(m, row):
            with torch.no_grad():
                return m(input_ids=torch.tensor([row[0]]), labels=torch.tensor([row[1]])).loss.item()

        tokens = [len(o) for _, o in rows]
        single = [shot_loss(model, row) for row in rows]
        truth = [shot_loss(exact, row) for row in rows]
        inputs = self.tokenizer([i for i, _ in shots], padding=True, return_tensors="pt")
        labels = self.tokenizer([o for _, o in shots], padding=True, return_tensors="pt").input_ids
        labels[labels == 0] = -100
        with torch.no_grad():
            output = model(**inputs, labels=labels)
            batch = output.loss.item()
            batch_exact = exact(**inputs, labels=labels).loss.item()
        # Padding must not change a shot: its loss out of the padded batch's logits.
        for row, (loss, count) in enumerate(zip(single, tokens)):
            scores = output.logits[row, :count].double()
            padded = torch.nn.functional.cross_entropy(scores, labels[row, :count]).item()
            assert abs(padded - loss) < 2e-6 * max(1, loss), (case_id, row, padded, loss)
        for value, true in list(zip(single, truth)) + [(batch, batch_exact)]:
            noise = abs(value - true) / max(1.0, abs(true))
            assert noise < 2e-6, (case_id, noise)
            self.noise["losses"] = max(self.noise["losses"], noise)
        penalty = LAMBDA * sum(map(abs, weights)) / len(weights) if weights else 0.0
        self.cases["losses"].append({
            "id": case_id, "composition": composition, "shot_set": shot_set,
            "tokens": tokens, "shot_loss": single, "shot_loss_f64": truth, "batch_loss": batch,
            "batch_loss_f64": batch_exact,
            "objective_reference": batch_exact / len(shots) + penalty,
            "objective_normalised": batch_exact + penalty,
        })

    def generate(self, composition, texts):
        """Greedy ids of the texts in one padded batch, each with the smallest relative margin of a step."""
        inputs = self.tokenizer(texts, padding=True, return_tensors="pt")
        output = generate(self.models[composition], inputs, output_scores=True, return_dict_in_generate=True)
        scores = torch.stack(output.scores, 1)
        top = scores.topk(2, -1).values
        margins = (top[..., 0] - top[..., 1]) / scores.abs().amax(-1).clamp(min=1.0)
        results = []
        for row, margin in zip(output.sequences[:, 1:].tolist(), margins):
            ids = row[: row.index(EOS) + 1] if EOS in row else row
            results.append((ids, margin[: len(ids)].min().item()))
        return results

    @staticmethod
    def fits(ids, margin, stops) -> bool:
        if margin < MARGIN or 0 in ids:
            return False
        if stops:
            return ids[-1] == EOS and 3 <= len(ids) < NEW_TOKENS
        return EOS not in ids and len(ids) == NEW_TOKENS and len(set(ids)) >= DISTINCT

    def greedy(self, case_id, composition, candidates, stops=False, optional=False) -> bool:
        """Adds the first of `candidates` whose greedy text meets the conditions. If none does, an optional case is left
        out and any other is `Unfit`."""
        for start in range(0, len(candidates), 20):
            chunk = candidates[start : start + 20]
            for text, (ids, margin) in zip(chunk, self.generate(composition, chunk)):
                if self.fits(ids, margin, stops) and self.fits(*self.generate(composition, [text])[0], stops):
                    self.add_greedy(case_id, composition, text)
                    return True
        if not optional:
            raise Unfit(f"no input meets the conditions for {case_id}")
        return False

    def add_greedy(self, case_id, composition, text) -> None:
        ids, margin = self.generate(composition, [text])[0]
        input_ids = self.texts.ids(text)
        # The same without a cache, teacher-forced, and in f64.
        for model in (self.models[composition], self.doubles[composition]):
            assert logits_of(model, input_ids, ids).argmax(-1).tolist() == ids, (case_id, text)
        self.cases["greedy"].append({
            "id": case_id, "composition": composition, "input": text, "input_ids": input_ids, "ids": ids,
            "text": self.tokenizer.decode(ids, skip_special_tokens=True), "margin": margin,
            "distinct": len(set(ids)),
        })

    def check_batched_greedy(self):
        """All greedy inputs of one composition in one padded batch give the ids that each gives alone."""
        by_composition: dict = {}
        for case in self.cases["greedy"]:
            by_composition.setdefault(case["composition"], []).append(case)
        for composition, cases in by_composition.items():
            for (ids, _), case in zip(self.generate(composition, [c["input"] for c in cases]), cases):
                assert ids == case["ids"], case["id"]
