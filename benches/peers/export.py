"""Writes the ONNX models that the browser's peers run: random weights of a Flan-T5's true shape.

    python export.py SHAPE FOLDER

`evaluation*.onnx` is a teacher-forced pass with the head over all positions and the loss inside the graph, so that only
five numbers leave the runtime. `transformers/` is what transformers.js loads: an encoder, and a decoder whose two
branches (without and with a cache) are merged under one `If`, as Optimum merges them. Each comes in fp32 and with its
matrices as int8 (onnxruntime's dynamic quantisation, its defaults). Values do not matter for time, so nothing is
trained or downloaded.
"""

import argparse
import json
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from onnxruntime import InferenceSession
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import T5Config, T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from shapes import config_of

OPSET = 17
BRANCH = "use_cache_branch"


class Evaluation(torch.nn.Module):
    """Summed negative log-likelihood of each shot's labels."""

    def __init__(self, t5):
        super().__init__()
        self.t5 = t5

    def forward(self, input_ids, attention_mask, decoder_input_ids, labels):
        logits = self.t5(input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids,
                         use_cache=False).logits
        chosen = torch.log_softmax(logits, dim=-1).gather(2, labels.unsqueeze(-1))
        return -chosen.squeeze(-1).sum(dim=-1)


class Encoder(torch.nn.Module):
    def __init__(self, t5):
        super().__init__()
        self.t5 = t5

    def forward(self, input_ids, attention_mask):
        return self.t5.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def flat(pairs):
    return [tensor for pair in pairs for tensor in pair]


def pairs_of(cache):
    return [(layer.keys, layer.values) for layer in cache.layers]


class FirstStep(torch.nn.Module):
    """The decoder without a cache: it also gives the keys and values of the encoder's output."""

    def __init__(self, t5):
        super().__init__()
        self.t5 = t5

    def forward(self, encoder_attention_mask, input_ids, encoder_hidden_states):
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        hidden = self.t5.decoder(input_ids=input_ids, encoder_hidden_states=encoder_hidden_states,
                                 encoder_attention_mask=encoder_attention_mask, past_key_values=cache,
                                 use_cache=True).last_hidden_state
        own, cross = pairs_of(cache.self_attention_cache), pairs_of(cache.cross_attention_cache)
        return (self.t5.lm_head(hidden), *flat(own), *flat(cross))


class NextStep(torch.nn.Module):
    """The decoder with a cache."""

    def __init__(self, t5):
        super().__init__()
        self.t5 = t5

    def forward(self, encoder_attention_mask, input_ids, *past):
        half = len(past) // 2
        own, cross = ([(side[i], side[i + 1]) for i in range(0, half, 2)] for side in (past[:half], past[half:]))
        cache = EncoderDecoderCache(DynamicCache(own), DynamicCache(cross))
        # T5 asks for the encoder's output even where its keys and values are known; only its presence is looked at.
        encoded = torch.zeros(1, 1, self.t5.config.d_model)
        hidden = self.t5.decoder(input_ids=input_ids, encoder_hidden_states=encoded,
                                 encoder_attention_mask=encoder_attention_mask, past_key_values=cache,
                                 use_cache=True).last_hidden_state
        return (self.t5.lm_head(hidden), *flat(pairs_of(cache.self_attention_cache)))


def write(module, inputs, names, outputs, axes, path):
    with torch.no_grad(), warnings.catch_warnings():
        # The tracer warns of every size that it takes for a constant; the shapes that vary are checked by the peers.
        warnings.simplefilter("ignore")
        # The exporter leaves a module as it finds it: a wrapper in training mode would take the model along.
        torch.onnx.export(module.eval(), inputs, str(path), input_names=names, output_names=outputs, dynamic_axes=axes,
                          opset_version=OPSET, dynamo=False)


def quantised(source, target):
    quantize_dynamic(str(source), str(target), weight_type=QuantType.QInt8)


def cache_names(prefix, side, layers):
    return [f"{prefix}.{layer}.{side}.{part}" for layer in range(layers) for part in ("key", "value")]


def branch(model, known, prefix):
    """The graph of `model` with names of its own, its initializers moved to `known` (one for each content)."""
    graph = model.graph
    renamed = {}
    for tensor in graph.initializer:
        content = (tuple(tensor.dims), tensor.data_type, tensor.raw_data or tensor.SerializeToString())
        if content not in known:
            tensor.name, old = f"shared_{len(known)}", tensor.name
            known[content] = tensor
        else:
            old = tensor.name
        renamed[old] = known[content].name
    outer = {value.name for value in graph.input}
    for node in graph.node:
        node.name = prefix + node.name
        node.input[:] = [renamed.get(name, name if name in outer or not name else prefix + name) for name in node.input]
        node.output[:] = [prefix + name for name in node.output]
    return list(graph.node), {value.name: prefix + value.name for value in graph.output}


def merged(first, following, heads, width, target):
    """One decoder of two: `use_cache_branch` chooses. The branch with a cache gives nothing for the encoder's keys and
    values, which the caller has already."""
    first, following = onnx.load(str(first)), onnx.load(str(following))
    known = {}
    types = {value.name: value for value in [*first.graph.input, *following.graph.input]}
    outputs = [value.name for value in first.graph.output]
    branches = []
    for model, prefix in ((following, "then_"), (first, "else_")):
        nodes, made = branch(model, known, prefix)
        for name in outputs:
            if name not in made:
                made[name] = f"{prefix}{name}"
                empty = helper.make_tensor(f"{made[name]}_value", TensorProto.FLOAT, [0, heads, 1, width], [])
                nodes.append(helper.make_node("Constant", [], [made[name]], name=f"{made[name]}_empty", value=empty))
        values = [helper.make_tensor_value_info(made[name], TensorProto.FLOAT, None) for name in outputs]
        branches.append(helper.make_graph(nodes, prefix + "branch", [], values))
    chosen = helper.make_node("If", [BRANCH], outputs, name="cache", then_branch=branches[0], else_branch=branches[1])
    flag = helper.make_tensor_value_info(BRANCH, TensorProto.BOOL, [1])
    graph = helper.make_graph([chosen], "decoder", [*types.values(), flag], list(first.graph.output),
                              list(known.values()))
    model = helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)
    onnx.save(model, str(target))


def agrees(what, found, expected):
    """The graph computes what the model does, at lengths that it was not traced with."""
    expected = expected.numpy()
    distance = np.abs(found - expected).max() / np.abs(expected).max()
    assert distance < 1e-4, f"{what}: off by {distance}"
    print(f"  {what}: within {distance:.1e} of the model", flush=True)


def check_evaluation(t5, path):
    ids = torch.randint(2, 1000, (3, 11))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    labels = torch.randint(2, 1000, (3, 4))
    shifted = torch.cat([torch.zeros(3, 1, dtype=torch.long), labels[:, :-1]], dim=1)
    feeds = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": shifted, "labels": labels}
    (found,) = InferenceSession(str(path)).run(None, {name: value.numpy() for name, value in feeds.items()})
    with torch.no_grad():
        agrees(path.name, found, Evaluation(t5)(*feeds.values()))


def check_generation(t5, folder):
    """Two steps, the second with the first one's cache, against the model without one."""
    ids, steps = torch.randint(2, 1000, (1, 11)), torch.tensor([[0, 17]])
    mask = torch.ones_like(ids)
    (hidden,) = InferenceSession(str(folder / "encoder_model.onnx")).run(
        None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    decoder = InferenceSession(str(folder / "decoder_model_merged.onnx"))
    past = {value.name: np.zeros((1, t5.config.num_heads, 0, t5.config.d_kv), np.float32)
            for value in decoder.get_inputs() if value.name.startswith("past")}
    for step in range(2):
        feeds = {"encoder_attention_mask": mask.numpy(), "input_ids": steps[:, step:step + 1].numpy(),
                 "encoder_hidden_states": hidden, BRANCH: np.array([step > 0]), **past}
        found = dict(zip((value.name for value in decoder.get_outputs()), decoder.run(None, feeds)))
        past = {name.replace("present", "past_key_values"): value for name, value in found.items() if name != "logits"}
    with torch.no_grad():
        expected = t5(input_ids=ids, attention_mask=mask, decoder_input_ids=steps).logits
    agrees("decoder_model_merged.onnx", found["logits"], expected[:, 1:])


def generation(t5, shape, work, folder):
    layers, heads, width = t5.config.num_decoder_layers, t5.config.num_heads, t5.config.d_kv
    own, cross = (cache_names("past_key_values", side, layers) for side in ("decoder", "encoder"))
    present_own, present_cross = (cache_names("present", side, layers) for side in ("decoder", "encoder"))
    ids, mask = torch.ones(2, 7, dtype=torch.long), torch.ones(2, 7, dtype=torch.long)
    step = torch.ones(2, 1, dtype=torch.long)
    encoder_axes = {0: "batch_size", 1: "encoder_sequence_length"}
    axes = {"input_ids": {0: "batch_size", 1: "decoder_sequence_length"}, "encoder_attention_mask": encoder_axes,
            "encoder_hidden_states": encoder_axes, "logits": {0: "batch_size", 1: "decoder_sequence_length"}}
    axes |= {name: {0: "batch_size", 2: "past_decoder_sequence_length"} for name in own}
    axes |= {name: {0: "batch_size", 2: "encoder_sequence_length_out"} for name in [*cross, *present_cross]}
    axes |= {name: {0: "batch_size", 2: "past_decoder_sequence_length + 1"} for name in present_own}
    hidden = torch.zeros(2, 7, t5.config.d_model)
    past = [torch.zeros(2, heads, 5, width)] * len(own) + [torch.zeros(2, heads, 7, width)] * len(cross)
    write(Encoder(t5), (ids, mask), ["input_ids", "attention_mask"], ["last_hidden_state"],
          {name: encoder_axes for name in ("input_ids", "attention_mask", "last_hidden_state")},
          folder / "onnx" / "encoder_model.onnx")
    write(FirstStep(t5), (mask, step, hidden), ["encoder_attention_mask", "input_ids", "encoder_hidden_states"],
          ["logits", *present_own, *present_cross], axes, work / "first.onnx")
    write(NextStep(t5), (mask, step, *past), ["encoder_attention_mask", "input_ids", *own, *cross],
          ["logits", *present_own], axes, work / "next.onnx")
    merged(work / "first.onnx", work / "next.onnx", heads, width, folder / "onnx" / "decoder_model_merged.onnx")
    for name in ("first", "next"):
        quantised(work / f"{name}.onnx", work / f"{name}_int8.onnx")
    merged(work / "first_int8.onnx", work / "next_int8.onnx", heads, width,
           folder / "onnx" / "decoder_model_merged_quantized.onnx")
    quantised(folder / "onnx" / "encoder_model.onnx", folder / "onnx" / "encoder_model_quantized.onnx")
    check_generation(t5, folder / "onnx")
    # Without the token that ends a sequence every generation goes on to the last step.
    config = {**config_of(shape), "model_type": "t5", "is_encoder_decoder": True, "eos_token_id": None,
              "pad_token_id": 0, "architectures": ["T5ForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"decoder_start_token_id": 0, "pad_token_id": 0}))


def main():
    # It asks for a preparation of convolutions, of which there are none.
    logging.getLogger().setLevel(logging.ERROR)
    parser = argparse.ArgumentParser()
    parser.add_argument("shape")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder
    (folder / "transformers" / "onnx").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    t5 = T5ForConditionalGeneration(T5Config(**config_of(arguments.shape))).eval()
    print(f"  {arguments.shape}: the graph of an evaluation", flush=True)
    ids = torch.ones(5, 7, dtype=torch.long)
    shots = {0: "shots", 1: "tokens"}
    targets = {0: "shots", 1: "positions"}
    write(Evaluation(t5), (ids, ids, ids[:, :3], ids[:, :3]),
          ["input_ids", "attention_mask", "decoder_input_ids", "labels"], ["nll"],
          {"input_ids": shots, "attention_mask": shots, "decoder_input_ids": targets, "labels": targets,
           "nll": {0: "shots"}}, folder / "evaluation.onnx")
    check_evaluation(t5, folder / "evaluation.onnx")
    quantised(folder / "evaluation.onnx", folder / "evaluation_int8.onnx")
    print(f"  {arguments.shape}: the models of transformers.js", flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        generation(t5, arguments.shape, Path(work), folder / "transformers")


if __name__ == "__main__":
    main()
