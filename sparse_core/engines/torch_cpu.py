"""How torch uses the processor: its number of threads, work spread over the cores, and native bf16."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads, and its previous number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def thread_pool() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """A pool and its number of threads, as many as torch would use; within each, torch uses one thread.

    This spreads whole pieces of work over the cores instead of every matrix product. Threads that share a product wait for
    each other after each one, which costs little on an idle machine and much on a busy one. Pieces that run in one thread
    also round alike on any number of cores.
    """
    threads = torch.get_num_threads()
    with torch_threads(1):
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield pool, threads
        finally:
            pool.shutdown(cancel_futures=True)


def native_bf16() -> bool:
    """Whether the processor multiplies bf16 itself. Where torch emulates it, bf16 is slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
