"""The one exception a user is meant to read, and how a command ends on it."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable

from flukeprint.core.text import printable_lines


class FlukeprintError(Exception):
    """Bad input or an impossible request.

    The message names the file or key, the value found, what was expected and how to repair it.
    """


def exit_cleanly(command: Callable[[], None]) -> None:
    """Run a command; on a user's error print one message and exit with code 1, without a traceback.

    A full disk, or one without permission, is a user's error too: outputs are written under a temporary
    name, so nothing half-written is left behind. Any other exception is a defect and keeps its traceback.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("flukeprint").setLevel(logging.INFO)
    try:
        command()
    except FlukeprintError as error:
        sys.exit(f"error: {printable_lines(str(error))}")
    except PermissionError as error:
        place = printable_lines(str(error.filename or "a file"))
        sys.exit(f"error: no permission to write or read {place}. Change its permissions, or choose another place.")
    except OSError as error:
        if error.errno == errno.EROFS:
            sys.exit(f"error: {error.filename} is on a disk that cannot be written to. Choose another place.")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        sys.exit(
            f"error: no space left on the disk{where}. Nothing half-written was kept: "
            "free some space (dvc gc --workspace drops cached outputs of old runs) and run again."
        )
