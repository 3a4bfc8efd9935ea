"""How a command or a stage ends: an error as one message, without a traceback.

Nothing here shapes a result, so no stage of dvc.yaml depends on this module.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable

from flukeprint.core.effective_keys import with_effective_keys
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable_lines

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
}


def exit_cleanly(command: Callable[[], None]) -> None:
    """Run a command; on a user's error print one message and exit with code 1, without a traceback.

    A full disk, one without permission, or an impossible name is a user's error too. Whoever closes the pipe that is
    printed to (`| head`) has read enough: that ends a command quietly, with code 1. Any other exception is a defect.
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
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        sys.exit(f"error: {_REFUSALS[error.errno].format(printable_lines(str(error.filename or 'a file')))}")


def _message(error: FlukeprintError) -> str:
    """Return what an error says, with the keys of params.yaml that count where a recipe's value hides a section's."""
    from flukeprint.core.params import ParamsError, read_params

    if isinstance(error, ParamsError):
        return str(error)
    try:
        return with_effective_keys(str(error), read_params())
    except FlukeprintError:
        return str(error)
