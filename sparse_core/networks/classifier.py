"""A backbone with a classifier on its features."""

from torch import Tensor, nn


class ClassifierNetwork(nn.Module):
    """Images (N, 3, H, W) to logits (N, C): ``body`` gives features (N, D), ``classifier`` is linear.

    ``weight`` (C, D) and ``bias`` (C,) become the classifier's own.
    """

    def __init__(self, body: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        classes, dimensions = weight.shape
        self.body = body
        self.classifier = nn.Linear(dimensions, classes, device="meta")
        self.classifier.weight, self.classifier.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.body(images))
