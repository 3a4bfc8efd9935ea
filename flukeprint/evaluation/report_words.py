"""What the report says in words: names of results and figures for readers who do not know the code."""

from flukeprint.core.paths import PRETRAINED
from flukeprint.evaluation.figures import REFERENCE
from flukeprint.evaluation.leaderboard import Leaderboard
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
    PRETRAINED: "a network that was never trained on flukes",
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
# By the figure that a sentence needs.
HEADLINE = {
    "known_top1": "Of 100 photos of whales that it knows, {name} names the right individual first for "
    "{of_100[known_top1]}, and among its five answers for {of_100[known_top5]}.",
    "cmc1": "Where “new whale” is not among the answers, these are {of_100[cmc1]} and {of_100[cmc5]}.",
    "new_top1": "Of 100 photos of whales that it has never seen, it says “new whale” first for {of_100[new_top1]}.",
    "map5": "Its MAP@5 is {found[map5]:.3f} (95 % interval {found[map5_low]:.3f} to {found[map5_high]:.3f}), with new "
    "whales counted as {percent} of all photos; saying “new whale” every time gives {share:.3f}.",
    "gain": "On these photos {name} {verdict} {reference}, which only copies labels: {signed[gain]} "
    "(95 % interval {signed[gain_low]} to {signed[gain_high]}).",
}


def about_scorer(name: str, leaderboard: Leaderboard) -> str:
    """Say in a few words what a scorer does."""
    scorer = scorer_of(name)
    if name == BEST:
        return f"{leaderboard.best}: {scorer.says}"
    return scorer.says if leaderboard.calibrated else scorer.uncalibrated or scorer.says


def size_name(name: str) -> str:
    """Return how many individuals a gallery has, as its line is called."""
    return f"{name} individuals"


def style_of(name: str) -> int:
    """Return the line style of a result, or of a similarity."""
    return scorer_of(PRETRAINED_KNN if name == PRETRAINED else name).style


def headline(leaderboard: Leaderboard, figures: Figures) -> list[str]:
    """Say in plain words how good the highest result is, and what to make of it."""
    found = figures[leaderboard.top.name]
    name = leaderboard.best if leaderboard.top.name == BEST else leaderboard.top.name
    said = {
        "name": "the ensemble" if name == ENSEMBLE else name,
        "reference": REFERENCE,
        "share": leaderboard.queries.new_share,
        "percent": f"{100 * leaderboard.queries.new_share:g} %",
        "found": found,
        "of_100": {key: round(100 * value) for key, value in found.items()},
        "signed": {key: signed(value) for key, value in found.items()},
    }
    if "gain" in found:
        gain = Comparison(*(found[key] for key in ("gain", "gain_low", "gain_high", "gain_p")))
        said["verdict"] = {1: "is better than", -1: "is worse than", 0: "cannot be told from"}[gain.verdict]
    return [text.format(**said) for key, text in HEADLINE.items() if key in found]


def signed(value: float) -> str:
    """Return a difference with its sign, and a minus as wide as a plus."""
    return f"{value:+.3f}".replace("-", "\u2212")
