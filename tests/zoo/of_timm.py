"""timm's architectures with random weights, as small as their constructors let them be."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import timm
from timm.layers.mlp import GatedMlp
from timm.models import (
    byobnet,
    efficientnet,
    focalnet,
    gcvit,
    ghostnet,
    metaformer,
    mlp_mixer,
    mobilenetv3,
    mobilevit,
    mvitv2,
    nest,
    rexnet,
    volo,
)
from timm.models.cspnet import CspStagesCfg
from timm.models.metaformer import LayerNorm2dNoBias, LayerNormNoBias
from torch import nn

from tests.zoo.specimen import Specimen, images


class Row(NamedTuple):
    """A line of the tables.

    name: "family/architecture". size: pixels of its images. noise: timm's own names of its rates, without "_rate".
    settings: what makes it small. refuses: as a specimen's.
    make: what builds it, where `timm.create_model` would not let it be small: a class, or a function of the
    architecture's name.
    """

    name: str
    size: int
    noise: str
    settings: Mapping[str, Any] = {}
    make: Callable[..., nn.Module] | None = None
    refuses: Mapping[str, str] = {}


_VIT = "drop pos_drop patch_drop proj_drop attn_drop drop_path"
_POS = "drop pos_drop proj_drop attn_drop drop_path"
_WINDOW = "drop proj_drop attn_drop drop_path"
_PROJ = "drop proj_drop drop_path"
_PATH = "drop drop_path"
_BLOCK = "drop drop_path drop_block"

_STEP = {"depth": 2, "embed_dim": 24, "num_heads": 3}
_MIX = {"num_blocks": 2, "embed_dim": 24, "patch_size": 8, "mlp_ratio": 4}
_SWIN = {"depths": (1, 2), "embed_dim": 12, "num_heads": (2, 3), "window_size": (4, 4)}
_PIT = {"depth": (1, 1), "base_dims": (8, 8), "heads": (1, 2)}
_MAX = {"depths": (1, 1), "embed_dim": (8, 16), "stem_width": 8, "transformer_dim_head": 8}
_COAT = _MAX | {"block_type": ("C", "T")}
_CROSS = {"embed_dim": (12, 24), "num_heads": (3, 3), "depth": ((1, 1, 0),), "img_scale": (1.0, 1.0)}
_SERIAL = {"embed_dims": (16, 16, 16, 16), "serial_depths": (1, 1, 1, 1)}
_MVIT = mvitv2.MultiScaleVitCfg(depths=(1, 1), embed_dim=12)

_NEXT4 = {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 24)}
_META = {"depths": (1, 1), "dims": (8, 32)}
_CA = {"token_mixers": [metaformer.SepConv, metaformer.Attention], "norm_layers": [LayerNorm2dNoBias, LayerNormNoBias]}
_THIN = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "stem_width": 8}
_REGNET = {"depth": 4, "w0": 8, "wa": 16.0, "wm": 1.5, "group_size": 4, "stem_width": 8}
_NF = {"depths": (1, 1), "channels": (16, 32), "group_size": 8}
_FEW = {"channel_multiplier": 0.25, "depth_multiplier": 0.4}
_LEAST = {"channel_multiplier": 0.25, "depth_multiplier": 0.1}
_SAME = _LEAST | {"pad_type": "same"}
_GHOST = {"cfgs": [[[3, 16, 16, 0, 1]], [[3, 48, 24, 0.25, 2], [3, 48, 24, 0.25, 1]]], "width": 0.5}
_REP = [byobnet.ByoBlockCfg("rep", d=2, c=8), byobnet.ByoBlockCfg("rep", d=2, c=16)]
_MOBILE = (byobnet.ByoBlockCfg("bottle", d=1, c=8, br=4.0), mobilevit._mobilevit_block(1, 16, 2, 16, 1, patch_size=2))
_CSP = {"depth": (1, 2), "out_chs": (16, 32), "expand_ratio": 2.0, "bottle_ratio": 0.5}
_OSA = {"stem_chs": [8, 8, 8], "stage_conv_chs": [8] * 4, "stage_out_chs": [16] * 4, "layer_per_block": 1}
_FLOW = [{"in_chs": 64, "out_chs": 16, "stride": 2}, {"in_chs": 16, "out_chs": 16, "stride": 1}]
_RES = _MIX | {"block_layer": mlp_mixer.ResBlock, "norm_layer": mlp_mixer.Affine}
_GATED = _MIX | {"block_layer": mlp_mixer.SpatialGatingBlock, "mlp_layer": GatedMlp}
_HIERA = {"stages": (1, 1, 1), "q_pool": 2, "embed_dim": 12}
_TNT = {"depth": 2, "embed_dim": 24, "inner_dim": 8, "num_heads_inner": 2, "num_heads_outer": 3}
_TWINS = {"embed_dims": (8, 16), "depths": (1, 2), "num_heads": (1, 2), "mlp_ratios": (4, 4)}
_TWINS |= {"sr_ratios": (4, 2), "wss": (4, 2)}
_FORMER = {"depths": (1, 2), "embed_dims": (8, 16), "downsamples": (False, True)}
_FORMER |= {"num_vit": 1, "mlp_ratios": (4, (4, 4))}
_SEQUENCER = {"layers": (1, 1, 1, 1), "embed_dims": (12, 24, 24, 24), "hidden_sizes": (4, 4, 4, 4)}
_GC = {"embed_dim": 16, "depths": (1, 2), "num_heads": (2, 4), "window_size": (4, 4)}
_VOLO = {"layers": (1, 1, 1, 1), "embed_dims": (16, 16, 16, 16), "num_heads": (2, 2, 2, 2), "stem_hidden_dim": 8}
_NEST = {"num_levels": 2, "embed_dims": (16, 32), "num_heads": (2, 2), "depths": (1, 1)}
_EDGE = {"depths": (1, 2, 2, 2), "dims": (8, 16, 16, 16), "heads": (2, 2, 2, 2)}
_PVT = {"depths": (1, 1), "embed_dims": (8, 16), "num_heads": (1, 2), "sr_ratios": (2, 1), "mlp_ratios": (4, 4)}
_FAST = {"layers": (1, 1), "embed_dims": (8, 32), "token_mixers": ("repmixer", "attention")}
_FAST |= {
    "downsamples": (False, True),
    "se_downsamples": (False, False),
    "pos_embs": (None, None),
    "mlp_ratios": (3, 3),
}
_FOCAL = {"depths": (1, 1), "embed_dim": 8, "focal_levels": (2, 2), "focal_windows": (3, 3)}
_LEVIT = {"depth": (1, 1), "embed_dim": (16, 24), "key_dim": 8, "num_heads": (1, 1)}

_VMAP_LSTM = {"samples": 'rnn="unrolled"'}
_VMAP_MASK = {"samples": "shape depends on values"}


def _branches(count: int) -> dict[str, Any]:
    """A stage of a high-resolution network."""
    channels = tuple(4 * 2**place for place in range(count))
    ones = {"num_modules": 1, "num_blocks": (1,) * count}
    return ones | {"num_branches": count, "num_channels": channels, "block_type": "BASIC", "fuse_method": "SUM"}


_HIGH = {f"stage{count}": _branches(count) for count in (1, 2, 3, 4)}


# Their constructors are told the size of an image.
_SIZED = (
    Row("vit/vit_tiny_patch16_224", 32, _VIT, _STEP),
    Row("vit/vit_base_patch16_xp_224", 32, _VIT, {"depth": 2, "embed_dim": 64, "num_heads": 2}),
    Row("vit/vit_base_patch16_siglip_224", 32, _VIT, _STEP),
    Row("vit/vit_relpos_small_patch16_224", 32, _WINDOW + " own", _STEP),
    Row("vit/vit_small_patch16_dinov3", 32, _VIT, _STEP),
    Row("vit/vit_tiny_r_s16_p8_224", 32, _POS, _STEP),
    Row("deit/deit_tiny_patch16_224", 32, _VIT, _STEP),
    Row("deit/deit_tiny_distilled_patch16_224", 32, _VIT, _STEP),
    Row("beit/beit_base_patch16_224", 32, _POS, _STEP),
    Row("beit/beitv2_base_patch16_224", 32, _POS, _STEP),
    Row("eva/eva02_tiny_patch14_224", 28, _VIT, _STEP),
    Row("swin/swin_tiny_patch4_window7_224", 32, _WINDOW, _SWIN),
    Row("swinv2/swinv2_tiny_window8_256", 32, _WINDOW, _SWIN),
    Row("swinv2/swinv2_cr_tiny_224", 32, _WINDOW + " own", _SWIN),
    Row("mixer/mixer_s16_224", 32, _PROJ, _MIX | {"mlp_ratio": (0.5, 4.0)}, mlp_mixer.MlpMixer),
    Row("mixer/resmlp_12_224", 32, _PROJ, _RES, mlp_mixer.MlpMixer),
    Row("mixer/gmlp_ti16_224", 32, _PROJ, _GATED, mlp_mixer.MlpMixer),
    Row("maxvit/maxvit_pico_rw_256", 32, _PATH, _MAX | {"transformer_partition_ratio": 8}),
    Row("coatnet/coatnet_rmlp_nano_rw_224", 32, _PATH + " own", _COAT),
    Row("levit/levit_128s", 64, _PATH, _LEVIT),
    Row("pit/pit_ti_224", 32, _POS, _PIT),
    Row("cait/cait_xxs24_224", 32, _POS, _STEP),
    Row("xcit/xcit_nano_12_p16_224", 32, _POS, _STEP),
    Row("hiera/hiera_tiny_224", 64, "drop patch_drop drop_path", _HIERA, None, _VMAP_MASK),
    Row("crossvit/crossvit_tiny_240", 48, "drop pos_drop proj_drop attn_drop", _CROSS),
    Row("tnt/tnt_s_patch16_224", 32, _POS, _TNT),
    Row("coat/coat_lite_tiny", 32, _PROJ, _SERIAL),
    Row("twins/twins_svt_small", 32, _POS, _TWINS),
    Row("mvitv2/mvitv2_tiny", 32, _PATH, {"cfg": _MVIT}, mvitv2.MultiScaleVit),
    Row("efficientformer/efficientformerv2_s0", 64, _PROJ, _FORMER),
    Row("sequencer/sequencer2d_s", 28, _PROJ, _SEQUENCER, None, _VMAP_LSTM),
    Row("visformer/visformer_tiny", 32, _POS, {"embed_dim": 24, "depth": (1, 1, 1)}),
    Row("convit/convit_tiny", 32, _POS, {"depth": 2, "embed_dim": 8, "num_heads": 4, "local_up_to_layer": 1}),
    Row("gcvit/gcvit_xxtiny", 32, _WINDOW, _GC, gcvit.GlobalContextVit),
    Row("volo/volo_d1_224", 32, "drop pos_drop attn_drop drop_path", _VOLO, volo.VOLO),
    Row("nest/nest_tiny", 32, _WINDOW, _NEST, nest.Nest),
)

# Their constructors are not.
_FREE = (
    Row("naflexvit/naflexvit_base_patch16_gap", 32, _VIT, _STEP),
    Row("convnext/convnext_atto", 32, _PATH, _NEXT4),
    Row("convnextv2/convnextv2_atto", 32, _PATH, _NEXT4),
    Row("efficientnet/efficientnet_b0", 32, _PATH, _FEW, efficientnet._gen_efficientnet),
    Row("efficientnet/efficientnetv2_s", 32, "drop", _LEAST, efficientnet._gen_efficientnetv2_s),
    Row("tf_efficientnet/tf_efficientnet_b0", 32, "drop", _SAME, efficientnet._gen_efficientnet),
    Row("tinynet/tinynet_e", 32, "drop", {"model_width": 0.5, "depth_multiplier": 0.1}, efficientnet._gen_tinynet),
    Row("mnasnet/mnasnet_small", 32, "drop"),
    Row("mobilenet/mobilenetv2_035", 32, "drop", _LEAST, efficientnet._gen_mobilenet_v2),
    Row("mobilenet/mobilenetv3_small_050", 32, _PATH, _LEAST, mobilenetv3._gen_mobilenet_v3),
    Row("mobilenet/mobilenetv4_conv_small_035", 32, "drop"),
    Row("mobilevit/mobilevit_xxs", 32, _PATH, {"blocks": _MOBILE, "stem_chs": 8, "num_features": 16}),
    Row("ghostnet/ghostnetv2_100", 32, "drop", _GHOST | {"version": "v2"}, ghostnet.GhostNet),
    Row("regnet/regnety_002", 32, _PATH, _REGNET),
    Row("resnet/resnet18", 32, "drop drop_path", _THIN),
    Row("resnet/resnet26d", 32, _BLOCK, _THIN),
    Row("resnet/resnext50_32x4d", 32, _PATH, _THIN | {"cardinality": 2, "base_width": 32}),
    Row("resnet/ecaresnet26t", 32, _PATH, _THIN),
    Row("resnet/skresnet18", 32, _PATH, _THIN),
    Row("resnet/resnest14d", 32, _BLOCK, _THIN),
    Row("resnet/res2net50_26w_4s", 32, "drop", _THIN),
    Row("resnetv2/resnetv2_18", 32, _PATH, {"layers": (1, 1), "channels": (8, 16), "stem_chs": 8}),
    Row("repvgg/repvgg_a0", 32, _PATH, {"blocks": _REP, "stem_chs": 8}),
    Row("densenet/densenet121", 32, "drop proj_drop", {"growth_rate": 4, "block_config": (2, 2)}),
    Row("nfnet/dm_nfnet_f0", 32, _PATH, _NF),
    Row("edgenext/edgenext_xx_small", 32, _PATH, _EDGE),
    Row("pvt_v2/pvt_v2_b0", 32, _WINDOW, _PVT),
    Row("poolformer/poolformer_s12", 32, _PROJ, _META, metaformer.MetaFormer),
    Row("metaformer/caformer_s18", 32, _PROJ, _META | _CA, metaformer.MetaFormer),
    Row("davit/davit_tiny", 32, _PATH, {"depths": (1, 1), "embed_dims": (12, 24), "num_heads": (2, 3)}),
    Row("fastvit/fastvit_t8", 32, _PROJ, _FAST),
    Row("focalnet/focalnet_tiny_srf", 32, _PROJ, _FOCAL, focalnet.FocalNet),
    Row("xception/xception41", 32, _PATH, {"block_cfg": _FLOW}),
    Row("dla/dla46_c", 32, "drop", {"levels": (1, 1, 1, 1, 1, 1), "channels": (8, 8, 16, 16, 16, 32)}),
    Row("vovnet/ese_vovnet19b_slim", 32, "drop", _OSA),
    Row("dpn/dpn68b", 32, "drop", {"k_sec": (1, 1, 1, 1)}),
    Row("cspnet/cspresnet50", 32, _PATH, {"stages": CspStagesCfg(**_CSP, cross_linear=True)}),
    Row("cspnet/cspdarknet53", 32, _PATH, {"stages": CspStagesCfg(**_CSP, down_growth=True, block_type="dark")}),
    Row("rexnet/rexnet_100", 32, _PATH, {"width_mult": 0.5, "depth_mult": 0.3}, rexnet.RexNet),
)


def specimens() -> list[Specimen]:
    """Every line of the tables."""
    return list(_all())


def _all() -> Iterator[Specimen]:
    for rows, sized in ((_SIZED, True), (_FREE, False)):
        for row in rows:
            settings = dict(row.settings) | ({"img_size": row.size} if sized else {})
            architecture = row.name.split("/")[1]
            make = row.make or timm.create_model
            if not isinstance(make, type):
                make = partial(make, architecture)
            rates = dict.fromkeys(row.noise.split(), 0.5)
            yield Specimen(
                name=f"timm/{row.name}",
                build=_builder(partial(make, num_classes=3, **settings), list(rates)),
                inputs=images(row.size),
                noise={kind: {f"{kind}_rate": rate} for kind, rate in rates.items()},
                refuses=row.refuses,
            )


def _builder(make: Callable[..., nn.Module], kinds: list[str]) -> Callable[..., nn.Module]:
    """What builds a module with the noise that it is given and no other.

    Kind "own" is the dropout of 0.125 that timm writes into the network of a relative position, which no argument
    turns off.
    """

    def build(own_rate: float = 0.0, **rates: float) -> nn.Module:
        module = make(**{f"{kind}_rate": 0.0 for kind in kinds if kind != "own"} | rates)
        for layer in module.modules():
            if isinstance(layer, nn.Dropout) and layer.p == 0.125:
                layer.p = own_rate
        return module

    return build
