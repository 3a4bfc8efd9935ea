"""Every data quality rule: what it checks, how much it weighs, why it is there, and what to do when it fails.

A rule is a Great Expectations expectation on columns of frames (see flukeprint/quality/frames.py):

    files        one row per file and folder that Kaggle's layout asks for
    malformed    one row per row of a table that could not be read
    train        one row per row of train.csv, with what was found in its photo
    submission   one row per row of sample_submission.csv
    test         one row per photo in test/ or in sample_submission.csv, with what was found in it
    train_files  one row per photo in train/
    raw_files    one row per raw file of a camera, in train/ or test/, without a photo of its name beside it
    clusters     one row per cluster of near-duplicate training photos
    label_pairs  one row per two labels that share such a cluster
    exclusions   one row per row of the exclusions file

`validate.rules` in params.yaml changes levels, by the rule's name. What `flukeprint identify` says of a single photo
follows from the same rules (flukeprint/quality/flags.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import FORMULA
from flukeprint.data.photo_folders import SUFFIXES_OF_FORMAT

Level = Literal["error", "warning", "off"]
_SUFFIXES_AND_FORMATS = [f"{suffix} {name}" for name, suffixes in SUFFIXES_OF_FORMAT.items() for suffix in suffixes]
# ISO 8601, as exact as it is known: compared as texts, which are in the order of time.
_TIME = r"T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?(Z|[+-]\d\d:\d\d)?"
_TAKEN_AT = rf"\A\d{{4}}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])({_TIME})?)?)?\Z"
# Pillow's modes of photos without colours.
_GREY = ["1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"]


@dataclass(frozen=True)
class Check:
    """An expectation, and its arguments as a function of the params."""

    expectation: str  # class in flukeprint/quality/expectations.py or in great_expectations.expectations
    on: tuple[str, ...]  # frame.column (or frame.column=column, a pair), each of which is checked
    arguments: Callable[[Any], Mapping[str, Any]] = lambda _: {}


@dataclass(frozen=True)
class Rule:
    """One rule. Its texts are format strings: `expects` of `p`, the params, the others as said beside them."""

    name: str
    expects: str  # what holds where the rule passes
    reason: str
    repair: str
    check: Check
    says: str  # of the columns of an offending row; of `observed` where the expectation is about all rows
    level: Level = "warning"
    required: bool = False  # later stages rely on it: params.yaml cannot lower it
    flag: str = ""  # of a photo's record and of `p`: what identification says of it; empty: nothing
    of_flukes: bool = False  # it is about what a localiser finds: without one there is no such rule


def _range(bounds: Sequence[float]) -> Mapping[str, Any]:
    return dict(zip(("min_value", "max_value"), bounds, strict=True))


def _photos(column: str) -> tuple[str, ...]:
    return f"train.{column}", f"test.{column}"


_error = partial(Rule, level="error")
_required = partial(Rule, level="error", required=True)
_among = partial(Check, "ExpectColumnValuesToBeInSet")
_between = partial(Check, "ExpectColumnValuesToBeBetween")
_true = partial(_among, arguments=lambda _: {"value_set": [True]})
_null = partial(Check, "ExpectColumnValuesToBeNull")
_equal = partial(
    Check, "ExpectColumnPairValuesToBeEqual", arguments=lambda _: {"ignore_row_if": "either_value_is_missing"}
)

RULES: tuple[Rule, ...] = (
    # --- the layout and the tables; what later stages rely on -------------------------------------------
    _required(
        name="layout",
        expects="train.csv and train/ are there, sample_submission.csv and test/ both or neither; all can be read",
        reason="Every stage starts from these four; without photos to label, from the first two.",
        repair="Put the file or folder there, or set the profile's path in params.yaml to a folder in Kaggle's layout.",
        check=_true(("files.present",)),
        says="{missing}",
    ),
    _required(
        name="table_header",
        expects="the first row of a table names exactly its columns, separated by commas; those of train.csv may be "
        "followed by encounter and taken_at",
        reason="A cell is only known by its column.",
        repair="Repair the header; export with commas (not semicolons or tabs), and without other columns.",
        check=_equal(("files.header=columns",)),
        says="the header is {header}, expected {columns}",
    ),
    _required(
        name="table_rows",
        expects="every row of a table is CSV in UTF-8 with as many cells as the header, which comes once",
        reason="A row that is misread shifts or loses labels without a trace.",
        repair="Repair or remove the row, and save the file as CSV in UTF-8.",
        check=_null(("malformed.fault",)),
        says="{fault}",
    ),
    _required(
        name="row_count",
        expects="train.csv has {p.rows[0]:,} to {p.rows[1]:,} rows, sample_submission.csv 1 to {p.rows[1]:,}, or none "
        "where test/ is empty",
        reason="An empty table is a failed export; a huge one would fill the memory.",
        repair="Check the export, or change the bounds validate.rows in params.yaml.",
        check=_true(("files.row_count_is_right",)),
        says="{rows_found} rows below the header",
    ),
    _required(
        name="blank_cells",
        expects="no Image, Id or reason is empty",
        reason="A photo without a label cannot be learnt from, a label without a photo neither.",
        repair="Fill the cell in, or remove the row. A whale without a known identity is new_whale.",
        check=Check(
            "ExpectColumnValuesToNotBeNull",
            ("train.Image", "train.Id", "submission.Image", "exclusions.Image", "exclusions.reason"),
        ),
        says="an empty cell in {cells!r}",
    ),
    _required(
        name="plain_names",
        expects="a photo's name is a plain file name: no folder, no leading dot, no control characters, in UTF-8",
        reason="A name with a path in it reads files outside the folder.",
        repair="Keep only the file's name in the column Image, or rename the file.",
        check=Check("ExpectPlainFileNames", ("train.Image", "submission.Image", "test.Image")),
        says="Image is {Image!r}",
    ),
    _required(
        name="taken_at_format",
        expects="taken_at, where it is known, is 2024 or more exact: 2024-07, 2024-07-01, 2024-07-01T09:30:00",
        reason="select.protocol: time splits by what was photographed first, and other spellings have no order.",
        repair="Write it like that, or leave the cell empty.",
        check=Check("ExpectColumnValuesToMatchRegex", ("train.taken_at",), lambda _: {"regex": _TAKEN_AT}),
        says="taken_at is {taken_at!r}",
    ),
    _required(
        name="photo_exists",
        expects="every photo that train.csv names is in train/",
        reason="There is nothing to learn from a label alone.",
        repair="Copy the photo into train/, correct its name, remove its row, or list it in data/exclusions.csv.",
        check=_true(("train.present",)),
        says="{path} is missing{hint}",
    ),
    _required(
        name="photo_decodes",
        expects="every photo is an image that decodes to its last row, of at most {p.max_pixels:,} pixels",
        reason="A truncated photo is half grey; a bomb fills the memory; either would stop a later stage.",
        repair="Copy or export the photo again. If it is lost: data/exclusions.csv (training photos only).",
        check=_true(_photos("decodes")),
        says="{path}: {fault}",
    ),
    _required(
        name="submission_matches_test",
        expects="sample_submission.csv and test/ hold the same photos",
        reason="A submission has exactly one row per test photo, or it is refused.",
        repair="Copy the photo into test/, correct its name, or add or remove its row in sample_submission.csv.",
        check=_equal(("test.present=submitted",)),
        says="{Image!r} is in {file}, not in {absent_from}{hint}",
    ),
    # --- labels -----------------------------------------------------------------------------------------
    _error(
        name="photo_listed_once",
        expects="a table names a photo once",
        reason="A photo that is listed twice counts twice, or has two labels, and leaks from training into validation.",
        repair="Keep one of the rows: the one with the right Id.",
        check=Check("ExpectColumnValuesToBeUnique", ("train.Image", "submission.Image", "exclusions.Image")),
        says="Image {Image!r} is listed more than once ({rows_of_image})",
    ),
    _error(
        name="formula_cells",
        expects="no cell starts with = + - @ or a tab",
        reason="A spreadsheet runs such a cell as a formula when a person opens the table.",
        repair="Remove the leading character.",
        check=Check(
            "ExpectColumnValuesToNotMatchRegex",
            ("train.Image", "train.Id", "submission.Image", "submission.Id"),
            lambda _: {"regex": f"^[{re.escape(''.join(FORMULA))}]"},
        ),
        says="Image is {Image!r}, Id is {Id!r}",
    ),
    _error(
        name="label_characters",
        expects="a label has printable characters only, no / or \\, and no leading dot",
        reason="An invisible character makes two labels of one; a path is dangerous where ids name files.",
        repair="Type the label again.",
        check=Check("ExpectPrintableLabels", ("train.Id",)),
        says="Id is {Id!r}",
    ),
    _error(
        name="label_pattern",
        expects="a label as a whole matches {p.label_pattern}",
        reason="A submission separates five labels by spaces, so a label has none; other patterns are the catalogue's.",
        repair="Correct the label, or change validate.label_pattern in params.yaml.",
        check=Check(
            "ExpectColumnValuesToMatchRegex", ("train.Id",), lambda p: {"regex": rf"\A(?:{p.label_pattern})\Z"}
        ),
        says="Id is {Id!r}",
    ),
    Rule(
        name="label_spelling",
        expects="no two labels differ only by case, accents' encoding, leading zeros, or marks not between digits",
        reason="They are most likely one individual, typed in two ways.",
        repair="Use one spelling.",
        check=_equal(("train.Id=usual_spelling",)),
        says="Id is {Id!r}, which looks like {usual_id}",
    ),
    Rule(
        name="label_unknown",
        expects="a label names an individual, or is new_whale",
        reason="Photos of whales that nobody knows would be learnt as one whale.",
        repair="Write new_whale, or let all such labels be read so: validate.unknown.as_new_whale in params.yaml.",
        check=_among(("train.means_unknown",), lambda _: {"value_set": [False]}),
        says="Id is {Id!r}, which says that nobody knows the whale",
    ),
    _error(
        name="label_count",
        expects="train.csv has {p.labels[0]:,} to {p.labels[1]:,} distinct labels",
        reason="One label teaches nothing; very many are a wrong column.",
        repair="Check the column Id, or change the bounds validate.labels in params.yaml.",
        check=Check("ExpectColumnUniqueValueCountToBeBetween", ("train.Id",), lambda p: _range(p.labels)),
        says="{observed} distinct labels",
    ),
    Rule(
        name="new_whale_share",
        expects="a share of {p.new_whale_share[0]} to {p.new_whale_share[1]} of the training photos is new_whale",
        reason="With hardly anything else there is nobody to tell apart.",
        repair="Check the labels, or change the bounds validate.new_whale_share in params.yaml.",
        check=Check("ExpectColumnMeanToBeBetween", ("train.is_new",), lambda p: _range(p.new_whale_share)),
        says="the share is {observed:.3f}",
    ),
    # --- photos -----------------------------------------------------------------------------------------
    Rule(
        name="photo_size",
        expects="a photo's shorter side is at least {p.min_side} px",
        reason="Below that the trailing edge cannot be seen.",
        repair="Look for the original photo, or list the photo in data/exclusions.csv.",
        check=_between(_photos("short_side"), lambda p: {"min_value": p.min_side}),
        says="{path} is {width:.0f} x {height:.0f} px",
        flag="small: {photo.width} x {photo.height} px; below {p.min_side} px the trailing edge cannot be seen",
    ),
    Rule(
        name="photo_mode",
        expects="a photo's mode is one of {p.modes}",
        reason="CMYK, palettes, alpha and 16 bits are converted, and colours may come out otherwise than meant.",
        repair="Export the photo as plain RGB with 8 bits, or check that its thumbnail looks right.",
        check=_among(_photos("mode"), lambda p: {"value_set": p.modes}),
        says="{path} has mode {mode}",
        flag="converted from mode {photo.mode}: colours may differ from what was meant",
    ),
    Rule(
        name="photo_grey",
        expects="a photo is in colour",
        reason="Where grey goes with an individual or a camera, a network may learn that instead of the fluke.",
        repair="Nothing, if both are spread over individuals. Use a colour copy where there is one.",
        check=Check("ExpectColumnValuesToNotBeInSet", _photos("mode"), lambda _: {"value_set": _GREY}),
        says="{path} is grey (mode {mode})",
        flag="grey",
    ),
    Rule(
        name="photo_format",
        expects="a photo's content is what its name says (.jpg, .png, ...)",
        reason="A file under a false name was renamed rather than converted; other programs may refuse it.",
        repair="Convert the photo, or rename it.",
        check=_among(_photos("suffix_and_format"), lambda _: {"value_set": _SUFFIXES_AND_FORMATS}),
        says="{path} is a {format} file",
    ),
    Rule(
        name="photo_orientation",
        expects="a photo's pixels are upright as stored (EXIF orientation 1 or none)",
        reason="Such photos are turned when they are read. Whether a camera set the tag rightly only a person can see.",
        repair="Look at its thumbnail: if it stands on its head, rotate the photo and clear the tag.",
        check=_among(_photos("orientation"), lambda _: {"value_set": [1]}),
        says="{path} has EXIF orientation {orientation:.0f}",
        flag="turned, as EXIF orientation {photo.orientation} asks: is it upright?",
    ),
    Rule(
        name="photo_profile",
        expects="a photo's colour profile can be used",
        reason="Without its profile the colours come out otherwise than meant, and the photo resembles others less.",
        repair="Export the photo with the profile sRGB.",
        check=_among(_photos("profile"), lambda _: {"value_set": [""]}),
        says="{path}: {profile}",
        flag="colours may differ from what was meant: {photo.profile}",
    ),
    Rule(
        name="photo_frames",
        expects="a photo is one picture, not an animation",
        reason="Only the first picture is used.",
        repair="Save the picture that shows the fluke.",
        check=_among(_photos("frames"), lambda _: {"value_set": [1]}),
        says="{path} holds {frames:.0f} pictures",
        flag="holds {photo.frames} pictures; only the first was used",
    ),
    Rule(
        name="photo_contrast",
        expects="a photo's grey values have a standard deviation of at least {p.min_contrast}",
        reason="A photo that is constant, or almost so, shows nothing.",
        repair="Look for the original photo, or list the photo in data/exclusions.csv.",
        check=_between(_photos("contrast"), lambda p: {"min_value": p.min_contrast}),
        says="{path} has {contrast:.2f}",
        flag="almost constant: grey values vary by {photo.contrast:.1f} of 255",
    ),
    Rule(
        name="photo_fluke",
        expects="the localiser finds a fluke in a photo",
        reason="A photo of something else is nobody's, and a whole photo is compared where its fluke should be.",
        repair="Look at the photo: if it shows no fluke, list it in data/exclusions.csv, else mark its box.",
        check=_among(_photos("no_fluke"), lambda _: {"value_set": [""]}),
        says="no fluke was found in {path}: {no_fluke}",
        flag="no fluke was found ({photo.no_fluke}): the whole photo was compared",
        of_flukes=True,
    ),
    Rule(
        name="photo_upside_down",
        expects="a fluke stands upright",
        reason="Upside down it resembles nobody, itself least of all.",
        repair="Look at the photo, and rotate it; or let all of them be turned: localize.crop.upright in params.yaml.",
        check=_among(_photos("upside_down"), lambda _: {"value_set": [""]}),
        says="the fluke of {path} seems to stand upside down: {upside_down}",
        flag="the fluke seems to stand upside down: {photo.upside_down}",
        of_flukes=True,
    ),
    Rule(
        name="photo_unlisted",
        expects="train.csv names every photo in train/",
        reason="The photo is not used, perhaps because its row was lost.",
        repair="Add its row to train.csv, or remove the file.",
        check=_true(("train_files.listed",)),
        says="{path} is not in train.csv{hint}",
    ),
    Rule(
        name="photo_raw",
        expects="a camera's raw file in train/ or test/ has a photo of its name beside it",
        reason="Raw files are not read.",
        repair="Export it as JPEG in full size.",
        check=_null(("raw_files.path",)),
        says="{path} is a raw file of a camera, and left alone",
    ),
    # --- near-duplicates --------------------------------------------------------------------------------
    Rule(
        name="near_duplicates",
        expects="no two training photos are the same picture",
        reason="They add nothing to training, and let validation look better than it is unless they stay together.",
        repair="Nothing: splits keep a cluster together. Drop copies in data/exclusions.csv if you like.",
        check=_between(("clusters.photos",), lambda _: {"max_value": 1}),
        says="cluster {cluster}: {members}",
    ),
    Rule(
        name="conflicting_labels",
        expects="near-duplicates have one label",
        reason="One picture shows one whale: at least one of the labels is wrong, or two ids are one individual.",
        repair="Look at the photos side by side in the report, and correct train.csv or drop the wrong row.",
        check=_between(("clusters.labels",), lambda _: {"max_value": 1}),
        says="cluster {cluster} has {labels} labels: {members}",
    ),
    Rule(
        name="paired_labels",
        expects="no two ids share a picture",
        reason="Two ids that share a picture look like one individual under two ids.",
        repair="Compare the photos of both ids; merge them if it is one whale.",
        check=_between(("label_pairs.clusters",), lambda _: {"max_value": 0}),
        says="{label} and {other_label} share {clusters} cluster(s) of near-duplicates",
    ),
    Rule(
        name="test_in_train",
        expects="test and train photos are different pictures",
        reason="The label of such a photo is known, so the test score says less.",
        repair="Nothing for a competition. In a set of your own, take the photo out of test/ or train/.",
        check=_null(("test.same_in_train",)),
        says="{path} is the same picture as train/{same_in_train}",
    ),
    Rule(
        name="exclusions_known",
        expects="every entry of the exclusions file names a photo of train.csv",
        reason="An entry that names no photo is a typing error, or is out of date. Test photos cannot be excluded.",
        repair="Correct or remove the entry.",
        check=_true(("exclusions.known",)),
        says="{Image!r} is not in train.csv{hint}",
    ),
)


def levels(overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the level of every rule, those of `validate.rules` in params.yaml put over the defaults."""
    rules = {rule.name: rule for rule in RULES}
    faults = [
        f"validate.rules.{name}: there is no rule {name!r}; the rules are {', '.join(rules)}"
        if name not in rules
        else f"validate.rules.{name}: is {level!r}, expected 'error': later stages rely on this rule"
        for name, level in overrides.items()
        if name not in rules or (rules[name].required and level != "error")
    ]
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise FlukeprintError(
            f"params.yaml has levels of rules that cannot be used; nothing was checked.\n{listed}\nRemove the keys."
        )
    return {name: rule.level for name, rule in rules.items()} | dict(overrides)
