"""params.yaml as typed sections: the whole file is checked before any work, and a stage sees only its own keys."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, model_validator

from flukeprint.core.effective_keys import committed_text, effective_key, hidden_changes, with_effective_keys
from flukeprint.core.errors import FlukeprintError, MissingFileError
from flukeprint.core.files import read_bytes, reading, refuse_deep
from flukeprint.core.param_types import (
    BatchSize,
    Channels,
    Epochs,
    Float,
    MemberName,
    OpenShare,
    PositiveChannels,
    Rows,
    Section,
    Seed,
    Share,
    Side,
    SomeRows,
    UnitInterval,
    Units,
    yaml_off,
)
from flukeprint.core.paths import PARAMS
from flukeprint.core.ray_cluster import IN_TASK, Cluster
from flukeprint.core.recipes import RECIPE_SECTIONS, branch, with_recipe
from flukeprint.core.training_params import FinetuneParams, FullHeadParams, LearningRate, TrainingParams
from flukeprint.core.worker_processes import Workers

_MOST_FAULTS = 50  # that are listed
_MOST_BYTES = 1 << 17  # ten times our file with all its comments; YAML takes seconds for each megabyte
# Where Pillow itself refuses a photo.
MOST_PIXELS = 178_956_970


class BackboneParams(Section):
    """`profiles.<profile>.backbone`: which network makes the embedding, and the scaling its weights expect."""

    name: str
    weights: str
    mean: Channels | Literal["auto"]  # auto: what is published of the network
    std: PositiveChannels | Literal["auto"]
    batchnorm: Literal["train", "frozen"]


ImageSize = Side | Annotated[list[Side], Field(min_length=2, max_length=2)] | Literal["auto"]


def _sides(size: ImageSize) -> tuple[int, int] | None:
    """Return (height, width) in px of an `image_size`; None: what is published of the backbone."""
    if size == "auto":
        return None
    height, width = [size] * 2 if isinstance(size, int) else size
    return height, width


class MemberParams(Section):
    """`profiles.<profile>.members.<member>`: what one member has of its own, in place of the profile's."""

    backbone: BackboneParams | None = None
    image_size: ImageSize | None = None

    @model_validator(mode="after")
    def _something(self) -> MemberParams:
        if not self.own:
            raise ValueError("nothing is given, expected a backbone, an image_size, or both")
        return self

    @property
    def own(self) -> list[str]:
        """The keys that are given."""
        return [key for key in ("backbone", "image_size") if getattr(self, key) is not None]

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in px that it resizes photos to; None: as they come, or what is published of its backbone."""
        return None if self.image_size is None else _sides(self.image_size)


class EpochParams(Section):
    """`profiles.<profile>.epochs`: epochs of each of the three trainings."""

    train: Epochs
    finetune: Epochs
    full_head: Epochs


class ProfileParams(Section):
    """`profiles.<profile>`: what depends on the data or on what the machine can reach."""

    source: str  # one of flukeprint/data/sources.py
    path: str | None
    image_size: ImageSize
    backbone: BackboneParams
    members: dict[MemberName, MemberParams]
    epochs: EpochParams

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in px that every photo is resized to; None: what is published of the backbone."""
        return _sides(self.image_size)


class FetchParams(Section):
    """`fetch`: where raw photos come from is the profile's matter; the sample's seed is here."""

    sample_seed: Seed


Level = Annotated[Literal["error", "warning", "off"], BeforeValidator(yaml_off)]


class DuplicateParams(Section):
    """`validate.duplicates`: when two photos are the same picture."""

    bits: Annotated[int, Field(ge=0, le=16)]
    mse: Annotated[Float, Field(ge=0, le=2)]
    same_size: bool


class UnknownParams(Section):
    """`validate.unknown`: ids that say that nobody knows the whale."""

    words: list[str]  # compared by their spelling (flukeprint/data/spellings.py)
    as_new_whale: bool


class ValidateParams(Section):
    """`validate`: the bounds that rules compare with, and levels other than their own."""

    rules: dict[str, Level]  # of rules of flukeprint/quality/rules.py, which checks the names
    rows: Annotated[list[SomeRows], Field(min_length=2, max_length=2)]
    labels: Annotated[list[SomeRows], Field(min_length=2, max_length=2)]
    new_whale_share: Annotated[list[UnitInterval], Field(min_length=2, max_length=2)]
    label_pattern: str
    unknown: UnknownParams
    min_side: Annotated[int, Field(ge=1, le=65_535)]  # px, the longest that a photo may be
    max_pixels: Annotated[int, Field(ge=1, le=MOST_PIXELS)]
    modes: list[str]
    min_contrast: Annotated[Float, Field(ge=0, le=127)]
    duplicates: DuplicateParams
    thumbnails: Annotated[int, Field(ge=0, le=1_000_000)]  # a few kilobytes of the page each

    @model_validator(mode="after")
    def _usable_bounds(self) -> ValidateParams:
        for name in ("rows", "labels", "new_whale_share"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [{low}, {high}], expected [least, most]")
        try:
            re.compile(rf"\A(?:{self.label_pattern})\Z")  # as it is used
        except re.error as error:
            raise ValueError(f"label_pattern is {self.label_pattern!r}, not a regular expression ({error})") from None
        return self


class ValidShareParams(Section):
    """`select.valid_share`: share of the training photos that choose the best epoch."""

    small: OpenShare
    full: OpenShare


class CropParams(Section):
    """`localize.crop`: how a photo is cropped to the box that was found."""

    margin: UnitInterval
    shape: Literal["squashed", "true"]
    upright: bool


class LocalizeParams(Section):
    """`localize`: the network that finds flukes, what it learns from, and what is done with its boxes."""

    use: Annotated[Literal["off", "crop"], BeforeValidator(yaml_off)]
    boxes: Annotated[str, Field(min_length=1)]
    holdout: Share
    backbone: BackboneParams
    size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    epochs: Epochs
    lr: LearningRate
    head_lr: LearningRate
    batch_size: Annotated[BatchSize, Field(ge=2)]
    confidence: UnitInterval
    crop: CropParams


class SelectParams(Section):
    """`select`: the small set, the full set, and what is set aside for evaluation."""

    threshold: Rows
    new_whale: Rows
    drop: list[str]
    protocol: Literal["grouped", "time", "mlebench"]
    holdout: Share
    most_aside: SomeRows
    new_share: OpenShare
    validation: Literal["grouped", "random"]
    valid_share: ValidShareParams


class EmbedParams(Section):
    """`embed`: which views of a photo get an embedding."""

    flip_test: bool

    @property
    def views(self) -> int:
        """TTA views of a test photo: the photo alone, or also its mirror image."""
        return 2 if self.flip_test else 1


class EnsembleParams(Section):
    """`ensemble`: the members, by name. A member's seed follows from `seed` and its name."""

    members: Annotated[list[MemberName], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _distinct(self) -> EnsembleParams:
        if len(set(self.members)) < len(self.members):
            raise ValueError("members has a name twice: two members of one name would be the same network")
        if taken := [name for name in self.members if not any(map(str.isdigit, name))]:
            raise ValueError(f"members has {taken}: a name without a digit is a scorer's; choose ones like m1 or wide2")
        return self


class CalibrateParams(Section):
    """`calibrate`: whose decision it is, this run's or an earlier one's."""

    decision: Literal["fitted", "kept"]


class GalleryParams(Section):
    """`gallery`: which labelled photos are in it, and how many of them a search compares one by one."""

    photos: Literal["all", "trained"]
    exact_up_to: Rows


class EvaluateParams(Section):
    """`evaluate`: the share of new whales that scores are weighted to, and the report."""

    new_share: OpenShare
    resamples: Annotated[int, Field(ge=100, le=100_000)]  # more hardly move an interval's ends
    examples: Annotated[int, Field(ge=0, le=1000)]


class SubmitParams(Section):
    """`submit`: whose answers are handed in, and how new_whale is ranked among the individuals."""

    decision: Literal["class", "calibrated", "best"]


class RuntimeParams(Section):
    """`runtime`: the machine. No stage depends on it: it changes rounding, and the results' files say which it was."""

    device: str
    precision: Literal["auto", "fp32", "bf16"]
    processes: Units
    threads: Units
    workers: Units
    batch_size: BatchSize
    engine: Literal["local", "ray"]
    address: Annotated[str, StringConstraints(pattern=r"^(auto|[\w.:\[\]-]+:\d{1,5})$")] | None  # auto | HOST:PORT

    @model_validator(mode="after")
    def _gpu_of_its_own(self) -> RuntimeParams:
        if self.engine == "ray" and self.device.startswith("cuda:"):
            raise ValueError(
                f"device is {self.device!r}, but engine 'ray' gives each task a GPU of its own; expected 'auto', "
                "'cuda' or 'cpu'"
            )
        return self

    @property
    def photo_workers(self) -> Workers:
        """What decodes photos. A Ray of our own here would be no more than processes are."""
        return Cluster(self.address) if self._on_ray and self.address else self.workers

    @property
    def network_workers(self) -> Cluster | None:
        """The machines that run networks over shards of photos; None: this one does."""
        return Cluster(self.address, self.threads, device=self.device) if self._on_ray else None

    @property
    def member_workers(self) -> Cluster | None:
        """The machines that train and embed members; None: this one does."""
        return Cluster(self.address, self.threads, self.processes, self.device) if self._on_ray else None

    @property
    def _on_ray(self) -> bool:
        # What Ray has sent to a worker is done there.
        return self.engine == "ray" and IN_TASK not in os.environ


class RecipeParams(Section):
    """`recipes.<recipe>`: values that replace those of the sections; what is not named here stays as it is there."""

    finetune: dict[str, Any]
    embed: dict[str, Any]
    full_head: dict[str, Any]
    submit: dict[str, Any]


# The section has its stage's name, which pydantic 1 used for a method: the field replaces it.
warnings.filterwarnings("ignore", message='Field name "validate" in "Params" shadows')


class Params(Section):
    """params.yaml."""

    profile: str
    profiles: dict[str, ProfileParams]
    recipe: str
    recipes: dict[str, RecipeParams]
    seed: Seed
    fetch: FetchParams
    localize: LocalizeParams
    validate: ValidateParams  # type: ignore[assignment]
    select: SelectParams
    train: TrainingParams
    finetune: FinetuneParams
    embed: EmbedParams
    full_head: FullHeadParams
    ensemble: EnsembleParams
    gallery: GalleryParams
    calibrate: CalibrateParams
    evaluate: EvaluateParams
    submit: SubmitParams
    runtime: RuntimeParams

    @model_validator(mode="after")
    def _known_choices(self) -> Params:
        for name, choices in (("profile", self.profiles), ("recipe", self.recipes)):
            if (chosen := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {chosen!r}, expected one of {sorted(choices)}")
        return self

    @property
    def active(self) -> ProfileParams:
        """The section of the chosen profile."""
        return self.profiles[self.profile]


class ParamsError(FlukeprintError):
    """A fault of params.yaml itself."""


def load_params(keys: Iterable[str], path: Path | str = PARAMS) -> Params:
    """Check all of params.yaml and return the part that a stage declares; other keys raise AttributeError when read.

    `keys` are dotted names of sections or single keys, as dvc.yaml lists them under the stage's `params`; `profiles.*`
    and `recipes.*` stand for the chosen profile and recipe. A section that recipes may change is named twice: itself,
    and under `recipes.*`. `runtime` is always there. A FlukeprintError names every fault of the file; a value that was
    changed since the last commit, but is hidden by another one, is a fault.
    """
    params = check_params(read_params(path), str(path), _committed(Path(path)))
    names = [key.replace("profiles.*", f"profiles.{params.profile}").split(".") for key in ("runtime", *keys)]
    restricted: Params = _restrict(params, [name for name in names if name[0] != "recipes"])
    restricted.__dict__["profile"] = params.profile
    return restricted


def check_params(content: Any, source: str = "params.yaml", committed: Any = None) -> Params:
    """Return the typed params of a parsed YAML document, with the chosen recipe's values in their sections.

    The other recipes are checked as well. `committed` is the document as it was before, if that is known.
    """
    content = _word_keys(content)
    recipe = branch(content, "recipe")
    params, faults = _validated(content, recipe)
    if params is not None and params.submit.decision != "class" and not _calibrated(params):
        faults.append(
            f"{effective_key(content, recipe, ('submit', 'decision'))}: is {params.submit.decision!r}, which "
            "calibration queries choose, but select.holdout is 0: nothing is set aside; expected 'class', a holdout, "
            "or calibrate.decision 'kept'"
        )
    faults += [] if params is None else _unusable_members(params, content, recipe)
    for name in branch(content, "recipes") or ():
        more = _validated(content, name)[1] if name != recipe else []
        faults += [fault for fault in more if fault not in faults]
    if committed is not None:
        faults += hidden_changes(content, _word_keys(committed))
    if params is None or faults:
        listed = "\n".join(f"  - {fault}" for fault in faults[:_MOST_FAULTS])
        raise ParamsError(
            f"{source} has values that cannot be used; nothing was run.\n{listed}\n"
            f"Repair the file (`git diff {source}` shows what was changed, also by `dvc exp run -S`)."
        )
    return params


def _calibrated(params: Params) -> bool:
    """Tell whether there will be a decision that was fitted to photos set aside, here or in an earlier run."""
    return bool(params.select.holdout) or params.calibrate.decision == "kept"


def _unusable_members(params: Params, content: Any, recipe: Any) -> Iterator[str]:
    """Say which members of the chosen profile can have nothing of their own, and why."""
    key = f"profiles.{params.profile}.members"
    for member, given in params.active.members.items():
        if member not in params.ensemble.members:
            yield f"{key}: names {member!r}, expected one of ensemble.members, {params.ensemble.members}"
        elif params.finetune.starts_from_head:
            objective = effective_key(content, recipe, ("finetune", "objective"))
            yield (
                f"{key}.{member}.{given.own[0]}: is given, but {objective} is 'cross_entropy' on the small set, which "
                f"starts from a head on the embeddings of profiles.{params.profile}.backbone, of photos of the "
                "profile's size; expected an objective of embeddings (recipe: metric), or nothing of its own"
            )


def read_params(path: Path | str = PARAMS) -> Any:
    """Read the file as it stands, unchecked."""
    path = Path(path)
    repair = f"Repair it (`git diff {path}` shows what was changed)."
    try:
        text = read_bytes(path, "valid YAML", repair, _MOST_BYTES)
    except MissingFileError:
        raise FlukeprintError(f"{path} is missing here ({Path.cwd().name}/). Run from the project's root.") from None
    with reading(path, "valid YAML", repair):
        return _parsed(text)


def _parsed(text: bytes) -> Any:
    content = yaml.load(text.decode("utf-8-sig"), _Loader)  # noqa: S506 - a safe loader
    refuse_deep(content)
    return content


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them stand for more values than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise ValueError(f"line {event.start_mark.line + 1} has the alias *{event.anchor}; write the value there")
        return super().compose_node(parent, index)


def _committed(path: Path) -> Any:
    """Return the file's content as the last commit has it; None where that is not known, or could not be read."""
    text = committed_text(path)
    try:
        return None if text is None else _parsed(text)
    except (ValueError, yaml.YAMLError, RecursionError):
        return None


def _word_keys(content: Any) -> Any:
    """Read the key `on` as a word: YAML 1.2 (DVC) does, YAML 1.1 (PyYAML) makes it True."""
    if not isinstance(content, dict):
        return content
    return {"on" if key is True else key: _word_keys(value) for key, value in content.items()}


def _validated(content: Any, recipe: Any) -> tuple[Params | None, list[str]]:
    """Return the params under one recipe, and what is wrong with them."""
    try:
        return Params.model_validate(with_recipe(content, recipe)), []
    except ValidationError as error:
        return None, [_describe(fault, content, recipe) for fault in error.errors()]


def _describe(fault: Any, content: Any, recipe: Any) -> str:
    """Say in one line which key counts, which value it has, and what was expected."""
    key = effective_key(content, recipe, fault["loc"]) or "params.yaml"
    match fault["type"]:
        case "extra_forbidden":
            return f"{key}: there is no such key (value {fault['input']!r:.200}); check the spelling"
        case "missing":
            return f"{key}: the key is missing"
        case "value_error":
            text = with_effective_keys(str(fault["ctx"]["error"]), content | {"recipe": recipe})
            return text if len(fault["loc"]) == 1 and fault["loc"][0] in RECIPE_SECTIONS else f"{key}: {text}"
        case _:
            expected = fault["msg"].replace("Input should be", "expected").replace("a valid ", "a ")
            return f"{key}: is {fault['input']!r:.200}, {expected[0].lower()}{expected[1:]}"


def _restrict(section: Any, names: list[list[str]]) -> Any:
    """Copy a section with only the named leaves (a name that ends at a section keeps all of it)."""
    kept: dict[str, Any] = {}
    for head in dict.fromkeys(name[0] for name in names):
        rests = [name[1:] for name in names if name[0] == head]
        value = section[head] if isinstance(section, dict) else getattr(section, head)
        kept[head] = value if [] in rests else _restrict(value, rests)
    return kept if isinstance(section, dict) else type(section).model_construct(**kept)
