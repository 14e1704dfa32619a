"""Networks with live BatchNorm, and their state dicts with a classifier of 7 classes."""

import pytest
import torch
import torchvision
from torch import nn

from tests.support.checkpoints import dense
from tests.support.networks import live_batch_norm


@pytest.fixture(scope="module")
def resnet18():
    """torchvision's own network and its state dict."""
    torch.manual_seed(0)
    network = live_batch_norm(torchvision.models.resnet18(num_classes=7)).eval()
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network.fc = nn.Identity()
    return network, state


@pytest.fixture(scope="module")
def resnet20():
    return dense("resnet20", "A")


@pytest.fixture(scope="module")
def mobilenet():
    return dense("mobilenet_v1")


@pytest.fixture(scope="module")
def tensorflow():
    return dense("resnet50", "tensorflow")
