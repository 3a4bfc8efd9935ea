"""What every stage and command uses: errors, files, params, the layout on disk, the machine."""

import os
import signal

# Read when torch is imported, so they are set before any stage does that. OpenMP threads that spin while
# they wait slow a busy machine several times over; cuBLAS repeats its bits only with a fixed workspace.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# FAISS's linear algebra waits for ever for threads that it asks for and is not given: it must not ask for more.
if (_most := os.environ.get("OMP_THREAD_LIMIT", "")).isdigit():
    _asked = os.environ.get("OMP_NUM_THREADS", "")
    os.environ["OMP_NUM_THREADS"] = str(min(int(_most), int(_asked))) if _asked.isdigit() else _most


def end_at_once_on_interrupt() -> None:
    """Let Ctrl+C end this process without a traceback, while it imports and when its work is over.

    For a program's first lines. While there is work, `exit_cleanly` has it tidied up. An ignored Ctrl+C stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
