"""The time to analyse the structure of a ResNet50, in seconds and relative to a forward pass of one image.

    python -m benchmarks.structure_speed [--rounds 5]

Random weights, 90 % of them pruned by magnitude over the whole network, 224 pixels, fp32, default layout. A round is one
analysis and one forward pass; both are run once before. ``ratio_to_forward`` is the median over rounds. Expected: seconds
below 1. Prints one JSON line.
"""

import statistics

import torch

from benchmarks import harness
from sparse_core.networks import architectures, masks, structure_analysis


def main() -> None:
    given = harness.parser(__doc__, rounds=5).parse_args()
    torch.manual_seed(0)
    module = architectures.build("resnet50").eval()
    masks.apply(module, masks.top_k(module, 0.9))
    image = torch.randn(1, 3, 224, 224)
    first = harness.seconds(lambda: structure_analysis.analyse(module, 224))
    analyses, passes = [], []
    with torch.no_grad():
        module(image)
        for _ in range(given.rounds):
            analyses.append(harness.seconds(lambda: structure_analysis.analyse(module, 224)))
            passes.append(harness.seconds(lambda: module(image)))
    harness.report(
        "structure_speed",
        given,
        seconds_first=round(first, 3),
        seconds=round(statistics.median(analyses), 3),
        seconds_of_a_forward_pass=round(statistics.median(passes), 3),
        ratio_to_forward=round(harness.median_ratio(analyses, passes), 2),
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
