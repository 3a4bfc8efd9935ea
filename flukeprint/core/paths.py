"""Where every stage reads and writes, relative to the project's root (DVC runs stages there)."""

from pathlib import Path

PARAMS = Path("params.yaml")

RAW = Path("data/raw")
# Boxes around the flukes of some train photos, if the source has them; and of all photos, as the localiser finds them.
MARKED_BOXES = RAW / "boxes.csv"
BOXES = Path("data/boxes")
VALIDATED = Path("data/validated")
SELECTED = Path("data/selected")
PIXELS = Path("data/pixels")
# How the photos of the pixels were cropped; null: they are whole.
CROP = PIXELS / "crop.json"
EMBEDDINGS = Path("data/embeddings")
# Folder of the pretrained backbone's embeddings, beside those of the members, and its name in metrics.
PRETRAINED = "pretrained"
PREDICTIONS = Path("data/predictions")
SUBMISSION = Path("data/submission.csv")

LOCALISER = Path("models/localiser")
LOCALISER_WEIGHTS, LOCALISER_RECORD = "localiser.safetensors", "localiser.json"
BACKBONE = Path("models/backbone")
# {"size": [height, width]} in px of all photos: of `image_size`, or of the backbone where that is auto.
PHOTO_SIZE = Path("models/photo_size.json")
# Folders of the backbones of members that have their own, by member.
MEMBER_BACKBONES = Path("models/member_backbones")
HEADS = Path("models/head")
STARTS = Path("models/start")
FINETUNED = Path("models/finetuned")
FULL_HEADS = Path("models/full_head")
DECISION = Path("models/decision.json")
# The decision of an earlier run, which a person puts there.
KEPT = Path("data/kept/decision.json")
GALLERY = Path("models/gallery")

METRICS = Path("metrics")
# What each member's weights and embeddings are: flukeprint/core/receipts.py
RECEIPTS = METRICS / "embed"

# Checkpoints of a training under way; ignored by git, unknown to DVC, removed when the stage ends.
WORK = Path(".work")
