"""What the report says in words: names of results and figures for readers who do not know the code."""

from collections.abc import Mapping

from flukeprint.core.paths import PRETRAINED
from flukeprint.evaluation.figures import counts
from flukeprint.evaluation.leaderboard import HELD_OUT, UNNAMED, Leaderboard
from flukeprint.metrics.intervals import Comparison
from flukeprint.scoring.registry import BEST, ENSEMBLE, PRETRAINED_KNN, scorer_of

Figures = dict[str, dict[str, float]]

# (key in the figures, column's title, the figure in one plain sentence)
RANKING = (
    ("cmc1", "rank 1", "Known whales: share whose individual is the first candidate, new_whale not counted."),
    ("cmc5", "rank 5", "Known whales: share whose individual is among the first 5 candidates."),
    ("cmc10", "rank 10", "Known whales: share whose individual is among the first 10 candidates."),
    ("class_map", "mAP", "Known whales: how well each individual's photos come before others, individuals alike."),
)
OPEN_SET = (
    ("baks", "BAKS", "The share of right first answers on known whales, every individual counted alike."),
    ("baus", "BAUS", "The share of “new whale” first answers on new whales, every individual counted alike."),
    ("geometric_mean", "mean", "The square root of BAKS × BAUS: high only if both are."),
    ("auroc", "AUROC", "The chance that a known whale looks less new than a new one; 0.5 is guessing, 1 is perfect."),
    ("fpr_at_95_tpr", "FPR 95", "The share of new whales taken for known where 95 % of the known ones are."),
    ("tar_at_1e-2_far", "TAR 1 %", "The share of known whales accepted where at most 1 % of the new ones are."),
    ("tar_at_1e-3_far", "TAR 0.1 %", "The same where at most 0.1 % are: with under 1,000 new whales, none at all."),
    ("eer", "EER", "The error rate where as many new whales are accepted as known ones refused; 0 is perfect."),
)
# Of OPEN_SET and more, for each kind of new whale: the suffix of the figures' keys, and the kind in words.
KINDS = {HELD_OUT: "held out whole", UNNAMED: "labelled new_whale"}
OF_KIND = (
    ("new_top1", "“new” first"),
    ("map5", "MAP@5"),
    ("auroc", "AUROC"),
    ("eer", "EER"),
    ("fpr_at_95_tpr", "FPR 95"),
    ("tar_at_1e-2_far", "TAR 1 %"),
    ("geometric_mean", "mean"),
)
CALIBRATION = (
    ("ece", "ECE", "How far the first answer's probability is off how often it is right, on average; 0 is perfect."),
)

CURVES = {
    "new_share": (
        "MAP@5 if the share of new whales were another",
        "Right of the dashed line there are more new whales than the decision was made for. Where a line lies above "
        "all_new, looking at photos pays.",
    ),
    "cmc": (
        "The right individual among the first candidates",
        "The share of photos of known whales (up) whose individual is among so many candidates (across): how long a "
        "list a person has to look through.",
    ),
    "precision_recall": (
        "Accepting identifications above a probability",
        "The best individual of each answer is accepted from some probability on. Across: share of all known whales "
        "that are accepted and right. Up: share of the accepted ones that are right; a new whale that is accepted is "
        "an error.",
    ),
    "reliability": (
        "Do probabilities mean what they say?",
        "First answers in groups of similar probability (across) and how many of each group are right (up). On the "
        "dashed line, a probability can be taken at its word; below it, the scorer is too sure.",
    ),
    "roc": (
        "Do two photos show the same whale?",
        "The share of pairs of the same whale that are accepted (up) if so many pairs of different whales are accepted "
        "by mistake (across, in powers of ten).",
    ),
}

SIZES = (
    "Do probabilities hold in a gallery of another size?",
    "As the chart of probabilities above, but the same photos search galleries of so many individuals, drawn from all.",
)

# What compares two photos, and of whom they are, where individuals are added.
SIMILARITIES = {
    ENSEMBLE: "the trained networks",
    PRETRAINED: "the network before training",
}
ENROLLED = {
    "held_out": "held out whole, enrolled with one photo",
    "left_out": "in the gallery but left out of fine-tuning, one photo in the gallery",
    "trained": "trained on, one photo in the gallery",
}
OPERATING_POINTS = {
    "far_1e-2": "1 in 100 pairs of different whales",
    "far_1e-3": "1 in 1,000 pairs of different whales",
    "eer": "as many false accepts as false refusals",
}
# Natural frequencies, by the figure that a sentence needs.
NATURAL = {
    "known_top1": "Of {known} of whales that it knows, {name} names the right one first for {of_known[known_top1]}, "
    "and among its five answers for {of_known[known_top5]}.",
    "cmc1": "If it may not say “new whale”, these are {of_known[cmc1]} and {of_known[cmc5]}.",
    "new_top1": "Of {new} of whales that it has never seen, it says “new whale” first for {of_new[new_top1]}.",
}
NEVER_FIRST = (
    "Of {known} of whales that it knows, {name} has the right one among its five answers for {of_known[known_top5]}, "
    "but never first."
)
# What follows them.
HEADLINE = {
    "map5": "Its MAP@5 is {found[map5]:.3f} (95 % interval {found[map5_low]:.3f} to {found[map5_high]:.3f}), with new "
    "whales counted as {percent} of all photos; saying “new whale” every time gives {share:.3f}.",
    "gain": "On these photos it {verdict} copying the labels of nearly the same pictures: {signed[gain]} "
    "(95 % interval {signed[gain_low]} to {signed[gain_high]}).",
}


def about_scorer(name: str, leaderboard: Leaderboard) -> str:
    """Say in a few words what a scorer does."""
    scorer = scorer_of(name)
    if name == BEST:
        return f"{title_of(leaderboard.best or '')}: {scorer.says}"
    return scorer.says if leaderboard.calibrated else scorer.uncalibrated or scorer.says


def size_name(name: str) -> str:
    """Return how many individuals a gallery has, as its line is called."""
    return f"{name} individuals"


def title_of(name: str) -> str:
    """Return a result's name in plain words."""
    return scorer_of(name).title


def named(name: str) -> str:
    """Return a result's name in plain words with its key, where they do not hold it."""
    title = title_of(name)
    return title if name in title.split() else f"{title} ({name})"


def style_of(name: str) -> int:
    """Return the line style of a result, or of a similarity."""
    return scorer_of(PRETRAINED_KNN if name == PRETRAINED else name).style


def headline(leaderboard: Leaderboard, figures: Figures) -> list[str]:
    """Say in plain words how good the highest result is, and what to make of it."""
    found = figures[leaderboard.top.name]
    said = {
        "share": leaderboard.queries.new_share,
        "percent": f"{100 * leaderboard.queries.new_share:g} %",
        "found": found,
        "signed": {key: signed(value) for key, value in found.items()},
    }
    if "gain" in found:
        gain = Comparison(*(found[key] for key in ("gain", "gain_low", "gain_high", "gain_p")))
        said["verdict"] = {1: "is better than", -1: "is worse than", 0: "cannot be told from"}[gain.verdict]
    more = [text.format(**said) for key, text in HEADLINE.items() if key in found]
    return natural(leaderboard.best or leaderboard.top.name, counts(leaderboard.queries), found) + more


def natural(name: str, asked: Mapping[str, int], found: Mapping[str, float]) -> list[str]:
    """Say how many of the photos that were asked about a result gets right: sentences."""
    known, new = asked["known_queries"], asked["new_queries"]
    of_known, of_new = ({key: round(number * value) for key, value in found.items()} for number in (known, new))
    texts = NATURAL if of_known.get("known_top1") else NATURAL | {"known_top1": NEVER_FIRST}
    said = {"name": named(name), "known": photos(known), "new": photos(new)}
    return [text.format(**said, of_known=of_known, of_new=of_new) for key, text in texts.items() if key in found]


def photos(number: int) -> str:
    """Return a number of photos in words."""
    return f"{number:,} photo{'' if number == 1 else 's'}"


def signed(value: float) -> str:
    """Return a difference with its sign, and a minus as wide as a plus."""
    return f"{value:+.3f}".replace("-", "\u2212")
