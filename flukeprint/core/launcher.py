"""`python -m flukeprint.core.launcher` is `torchrun`, but that Ctrl+C and SIGTERM end it without a traceback."""

import sys

from flukeprint.core import end_at_once_on_interrupt


def main() -> None:
    """Run torchrun; it ends its processes before it ends."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.run import main as launch

    try:
        launch()
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)  # as shells have it


if __name__ == "__main__":
    end_at_once_on_interrupt()
    main()
