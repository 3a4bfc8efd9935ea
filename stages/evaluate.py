"""evaluate: every scorer's figures, curves and breakdowns on the queries, and the report."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_frame, read_json, write_figures
from flukeprint.core.params import Params, load_params
from flukeprint.core.paths import (
    DECISION,
    EMBEDDINGS,
    FINETUNED,
    METRICS,
    PREDICTIONS,
    PRETRAINED,
    RAW,
    SELECTED,
    VALIDATED,
)
from flukeprint.core.receipts import keep_members, require_members
from flukeprint.data.embedding_files import read_embeddings
from flukeprint.data.leaks import learned_individuals, refuse_learned
from flukeprint.data.selected_tables import QUERY, is_trained, read_selected
from flukeprint.evaluation.breakdowns import as_metrics, break_down
from flukeprint.evaluation.curves import all_curves, write_curves
from flukeprint.evaluation.enrolment import Embedded, enrol
from flukeprint.evaluation.evaluation_report import Findings, Sources, write_report
from flukeprint.evaluation.figures import counts, evaluate
from flukeprint.evaluation.gallery_sizes import at_sizes, size_curves, size_figures
from flukeprint.evaluation.leaderboard import TOP, Leaderboard, build_leaderboard
from flukeprint.evaluation.verification import verify
from flukeprint.metrics.spread import Spread, warn_of_collapse
from flukeprint.scoring.calibration import Calibration, Verification, read_calibration
from flukeprint.scoring.candidates import read_candidates
from flukeprint.scoring.choice import best_answers
from flukeprint.scoring.labelled_photos import ComparedQueries
from flukeprint.scoring.pairs import pairs_of
from flukeprint.scoring.registry import ENSEMBLE
from flukeprint.scoring.small_galleries import FullGallery

KEYS = ("ensemble.members", "evaluate")
REPORT = Path("reports/evaluation")
TRAININGS = ("train", "finetune", "full_head")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    members = params.ensemble.members
    for folder in (EMBEDDINGS, FINETUNED):
        require_members(members, folder)
    keep_members(METRICS / "finetune", members)
    photos = read_frame(VALIDATED / "train.parquet").astype({"Id": str, "mode": str})
    table = read_selected(SELECTED / "full.parquet")
    findings = find(params, photos, table)
    write_metrics(findings)
    records = {stage: dict(records_of(METRICS / stage, members)) for stage in TRAININGS}
    histories = {stage: {name: one["history"] for name, one in own.items()} for stage, own in records.items()}
    spreads = {name: Spread(**one["spread"]) for name, one in records["finetune"].items() if "spread" in one}
    for name, spread in spreads.items():
        warn_of_collapse(name, spread)
    sources = Sources(RAW / "train", photos, table[is_trained(table)], histories, spreads)
    write_report(REPORT, findings, sources, params.evaluate.examples, params.runtime.workers)


def records_of(folder: Path, members: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the records of one training; a catalogue with too small a small set has none of its head."""
    for name in members:
        if folder.name != "train" or any(folder.glob("*.json")):
            yield name, read_json(folder / f"{name}.json")


def find(params: Params, photos: pd.DataFrame, table: pd.DataFrame) -> Findings:
    """Let every scorer answer the queries; return all figures. `photos`: the validated, `table`: the full set."""
    members, resamples = params.ensemble.members, params.evaluate.resamples
    learned = learned_individuals(FINETUNED / f"{member}.safetensors" for member in members)
    refuse_learned(table, learned)
    rows = read_candidates(PREDICTIONS / "query.parquet")
    calibration = read_calibration(DECISION)
    leaderboard = _leaderboard(rows[rows["split"] == QUERY], calibration, params.evaluate.new_share, members)
    figures = evaluate(leaderboard, resamples)
    embedded = embedded_of(members, calibration.provenance.views)
    compared = {name: ComparedQueries.of(table, *own, QUERY) for name, own in embedded.items()}
    pairs = {name: pairs_of(own) for name, own in compared.items()}
    pair = calibration.verification
    thresholds = pair.thresholds if isinstance(pair, Verification) else {}
    verification, roc = verify(pairs, thresholds, resamples)
    curves = all_curves(leaderboard)
    for name, points in roc.items():
        curves.setdefault(name, {})["roc"] = points
    breakdowns = break_down(leaderboard.queries, photos, table[is_trained(table)])
    full = FullGallery.of(compared[ENSEMBLE])
    sizes = at_sizes(full, calibration, leaderboard)
    enrolment = enrol(table, learned, embedded, resamples)
    by_size = size_figures(sizes, full)
    return Findings(
        leaderboard, figures, curves, breakdowns, verification, enrolment, by_size, size_curves(sizes), calibration.note
    )


def embedded_of(members: list[str], views: int) -> Embedded:
    """Open the embeddings of the labelled photos by the trained networks together, and by the pretrained one."""
    together = [read_embeddings(member, "train") for member in members]
    return {ENSEMBLE: (together, views), PRETRAINED: ([read_embeddings(PRETRAINED, "train")], 1)}


def write_metrics(found: Findings) -> None:
    """Write the figures and curves. The headline stays small, so that `dvc metrics diff` of it reads well."""
    leaderboard, figures = found.leaderboard, found.figures
    together = {name: row for name, row in figures.items() if name not in leaderboard.members}
    write_figures(METRICS / "evaluation.json", counts(leaderboard.queries) | together)
    write_figures(METRICS / "members.json", {name: row for name, row in figures.items() if name in leaderboard.members})
    write_figures(METRICS / "breakdowns.json", as_metrics(leaderboard, found.breakdowns))
    write_figures(METRICS / "verification.json", found.verification)
    write_figures(METRICS / "enrolment.json", found.enrolment)
    write_figures(METRICS / "gallery_sizes.json", found.sizes)
    write_curves(METRICS / "curves", found.curves, found.size_curves)


def _leaderboard(queries: pd.DataFrame, calibration: Calibration, share: float, members: list[str]) -> Leaderboard:
    """Let every scorer answer, and the best one after the labels of near-duplicates, if one was chosen."""
    leaderboard = build_leaderboard(queries, calibration, share, members)
    best = calibration.best.scorer
    if best is None or not leaderboard.queries.images:
        return leaderboard
    return leaderboard.with_best(best, best_answers(queries, calibration, TOP))


if __name__ == "__main__":
    exit_cleanly(main)
