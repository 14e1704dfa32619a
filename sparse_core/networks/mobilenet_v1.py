"""MobileNetV1 (Howard et al., MobileNets, 2017)."""

from torch import Tensor, nn

# Output channels and stride of each depthwise separable block (table 1).
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


class MobileNetV1(nn.Module):
    """MobileNetV1 at full width: images (N, 3, H, W) to features (N, 1024), averaged over positions.

    Layers are named ``model.I.J``: block 0 is the stem, J counts convolution, BatchNorm and ReLU.
    """

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Sequential(*_convolution(3, 32, 3, 2))]
        channels = 32
        for out, stride in _BLOCKS:
            depthwise = _convolution(channels, channels, 3, stride, groups=channels)
            layers.append(nn.Sequential(*depthwise, *_convolution(channels, out, 1, 1)))
            channels = out
        self.model = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).mean(dim=(2, 3))


def _convolution(channels: int, out: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
