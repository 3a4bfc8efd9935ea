"""Several processes on CPUs (gloo) do what one process does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import random_backbone

from flukeprint.core.files import read_json, read_safetensors

ROOT = Path(__file__).parents[2]

CASES = {
    "folded": {"batch_size": 8},
    # One step, of which one process has ten photos and the other one eleven: further ones multiply rounding.
    "batchnorm": {"batch_size": 32},
    "neck": {
        "batch_size": 32,
        "objective": "arcface",
        "embedding": {"batchnorm_neck": True, "dimension": 4},
        "schedule": {"keep": "last", "ema": 0.5},
        "augmentation": {"rotate": 10.0, "erase": 0.5},
    },
    "sampled": {
        "batch_size": 8,
        "objective": "arcface",
        "arcface": {"most_classes": 1},
        "mirrored_ids": True,
    },
    "pairs": {
        "batch_size": 8,
        "objective": "triplet",
        "pairs": {"sampler": "per_class", "miner": "semihard"},
        "embedding": {"pooling": "gem"},
    },
}
FOLDED = ("folded", "sampled")
# Fine-tunes in each way, then embeds.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from flukeprint.data.pixel_shards import PixelShards
from flukeprint.learning.heads import save_record
from flukeprint.learning.network_files import load_finetuned, save_finetuned
from flukeprint.learning.batches import PhotoScaler
from flukeprint.learning.embedding import EmbeddingJob, embed_to_file
from flukeprint.learning.finetuning import Start
from flukeprint.learning.networks import for_inference, freeze, new_head
from flukeprint.learning.training_data import Labelled, TrainingData
from flukeprint.core.params import RuntimeParams
from flukeprint.core.runtime import open_accelerator, relaunched
from test_processes import CASES, FOLDED
from pixel_folder import pixel_folder
from training_cases import finetune, finetune_params, random_backbone

processes = int(sys.argv[1])
runtime = RuntimeParams(device="cpu", precision="fp32", processes=processes, threads=1, workers=1, batch_size=8,
                        engine="local", address=None)
if not relaunched(runtime, "script", *sys.argv[1:]):
    accelerator = open_accelerator(runtime, several=True)
    assert accelerator.num_processes == processes
    size = (32, 32)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (37, 3, *size), dtype=np.uint8)
    # Photos with the same bytes are computed once, by whichever process has the first of them.
    pixels[[5, 20, 36]] = pixels[30]
    for name, changes in CASES.items():
        labels = list("abcdefghijkl" if name == "sampled" else "abc")
        targets = np.arange(37) % len(labels)
        train, valid = Labelled(np.arange(21), targets[:21]), Labelled(np.arange(21, 32), targets[21:32])
        data = TrainingData(pixels, train, valid, labels)
        backbone, record = random_backbone(size=size, folded=name in FOLDED)
        params = finetune_params(optimizer="sgd", lr=0.001, **changes)
        result = finetune(data, Start(backbone, record, new_head(512, 3, 0)), name, 1, 0, params, accelerator)
        path = Path(f"{name}.safetensors")
        if accelerator.is_main_process:
            save_finetuned(path, result, record, labels)
            save_record(path.with_suffix(".json"), result)
    accelerator.wait_for_everyone()
    network, record = load_finetuned(Path("batchnorm.safetensors"))
    scaler = PhotoScaler(record.mean, record.std, accelerator.device)
    job = EmbeddingJob(for_inference(freeze(network), size), scaler, 512, 8, accelerator)
    if accelerator.is_main_process:
        pixel_folder(Path("pixels"), pixels)
    accelerator.wait_for_everyone()
    shards = PixelShards(Path("pixels"))
    embed_to_file(Path("embeddings.npy"), shards, 2, job)
    other = for_inference(freeze(random_backbone(size=size, seed=1)[0]), size)
    same = EmbeddingJob(other, scaler, 512, 8, accelerator)
    embed_to_file(Path("same.npy"), shards, 2, same)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "script.py").write_text(SCRIPT)
    paths = [ROOT, ROOT / "tests", Path(__file__).parent, folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    for processes in (1, 2):
        # Unfinished trainings in a common folder would be gone on with.
        own = folder / str(processes)
        own.mkdir()
        command = [sys.executable, "-m", "script", str(processes)]
        result = subprocess.run(
            command, cwd=own, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.numeric
@pytest.mark.parametrize("case", CASES)
def test_two_processes_finetune_as_one(folder, case):
    one, two = (read_safetensors(folder / f"{processes}/{case}.safetensors") for processes in (1, 2))
    assert one[1] == two[1]
    start = random_backbone(size=(32, 32), folded=case in FOLDED)[0].state_dict()
    before = {f"{part}backbone.{key}": value for part in ("", "embedder.") for key, value in start.items()}
    common = [
        key for key in before if key in one[0] and key.endswith(("weight", "bias", "running_mean", "running_var"))
    ]
    assert len(common) >= (40 if case in FOLDED else 60)  # weights and biases of 20 convolutions
    apart, moved = (
        torch.cat([(one[0][key] - other[key]).flatten() for key in common]).norm() for other in (two[0], before)
    )
    assert apart < 5e-3 * moved


@pytest.mark.parametrize("case", CASES)
def test_the_curves_are_those_of_one_process(folder, case):
    one, two = (read_json(folder / f"{processes}/{case}.json") for processes in (1, 2))
    assert [one["runtime"].pop("processes"), two["runtime"].pop("processes")] == [1, 2]
    assert one["runtime"] == two["runtime"]
    assert one["best_epoch"] == two["best_epoch"]
    for ours, theirs in zip(one["history"], two["history"], strict=True):
        assert {key: value for key, value in theirs.items() if value is not None} == pytest.approx(
            {key: value for key, value in ours.items() if value is not None}, rel=1e-4
        )


@pytest.mark.numeric
def test_two_processes_embed_as_one(folder):
    one, two = (np.load(folder / f"{processes}/embeddings.npy") for processes in (1, 2))
    assert one.shape == two.shape == (37, 2, 512)
    np.testing.assert_allclose(two, one, rtol=2e-2, atol=2e-3)


@pytest.mark.numeric
def test_the_same_network_gives_the_same_bytes_in_two_processes(folder):
    one, two = (np.load(folder / f"{processes}/same.npy") for processes in (1, 2))
    np.testing.assert_array_equal(one, two)
    for embeddings in (one, two):
        assert (embeddings[[5, 20, 36]] == embeddings[30]).all()
        assert len(np.unique(embeddings, axis=0)) == 34
