"""Atomic writes, tidy tables as CSV, checksums."""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from abrupt.errors import InputError

if TYPE_CHECKING:  # the driver imports this module without pandas
    import pandas as pd


REMEDIES = {
    errno.ENOSPC: "no space left on the disk: free some and run the same command again",
    errno.EDQUOT: "no space left in the disk quota: free some and run the same command again",
    errno.EROFS: "the file system is read-only: run where results/ can be written",
    errno.EACCES: "no permission to write: run where results/ can be written",
}


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path` and rename it: readers see all of it or none.

    Raises InputError if the disk is full or may not be written to; the file that was there before stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        raise InputError(f"{path}: {REMEDIES[error.errno]}") from error
    finally:
        if temporary.exists():
            temporary.unlink()


def _sync_directory(path: Path) -> None:
    """Have a rename in the directory `path` outlast a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_csv(path: str | Path, table: "pd.DataFrame") -> None:
    """A tidy table as CSV, 8 significant digits, an empty cell for nan."""
    write_atomically(path, table.to_csv(index=False, float_format="%.8g", lineterminator="\n").encode())


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
