"""The section `finetune` for tests: the values of params.yaml, with changes."""

from pathlib import Path
from typing import Any

import yaml

from flukeprint.core.params import check_params
from flukeprint.core.training_params import FinetuneParams

CONTENT = yaml.safe_load((Path(__file__).parent.parent / "params.yaml").read_text())


def finetune_params(**changes: Any) -> FinetuneParams:
    """Return the section with some values changed; those of a nested section are given as a mapping."""
    section = check_params(CONTENT).finetune.model_dump()
    for key, value in changes.items():
        section[key] = section[key] | value if isinstance(value, dict) else value
    return FinetuneParams.model_validate(section)
