"""How a command or a stage ends: an error as one message, without a traceback.

Nothing here shapes a result, so no stage of dvc.yaml depends on this module.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from flukeprint.core import paths
from flukeprint.core.effective_keys import with_effective_keys
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.replacement import NO_SPACE
from flukeprint.core.safe_text import printable_lines

_STDOUT, _STDERR = 1, 2
# Which stage makes what lies here, the narrower place first.
MAKERS = {
    paths.RAW: "fetch",
    paths.BOXES: "localize",
    paths.LOCALISER: "localize",
    paths.VALIDATED: "validate",
    paths.SELECTED: "select",
    paths.PIXELS: "pixels",
    paths.PHOTO_SIZE: "backbone",
    paths.BACKBONE: "backbone",
    paths.MEMBER_BACKBONES: "backbone",
    paths.HEADS: "train",
    paths.STARTS: "start",
    paths.FINETUNED: "finetune",
    paths.EMBEDDINGS / paths.PRETRAINED: "baseline",
    paths.EMBEDDINGS: "embed",
    paths.RECEIPTS: "embed",
    paths.FULL_HEADS: "full_head",
    paths.PREDICTIONS: "ensemble",
    paths.GALLERY: "gallery",
    paths.DECISION: "calibrate",
    paths.METRICS / "train": "train",
    paths.METRICS / "finetune": "finetune",
    paths.METRICS / "full_head": "full_head",
}

_NO_PERMISSION = "no permission to write or read {}. Change its permissions, or choose another place."
_THROUGH_A_FILE = "{} goes through a file as if it were a folder. Choose another one."
_FULL = (
    "no space left on the disk while writing {}. Nothing half-written was kept: "
    "free some space (dvc gc --workspace drops cached outputs of old runs) and run again."
)
# What the system refuses for a reason that the user can mend, by its error. Any other error is a defect.
_REFUSALS = {
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: "{} is on a disk that cannot be written to. Choose another place.",
    errno.ENAMETOOLONG: "{} is too long a name for this disk. Choose another one.",
    errno.ENOTDIR: _THROUGH_A_FILE,
    errno.EEXIST: _THROUGH_A_FILE,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (
        "{} would be larger than a file may be here (`ulimit -f`, or the disk's own limit). Nothing half-written was "
        "kept: raise the limit and run again."
    ),
}


# What a stream says that cannot be written to.
_UNPRINTABLE = (*NO_SPACE, errno.EIO, errno.EBADF, errno.EPIPE)
# Of a process that a signal ended, as shells have it.
_BY_SIGNAL = 128


def exit_cleanly(command: Callable[[], None]) -> None:
    """Run a command; on a user's error print one message and exit with code 1, without a traceback.

    A full disk, one without permission, or an impossible name is a user's error too. Whoever closes the pipe that is
    printed to (`| head`) has read enough: that ends a command quietly, with code 1. Ctrl+C ends it with code 130 and
    SIGTERM with 143, both without a word from here, and nothing half-written stays. Any other exception is a defect.
    """
    _open_streams()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("flukeprint").setLevel(logging.INFO)
    with _interruptible():
        try:
            command()
            sys.stdout.flush()
        except BrokenPipeError:
            _silence(sys.stdout)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(_BY_SIGNAL + signal.SIGINT)
        except FlukeprintError as error:
            sys.exit(f"error: {printable_lines(_message(error))}")
        except OSError as error:
            sys.exit(f"error: {_refusal(error)}")


def say_done(text: str) -> None:
    """Print what has been done. It stays done where that cannot be printed: stderr says so, and nothing is raised."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        _silence(sys.stdout)
        with suppress(OSError):
            sys.stderr.write(f"It is done, but what was done could not be printed ({error.strerror}).\n")


def _refusal(error: OSError) -> str:
    """Say what the system refused; an error that no user can mend is raised again."""
    if error.filename is None and error.errno in _UNPRINTABLE:
        _silence(sys.stdout)
        return f"this could not be printed ({error.strerror}). Send it elsewhere."
    if error.errno not in _REFUSALS:
        raise error
    return _REFUSALS[error.errno].format(printable_lines(str(error.filename or "a file")))


def _silence(stream: TextIO) -> None:
    """Let what is still to be printed at exit go nowhere, instead of failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_streams() -> None:
    """Let any text be printed, and no file be opened under the number of a stream that was closed (`>&-`)."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR if descriptor == _STDERR else os.O_RDONLY)  # takes the lowest number
    sys.stdout = sys.stdout or os.fdopen(_STDOUT, "w", encoding="utf-8", closefd=False)  # writing to it fails
    sys.stderr = sys.stderr or os.fdopen(_STDERR, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the console's encoding lacks


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl+C and SIGTERM raise, so that nothing half-written stays; each a second time ends the process at once."""
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Only the main thread may; and a signal that is ignored (nohup), or somebody else's, stays so.
    ours = [number for number, handler in before.items() if handler in defaults and _in_main_thread()]
    for number in ours:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(_BY_SIGNAL + number)


def _message(error: FlukeprintError) -> str:
    """Return what an error says, with the keys of params.yaml that count where a recipe's value hides a section's."""
    from flukeprint.core.params import ParamsError, read_params

    if isinstance(error, ParamsError):
        return str(error)
    text = _with_maker(str(error))
    try:
        return with_effective_keys(text, read_params())
    except FlukeprintError:
        return text


def _with_maker(text: str) -> str:
    """Add which stage makes the file that is missing, if one does."""
    found = re.match(r"(\S+) is missing", text)
    missing = Path(found[1]) if found else None
    stages = (stage for place, stage in MAKERS.items() if missing and missing.is_relative_to(place))
    stage = next(stages, None)
    return text if stage is None else f"{text} (Stage {stage} makes it.)"


def member_argument() -> str:
    """Return the member that a stage is started for, the first word after its name."""
    if len(sys.argv) != 2:
        raise FlukeprintError("which member? Name one of ensemble.members, as in `python -m stages.embed m1`.")
    return sys.argv[1]
