"""`flukeprint score SUBMISSION TRUTH`: the score that Kaggle would give."""

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from flukeprint.cli.arguments import Json, check_output
from flukeprint.core.console import say_done


def score(
    submission: Annotated[Path, Argument(metavar="SUBMISSION", help="CSV file Image,Id: up to five labels per photo.")],
    truth: Annotated[Path, Argument(metavar="TRUTH", help="CSV file Image,Id: one right label per photo.")],
    per_photo: Annotated[Path | None, Option(metavar="OUT.csv", help="Also write each photo's rank and score.")] = None,
    as_json: Json = False,
) -> None:
    """Score a submission against the truth, as Kaggle does (MAP@5).

    All photos are scored, and those of known and of new whales apart. A malformed file is refused, and the fault named
    by row.
    """
    from flukeprint.core.replacement import replacing
    from flukeprint.core.safe_text import spreadsheet_cell
    from flukeprint.data import submission as library

    check_output("--per-photo", per_photo, (submission, truth))
    scored = library.score_submission(library.read_submission(submission), library.read_truth(truth))
    if per_photo:
        safe = scored.assign(**{name: scored[name].map(spreadsheet_cell) for name in ("Image", "truth")})
        with replacing(per_photo) as temporary:
            safe.to_csv(temporary, index=False, lineterminator="\n")
    summary = library.summarise(scored)
    (say_done if per_photo else echo)(json.dumps(summary, indent=2) if as_json else library.as_text(summary))
