"""Rank: how long each measure takes for 20 backbones on cached features of 5,000 images (4,000 of them for training).

    python -m benchmarks.ranking

Expected: below 60 s for each measure.
"""

import numpy as np

from benchmarks import harness
from sparse_core.transfer.ranking import MEASURES, Sample


def main() -> None:
    given = harness.parser(__doc__, backbones=20, images=5000, dimensions=1280, classes=20, timed=3).parse_args()
    random = np.random.default_rng(0)
    labels = random.integers(given.classes, size=given.images)
    centres = random.normal(size=(given.classes, given.dimensions)).astype(np.float32)
    features = centres[labels] + 4 * random.normal(size=(given.images, given.dimensions)).astype(np.float32)
    features, cut = np.maximum(features, 0), int(0.8 * given.images)
    sample = Sample(features[:cut], labels[:cut], features[cut:], labels[cut:], given.classes)
    seconds = {}
    for name, measure in MEASURES.items():
        one = [harness.seconds(lambda measure=measure: measure(sample, 0)) for _ in range(given.timed)]  # type: ignore[misc]
        seconds[name] = round(given.backbones * sum(one) / given.timed, 1)
    harness.report("ranking", given, seconds_for_all=seconds)


if __name__ == "__main__":
    main()
