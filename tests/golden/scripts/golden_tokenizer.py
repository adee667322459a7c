"""Trains the small Unigram tokenizer that all golden models share, and writes it in the shape of T5's `tokenizer.json`."""

import io
import json
from pathlib import Path

import sentencepiece as spm
from tokenizers import Tokenizer

PIECES = 352
EXTRA_IDS = 10


def normalisation_rules() -> str:
    """A small excerpt of what T5's nmt_nfkc map does: width, ligatures, composition, spaces, removal."""
    rules: dict[tuple[int, ...], tuple[int, ...]] = {}
    for code in range(0xFF01, 0xFF5F):  # full-width forms
        rules[(code,)] = (code - 0xFEE0,)
    for space in (0x09, 0x0A, 0x0D, 0xA0, 0x2003, 0x3000):
        rules[(space,)] = (0x20,)
    for removed in (0x200B, 0xFEFF, 0xAD):
        rules[(removed,)] = ()
    for text, plain in {"ﬁ": "fi", "ﬂ": "fl", "…": "...", "½": "1/2", "²": "2", "№": "No", "™": "TM"}.items():
        rules[(ord(text),)] = tuple(map(ord, plain))
    for base, mark, composed in (
        ("e", 0x301, "é"), ("e", 0x300, "è"), ("u", 0x308, "ü"), ("U", 0x308, "Ü"), ("n", 0x303, "ñ"), ("u", 0x302, "û"),
    ):
        rules[(ord(base), mark)] = (ord(composed),)
    lines = []
    for source in sorted(rules):
        lines.append(" ".join(f"{c:X}" for c in source) + "\t" + " ".join(f"{c:X}" for c in rules[source]))
    return "\n".join(lines) + "\n"


def fields(message: bytes):
    """The (number, value) pairs of one protobuf message: enough to read a SentencePiece model without its schema."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            yield number, varint()
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            yield number, message[at : at + size]
            at += size
        elif wire == 2:
            size = varint()
            yield number, message[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {wire}")


def build(corpus: Path, work: Path) -> str:
    """Trains on `corpus`; the text of `tokenizer.json`."""
    import base64
    import struct

    rules = work / "rules.tsv"
    rules.write_text(normalisation_rules(), encoding="utf-8")
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus.read_text(encoding="utf-8").splitlines()),
        model_writer=model,
        model_type="unigram",
        vocab_size=PIECES,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_tsv=str(rules),
        num_threads=1,
        minloglevel=2,
    )
    pieces, charsmap = [], b""
    for number, value in fields(model.getvalue()):
        if number == 1:  # ModelProto.pieces: piece = 1, score = 2
            piece = dict(fields(value))
            score = struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0
            pieces.append([piece[1].decode(), score])
        elif number == 3:  # ModelProto.normalizer_spec: precompiled_charsmap = 2
            charsmap = dict(fields(value)).get(2, b"")
    assert [p for p, _ in pieces[:3]] == ["<pad>", "</s>", "<unk>"], pieces[:3]
    assert charsmap
    for index in reversed(range(EXTRA_IDS)):
        pieces.append([f"<extra_id_{index}>", 0.0])

    def added(index: int, text: str):
        return {"id": index, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True}

    names = {text: index for index, (text, _) in enumerate(pieces)}
    special = ["<pad>", "</s>", "<unk>"] + [f"<extra_id_{i}>" for i in reversed(range(EXTRA_IDS))]
    sequence = lambda which, kind: {"Sequence": {"id": which, "type_id": kind}}
    end = lambda kind: {"SpecialToken": {"id": "</s>", "type_id": kind}}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(names[text], text) for text in special],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [sequence("A", 0), end(0)],
            "pair": [sequence("A", 0), end(0), sequence("B", 0), end(0)],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": False},
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    Tokenizer.from_str(text)  # it must load
    return text + "\n"


def config() -> dict:
    """`tokenizer_config.json`, for the Python reference."""
    return {
        "tokenizer_class": "T5Tokenizer", "model_max_length": 2048, "extra_ids": EXTRA_IDS,
        "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
        "extra_special_tokens": [f"<extra_id_{i}>" for i in range(EXTRA_IDS)],
    }
