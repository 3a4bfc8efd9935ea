"""Where every stage reads and writes, relative to the project's root (DVC runs stages there)."""

from pathlib import Path

PARAMS = Path("params.yaml")

RAW = Path("data/raw")
VALIDATED = Path("data/validated")
SELECTED = Path("data/selected")
PIXELS = Path("data/pixels")
EMBEDDINGS = Path("data/embeddings")
PREDICTIONS = Path("data/predictions")
SUBMISSION = Path("data/submission.csv")

BACKBONE = Path("models/backbone")
HEADS = Path("models/head")
FINETUNED = Path("models/finetuned")
FULL_HEADS = Path("models/full_head")
DECISION = Path("models/decision.json")
GALLERY = Path("models/gallery")

METRICS = Path("metrics")

# Checkpoints of a training under way; ignored by git, unknown to DVC, removed when the stage ends.
WORK = Path(".work")
