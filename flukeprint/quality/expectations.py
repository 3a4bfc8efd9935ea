"""Custom expectations of Great Expectations. Importing this module imports Great Expectations: do it late.

Each looks at one column of what was read of the photos or tables; no expectation opens a file.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from typing import Any

# Read by Great Expectations when it is imported: nothing is sent anywhere.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider.column_condition_partial import (
    column_condition_partial,
)
from great_expectations.expectations.metrics.map_metric_provider.column_map_metric_provider import (
    ColumnMapMetricProvider,
)

from flukeprint.core.text import FORMULA
from flukeprint.data.photos import plain_file_name

Holds = Callable[..., "pd.Series[bool]"]


def _metric(name: str, holds: Holds, arguments: tuple[str, ...] = ()) -> str:
    """Register a condition on a column's values, nulls left out, and return its name."""

    class Metric(ColumnMapMetricProvider):
        condition_metric_name = f"column_values.{name}"
        condition_value_keys = arguments

        @column_condition_partial(engine=PandasExecutionEngine)
        def _pandas(cls, column: pd.Series[Any], **options: Any) -> pd.Series[bool]:  # noqa: N805
            return holds(column, *(options[key] for key in arguments))

    return Metric.condition_metric_name


def _each(condition: Callable[[Any], bool]) -> Holds:
    return lambda column: column.map(condition).astype(bool)


def _none_at_all(column: pd.Series[Any]) -> pd.Series[bool]:
    """Hold for no value: only nulls, which never get here, are right."""
    return pd.Series(False, index=column.index)


def _printable(label: str) -> bool:
    # Space is printable; what is invisible, or changes the direction of writing, is not.
    invisible = any(unicodedata.category(c) in ("Cf", "Zs") and c != " " for c in label)
    # The gallery takes no such ids (flukeprint/retrieval/names.py).
    path = "/" in label or "\\" in label or label.startswith(".")
    return label.isprintable() and not invisible and not path


class ExpectPlainFileNames(ColumnMapExpectation):
    """Expect file names without folders, leading dots, control characters or bytes that are not UTF-8."""

    map_metric = _metric("plain_file_name", _each(plain_file_name))


class ExpectCellsNotToBeFormulas(ColumnMapExpectation):
    """Expect cells that no spreadsheet takes for a formula."""

    map_metric = _metric("no_formula", lambda column: ~column.str.startswith(FORMULA))


class ExpectPrintableLabels(ColumnMapExpectation):
    """Expect labels without control characters, invisible ones, separators of paths and leading dots."""

    map_metric = _metric("printable_label", _each(_printable))


class ExpectLabelsToMatch(ColumnMapExpectation):
    """Expect labels that match a regular expression as a whole."""

    pattern: str
    map_metric = _metric(
        "matches_as_a_whole",
        lambda column, pattern: _each(lambda label: re.fullmatch(pattern, label) is not None)(column),
        ("pattern",),
    )
    success_keys = ("pattern", "mostly")


class ExpectOneSpelling(ColumnMapExpectation):
    """Expect that there is no other spelling of a label."""

    map_metric = _metric("one_spelling", _none_at_all)


class ExpectPhotosToDecode(ColumnMapExpectation):
    """Expect no fault from reading and fully decoding a photo."""

    map_metric = _metric("decodes", _none_at_all)


class ExpectTestPhotosInSubmission(ColumnMapExpectation):
    """Expect test photos that are both in test/ and in sample_submission.csv."""

    map_metric = _metric("in_submission", _none_at_all)


class ExpectTestPhotosNotInTrain(ColumnMapExpectation):
    """Expect no training photo that is the same picture as a test photo."""

    map_metric = _metric("not_in_train", _none_at_all)


class ExpectFormatOfName(ColumnMapExpectation):
    """Expect no other format than that of the file name's suffix."""

    map_metric = _metric("format_of_name", _none_at_all)


class ExpectUprightPhotos(ColumnMapExpectation):
    """Expect EXIF orientation 1, which is also what a photo without the tag has."""

    map_metric = _metric("upright", lambda column: column == 1)


class ExpectContrast(ColumnMapExpectation):
    """Expect a standard deviation of grey values that is not (almost) zero."""

    at_least: float
    map_metric = _metric("contrast", lambda column, at_least: column >= at_least, ("at_least",))
    success_keys = ("at_least", "mostly")


class ExpectClustersOfOneLabel(ColumnMapExpectation):
    """Expect one label in a cluster of near-duplicates."""

    map_metric = _metric("one_label", lambda column: column == 1)


def expectation(name: str) -> Any:
    """Return an expectation class by name: one of those here, or one of Great Expectations' own."""
    return globals().get(name) or getattr(gxe, name)
