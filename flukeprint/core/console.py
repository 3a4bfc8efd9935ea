"""How a command or a stage ends: an error as one message, without a traceback.

Nothing here shapes a result, so no stage of dvc.yaml depends on this module.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable

from flukeprint.core.effective import with_effective_keys
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.text import printable_lines

# Names that cannot be used for a file, by the system's error.
_UNUSABLE = {
    errno.ENAMETOOLONG: "is too long a name for this disk",
    errno.ENOTDIR: "goes through a file as if it were a folder",
    errno.EEXIST: "goes through a file as if it were a folder",
}


def exit_cleanly(command: Callable[[], None]) -> None:
    """Run a command; on a user's error print one message and exit with code 1, without a traceback.

    A full disk, one without permission, or an impossible name is a user's error too: outputs are written under a
    temporary name, so nothing half-written is left behind. Whoever closes the pipe that is printed to (`| head`) has
    read enough: that ends a command quietly, with code 1. Any other exception is a defect and keeps its traceback.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("flukeprint").setLevel(logging.INFO)
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still to be printed at exit goes nowhere, instead of failing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except FlukeprintError as error:
        sys.exit(f"error: {printable_lines(_message(error))}")
    except PermissionError as error:
        place = printable_lines(str(error.filename or "a file"))
        sys.exit(f"error: no permission to write or read {place}. Change its permissions, or choose another place.")
    except OSError as error:
        if error.errno == errno.EROFS:
            sys.exit(f"error: {error.filename} is on a disk that cannot be written to. Choose another place.")
        if error.errno in _UNUSABLE:
            name = printable_lines(str(error.filename or "a name"))
            sys.exit(f"error: {name} {_UNUSABLE[error.errno]}. Choose another one.")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        sys.exit(
            f"error: no space left on the disk{where}. Nothing half-written was kept: "
            "free some space (dvc gc --workspace drops cached outputs of old runs) and run again."
        )


def _message(error: FlukeprintError) -> str:
    """Return what an error says, with the keys of params.yaml that count where a recipe's value hides a section's."""
    from flukeprint.core.params import ParamsError, read_params

    if isinstance(error, ParamsError):
        return str(error)
    try:
        return with_effective_keys(str(error), read_params())
    except FlukeprintError:
        return str(error)
