"""One module per DVC stage, named like it: read params, call the library, write outputs."""

import sys

from flukeprint.core import end_at_once_on_interrupt

if sys.argv[0] == "-m":  # `python -m stages.NAME`
    end_at_once_on_interrupt()
