"""Files and folders that are replaced whole or not at all: write under a temporary name, then rename.

A temporary name is `.NAME.<8 hexadecimal digits>.tmp`, beside NAME; git and DVC ignore it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from flukeprint.core.errors import FlukeprintError

# Errors of a write for which there is no room: on the disk, in a quota, in what one file may have (ulimit -f).
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Ends of temporary names: what is being written, and a folder that its successor is about to replace.
_UNDER_WAY, _ASIDE = ".tmp", ".old"
_TEMPORARY = re.compile(rf"\.(.+)\.[0-9a-f]+({_UNDER_WAY}|{_ASIDE})", re.DOTALL)
# Descriptors by which this process holds locks.
_LOCKS: set[int] = set()
# Of renameat2(2): names are relative to the current folder; both change places.
_HERE, _RENAME_EXCHANGE = -100, 2


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a new file beside `path`, under a temporary name: it takes its place on success, and is removed on failure.

    A full disk is an OSError that names `path`. What killed writers of `path` left is cleared away first: `recover`.
    """
    with _replacing(Path(path), partial(Path.touch, exist_ok=False)) as temporary:
        yield temporary


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place on success, and is removed on failure."""
    with _replacing(Path(path), Path.mkdir) as temporary:
        yield temporary


@contextmanager
def scratch_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path` that is removed in the end; what killed processes left there is, first."""
    path = Path(path)
    with ExitStack() as held:
        recover(path)
        yield _claim(path, Path.mkdir, held)


@contextmanager
def _replacing(path: Path, create: Callable[[Path], None]) -> Iterator[Path]:
    with _naming(path), ExitStack() as held:
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path)
        temporary = _claim(path, create, held)
        yield temporary
        _take_place(temporary, path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let a full disk, and what is refused under a temporary name, be an error that names `path`."""
    try:
        yield
    except OSError as error:
        named = Path(os.fsdecode(error.filename)).name if isinstance(error.filename, str | bytes | Path) else ""
        if error.errno in NO_SPACE or _is_temporary(named, path):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def recover(path: Path | str) -> None:
    """Clear away what killed writers of `path` left: remove what is half-written, put back what they had moved aside.

    A living writer holds a lock on what it writes. A FlukeprintError says what to do where nothing can be put back.
    """
    path = Path(path)
    for left in _leftovers(path):
        with suppress(OSError), _locked(left):
            if left.suffix == _ASIDE and not os.path.lexists(path):
                left.replace(path)
            else:
                _remove(left)
    aside = [left for left in _leftovers(path) if left.suffix == _ASIDE]
    if aside and not os.path.lexists(path):
        raise FlukeprintError(
            f"{path} is missing: a program is replacing it, or was stopped while it did. Wait for that program; if "
            f"there is none, rename {aside[0].name}, which it was, to {path.name}."
        )


def _leftovers(path: Path) -> list[Path]:
    """Return what there is beside `path` under its temporary names."""
    return [found for found in path.parent.glob(".*") if _is_temporary(found.name, path)]


def _is_temporary(name: str, path: Path) -> bool:
    # One pattern for all: to compile one for each photo of an import took a tenth of its time.
    found = _TEMPORARY.fullmatch(name)
    return found is not None and found[1] == path.name


def _claim(path: Path, create: Callable[[Path], None], held: ExitStack) -> Path:
    """Create, and lock, what is to take the place of `path`; it is removed when `held` is closed."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNDER_WAY}")
        held.callback(_remove, temporary)
        create(temporary)
        with suppress(OSError):  # a disk without locks: there, nobody removes what others left
            held.enter_context(_locked(temporary, wait=True))
        if temporary.exists():
            return temporary
        # A writer that cleared away what it found without a lock was faster than ours.


@contextmanager
def _locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file or folder, also while it is renamed; an OSError if another process holds it, or no file.

    The system lets go of it when the process ends, however it ends.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    _LOCKS.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        if descriptor in _LOCKS:
            _LOCKS.remove(descriptor)
            os.close(descriptor)


def _forget_locks() -> None:
    """Close the locks that a forked process inherits: they are its parent's, and would outlive it."""
    while _LOCKS:
        os.close(_LOCKS.pop())


os.register_at_fork(after_in_child=_forget_locks)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _take_place(new: Path, path: Path) -> None:
    """Rename to `path`. With a folder that is there, places are exchanged: it is under the temporary name then."""
    if not (new.is_dir() and os.path.lexists(path)):
        new.replace(path)
    elif not _exchange(new, path):
        _move_aside_and_take_place(new, path)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False where the system or the disk cannot do that."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    if renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if (code := ctypes.get_errno()) in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _move_aside_and_take_place(new: Path, path: Path) -> None:
    """Replace a folder by two renames; if the process is killed between them, `recover` undoes the first."""
    old = new.with_suffix(_ASIDE)
    with ExitStack() as held:
        with suppress(OSError):
            held.enter_context(_locked(path))
        path.replace(old)
        try:
            new.replace(path)
        except OSError:
            old.replace(path)
            raise
        _remove(old)
