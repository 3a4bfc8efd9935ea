"""The command line: one module per command."""

import sys
from pathlib import Path

from flukeprint.core import end_at_once_on_interrupt

if Path(sys.argv[0]).stem in ("-m", "flukeprint"):  # `python -m flukeprint.cli`, or the command itself
    end_at_once_on_interrupt()
