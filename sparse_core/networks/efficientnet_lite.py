"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6."""

import torch.nn.functional as F
from torch import Tensor, nn

# Repeats, kernel, stride, expansion, output channels of each stage (Tan & Le, EfficientNet, ICML 2019, table 1, B0).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """Images (N, 3, H, W) to features (N, 1280), averaged over positions.

    Attribute names follow the keys of the public weight file.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = _batch_norm(32)
        blocks = []
        channels = 32
        for repeats, kernel, first_stride, expansion, out in _STAGES:
            for repeat in range(repeats):
                blocks.append(_InvertedResidual(channels, out, kernel, first_stride if repeat == 0 else 1, expansion))
                channels = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = _batch_norm(1280)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(images)))
        x = F.relu6(self._bn1(self._conv_head(self._blocks(x))))
        return x.mean(dim=(2, 3))


class _InvertedResidual(nn.Module):
    """Expand by a 1×1 convolution unless ``expansion`` is 1, filter each channel, project back; add the input if shapes match."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expands = expansion != 1
        self.adds = stride == 1 and channels == out
        if self.expands:
            self._expand_conv = nn.Conv2d(channels, inner, 1, bias=False)
            self._bn0 = _batch_norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, kernel, stride=stride, groups=inner, bias=False)
        self._bn1 = _batch_norm(inner)
        self._project_conv = nn.Conv2d(inner, out, 1, bias=False)
        self._bn2 = _batch_norm(out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class _SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, as in training: an odd pixel goes to the right and bottom."""

    def forward(self, input: Tensor) -> Tensor:
        height, width = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(input.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        if height % 2 == 0 and width % 2 == 0:
            return F.conv2d(input, self.weight, self.bias, self.stride, (height // 2, width // 2), 1, self.groups)
        padded = F.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(padded)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
