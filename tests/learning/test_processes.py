"""Several processes on CPUs (gloo) do what one process does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flukeprint.core.files import read_safetensors

ROOT = Path(__file__).parents[2]

# Fine-tunes with BatchNorm's statistics fixed (each process has its own batch's otherwise), then embeds.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from flukeprint.learning.records import BackboneRecord
from flukeprint.learning.backbones import load_finetuned, save_finetuned
from flukeprint.learning.batches import Labelled, PhotoScaler
from flukeprint.learning.embedding import EmbeddingJob, embed_to_file
from flukeprint.learning.finetuning import FinetuneData, Start, finetune
from flukeprint.learning.networks import build_backbone, for_inference, freeze, new_head
from flukeprint.core.params import RuntimeParams
from flukeprint.core.runtime import open_accelerator, relaunched
from finetune_params import finetune_params

processes = int(sys.argv[1])
runtime = RuntimeParams(device="cpu", precision="fp32", processes=processes, threads=1, workers=1, batch_size=8)
if not relaunched(runtime, "script", *sys.argv[1:]):
    accelerator = open_accelerator(runtime)
    assert accelerator.num_processes == processes
    size = (32, 32)
    generator = np.random.default_rng(0)
    targets = np.arange(37) % 3
    pixels = generator.integers(0, 255, (37, 3, *size), dtype=np.uint8)
    # Photos with the same bytes are computed once, by whichever process has the first of them.
    pixels[[5, 20, 36]] = pixels[30]
    train, valid = Labelled(np.arange(25), targets[:25]), Labelled(np.arange(25, 37), targets[25:])
    data = FinetuneData(pixels, train, valid, ["a", "b", "c"])
    backbone, last = build_backbone("resnet18", size, 0)
    record = BackboneRecord("resnet18", "random", "", (0.5,) * 3, (0.25,) * 3, size, 512, last, True)
    params = finetune_params(optimizer="sgd", lr=0.001, batch_size=8)
    result = finetune(data, Start(backbone, record, new_head(512, 3, 0)), "m1", 2, 0, params, accelerator)
    path = Path(f"finetuned-{processes}.safetensors")
    if accelerator.is_main_process:
        save_finetuned(path, result, record, ["a", "b", "c"])
    accelerator.wait_for_everyone()
    # 26 photos in batches of 8 would leave one photo per process, which a BatchNorm neck cannot normalise.
    nothing = Labelled(np.zeros(0, np.int64), np.zeros(0, np.int64))
    few = FinetuneData(pixels, Labelled(np.arange(26), targets[:26]), nothing, data.labels)
    params = finetune_params(
        objective="arcface", batch_size=8, embedding={"batchnorm_neck": True, "dimension": 4},
        schedule={"keep": "last", "ema": 0.5}, augmentation={"rotate": 10.0, "erase": 0.5},
    )
    begin = Start(build_backbone("resnet18", size, 0)[0], record, new_head(512, 3, 0))
    learned = finetune(few, begin, "m2", 1, 0, params, accelerator)
    assert all(np.isfinite(value.numpy()).all() for value in learned.state.values())
    network, record = load_finetuned(path)
    scaler = PhotoScaler(record.mean, record.std, accelerator.device)
    job = EmbeddingJob(for_inference(freeze(network)), scaler, 512, 8, accelerator)
    embed_to_file(Path(f"embeddings-{processes}.npy"), pixels, 2, job)
    same = EmbeddingJob(for_inference(freeze(build_backbone("resnet18", size, 1)[0])), scaler, 512, 8, accelerator)
    embed_to_file(Path(f"same-{processes}.npy"), pixels, 2, same)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(folder)])}
    for processes in (1, 2):
        command = [sys.executable, "-m", "script", str(processes)]
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.numeric
def test_two_processes_finetune_as_one(folder):
    one, two = (read_safetensors(folder / f"finetuned-{processes}.safetensors") for processes in (1, 2))
    assert one[1] == two[1]
    for key, value in one[0].items():
        np.testing.assert_allclose(two[0][key], value, rtol=2e-3, atol=2e-5, err_msg=key)


@pytest.mark.numeric
def test_two_processes_embed_as_one(folder):
    one, two = (np.load(folder / f"embeddings-{processes}.npy") for processes in (1, 2))
    assert one.shape == two.shape == (37, 2, 512)
    np.testing.assert_allclose(two, one, rtol=2e-2, atol=2e-3)


@pytest.mark.numeric
def test_the_same_network_gives_the_same_bytes_in_two_processes(folder):
    one, two = (np.load(folder / f"same-{processes}.npy") for processes in (1, 2))
    np.testing.assert_array_equal(one, two)
    for embeddings in (one, two):
        assert (embeddings[[5, 20, 36]] == embeddings[30]).all()
        assert len(np.unique(embeddings, axis=0)) == 34
