"""The shapes of Flan-T5, as transformers' configuration names them."""

SHAPES = {
    "flan-t5-small": {"d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "flan-t5-base": {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
}


def config_of(shape: str) -> dict:
    sizes = SHAPES[shape]
    return {**sizes, "num_decoder_layers": sizes["num_layers"], "vocab_size": 32128, "d_kv": 64,
            "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0}
