"""Options that several commands have, and the check of a file to be written."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from flukeprint.core.errors import FlukeprintError

Json = Annotated[bool, Option("--json", help="Print JSON instead of text.")]
Bundle = Annotated[Path | None, Option(metavar="DIR", help="Use a model written by `export`, not this project's.")]
Gallery = Annotated[Path | None, Option(metavar="DIR", help="Use another gallery, made by the same model.")]
Local = Annotated[bool, Option("--local", help="Re-rank the first candidates by matched keypoints: docs/local.md.")]
Networks = Annotated[
    tuple[Path, Path] | None,
    Option(
        "--local-networks",
        metavar="KEYPOINTS MATCHER",
        help="Match keypoints by ALIKED and LightGlue, with these two files of weights, not by SIFT.",
    ),
]

Place = Annotated[str, Option("--catalogue", metavar="DIR|URL", envvar="FLUKEPRINT_CATALOGUE", help="The catalogue.")]
Who = Annotated[
    str | None,
    Option(metavar="NAME", envvar="FLUKEPRINT_WHO", help="Who decides; else the name you are logged in with."),
]

Ray = Annotated[
    str | None,
    Option("--ray", metavar="auto|HOST:PORT", help="Let machines that Ray joins read new photos: docs/cluster.md."),
]
Machines = Callable[..., Iterator[Any]] | None


@contextmanager
def machines_of(ray: str | None) -> Iterator[Machines]:
    """Yield the `map` of core/worker_processes.py by the machines that Ray joins at an address; None without one."""
    if ray is None:
        yield None
        return
    from flukeprint.core.ray_cluster import Cluster, ray_map

    with ray_map(Cluster(ray, option="--ray")) as mapped:
        yield mapped


def check_networks(networks: tuple[Path, Path] | None, *, local: bool) -> None:
    """Refuse networks that would not be asked."""
    if networks and not local:
        raise FlukeprintError("--local-networks says how --local matches keypoints, and --local is not there. Add it.")


def check_output(option: str, path: Path | None, inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work, a file that cannot be written or that is an input; nothing is said of None."""
    if path is None:
        return
    if path.is_dir():
        raise FlukeprintError(f"{option} {path} is a folder, expected the name of a file to write. Add a name.")
    if any(parent.exists() and not parent.is_dir() for parent in path.absolute().parents):
        raise FlukeprintError(f"{option} {path} cannot be written: a part of it is a file. Choose another name.")
    # Unlike Path.resolve, realpath takes a link that leads to itself.
    if os.path.realpath(path) in map(os.path.realpath, inputs):
        raise FlukeprintError(f"{option} {path} is one of the photos or tables to be read. Choose another name.")
