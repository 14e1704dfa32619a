"""Links of version 0.1.0 still open the view that they were copied from.

Each address was written by that version; the values are those that today's controls take from it.
"""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from sparse_core.results.records import Records
from sparse_core.speed import measurements
from tests.pages.support import MAGNITUDE_50, backbone_record, open_app, training_record
from tests.support.measurements import line, speed_record
from tests.support.records import record

MEASURED = "ResNet50 at {} %, uniform mask (timing only)"
LINKS: list[tuple[str, dict[str, Any]]] = [
    (
        "tradeoffs?architecture=MobileNetV1&transfer=Full&source=Published&sparsity=75&sparsity=90",
        {"architecture": "mobilenet_v1", "transfer": "full", "source": "published", "sparsity": (75, 90)},
    ),
    (
        "tradeoffs?methods=AC/DC&methods=STR&tasks=CIFAR-10&tasks=Oxford-IIIT+Pets",
        {"methods": ["AC/DC", "STR"], "tasks": ["cifar10", "pets"]},
    ),
    (
        "tradeoffs?view=Pareto+front&pareto_task=CIFAR-10&points=Full:+STR+80+%25&points=Full:+AC/DC+90+%25",
        {"view": "Pareto front", "pareto_task": "cifar10", "points": ["Full: STR 80 %", "Full: AC/DC 90 %"]},
    ),
    (
        "tradeoffs?view=Pareto+front&pareto_columns=Method&pareto_columns=Mean+accuracy+(%25)&pareto_columns=On+the+front",
        {"pareto_columns": ["method", "accuracy_mean", "front"]},
    ),
    (
        "tradeoffs?averages_columns=Mean+relative+error+increase+(%25)&averages_columns=Standard+error+(%25)",
        {"averages_columns": ["mean_relative_error_increase", "standard_error"]},
    ),
    (
        "tradeoffs?architecture=EfficientNet-Lite0&source=Measured&accuracy=Last+epoch"
        "&axis=Multiply-adds+of+the+nonzero+weights",
        {"source": "measured", "accuracy": "final", "axis": "multiply_adds"},
    ),
    (
        "tradeoffs?architecture=EfficientNet-Lite0&points=Linear:+Magnitude+50+%25,+measured+2fab",
        {"points": ["Linear: Magnitude 50 %, your runs 2fab"]},
    ),
    (
        "tasks?architecture=EfficientNet-Lite0&source=Measured&value=Difference+to+dense&order=By+name&level=50+%25",
        {"source": "measured", "value": "difference", "order": "name", "level": 0.5},
    ),
    (
        "tasks?architecture=EfficientNet-Lite0&cells=Magnitude+50+%25,+measured+2fab+on+Digits+(data)",
        {"cells": ["Magnitude 50 %, your runs 2fab on Digits (data)"]},
    ),
    (
        "tasks?layout=One+row+a+task&long_columns=Relative+error+increase+(%25)&long_columns=Task's+content",
        {"layout": "By task", "long_columns": ["relative_error_increase", "dataset_hash"]},
    ),
    (
        "probe?backbone=EfficientNet-Lite0,+magnitude+50+%25&dataset=Digits,+10+classes&precision=bf16",
        {"backbone": MAGNITUDE_50, "dataset": "digits", "precision": "bf16"},
    ),
    (
        "probe?seeds=3&epochs=20&lr=0.02&step=5&factor=0.5&sweep=0.001+0.01&feature_engine=PyTorch",
        {
            "seeds": 3,
            "epochs": 20,
            "lr": 0.02,
            "step": 5,
            "factor": 0.5,
            "sweep": "0.001 0.01",
            "feature_engine": "torch",
        },
    ),
    (
        "finetune?dataset=My+own+folder+or+Parquet+file&path=/home/me/images&seeds=2",
        {"dataset": "My own folder or Parquet file", "path": "/home/me/images", "seeds": 2},
    ),
    (
        "finetune?optimizer=AdamW&training_precision=bf16&augment=false&scratch=true&frozen=true",
        {"optimizer": "adamw", "training_precision": "bf16", "augment": False, "scratch": True, "frozen": True},
    ),
    ("library?from=A+path+on+this+machine", {"from": "path"}),
    (
        "structure?backbone=EfficientNet-Lite0,+magnitude+50+%25&part=Overlap+of+masks",
        {"backbone": MAGNITUDE_50},
    ),
    (
        "speedup?measure=true&what=An+architecture,+timing+only&of_architecture=ResNet18"
        "&distribution=Erdős–Rényi-Kernel&to_sparsity=95",
        {"what": "architecture", "of_architecture": "resnet18", "distribution": "erk", "to_sparsity": 95.0},
    ),
    (
        "speedup?measure=true&engines=PyTorch&sizes=8&sizes=16&rounds=5&use_threads=1",
        {"engines": ["torch"], "sizes": [8, 16], "rounds": 5, "use_threads": 1},
    ),
    (
        "speedup?measure=true&what=An+architecture,+timing+only&time=Online+training&engine=PyTorch",
        {"what": "architecture", "time": "training", "engine": "torch"},
    ),
    (
        "speedup?timed_architecture=ResNet50&mode=Inference&only_engines=DeepSparse&batch_size=1&part=By+batch+size"
        "&network=ResNet50+at+80+%25,+uniform+mask+(timing+only)",
        {"only_engines": ["deepsparse"], "batch_size": 1, "network": MEASURED.format(80)},
    ),
    (
        "speedup?part=Accuracy+and+speed&timed_architecture=EfficientNet-Lite0&front_engine=DeepSparse"
        "&speed_axis=Images+a+second",
        {"timed_architecture": "efficientnet_lite0", "front_engine": "deepsparse", "speed_axis": "images_per_second"},
    ),
    (
        "speedup?part=Accuracy+and+speed&timed_architecture=EfficientNet-Lite0&front_table_columns=Engine"
        "&front_table_columns=Images+a+second&front_table_columns=Milliseconds+an+image&front_table_columns=On+the+front",
        {"front_table_columns": ["engine_words", "images_per_second", "milliseconds_per_image", "front"]},
    ),
    (
        "speedup?part=All+measurements&look=ResNet50+at+90+%25,+uniform+mask+(timing+only),+inference+(02+Jan+03:04,+a)",
        {"look": f"{MEASURED.format(90)}, inference (02 Jan 03:04, a)"},
    ),
    (
        "speedup?part=All+measurements&measurements_filter=no+gain&measurements_columns=Made+at"
        "&measurements_columns=Network&measurements_columns=Timed&measurements_columns=Times+as+fast+as+dense"
        "&measurements_columns=Verdict&measurements_columns=Mask+of",
        {"measurements_columns": ["created_at", "network", "mode", "ratio", "gain", "origin"]},
    ),
    (
        "speedup?part=Time+by+layer&timed_architecture=ResNet50"
        "&layers_of=ResNet50+at+80+%25,+uniform+mask+(timing+only):+DeepSparse,+batch+1",
        {"layers_of": f"{MEASURED.format(80)}: DeepSparse, batch 1"},
    ),
    (
        "runs?runs_source=Published&published_runs_columns=Method&published_runs_columns=Task"
        "&published_runs_columns=Best+accuracy+(%25)",
        {"runs_source": "published", "published_runs_columns": ["method", "dataset", "accuracy_best"]},
    ),
    (
        "runs?all_runs_filter=measured&chosen=Dense,+Digits,+linear,+seed+1+(02+Jan+03:04,+1a53)",
        {"all_runs_filter": "measured", "chosen": ["Dense, Digits, linear, seed 1 (02 Jan 03:04, 1a53)"]},
    ),
    (
        "runs?chosen=Magnitude+50+%25,+Digits,+linear,+seed+0+(02+Jan+03:04,+57ea)",
        {"chosen": ["Magnitude 50 %, Digits, linear, seed 0 (02 Jan 03:04, 57ea)"]},
    ),
]


@pytest.fixture
def used_home(home: Path) -> Path:
    """A home with two dense runs and one sparse one, and with measurements of speed."""
    for entry in (record(seed=0), record(seed=1, best=0.8), record(sparsity=0.5, best=0.7)):
        Records(home).write(entry)
    measurements.write(home, speed_record("a", lines=[line(ratio=1.0), line(engine="torch", ratio=0.9)]))
    batches = [line(), line(batch_size=1, layers=[["conv1", 0.25], ["fc", 0.75]])]
    measurements.write(home, speed_record("b", created_at="2026-01-03", sparsity=0.8, lines=batches))
    measurements.write(home, backbone_record("c", created_at="2026-01-04"))
    measurements.write(home, training_record("d", created_at="2026-01-05"))
    return home


@pytest.mark.parametrize(("address", "expected"), LINKS)
def test_a_link_of_version_0_1_0_opens_its_view(used_home: Path, address: str, expected: dict[str, Any]) -> None:
    page, _, query = address.partition("?")
    app = open_app(page, **parse_qs(query))
    assert [toast.value for toast in app.toast] == []
    assert {key: app.session_state[key] for key in expected} == expected
