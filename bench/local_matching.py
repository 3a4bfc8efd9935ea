"""What local re-ranking gives on the queries of the project in this folder; or which keypoints match in a folder.

python -m bench.local_matching [--side 320] [--first 10] [--photos 3] [--local-networks KEYPOINTS MATCHER]
python -m bench.local_matching --folder FOLDER [--side 320] [--most 50] [--local-networks KEYPOINTS MATCHER]

In a project: fits re-ranking to the calibration queries, as `flukeprint fit-local` does, and prints what it changes on
them (each answered by a fit to the other individuals' queries, in five parts) and on the queries that are scored.
Nothing is written.

Of a folder of photos without labels: how many keypoints of a photo match in copies of it that were turned, cropped,
darkened or seen from the side, and how many in each of the other photos. Copies are no second sighting: this shows that
matching works at a size, not that whales are told apart.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from flukeprint.bundle.album import draw_picture
from flukeprint.bundle.model import Model
from flukeprint.bundle.opening import open_project
from flukeprint.data.inspection import inspect_photo
from flukeprint.data.labels import NEW_WHALE, individuals_of
from flukeprint.data.reading import list_photos
from flukeprint.data.selected_tables import CALIBRATION, QUERY
from flukeprint.identify.local_fitting import AskedQueries
from flukeprint.identify.reranking import KeypointSearch, box_of, open_matcher
from flukeprint.metrics.arrays import weighted_mean
from flukeprint.metrics.intervals import Resampling
from flukeprint.metrics.rankings import first_ranks, reciprocal_ranks
from flukeprint.retrieval.local_matching import Keypoints, LocalMatcher, describe, matched
from flukeprint.scoring.local_calibration import FusionFit, LookedAt, fit_fusion, shared_out

Arguments = argparse.Namespace
_FOLDS = 5


def main() -> None:
    """Read the command line; print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--local-networks", type=Path, nargs=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--most", type=int, default=50, help="photos of the folder")
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()
    of_folder(arguments) if arguments.folder else of_project(arguments)


# --- in a project --------------------------------------------------------------------------------------------


def of_project(arguments: Arguments) -> None:
    """Print what re-ranking changes on both kinds of queries."""
    model = open_project()
    search = searcher(arguments, model)
    asked = AskedQueries.read(model, CALIBRATION)
    looked_at = timed(asked, search, arguments.first)
    fitted = fit_fusion(looked_at, asked.truth, asked.weights)
    print(fitted)
    report("calibration, by folds", asked, looked_at, folded(asked, looked_at), arguments.resamples)
    scored = AskedQueries.read(model, QUERY)
    looked_at = timed(scored, search, arguments.first)
    report("queries", scored, looked_at, [fitted] * len(looked_at), arguments.resamples)


def searcher(arguments: Arguments, model: Model) -> KeypointSearch:
    """Return what looks at keypoints, as the command line wants it."""
    matcher = open_matcher(arguments.local_networks and tuple(arguments.local_networks))[0]
    return KeypointSearch(matcher, model.own_album.picture, arguments.side, arguments.photos)


def timed(asked: AskedQueries, search: KeypointSearch, first: int) -> list[LookedAt]:
    """Look at the candidates of all queries, and say what that took."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = asked.looked_at(search, first)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    number, calls = sum(len(one.labels) for one in found), search.of_photo.cache_info()
    print(
        f"{len(found)} queries, {number} candidates: {1000 * cpu / number:.1f} ms of CPU a candidate (wall {wall:.0f} "
        f"s); pictures described {calls.misses}, found described {calls.hits}"
    )
    return found


def folded(asked: AskedQueries, looked_at: Sequence[LookedAt]) -> list[FusionFit]:
    """Return for each query a fit to the queries of the individuals of other folds."""
    names, place = np.unique(groups_of(asked), return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[place] % _FOLDS
    fits = []
    for part in range(_FOLDS):
        others = np.flatnonzero(fold != part).tolist()
        truth = [asked.truth[row] for row in others]
        fits.append(fit_fusion([looked_at[row] for row in others], truth, asked.weights[others]))
    return [fits[part] for part in fold.tolist()]


def groups_of(asked: AskedQueries) -> NDArray[np.str_]:
    """Return the individual of each query."""
    return individuals_of((photo.id for photo in asked.photos), (photo.image for photo in asked.photos))


def report(
    name: str, asked: AskedQueries, looked_at: Sequence[LookedAt], fits: Sequence[FusionFit], resamples: int
) -> None:
    """Print the figures before and after, and the paired difference."""
    before = asked.answers.labels
    after = [reordered(asked, row, one, fit) for row, (one, fit) in enumerate(zip(looked_at, fits, strict=True))]
    is_new = np.array(asked.truth) == NEW_WHALE
    points = [reciprocal_ranks(asked.truth, labels) for labels in (before, after)]
    hits = [known_hits(asked.truth, labels) for labels in (before, after)]
    draws = Resampling(groups_of(asked), asked.weights, is_new, resamples)
    known = Resampling(groups_of(asked)[~is_new], resamples=resamples)
    print(f"{name}: {len(before)}, {int(is_new.sum())} of new whales")
    print(_changed("MAP@5", draws, *points))
    for place, words in enumerate(("named first", "among five", "among ten")):
        print(_changed(f"known whales, {words}", known, *(one[:, place][~is_new] for one in hits)))


def _changed(words: str, draws: Resampling, old: NDArray[np.float64], new: NDArray[np.float64]) -> str:
    gain = draws.compare(new, old)
    means = (weighted_mean(values, draws.weights) for values in (old, new))
    return (
        f"  {words}: {' -> '.join(f'{mean:.4f}' for mean in means)}  "
        f"{gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}], p = {gain.p_value:.4f}"
    )


def known_hits(truth: Sequence[str], labels: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return whether each query's whale is first, among five, and among ten, new_whale left out: n x 3."""
    ranks = first_ranks(truth, [[label for label in row if label != NEW_WHALE] for row in labels])[:, None]
    return ((ranks > 0) & (ranks <= np.array([1, 5, 10]))).astype(float)


def reordered(asked: AskedQueries, row: int, looked_at: LookedAt, fit: FusionFit) -> list[str]:
    """Return a query's labels in the order of their probabilities after the fusion."""
    both = zip(asked.answers.labels[row], asked.answers.probabilities[row], strict=True)
    shares = shared_out(fit, looked_at.probabilities, looked_at.matched).tolist()
    chances = dict(both) | dict(zip(looked_at.labels, shares, strict=True))
    return sorted(chances, key=lambda label: -chances[label])


# --- in a folder ---------------------------------------------------------------------------------------------


def altered(picture: Image.Image) -> dict[str, Image.Image]:
    """Return copies of a picture as another moment could have shown it."""
    width, height = picture.size
    inner = picture.crop((width // 10, height // 10, width, height))
    side = (0, 0, 0, height, width, round(0.9 * height), width, round(0.1 * height))
    return {
        "turned by 10 degrees": picture.rotate(10, Image.Resampling.BICUBIC, expand=True),
        "cropped by a tenth": inner,
        "half as large": picture.resize((max(width // 2, 1), max(height // 2, 1))),
        "darkened": ImageEnhance.Contrast(ImageEnhance.Brightness(picture).enhance(0.5)).enhance(0.7),
        "from the side": picture.transform(picture.size, Image.Transform.QUAD, side, Image.Resampling.BICUBIC),
        "turned and darkened": ImageEnhance.Brightness(picture.rotate(-15, Image.Resampling.BICUBIC)).enhance(0.6),
    }


def of_folder(arguments: Arguments) -> None:
    """Print how many keypoints match in copies of photos, and in other photos."""
    matcher = open_matcher(arguments.local_networks and tuple(arguments.local_networks))[0]
    paths = list_photos([arguments.folder])[: arguments.most]
    start = time.process_time()
    own = [described(matcher, path, arguments.side) for path in paths]
    print(f"{len(own)} photos, side {arguments.side}: {_each(start, len(own))} a picture")
    start = time.process_time()
    false = [len(matched(matcher, *pair)) for pair in combinations([one for one, _ in own], 2)]
    print(f"  another photo: {_spread(false)}; {_each(start, len(false))} a pair")
    for name, true in copies(matcher, own, arguments.side).items():
        above = np.mean(np.array(true)[:, None] > np.array(false))
        print(f"  {name}: {_spread(true)}; more than in another photo: {above:.4f} of pairs of pairs")


def described(matcher: LocalMatcher, path: Path, side: int) -> tuple[Keypoints, bytes]:
    """Return a photo's keypoints, and its picture."""
    jpeg = draw_picture(path.parent, inspect_photo(path.parent, path.name), box_of(side))
    return describe(matcher, jpeg, side), jpeg


def copies(matcher: LocalMatcher, own: Sequence[tuple[Keypoints, bytes]], side: int) -> dict[str, list[int]]:
    """Return how many keypoints match in each altered copy of each photo."""
    found: dict[str, list[int]] = {}
    for keypoints, jpeg in own:
        for name, copy in altered(Image.open(io.BytesIO(jpeg)).convert("RGB")).items():
            stream = io.BytesIO()
            copy.save(stream, "JPEG", quality=75)
            lines = matched(matcher, keypoints, describe(matcher, stream.getvalue(), side))
            found.setdefault(name, []).append(len(lines))
    return found


def _each(start: float, number: int) -> str:
    return f"{1000 * (time.process_time() - start) / max(number, 1):.1f} ms of CPU"


def _spread(numbers: Sequence[int]) -> str:
    low, middle, high = np.quantile(numbers, [0.05, 0.5, 0.95])
    return f"{middle:.0f} keypoints (median; 5 to 95 %: {low:.0f} to {high:.0f}; most {max(numbers)})"


if __name__ == "__main__":
    main()
