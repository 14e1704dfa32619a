"""Work spread over the cores in whole pieces, instead of every matrix product over all of them.

Threads that share one product wait for each other after each, which costs little on a machine that does nothing else and
very much on a busy one. Pieces that run in one thread each also round alike on any number of cores.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def thread_pool() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """A pool and its number of threads, as many as torch would use; in them torch works in the thread that asks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool, threads
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
