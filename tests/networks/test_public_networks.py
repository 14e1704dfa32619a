"""Networks of torchvision and timm: by name with downloaded weights, by file, recognised among all, and refused where no CNN."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from sparse_core.networks import (
    architectures,
    backbones,
    checkpoints,
    importing,
    inspection,
    known_networks,
    library,
    public_networks,
)
from tests.support.checkpoints import save
from tests.support.imports import loaded
from tests.support.networks import live_batch_norm
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def mobilenet():
    """torchvision's MobileNetV3, whose classifier has a hidden layer."""
    torch.manual_seed(0)
    return live_batch_norm(torchvision.models.mobilenet_v3_small(num_classes=7)).eval()


@pytest.fixture(scope="module")
def tiny():
    """timm's smallest ResNet."""
    torch.manual_seed(0)
    return live_batch_norm(timm.create_model("test_resnet", num_classes=5)).eval()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Keep the tests' output clean."""


@pytest.fixture
def hub(tmp_path, monkeypatch, tiny):
    """A server with the addresses of timm's hub."""
    file = tmp_path / "hub" / "timm" / "test_resnet.r160_in1k" / "resolve" / "main" / "model.safetensors"
    file.parent.mkdir(parents=True)
    save_file(dict(tiny.state_dict()), file)
    handler = functools.partial(Quiet, directory=str(tmp_path / "hub"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    public_networks.usual_weights.cache_clear()
    yield server
    server.shutdown()
    server.server_close()
    public_networks.usual_weights.cache_clear()


def images(side=64):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_a_file_of_torchvision_is_recognised_with_its_classifier(mobilenet, tmp_path):
    found = checkpoints.read(save(mobilenet.state_dict(), tmp_path / "net.pth"))
    assert (found.architecture, found.classes, found.alternatives) == ("mobilenet_v3_small", 7, ())
    with torch.no_grad():
        features = found.network().eval()(images())
        logits = features @ found.classifier["weight"].T + found.classifier["bias"]
        torch.testing.assert_close(logits, mobilenet(images()), rtol=1e-4, atol=1e-4)


def test_a_file_of_timm_is_recognised_and_gives_its_pooled_features(tiny, tmp_path, home):
    path = save({f"module.{key}": tensor for key, tensor in tiny.state_dict().items()}, tmp_path / "net.pth")
    seen = inspection.inspect(path)
    assert (seen["architecture"], seen["classes"]) == ("timm/test_resnet", 5)
    assert seen["preprocessing"]["crop"] == 160
    importing.add(home, path, "net")
    backbone = backbones.load(home, "net")
    with torch.no_grad():
        expected = tiny.forward_head(tiny.forward_features(images()), pre_logits=True)
        torch.testing.assert_close(backbone.module(images()), expected, rtol=1e-4, atol=1e-4)
    assert backbone.dimensions == expected.shape[1]


def test_of_two_that_fit_the_user_chooses(tmp_path, home):
    network = timm.create_model("tf_mobilenetv3_small_075")
    path = save(network.state_dict(), tmp_path / "net.pth")
    both = ("timm/mobilenetv3_small_075", "timm/tf_mobilenetv3_small_075")
    assert checkpoints.read(path).alternatives == both
    assert "fit" in refused(importing.add, home, path, "net")
    card = importing.add(home, path, "net", architecture=both[1])
    assert card.architecture == both[1]
    other = importing.add(home, path, "other", architecture=both[0])
    assert card.hash != other.hash  # the same weights compute something else


def test_of_two_that_fit_the_one_that_the_file_names_is_taken(tmp_path):
    state = timm.create_model("tf_mobilenetv3_small_075").state_dict()
    for name in ("mobilenetv3_small_075", "tf_mobilenetv3_small_075"):
        found = checkpoints.read(save({"arch": name, "state_dict": state}, tmp_path / "net.pth"))
        assert (found.architecture, found.alternatives) == (f"timm/{name}", ())


def test_where_none_fits_the_nearest_three_are_named_with_what_differs(mobilenet, tmp_path):
    state = dict(mobilenet.state_dict())
    del state["features.0.1.weight"]
    state["features.1.block.0.1.extra"] = torch.ones(3)
    message = refused(checkpoints.read, save(state, tmp_path / "net.pth"))
    assert (
        "mobilenet_v3_small (1 missing such as features.0.1.weight, 1 unexpected such as features.1.block.0.1.extra)"
        in message
    )
    assert message.partition("Most like it")[2].count("missing") == 3


def test_networks_that_are_no_cnn_are_refused_with_that_reason(tmp_path):
    path = save(timm.create_model("test_vit").state_dict(), tmp_path / "net.pth")
    assert "no CNN" in refused(checkpoints.read, path)
    assert "not a convolutional network" in refused(architectures.find, "timm/test_vit")
    assert "not a convolutional network: 1 of its" in refused(architectures.find, "vit_b_32")


@pytest.mark.parametrize(
    ("layers", "is_cnn"),
    [
        ([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)], True),
        ([nn.Conv2d(3, 8, 16, 16), *(nn.Linear(8, 8) for _ in range(4))], False),  # patches alone
        ([nn.Conv2d(3, 8, 3), *(nn.Linear(64, 64) for _ in range(20))], False),  # hardly any convolutions
        ([nn.Conv2d(3, 8, 4, 4), *(nn.Conv2d(8, 8, 7, padding=3, groups=8) for _ in range(2)), nn.Linear(8, 32)], True),
    ],
)
def test_what_counts_as_a_cnn(layers, is_cnn):
    assert public_networks.convolutional(nn.Sequential(*layers)) is is_cnn


def test_weights_are_downloaded_when_they_are_asked_for_and_listed_from_then_on(hub, home, tiny):
    name = "timm/test_resnet"
    assert name not in [card.name for card in library.available(home)]
    backbone = backbones.load(home, name)
    with torch.no_grad():
        expected = tiny.forward_head(tiny.forward_features(images()), pre_logits=True)
        torch.testing.assert_close(backbone.module(images()), expected, rtol=1e-4, atol=1e-4)
    card = next(card for card in library.available(home) if card.name == name)
    assert card.ready and card.preprocessing == backbone.transform and backbone.transform.crop == 160
    hub.shutdown()
    assert backbones.load(home, name).hash == backbone.hash


def test_a_failed_download_and_unknown_names_are_refused(hub, home):
    message = refused(backbones.load, home, "timm/test_convnext")
    assert "Could not download" in message and "timm/test_convnext.pth" in message
    assert "Did you mean" in refused(backbones.load, home, "timm/test_resnett")
    assert "not a convolutional network" in refused(backbones.load, home, "vit_b_32")
    assert "Unknown weights of timm/test_resnet 'nothing'" in refused(backbones.load, home, "timm/test_resnet.nothing")


def test_the_client_of_timms_hub_is_told_to_send_nothing():
    script = (
        "from sparse_core.networks import public_networks\n"
        "public_networks.timm_library()\n"
        "from huggingface_hub import constants\n"
        "assert constants.HF_HUB_DISABLE_TELEMETRY"
    )
    assert "timm" in loaded(script)


def test_the_index_belongs_to_the_installed_versions():
    for library_name in ("torchvision", "timm"):
        installed = version(library_name).partition("+")[0]
        assert known_networks.versions()[library_name] == installed, "run python -m tools.network_index"
    missing = (public_networks.names("torchvision") | public_networks.names("timm")) - set(known_networks.names())
    assert len(missing) < 0.02 * len(known_networks.names())  # those that this version cannot build


def test_torchvision_and_timm_agree_on_the_tensors_of_a_network_built_alike():
    state = {key: tuple(tensor.shape) for key, tensor in torchvision.models.resnet34().state_dict().items()}
    del state["fc.weight"], state["fc.bias"]
    best = known_networks.match(state)[0]
    assert (best.name, best.missing, best.extra, best.similarity) == (
        "resnet34",
        0,
        0,
        1.0,
    )  # and not timm/resnet34 beside it
    assert known_networks.shapes_of("resnet34") == {
        key: shape for key, shape in state.items() if not key.endswith("num_batches_tracked")
    }
