"""The Great Expectations suites that the rules make, run by Checkpoints on the frames."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pandas as pd

from flukeprint.core.params import ValidateParams
from flukeprint.quality.rules import RULES, Rule, levels

_SEVERITY = {"error": "critical", "warning": "warning"}


@dataclass
class Outcome:
    """What came of one rule: the offending rows of each frame, or what was observed of all rows."""

    rule: Rule
    level: str  # error, warning or off
    rows: dict[str, list[Any]] = field(default_factory=dict)  # frame: index labels, ascending
    observed: list[Any] = field(default_factory=list)  # values of failed expectations about all rows
    checked: bool = False  # False: off, or none of its frames was there

    @property
    def failed(self) -> bool:
        """Whether the rule was checked and does not hold."""
        return any(self.rows.values()) or bool(self.observed)


def load_great_expectations() -> None:
    """Import Great Expectations, quietly; not in a thread beside others, which can find scipy half-initialised."""
    # It logs hundreds of lines about itself while it is imported.
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import_module("flukeprint.quality.expectations")


def run_rules(frames: Mapping[str, pd.DataFrame], params: ValidateParams) -> list[Outcome]:
    """Check every rule that is not off on the frames that are there; the order is that of RULES."""
    level = levels(params.rules)
    outcomes = {rule.name: Outcome(rule, level[rule.name]) for rule in RULES}
    with warnings.catch_warnings(action="ignore"):
        source = _source()
        for name, frame in frames.items():
            expectations = _expectations(name, params, outcomes)
            for expectation in expectations:
                outcomes[expectation.meta["rule"]].checked = True
            if expectations and not frame.empty:
                for result in _run_checkpoint(source, name, frame, expectations):
                    _note(result, name, outcomes)
    for outcome in outcomes.values():
        outcome.rows = {name: sorted(set(rows)) for name, rows in outcome.rows.items()}
    return list(outcomes.values())


def _expectations(frame: str, params: ValidateParams, outcomes: Mapping[str, Outcome]) -> list[Any]:
    """Return the expectations of all rules that are not off on one frame."""
    from flukeprint.quality.expectations import expectation

    expectations = []
    for rule in RULES:
        level = outcomes[rule.name].level
        places = [
            place.split("=") for name, _, place in (target.partition(".") for target in rule.check.on) if name == frame
        ]
        for columns in places if level != "off" else ():
            domain = dict(zip(("column",) if len(columns) == 1 else ("column_A", "column_B"), columns, strict=True))
            noted = {"severity": _SEVERITY[level], "meta": {"rule": rule.name, "reason": rule.reason}}
            expectations.append(expectation(rule.check.expectation)(**domain, **rule.check.arguments(params), **noted))
    return expectations


def _source() -> Any:
    """Return a source of data frames in a context that lives in memory only, without a documentation site."""
    from flukeprint.quality import expectations  # noqa: F401, I001 - turns analytics off before the next import
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    context = gx.get_context(mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=stores))
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    return context.data_sources.add_pandas("folder")


def _run_checkpoint(source: Any, name: str, frame: pd.DataFrame, expectations: Sequence[Any]) -> list[Any]:
    """Run a suite on one frame by a Checkpoint; return the result of each expectation."""
    import great_expectations as gx

    context = source.data_context
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=list(expectations)))
    rows = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
    definition = gx.ValidationDefinition(name=name, data=rows, suite=suite)
    validation = context.validation_definitions.add(definition)
    result_format = {"result_format": "COMPLETE", "include_unexpected_rows": False}
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name=name, validation_definitions=[validation], result_format=result_format)
    )
    run = checkpoint.run(batch_parameters={"dataframe": frame})
    return [single for result in run.run_results.values() for single in result.results]


def _note(result: Any, frame: str, outcomes: Mapping[str, Outcome]) -> None:
    """Note one expectation's result; an expectation that could not be evaluated is a defect, not a finding."""
    if result.exception_info.get("raised_exception", True):
        raise RuntimeError(f"{result.expectation_config.type} failed on {frame}: {result.exception_info}")
    if result.success:
        return
    outcome = outcomes[result.expectation_config.meta["rule"]]
    if "unexpected_index_list" in result.result:
        outcome.rows.setdefault(frame, []).extend(result.result["unexpected_index_list"])
    else:
        outcome.observed.append(result.result["observed_value"])
