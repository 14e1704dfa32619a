"""When tasks that need each other have all ended, by simulation."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence

from sparse_core.specs.sweep import Task


def makespan(tasks: Sequence[Task], seconds: Callable[[Task], float | None], workers: int) -> float | None:
    """Seconds until the last of ``tasks`` has ended, of which ``workers`` (at least 1) run side by side.

    A free worker takes the first task of the list whose ``after`` have ended, as sweeps do; tasks that are not in the list have
    ended before. A task whose ``seconds`` are None counts as the mean of the others. None where nothing is known of any.
    """
    lengths = [seconds(task) for task in tasks]
    known = [each for each in lengths if each is not None]
    if tasks and not known:
        return None
    numbers = {task.key: number for number, task in enumerate(tasks)}
    needs = [sum(key in numbers for key in task.after) for task in tasks]
    followers = defaultdict(list)
    for number, task in enumerate(tasks):
        for key in task.after:
            followers[key].append(number)
    ready = [number for number, count in enumerate(needs) if not count]
    running: list[tuple[float, int]] = []  # when each ends
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            number = heapq.heappop(ready)
            length = lengths[number]
            heapq.heappush(running, (now + (sum(known) / len(known) if length is None else length), number))
        now, number = heapq.heappop(running)
        for follower in followers[tasks[number].key]:
            needs[follower] -= 1
            if not needs[follower]:
                heapq.heappush(ready, follower)
    return now
