"""Names of series of results by what sets them apart: a setting of their protocol such as "lr 0.1", or their upstream data."""

import re
from collections.abc import Iterable, Mapping, Sequence

from sparse_core.specs.transfer import FROM_SCRATCH

# The settings that a protocol's text names (``specs.transfer.protocol``), those that users change most first: a kind, the
# pattern of its part, the text to show for it, and what goes without saying where the part is missing.
_KINDS = (
    ("rate", r"lr (?:chosen from )?(.+)", r"\g<0>", ""),
    ("precision", r"(\w+) (?:features|training)", r"\1", ""),
    ("epochs", r"\d+ epochs", r"\g<0>", ""),
    ("start", FROM_SCRATCH, "random init", "pretrained weights"),
    ("augmentation", "augmented|not augmented", r"\g<0>", ""),
    ("normalisation", "BatchNorm frozen", r"\g<0>", "BatchNorm trained"),
    ("smoothing", "label smoothing .+", r"\g<0>", "no label smoothing"),
    ("size", r"\d+ px images", r"\g<0>", "default image size"),
    ("batch", r"batch \d+", r"\g<0>", ""),
    ("decay", "weight decay .+", r"\g<0>", ""),
    ("steps", "×.+ every .+ epochs", r"\g<0>", "constant rate"),
    ("optimizer", r"SGD|AdamW", r"\g<0>", ""),
    ("momentum", "momentum .+", r"\g<0>", ""),
)
MOST_NAMED = 3  # settings in a name, unless it takes more to tell the series apart


def distinguished(series: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A text for each (upstream, protocol): the settings in which they differ; empty for a series alone."""
    if len(series) == 1:
        return {series[0]: ""}
    settings = {key: {**_settings(key[1]), "upstream": f"from {key[0]}"} for key in series}
    kinds = [*(kind for kind, *_ in _KINDS), "other", "upstream"]
    differing = [kind for kind in kinds if len({each.get(kind, "") for each in settings.values()}) > 1]
    for count in range(min(MOST_NAMED, len(differing)), len(differing) + 1):
        names = {key: _joined(each, differing[:count]) for key, each in settings.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def _joined(settings: Mapping[str, str], kinds: Iterable[str]) -> str:
    return ", ".join(filter(None, (settings.get(kind, "") for kind in kinds)))


def _settings(protocol: str) -> dict[str, str]:
    """Each setting that the text names, by kind; what is of no known kind is kept as ``other``."""
    found = {kind: missing for kind, _, _, missing in _KINDS}
    rest = []
    for part in _parts(protocol):
        for kind, pattern, shown, _ in _KINDS:
            match = re.fullmatch(pattern, part)
            if match:
                found[kind] = match.expand(shown).replace("chosen from", "from")
                break
        else:
            rest.append(part)
    return {**found, "other": " ".join(rest)}


def _parts(protocol: str) -> list[str]:
    """The text at its commas; optimizer, rate and steps, which have none between them, and rates of a sweep apart."""
    start = re.match(r"(\S+) (lr chosen from [^×]+(?= ×)|lr \S+?)(?: (×\S+ every \d+ epochs))?(?:, |$)", protocol)
    if not start:
        return protocol.split(", ")
    first = [part.replace(", ", "/") for part in start.groups() if part]
    return [*first, *filter(None, protocol[start.end() :].split(", "))]
