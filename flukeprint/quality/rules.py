"""Every data quality rule: what it checks, how much it weighs, why it is there, and what to do when it fails.

A rule is a Great Expectations expectation on columns of frames (see flukeprint/quality/frames.py):

    files        one row per file and folder that Kaggle's layout asks for
    malformed    one row per row of a table that could not be read
    train        one row per row of train.csv, with what was found in its photo
    submission   one row per row of sample_submission.csv
    test         one row per photo in test/ or in sample_submission.csv, with what was found in it
    unlisted     one row per file in train/ that train.csv does not name
    clusters     one row per cluster of near-duplicate training photos
    label_pairs  one row per two labels that share such a cluster
    exclusions   one row per row of the exclusions file

`level` is the default of `validate.rules.<name>` in params.yaml, where it can be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from flukeprint.core.params import ValidateParams

Bounds = Callable[["ValidateParams"], Mapping[str, Any]]


def _nothing(_: ValidateParams) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Rule:
    """One rule. `says` and `expects` are format strings: of the offending row, and of `p`, the params."""

    name: str
    level: Literal["error", "warning"]
    expects: str  # what holds where the rule passes
    reason: str
    repair: str
    on: tuple[str, ...]  # frame.column, each of which the expectation runs on
    expectation: str  # class in flukeprint/quality/expectations.py or in great_expectations.expectations
    says: str  # about an offending row; `{observed}` where the expectation is about all rows
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the expectation
    bounds: Bounds = _nothing  # further arguments, which are params


RULES: tuple[Rule, ...] = (
    # --- the layout and the tables; what later stages rely on -------------------------------------------
    Rule(
        name="layout",
        level="error",
        expects="train.csv, sample_submission.csv, train/ and test/ are there, and can be read",
        reason="Every stage starts from these four.",
        repair="Put the file or folder there, or set the profile's path in params.yaml to a folder in Kaggle's layout.",
        on=("files.missing",),
        expectation="ExpectColumnValuesToBeNull",
        says="{missing}",
    ),
    Rule(
        name="table_header",
        level="error",
        expects="the first row of a table names exactly its columns, separated by commas",
        reason="A cell is only known by its column.",
        repair="Repair the header; export with commas (not semicolons or tabs), and without further columns.",
        on=("files.header_is_right",),
        expectation="ExpectColumnValuesToBeInSet",
        says="the header is {header}, expected {expected_header}",
        arguments={"value_set": [True]},
    ),
    Rule(
        name="table_rows",
        level="error",
        expects="every row of a table is CSV in UTF-8 with as many cells as the header, which comes once",
        reason="A row that is misread shifts or loses labels without a trace.",
        repair="Repair or remove the row, and save the file as CSV in UTF-8.",
        on=("malformed.fault",),
        expectation="ExpectColumnValuesToBeNull",
        says="{fault}",
    ),
    Rule(
        name="row_count",
        level="error",
        expects="train.csv has {p.rows[0]:,} to {p.rows[1]:,} rows, sample_submission.csv 1 to {p.rows[1]:,}",
        reason="An empty table is a failed export; a huge one would fill the memory.",
        repair="Check the export, or change the bounds validate.rows in params.yaml.",
        on=("files.row_count_is_right",),
        expectation="ExpectColumnValuesToBeInSet",
        says="{rows_found} rows below the header",
        arguments={"value_set": [True]},
    ),
    Rule(
        name="blank_cells",
        level="error",
        expects="no Image, Id or reason is empty",
        reason="A photo without a label cannot be learnt from, a label without a photo neither.",
        repair="Fill the cell in, or remove the row. A whale without a known identity is new_whale.",
        on=("train.Image", "train.Id", "submission.Image", "exclusions.Image", "exclusions.reason"),
        expectation="ExpectColumnValuesToNotBeNull",
        says="an empty cell in {cells!r}",
    ),
    Rule(
        name="plain_names",
        level="error",
        expects="a photo's name is a plain file name: no folder, no leading dot, no control characters, in UTF-8",
        reason="A name with a path in it reads files outside the folder.",
        repair="Keep only the file's name in the column Image, or rename the file.",
        on=("train.Image", "submission.Image", "test.Image"),
        expectation="ExpectPlainFileNames",
        says="Image is {Image!r}",
    ),
    Rule(
        name="photo_exists",
        level="error",
        expects="every photo that train.csv names is in train/",
        reason="There is nothing to learn from a label alone.",
        repair="Copy the photo into train/, remove its row, or list it in data/exclusions.csv with a reason.",
        on=("train.present",),
        expectation="ExpectColumnValuesToBeInSet",
        says="{path} is missing",
        arguments={"value_set": [True]},
    ),
    Rule(
        name="photo_decodes",
        level="error",
        expects="every photo is an image that decodes to its last row, of at most {p.max_pixels:,} pixels",
        reason="A truncated photo is half grey; a bomb fills the memory; either would stop a later stage.",
        repair="Copy or export the photo again. If it is lost: data/exclusions.csv (training photos only).",
        on=("train.fault", "test.fault"),
        expectation="ExpectPhotosToDecode",
        says="{path}: {fault}",
    ),
    Rule(
        name="submission_matches_test",
        level="error",
        expects="sample_submission.csv and test/ hold the same photos",
        reason="A submission has exactly one row per test photo, or it is refused.",
        repair="Copy the missing photo into test/, or add or remove its row in sample_submission.csv.",
        on=("test.mismatch",),
        expectation="ExpectTestPhotosInSubmission",
        says="{Image!r} is {mismatch}",
    ),
    # --- labels -----------------------------------------------------------------------------------------
    Rule(
        name="photo_listed_once",
        level="error",
        expects="a table names a photo once",
        reason="A photo that is listed twice counts twice, or has two labels, and leaks from training into validation.",
        repair="Keep one of the rows: the one with the right Id.",
        on=("train.Image", "submission.Image", "exclusions.Image"),
        expectation="ExpectColumnValuesToBeUnique",
        says="Image {Image!r} is listed more than once ({rows_of_image})",
    ),
    Rule(
        name="formula_cells",
        level="error",
        expects="no cell starts with = + - @ or a tab",
        reason="A spreadsheet runs such a cell as a formula when a person opens the table.",
        repair="Remove the leading character.",
        on=("train.Image", "train.Id", "submission.Image", "submission.Id"),
        expectation="ExpectCellsNotToBeFormulas",
        says="Image is {Image!r}, Id is {Id!r}",
    ),
    Rule(
        name="label_characters",
        level="error",
        expects="a label has printable characters only, no / or \\, and no leading dot",
        reason="An invisible character makes two labels of one; a path is dangerous where ids name files.",
        repair="Type the label again.",
        on=("train.Id",),
        expectation="ExpectPrintableLabels",
        says="Id is {Id!r}",
    ),
    Rule(
        name="label_pattern",
        level="error",
        expects="a label as a whole matches {p.label_pattern}",
        reason="A submission separates five labels by spaces, so a label has none; other patterns are the catalogue's.",
        repair="Correct the label, or change validate.label_pattern in params.yaml.",
        on=("train.Id",),
        expectation="ExpectLabelsToMatch",
        says="Id is {Id!r}",
        bounds=lambda p: {"pattern": p.label_pattern},
    ),
    Rule(
        name="label_spelling",
        level="warning",
        expects="no two labels differ only by case, accents' encoding, hyphens, underscores or dots",
        reason="They are most likely one individual, typed in two ways.",
        repair="Use one spelling.",
        on=("train.other_spelling",),
        expectation="ExpectOneSpelling",
        says="Id is {Id!r}, other rows have {other_spelling!r}",
    ),
    Rule(
        name="label_count",
        level="error",
        expects="train.csv has {p.labels[0]:,} to {p.labels[1]:,} distinct labels",
        reason="One label teaches nothing; very many are a wrong column.",
        repair="Check the column Id, or change the bounds validate.labels in params.yaml.",
        on=("train.Id",),
        expectation="ExpectColumnUniqueValueCountToBeBetween",
        says="{observed} distinct labels",
        bounds=lambda p: {"min_value": p.labels[0], "max_value": p.labels[1]},
    ),
    Rule(
        name="classes_over_threshold",
        level="error",
        expects="at least 2 individuals have more photos than select.threshold",
        reason="They are the classes of the first training.",
        repair="Lower select.threshold in params.yaml, or add photos.",
        on=("train.often",),
        expectation="ExpectColumnUniqueValueCountToBeBetween",
        says="{observed} individual(s) with more photos than that",
        arguments={"min_value": 2},
    ),
    Rule(
        name="new_whale_share",
        level="warning",
        expects="a share of {p.new_whale_share[0]} to {p.new_whale_share[1]} of the training photos is new_whale",
        reason="With hardly anything else there is nobody to tell apart.",
        repair="Check the labels, or change the bounds validate.new_whale_share in params.yaml.",
        on=("train.is_new",),
        expectation="ExpectColumnMeanToBeBetween",
        says="the share is {observed:.3f}",
        bounds=lambda p: {"min_value": p.new_whale_share[0], "max_value": p.new_whale_share[1]},
    ),
    # --- photos -----------------------------------------------------------------------------------------
    Rule(
        name="photo_size",
        level="warning",
        expects="a photo's shorter side is at least {p.min_side} px",
        reason="Below that the trailing edge cannot be seen.",
        repair="Look for the original photo, or list the photo in data/exclusions.csv.",
        on=("train.short_side", "test.short_side"),
        expectation="ExpectColumnValuesToBeBetween",
        says="{path} is {width:.0f} x {height:.0f} px",
        bounds=lambda p: {"min_value": p.min_side},
    ),
    Rule(
        name="photo_mode",
        level="warning",
        expects="a photo's mode is one of {p.modes}",
        reason="CMYK, palettes, alpha and 16 bits are converted, and colours may come out otherwise than meant.",
        repair="Export the photo as plain RGB with 8 bits, or check that its thumbnail looks right.",
        on=("train.mode", "test.mode"),
        expectation="ExpectColumnValuesToBeInSet",
        says="{path} has mode {mode}",
        bounds=lambda p: {"value_set": p.modes},
    ),
    Rule(
        name="photo_grey",
        level="warning",
        expects="a photo is in colour",
        reason="Where grey goes with an individual or a camera, a network may learn that instead of the fluke.",
        repair="Nothing, if both are spread over individuals. Use a colour copy where there is one.",
        on=("train.mode", "test.mode"),
        expectation="ExpectColumnValuesToNotBeInSet",
        says="{path} is grey (mode {mode})",
        arguments={"value_set": ["1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"]},
    ),
    Rule(
        name="photo_format",
        level="warning",
        expects="a photo's content is what its name says (.jpg, .png, ...)",
        reason="A file under a false name was renamed rather than converted; other programs may refuse it.",
        repair="Convert the photo, or rename it.",
        on=("train.format_of_name", "test.format_of_name"),
        expectation="ExpectFormatOfName",
        says="{path} is {format_of_name}",
    ),
    Rule(
        name="photo_orientation",
        level="warning",
        expects="a photo's pixels are upright as stored (EXIF orientation 1 or none)",
        reason="Such photos are turned when they are read. Whether a camera set the tag rightly only a person can see.",
        repair="Look at its thumbnail: if it stands on its head, rotate the photo and clear the tag.",
        on=("train.orientation", "test.orientation"),
        expectation="ExpectUprightPhotos",
        says="{path} has EXIF orientation {orientation:.0f}",
    ),
    Rule(
        name="photo_frames",
        level="warning",
        expects="a photo is one picture, not an animation",
        reason="Only the first picture is used.",
        repair="Save the picture that shows the fluke.",
        on=("train.frames", "test.frames"),
        expectation="ExpectColumnValuesToBeInSet",
        says="{path} holds {frames:.0f} pictures",
        arguments={"value_set": [1]},
    ),
    Rule(
        name="photo_contrast",
        level="warning",
        expects="a photo's grey values have a standard deviation of at least {p.min_contrast}",
        reason="A photo that is constant, or almost so, shows nothing.",
        repair="Look for the original photo, or list the photo in data/exclusions.csv.",
        on=("train.contrast", "test.contrast"),
        expectation="ExpectContrast",
        says="{path} has {contrast:.2f}",
        bounds=lambda p: {"at_least": p.min_contrast},
    ),
    Rule(
        name="photo_unlisted",
        level="warning",
        expects="train.csv names every file in train/",
        reason="The photo is not used, perhaps because its row was lost.",
        repair="Add its row to train.csv, or remove the file.",
        on=("unlisted.listed",),
        expectation="ExpectColumnValuesToBeInSet",
        says="{path} is not in train.csv",
        arguments={"value_set": [True]},
    ),
    # --- near-duplicates --------------------------------------------------------------------------------
    Rule(
        name="near_duplicates",
        level="warning",
        expects="no two training photos are the same picture",
        reason="They add nothing to training, and let validation look better than it is unless they stay together.",
        repair="Nothing: splits keep a cluster together. Drop copies in data/exclusions.csv if you like.",
        on=("clusters.photos",),
        expectation="ExpectColumnValuesToBeBetween",
        says="cluster {cluster}: {members}",
        arguments={"max_value": 1},
    ),
    Rule(
        name="conflicting_labels",
        level="warning",
        expects="near-duplicates have one label",
        reason="One picture shows one whale: at least one of the labels is wrong, or two ids are one individual.",
        repair="Look at the photos side by side in the report, and correct train.csv or drop the wrong row.",
        on=("clusters.labels",),
        expectation="ExpectClustersOfOneLabel",
        says="cluster {cluster} has {labels} labels: {members}",
    ),
    Rule(
        name="paired_labels",
        level="warning",
        expects="no two ids share a picture",
        reason="Two ids that share a picture look like one individual under two ids.",
        repair="Compare the photos of both ids; merge them if it is one whale.",
        on=("label_pairs.clusters",),
        expectation="ExpectColumnValuesToBeBetween",
        says="{label} and {other_label} share {clusters} cluster(s) of near-duplicates",
        arguments={"max_value": 0},
    ),
    Rule(
        name="test_in_train",
        level="warning",
        expects="test and train photos are different pictures",
        reason="The label of such a photo is known, so the test score says less.",
        repair="Nothing for a competition. In a set of your own, take the photo out of test/ or train/.",
        on=("test.twin",),
        expectation="ExpectTestPhotosNotInTrain",
        says="{path} is the same picture as train/{twin}",
    ),
    Rule(
        name="exclusions_known",
        level="warning",
        expects="every entry of the exclusions file names a photo of train.csv",
        reason="An entry that names no photo is a typing error, or is out of date. Test photos cannot be excluded.",
        repair="Correct or remove the entry.",
        on=("exclusions.known",),
        expectation="ExpectColumnValuesToBeInSet",
        says="{Image!r} is not in train.csv",
        arguments={"value_set": [True]},
    ),
)
