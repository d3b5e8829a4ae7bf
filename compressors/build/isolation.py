"""Work in a process of its own: what an exporter's libraries leave behind in one must not shape the next artifact.

With torch 2.13, after FX quantization has run in a process, AOTInductor packs the int8 weights of the next
network differently, and that artifact is 1.6 times slower. A library that crashes also costs only its own variant.
"""

import importlib
import logging
import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar, cast

import cloudpickle

P = ParamSpec("P")
T = TypeVar("T")


def in_fresh_process(function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Runs `function` in a new interpreter and returns or raises what it does; what it returns must pickle.

    What it raises comes as a RuntimeError of the same text where that does not pickle. Its arguments go by
    cloudpickle: a user's network may hold lambdas, which pickle does not take.
    """
    packed = cloudpickle.dumps((function, arguments, keywords))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare) as pool:
        return cast(T, pool.submit(_call, packed).result())


@contextmanager
def side_by_side(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for fresh processes; where the block is left by an exception, those processes end with it."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown()


def _call(packed: bytes) -> object:
    if b"torchvision" in packed:  # its networks do not unpickle without this; of any other, two seconds are saved
        importlib.import_module("compressors.networks.torchvision")
    function, arguments, keywords = pickle.loads(packed)
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        if _pickles(error):
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _pickles(error: Exception) -> bool:
    """Whether the error keeps its text on its way: libraries' errors may want more arguments than pickle gives them."""
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)
    except Exception:
        return False


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    logging.disable(logging.WARNING)  # what the libraries tell their own developers
