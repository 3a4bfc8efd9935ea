"""Custom expectations of Great Expectations. Importing this module imports Great Expectations: do it late.

Each looks at one column of what was read of the photos or tables; no expectation opens a file.
"""

from __future__ import annotations

import os
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

from flukeprint.data.photos import plain_file_name


def _metric(name: str, holds: Callable[[Any], bool]) -> str:
    """Register a condition on the single values of a column, nulls left out, and return its name."""

    class Metric(ColumnMapMetricProvider):
        condition_metric_name = f"column_values.{name}"

        @column_condition_partial(engine=PandasExecutionEngine)
        def _pandas(cls, column: pd.Series[Any], **_: Any) -> pd.Series[bool]:  # noqa: N805
            return column.map(holds).astype(bool)

    return Metric.condition_metric_name


def _printable(label: str) -> bool:
    # Space is printable; what is invisible, or changes the direction of writing, is not.
    invisible = any(unicodedata.category(c) in ("Cf", "Zs") and c != " " for c in label)
    # The gallery takes no such ids (flukeprint/retrieval/names.py).
    path = "/" in label or "\\" in label or label.startswith(".")
    return label.isprintable() and not invisible and not path


class ExpectPlainFileNames(ColumnMapExpectation):
    """Expect file names without folders, leading dots, control characters or bytes that are not UTF-8."""

    map_metric = _metric("plain_file_name", plain_file_name)


class ExpectPrintableLabels(ColumnMapExpectation):
    """Expect labels without control characters, invisible ones, separators of paths and leading dots."""

    map_metric = _metric("printable_label", _printable)


def expectation(name: str) -> Any:
    """Return an expectation class by name: one of those here, or one of Great Expectations' own."""
    return globals().get(name) or getattr(gxe, name)
