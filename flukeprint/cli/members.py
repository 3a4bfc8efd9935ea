"""`flukeprint members`: fine-tune and embed all members, several at a time."""

import subprocess
import sys
from typing import Annotated

from typer import Option, echo


def members(
    most: Annotated[int, Option("--most", metavar="N", min=1, help="At a time, with runtime.engine local.")] = 1,
) -> None:
    """Fine-tune and embed all members, side by side.

    `dvc repro` does the rest afterwards. With runtime.engine local, N at a time on this machine. With ray, as many as
    its cluster has GPUs or CPUs for (docs/cluster.md). What was interrupted goes on from its last epoch.
    """
    from flukeprint.cluster.members import spread_members
    from flukeprint.cluster.members_here import run_members
    from flukeprint.core.params import load_params

    params = load_params(("ensemble.members",))
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro", "--quiet", "start"]) as start:

        def begun() -> None:
            # What DVC says of a stage that fails is on the terminal.
            if code := start.wait():
                sys.exit(code)

        if cluster := params.runtime.member_workers:
            spread_members(params.ensemble.members, cluster, echo, begun)
        else:
            begun()
            run_members(params.ensemble.members, most, echo)
