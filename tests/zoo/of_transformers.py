"""Models of transformers, tiny and with random weights, with eager and with sdpa attention where they have both."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn

from tests.zoo.specimen import Specimen

Inputs = Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]


class Family(NamedTuple):
    """A row of the table.

    kind: the model type of its configuration. noise: the fields that are rates of noise, dotted where they are in a
    configuration within. fields: others than `SMALL`'s; None leaves one of those out. head: the class that makes it.
    """

    name: str
    kind: str
    noise: tuple[str, ...]
    inputs: Inputs
    fields: Mapping[str, Any]
    head: str
    attention: tuple[str, ...]
    refuses: Mapping[str, str]


def specimens() -> list[Specimen]:
    """Every family, once for each way that it has to attend."""
    transformers.logging.set_verbosity_error()
    return [_specimen(family, attention) for family in _families() for attention in family.attention]


def _specimen(family: Family, attention: str) -> Specimen:
    def build(**rates: Any) -> nn.Module:
        fields = {field: value for field, value in {**SMALL, **family.fields}.items() if value is not None}
        config = transformers.AutoConfig.for_model(family.kind, **fields)
        _silence(config)
        for field, rate in rates.items():
            *within, last = field.split(".")
            owner = config
            for part in within:
                owner = getattr(owner, part)
            setattr(owner, last, rate)
        return getattr(transformers, family.head).from_config(config, attn_implementation=attention)

    noise = {field: {field: 0.5} for field in family.noise}
    return Specimen(f"transformers/{family.name}-{attention}", build, family.inputs, noise, family.refuses)


def _silence(config: Any) -> None:
    """Set every rate of noise in a configuration, and in those within it, to 0."""
    for field, value in vars(config).items():
        if isinstance(value, transformers.PretrainedConfig):
            _silence(value)
        elif value and any(word in field for word in ("drop", "jitter", "mask_time_prob", "mask_feature_prob")):
            setattr(config, field, 0.0)


def _ids(*shape: int) -> Tensor:
    return torch.randint(5, 50, shape, generator=torch.Generator().manual_seed(1))


def _floats(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _named(**inputs: Callable[[], Tensor]) -> Inputs:
    return lambda: ((), {name: make() for name, make in inputs.items()})


def _shown(size: int) -> Inputs:
    """Two pictures."""
    return _named(pixel_values=lambda: _floats(2, 3, size, size))


def _sentences() -> Tensor:
    return _ids(2, 6)


def _translations() -> Tensor:
    return _ids(2, 5)


TOKENS = _named(input_ids=_sentences)
PADDED = _named(input_ids=_sentences, attention_mask=lambda: torch.tensor([[1] * 6, [1] * 4 + [0] * 2]))
LABELLED = _named(input_ids=_sentences, labels=lambda: torch.tensor([0, 1]))
TRANSLATED = _named(input_ids=_sentences, decoder_input_ids=_translations)
CAPTIONED = _named(input_ids=_sentences, pixel_values=lambda: _floats(2, 3, 16, 16))
WAVES = _named(input_values=lambda: _floats(2, 120))

# For most families; a configuration keeps what it does not know.
SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
UNCACHED = {"use_cache": False}
LAYERS = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
PAIRED = {**LAYERS, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 16, "decoder_start_token_id": 1}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 1}
GROUPED = {"num_key_value_heads": 1, "head_dim": 8}
ROUTED = {**GROUPED, **UNCACHED, "num_local_experts": 3, "experts_implementation": "eager"}
GROUPS = ("q", "k", "v", "post_attention", "intermediate", "output")
SQUEEZED = {"embedding_size": 16, **{f"{part}_groups": 1 if part == "post_attention" else 2 for part in GROUPS}}
SIGHT = {"image_size": 16, "patch_size": 8}
STAGES = {"depths": [1, 2], "num_encoder_blocks": 2, "hidden_sizes": [8, 8], "patch_sizes": [7, 3], "strides": [4, 2]}
TWO = {"text_config": SMALL, "vision_config": {**SMALL, **SIGHT}, "projection_dim": 8}
SOUND = {"conv_dim": (8, 8), "conv_stride": (4, 2), "conv_kernel": (5, 3), "num_conv_pos_embeddings": 4}

BERT = "hidden_dropout_prob attention_probs_dropout_prob"
BART = "dropout attention_dropout activation_dropout"
GPT = "embd_pdrop resid_pdrop attn_pdrop"
WAVE = "hidden_dropout activation_dropout attention_dropout feat_proj_dropout"
CLIP = "text_config.attention_dropout vision_config.attention_dropout"
BLIP = "text_config.hidden_dropout_prob text_config.attention_probs_dropout_prob vision_config.attention_dropout"

CLASSIFIES = "AutoModelForSequenceClassification"
SEGMENTS = "AutoModelForSemanticSegmentation"

RESEEDS = dict.fromkeys(("trains", "draws", "samples"), "global generator")
RESCALES = {"evaluates": "writes into", "samples": "writes into"}
CASTS = dict.fromkeys(("evaluates", "trains", "draws", "samples"), "writes into")
ROUTES = {"samples": "shape depends on values"}
SKIPS = {"samples": "by a tensor's values"}
BACKWARD = {"samples": "autograd.Function"}
NUMPY = {"draws": "numpy", "samples": "numpy"}


def _families() -> list[Family]:
    families: list[Family] = []

    def has(
        kind: str,
        noise: str,
        inputs: Inputs,
        fields: Mapping[str, Any] | None = None,
        /,
        *,
        name: str = "",
        head: str = "AutoModel",
        attention: tuple[str, ...] = ("eager", "sdpa"),
        refuses: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        fields = {**(fields or {}), **more}
        row = Family(name or kind, kind, tuple(noise.split()), inputs, fields, head, attention, refuses or {})
        families.append(row)

    def eager(*row: Any, **how: Any) -> None:
        """A family without sdpa."""
        has(*row, attention=("eager",), **how)

    # Text, read.
    has("bert", BERT, PADDED)
    has("bert", f"{BERT} classifier_dropout", LABELLED, name="bert-labelled", head=CLASSIFIES)
    has("roberta", f"{BERT} classifier_dropout", TOKENS, head=CLASSIFIES)
    has("distilbert", "dropout attention_dropout seq_classif_dropout", PADDED, head=CLASSIFIES, hidden_dim=32)
    has("albert", f"{BERT} classifier_dropout_prob", TOKENS, head=CLASSIFIES, embedding_size=8)
    has("electra", BERT, PADDED, embedding_size=8)
    eager("electra", BERT, PADDED, name="electra-telling", output_hidden_states=True, output_attentions=True)
    eager("deberta", BERT, PADDED, relative_attention=True, pos_att_type=["c2p", "p2c"])
    eager("deberta-v2", BERT, PADDED, relative_attention=True, pos_att_type=["c2p", "p2c"])
    eager("mpnet", BERT, PADDED)
    eager("xlm", "dropout attention_dropout", PADDED, UNCACHED, emb_dim=16)
    eager("xlnet", "dropout", TOKENS, d_head=8, d_inner=32, max_position_embeddings=None)
    eager("longformer", BERT, TOKENS, attention_window=6)
    eager("big_bird", BERT, PADDED, attention_type="original_full")
    depths = {"num_hidden_layers": None, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_head": 8, "d_inner": 32}
    funnel = "hidden_dropout attention_dropout activation_dropout"
    eager("funnel", funnel, PADDED, depths, architectures=["FunnelModel"])
    eager("convbert", BERT, PADDED, embedding_size=16, conv_kernel_size=3, head_ratio=1)
    eager("squeezebert", BERT, PADDED, SQUEEZED)
    eager("roformer", BERT, PADDED, embedding_size=16)
    has("modernbert", "attention_dropout embedding_dropout mlp_dropout", PADDED)
    eager("fnet", "hidden_dropout_prob", TOKENS)
    eager("nystromformer", "hidden_dropout_prob", TOKENS, num_landmarks=3, segment_means_seq_len=6)
    latents = {"d_latents": 16, "d_model": 16, "num_latents": 4, "num_blocks": 1, "num_self_attends_per_block": 1}
    latents |= {"num_self_attention_heads": 2, "num_cross_attention_heads": 2}
    eager("perceiver", "attention_probs_dropout_prob", _named(inputs=lambda: _floats(2, 6, 16)), latents)

    # Text, continued.
    has("gpt2", GPT, TOKENS)
    eager("openai-gpt", GPT, TOKENS)
    local = {"attention_types": [[["global", "local"], 1]], "window_size": 3}
    eager("gpt_neo", "embed_dropout resid_dropout attention_dropout", PADDED, {**local, **UNCACHED})
    has("gpt_neox", "hidden_dropout attention_dropout", PADDED, UNCACHED)
    has("gptj", GPT, TOKENS, UNCACHED, rotary_dim=4)
    has("opt", "dropout attention_dropout", PADDED, UNCACHED, ffn_dim=32, word_embed_proj_dim=16)
    eager("bloom", "hidden_dropout attention_dropout", PADDED, UNCACHED, refuses=BACKWARD)
    has("falcon", "hidden_dropout attention_dropout", TOKENS, UNCACHED, alibi=True)
    has("falcon", "hidden_dropout attention_dropout", TOKENS, UNCACHED, name="falcon-in-turn", parallel_attn=False)
    has("llama", "attention_dropout", PADDED, GROUPED)
    has("mistral", "attention_dropout", TOKENS, GROUPED, sliding_window=3)
    has("mixtral", "attention_dropout", TOKENS, ROUTED, refuses=ROUTES)
    eager("mixtral", "router_jitter_noise", TOKENS, ROUTED, name="mixtral-jitter", refuses=ROUTES)
    has("qwen2", "attention_dropout", PADDED, {**GROUPED, **UNCACHED})
    has("qwen3", "attention_dropout", PADDED, GROUPED)
    has("gemma", "attention_dropout", TOKENS, {**GROUPED, **UNCACHED})
    eager("gemma2", "attention_dropout", TOKENS, GROUPED, sliding_window=3)
    has("phi", "embd_pdrop resid_pdrop attention_dropout", PADDED, UNCACHED)
    has("phi3", "resid_pdrop attention_dropout", PADDED, UNCACHED)
    has("starcoder2", "embedding_dropout residual_dropout attention_dropout", TOKENS, {**GROUPED, **UNCACHED})
    has("stablelm", "hidden_dropout attention_dropout", TOKENS, UNCACHED, num_key_value_heads=2)
    eager("mamba", "", TOKENS, state_size=4, time_step_rank=2)
    eager("mamba2", "", TOKENS, state_size=4, num_heads=4, head_dim=8, n_groups=2, chunk_size=4)
    eager("rwkv", "", TOKENS, UNCACHED, attention_hidden_size=16, rescale_every=0)

    # Text, translated.
    has("bart", BART, TRANSLATED, PAIRED)
    has("mbart", BART, TRANSLATED, {**PAIRED, **UNCACHED})
    has("pegasus", BART, TRANSLATED, {**PAIRED, **UNCACHED})
    has("marian", BART, TRANSLATED, {**PAIRED, **UNCACHED})
    has("t5", "dropout_rate", TRANSLATED, T5)
    has("mt5", "dropout_rate", TRANSLATED, {**T5, **UNCACHED})
    eager("led", BART, TRANSLATED, {**PAIRED, **UNCACHED}, attention_window=4, max_encoder_position_embeddings=32)

    # Pictures.
    has("vit", BERT, _shown(16), SIGHT)
    has("deit", BERT, _shown(16), SIGHT)
    has("beit", f"{BERT} drop_path_rate", _shown(16), SIGHT)
    windows = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 2], "window_size": 2}
    has("swin", f"{BERT} drop_path_rate", _shown(16), windows, num_attention_heads=[1, 2])
    eager("convnext", "drop_path_rate", _shown(16), num_stages=2, hidden_sizes=[8, 8], depths=[1, 2])
    has("dinov2", f"{BERT} drop_path_rate", _shown(16), SIGHT)
    mixed = {**STAGES, "sr_ratios": [2, 1], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]}
    segformer = f"{BERT} classifier_dropout_prob drop_path_rate"
    has("segformer", segformer, _shown(32), mixed, head=SEGMENTS, decoder_hidden_size=8)
    eager("poolformer", "drop_path_rate", _shown(32), {**STAGES, "depths": [1, 3]}, padding=[2, 1], mlp_ratio=2.0)
    eager("resnet", "", _shown(32), embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])

    # Pictures and text.
    has("clip", CLIP, CAPTIONED, TWO)
    has("siglip", CLIP, CAPTIONED, {**TWO, "text_config": {**SMALL, "projection_size": 16}})
    eager("blip", BLIP, CAPTIONED, {**TWO, "text_config": {**SMALL, "encoder_hidden_size": 16}})

    # Sound.
    has("wav2vec2", WAVE, WAVES, SOUND)
    has("hubert", WAVE, WAVES, SOUND)
    eager("wavlm", WAVE, WAVES, SOUND)
    spectra = _named(input_features=lambda: _floats(2, 8, 12), decoder_input_ids=_translations)
    has("whisper", BART, spectra, PAIRED, num_mel_bins=8, max_source_positions=6, max_target_positions=8)
    frames = _named(input_features=lambda: _floats(2, 16, 8), decoder_input_ids=_translations)
    subsampled = {"input_feat_per_channel": 8, "conv_channels": 16, "max_source_positions": 32}
    eager("speech_to_text", BART, frames, {**PAIRED, **UNCACHED, **subsampled}, max_target_positions=16)

    # What cannot be pure, or not under vmap: writes into weights, a new seed, draws that decide what runs, numpy's.
    scaled = {**UNCACHED, "attention_hidden_size": 16, "rescale_every": 1}
    eager("rwkv", "", TOKENS, scaled, name="rwkv-rescaled", refuses=RESCALES)
    routes = {"num_decoder_layers": 1, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    experts = {**T5, **UNCACHED, **routes, "num_experts": 2}
    eager("switch_transformers", "dropout_rate router_jitter_noise", TRANSLATED, experts, refuses=CASTS)
    chunks = {"attn_layers": ["local"], "attention_head_size": 8, "feed_forward_size": 32, "local_attn_chunk_length": 3}
    reformer = "hidden_dropout_prob local_attention_probs_dropout_prob"
    eager("reformer", reformer, TOKENS, chunks, axial_pos_embds=False, refuses=RESEEDS)
    deep = {**PAIRED, **UNCACHED, "encoder_layers": 3, "decoder_layers": 3}
    eager("bart", "encoder_layerdrop decoder_layerdrop", TRANSLATED, deep, name="bart-layerdrop", refuses=SKIPS)
    eager("wav2vec2", "layerdrop", WAVES, SOUND, name="wav2vec2-layerdrop", num_hidden_layers=4, refuses=SKIPS)
    eager("wav2vec2", "mask_time_prob", WAVES, SOUND, name="wav2vec2-masked", mask_time_length=2, refuses=NUMPY)
    sparse = {"attention_type": "block_sparse", "block_size": 2, "num_random_blocks": 1}
    seeds = {"trains": "numpy", **NUMPY}
    long = _named(input_ids=lambda: _ids(2, 16))
    eager("big_bird", "hidden_dropout_prob", long, sparse, name="big_bird-sparse", refuses=seeds)
    return families
