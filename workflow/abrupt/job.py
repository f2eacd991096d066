"""What every job does around its work: a log, one-line errors, PyTorch made deterministic.

Scripts import this module first, and everything else inside `job_log`, so that a package that cannot be imported is in
the log. Nothing but the standard library is needed.
"""

import ctypes
import logging
import os
import site
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abrupt.errors import InputError

# Variables by which OpenMP binds the threads of a process to cores.
BINDINGS = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


@contextmanager
def job_log(path: str) -> Iterator[None]:
    """Log to `path`, warnings and errors to stderr too. An InputError ends the job with one line, any
    other exception with its traceback, and with one line more if a package could not be imported."""
    leave_cores_to_the_kernel()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=path, encoding="utf-8", level=logging.INFO, format="%(asctime)s %(message)s")
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
    except Exception as error:
        logging.exception("the job failed")
        if reason := failed_import(error):
            logging.error("error: %s", reason)
        sys.exit(1)


def leave_cores_to_the_kernel() -> None:
    """Have OpenMP bind no thread to a core, whatever the environment says.

    A binding is meant for one program that has the machine to itself: each process takes the first cores that it may
    use, so jobs that run side by side share one core while another idles. Without effect after PyTorch was imported.
    """
    for name in BINDINGS:
        os.environ.pop(name, None)


def failed_import(error: BaseException) -> str | None:
    """One line about the package that could not be imported: which, from where, and what to do about it. None if
    `error` is no such thing."""
    while error.__cause__ is not None:  # some packages put an exception of their own over that of another
        error = error.__cause__
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>"]
    modules = [frame.f_globals for frame in frames]
    importing = [names for names in modules if names["__name__"].split(".")[0] not in ("__main__", "abrupt")]
    if isinstance(error, ModuleNotFoundError) and not importing:
        return f"{error}: install what envs/requirements.txt lists"
    if isinstance(error, ImportError) and error.path:
        name, file = error.name, error.path
    elif isinstance(error, AttributeError) and importing and hasattr(error.obj, "__path__"):
        name, file = error.obj.__name__, error.obj.__file__ or next(iter(error.obj.__path__))
    elif importing:
        name, file = importing[-1]["__name__"], importing[-1].get("__file__")
    else:
        return None
    return f"{name} cannot be imported from {file}: {error}; {_remedy(Path(file or ''))}"


def _remedy(file: Path) -> str:
    if site.ENABLE_USER_SITE and file.is_relative_to(site.getusersitepackages()):
        return "it is among your own packages, which come first: set PYTHONNOUSERSITE=1"
    for folder in filter(None, os.getenv("PYTHONPATH", "").split(os.pathsep)):
        if file.is_relative_to(folder):
            return f"it comes first because PYTHONPATH names {folder}: unset PYTHONPATH"
    return "install what envs/requirements.txt lists anew"


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
