"""Video models of torchvision: clips `[B, 3, T, H, W]` to logits `[B, K]`.

Entries keep their names, so that a state_dict saved with torchvision loads here.
Models of timm are in `frame_average.py`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import video
from torchvision.models.video.mvit import MSBlockConfig

from nightcrawler.models.layers import motion_channels
from nightcrawler.models.mvit_attention import triple
from nightcrawler.utils.errors import ArgumentError
from nightcrawler.utils.lazy_registry import unknown_name

MVITS = ("mvit_v1_b", "mvit_v2_s")
# Width and depths (Liu et al. 2022, "Video Swin Transformer", section 3.2).
SWINS = {
    "swin3d_t": (96, [2, 2, 6, 2]),
    "swin3d_s": (96, [2, 2, 18, 2]),
    "swin3d_b": (128, [2, 2, 18, 2]),
}
RESNETS = ("r3d_18", "mc3_18", "r2plus1d_18")
TORCHVISION = (*MVITS, *SWINS, *RESNETS, "s3d")
MVIT_DEPTHS = (1, 2, 11, 2)
MVIT_WIDTH = 96
# Smaller clips of S3D have no positions left before its last pooling.
S3D_MIN_FRAMES = 5
S3D_MIN_SIZE = 17


def torchvision_video(
    name: str,
    *,
    num_classes: int,
    num_frames: int = 32,
    crop_size: int = 224,
    test_size: int | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    motion_stem: bool = False,
) -> nn.Module:
    """Build a video model of torchvision with random weights.

    Args:
        name: one of `TORCHVISION`.
        num_classes: K.
        num_frames: T.
        crop_size: side of a training clip in pixels.
        test_size: side of a test clip in pixels, `crop_size` when absent.
        dropout: before the classifier.
        drop_path: stochastic depth of the last block, transformers only.
        motion_stem: see `layers.motion_channels`.

    Raises:
        UserError: if the name is unknown.
        ArgumentError: if the model does not take the value of an argument.
    """
    if name not in TORCHVISION:
        raise unknown_name("torchvision model", name, TORCHVISION)
    test_size = crop_size if test_size is None else test_size
    if drop_path and name not in (*MVITS, *SWINS):
        raise no_stochastic_depth(f"torchvision/{name}", drop_path)
    if name in MVITS:
        check_one_size(f"torchvision/{name}", crop_size, test_size)
        model: nn.Module = _mvit(name, num_classes, num_frames, crop_size, dropout, drop_path)
    elif name == "s3d":
        _check_s3d_size(num_frames, min(crop_size, test_size))
        model = _s3d(num_classes, dropout)
    else:
        if name in SWINS:
            model = _swin(name, num_classes, drop_path)
        else:
            model = getattr(video, name)(num_classes=num_classes)
        # Their heads have no dropout. After the pooling it changes no entry's name.
        model.avgpool = nn.Sequential(model.get_submodule("avgpool"), nn.Dropout(dropout))
    if motion_stem:
        _add_motion_stem(model)
    return model


def no_stochastic_depth(name: str, drop_path: float) -> ArgumentError:
    """Return the error for a model without stochastic depth.

    Args:
        name: of the model.
        drop_path: rate that was asked for.
    """
    return ArgumentError(
        f"drop_path {drop_path:g}: {name} has no stochastic depth: set it to 0", "drop_path"
    )


def check_one_size(name: str, crop_size: int, test_size: int) -> None:
    """Refuse test clips of another size than training clips.

    Args:
        name: of the model.
        crop_size: side of a training clip in pixels.
        test_size: side of a test clip in pixels.

    Raises:
        ArgumentError: if they differ.
    """
    if crop_size != test_size:
        raise ArgumentError(
            f"test_size {test_size}: {name} is built for one size of clips, and crop_size is "
            f"{crop_size}: make them equal",
            "test_size",
            "crop_size",
        )


def _mvit(
    name: str, num_classes: int, num_frames: int, crop_size: int, dropout: float, drop_path: float
) -> video.MViT:
    """Return an MViT of torchvision for any clip size."""
    if crop_size % 4 or crop_size < 32:
        raise ArgumentError(
            f"crop_size {crop_size}: torchvision/{name} takes multiples of 4 from 32 on",
            "crop_size",
        )
    if num_frames % 2:
        raise ArgumentError(
            f"num_frames {num_frames}: torchvision/{name} takes an even number of frames",
            "num_frames",
        )
    # torchvision's own builders fix the clip size, so the blocks are listed here.
    second = name == "mvit_v2_s"
    return video.MViT(
        spatial_size=(crop_size, crop_size),
        temporal_size=num_frames,
        block_setting=_mvit_blocks(second),
        residual_pool=second,
        residual_with_cls_embed=False,
        rel_pos_embed=second,
        proj_after_attn=second,
        dropout=dropout,
        stochastic_depth_prob=drop_path,
        num_classes=num_classes,
    )


def _mvit_blocks(second: bool) -> list[MSBlockConfig]:
    """Return the 16 blocks of MViT-B (Fan et al. 2021, table 2) or MViTv2-S (Li et al. 2022)."""
    stages: list[int] = []
    for stage, depth in enumerate(MVIT_DEPTHS):
        stages += [stage] * depth
    blocks = []
    for before, stage, after in zip([0, *stages[:-1]], stages, [*stages[1:], 3], strict=True):
        # The first version widens in the MLP that ends a stage, the second in the attention that
        # starts the next.
        wide_in = before if second else stage
        wide_out = stage if second else after
        pools = stage > before
        # The second version convolves queries in every block, the first only where it pools.
        kernel_q: list[int] = []
        stride_q: list[int] = []
        if pools or second:
            kernel_q = [3, 3, 3]
            stride_q = [1, 2, 2] if pools else [1, 1, 1]
        blocks.append(
            MSBlockConfig(
                num_heads=2**stage,
                input_channels=MVIT_WIDTH * 2**wide_in,
                output_channels=MVIT_WIDTH * 2**wide_out,
                kernel_q=kernel_q,
                kernel_kv=[3, 3, 3],
                stride_q=stride_q,
                stride_kv=[1, 8 >> stage, 8 >> stage],
            )
        )
    return blocks


def _swin(name: str, num_classes: int, drop_path: float) -> video.SwinTransformer3d:
    """Return a Video Swin Transformer with its own stochastic depth."""
    width, depths = SWINS[name]
    return video.SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=width,
        depths=depths,
        num_heads=[width // 32 * 2**stage for stage in range(4)],
        window_size=[8, 7, 7],
        stochastic_depth_prob=drop_path,
        num_classes=num_classes,
    )


def _s3d(num_classes: int, dropout: float) -> video.S3D:
    """Return an S3D that takes small clips too."""
    model = video.s3d(num_classes=num_classes, dropout=dropout)
    pool = model.get_submodule("avgpool")
    assert isinstance(pool, nn.AvgPool3d)
    assert isinstance(pool.kernel_size, tuple)
    model.avgpool = ShrinkingAvgPool3d(triple(pool.kernel_size))
    return model


def _check_s3d_size(num_frames: int, side: int) -> None:
    """Refuse clips that are too small for S3D's strides."""
    if num_frames < S3D_MIN_FRAMES:
        raise ArgumentError(
            f"num_frames {num_frames}: torchvision/s3d takes at least {S3D_MIN_FRAMES} frames",
            "num_frames",
        )
    if side < S3D_MIN_SIZE:
        raise ArgumentError(
            f"crop_size or test_size {side}: torchvision/s3d takes at least {S3D_MIN_SIZE}",
            "crop_size",
            "test_size",
        )


class ShrinkingAvgPool3d(nn.Module):
    """Average pooling of stride 1 with a kernel cut to smaller maps, so that small clips pass.

    Args:
        kernel: over time, height, width.
    """

    def __init__(self, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Pool `[B, C, T, H, W]` to `[B, C, T', H', W']`."""
        kernel = [min(most, size) for most, size in zip(self.kernel, x.shape[2:], strict=True)]
        return functional.avg_pool3d(x, kernel, stride=1)


def _add_motion_stem(model: nn.Module) -> None:
    """Give a model a first convolution of six channels, fed by `motion_channels`."""
    for name, module in model.named_modules():
        # The first convolution is the stem in all of these models.
        if isinstance(module, nn.Conv3d):
            stem = nn.Conv3d(
                6,
                module.out_channels,
                triple(module.kernel_size),
                triple(module.stride),
                module.padding if isinstance(module.padding, str) else triple(module.padding),
                bias=module.bias is not None,
            )
            model.set_submodule(name, stem)
            break
    model.register_forward_pre_hook(_add_motion)


def _add_motion(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Append motion channels to the input, as a hook: such a model can be pickled."""
    return motion_channels(*inputs)
