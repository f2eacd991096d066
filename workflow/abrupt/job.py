"""What every job does around its work: a log, one-line errors, PyTorch made deterministic."""

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abrupt.errors import InputError


@contextmanager
def job_log(path: str) -> Iterator[None]:
    """Log to `path`, warnings and errors to stderr too. An InputError ends the job with one line, any
    other exception with its traceback."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # on a full disk the error is one line, without the log's own tracebacks
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    logging.getLogger().addHandler(terminal)
    try:
        yield
    except InputError as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except Exception:
        logging.exception("the job failed")
        sys.exit(1)


def keep_freed_memory() -> None:
    """Keep what a training step frees for the next one, which otherwise gets it from the kernel anew, a page fault
    for each 4 KiB: glibc gives large blocks back. Without effect on another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # M_MMAP_THRESHOLD, below which blocks come from the heap: before 2.35 glibc takes no more than 32 MiB.
    if mallopt is not None and (mallopt(-3, 2**30) or mallopt(-3, 2**25)):
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: of the heap's free end


def prepare_torch(device: str, threads: int) -> str:
    """Set threads and determinism, and resolve `device` (auto, cpu or cuda) to cpu or cuda.

    Raises InputError if cuda is asked for and there is none.
    """
    keep_freed_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True)
    # An aid to finding reads of uninitialised memory, not to determinism; it fills every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("config: device is cuda, but PyTorch finds no GPU here: set device: cpu or auto")
    if torch.cuda.is_available() and device != "cpu":
        logging.info("on %s", torch.cuda.get_device_name())
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
