"""Processes that hold parts of a batch compute as one that holds all of it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from flukeprint.learning.synchronization import SynchronizedBatchNorm, whole_batch

ROOT = Path(__file__).parents[2]
# Photos of each of the three processes.
PARTS = (3, 1, 4)
SCRIPT = """
import sys
import numpy as np
import torch
from flukeprint.learning.synchronization import whole_batch
from test_synchronization import PARTS, batchnorm_case, pair_loss, synchronized

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
own = slice(sum(PARTS[:rank]), sum(PARTS[: rank + 1]))
found = {}
for name, (layer, inputs, weights) in batchnorm_case().items():
    found |= {f"{name}.{key}": value for key, value in synchronized(layer, inputs[own], weights[own]).items()}
rows = torch.arange(24.0).reshape(8, 3)[own].requires_grad_()
together, place = whole_batch(rows)
assert torch.equal(together[place], rows)
loss = pair_loss(together)
# As training does: the mean over the batch, times the share of the own photos, times the number of processes.
torch.autograd.backward(loss * len(rows) / len(together))
found |= {"rows": together.detach(), "rows.gradient": rows.grad}
np.savez(f"rank-{rank}.npz", **{key: value.numpy() for key, value in found.items()})
torch.distributed.destroy_process_group()
"""


def batchnorm_case():
    """Return a layer, inputs for all processes and the weights of a loss, of each dimension."""
    generator = torch.Generator().manual_seed(0)
    cases = {}
    for name, layer, shape in (
        ("maps", nn.BatchNorm2d(5), (8, 5, 4, 3)),
        ("vectors", nn.BatchNorm1d(5, momentum=None), (8, 5)),
        ("plain", nn.BatchNorm2d(5, affine=False, track_running_stats=False), (8, 5, 2, 2)),
    ):
        inputs = 100 + 3 * torch.randn(shape, generator=generator)
        if layer.affine:
            nn.init.normal_(layer.weight, generator=generator)
        cases[name] = layer, inputs, torch.randn(shape, generator=generator)
    return cases


def synchronized(layer: nn.Module, inputs: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    layer.__class__ = SynchronizedBatchNorm
    return trained(layer, inputs, weights)


def trained(layer: nn.Module, inputs: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return two steps' outputs, gradients and statistics."""
    for _ in range(2):
        own = inputs.clone().requires_grad_()
        outputs = layer(own)
        torch.autograd.backward((outputs.square() * weights).sum())
    state = {key: value.detach() for key, value in layer.state_dict().items()}
    gradients = {f"{key}.gradient": value.grad for key, value in layer.named_parameters()}
    return {"outputs": outputs.detach(), "inputs.gradient": own.grad, **gradients, **state}


def pair_loss(rows: torch.Tensor) -> torch.Tensor:
    """Return the mean of something that has a term for each pair of rows."""
    return ((rows @ rows.T) ** 2 * torch.arange(len(rows) ** 2.0).reshape(len(rows), -1)).mean()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "script.py").write_text(SCRIPT)
    path = os.pathsep.join(map(str, [ROOT, ROOT / "tests", Path(__file__).parent]))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(PARTS)}"]
    result = subprocess.run(
        [*launcher, "script.py"], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return [dict(np.load(folder / f"rank-{rank}.npz")) for rank in range(len(PARTS))]


@pytest.mark.numeric
@pytest.mark.parametrize("name", batchnorm_case())
def test_batchnorm_is_that_of_the_whole_batch(ranks, name):
    layer, inputs, weights = batchnorm_case()[name]
    expected = trained(layer, inputs, weights)
    for key, value in expected.items():
        parts = [rank[f"{name}.{key}"] for rank in ranks]
        if key in ("outputs", "inputs.gradient"):
            found = np.concatenate(parts)
        elif key.endswith("gradient"):
            found = sum(parts)  # DistributedDataParallel adds them up
        else:
            found = parts[0]
            assert all(np.array_equal(part, found) for part in parts), key
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-4, err_msg=key)


def test_one_process_has_its_own_rows():
    rows = torch.arange(6.0).reshape(3, 2)
    together, own = whole_batch(rows)
    assert together is rows
    assert own == slice(0, 3)


def test_rows_of_all_processes_and_their_gradients(ranks):
    rows = torch.arange(24.0).reshape(8, 3).requires_grad_()
    torch.autograd.backward(pair_loss(rows))
    for rank in ranks:
        np.testing.assert_array_equal(rank["rows"], rows.detach())
    np.testing.assert_allclose(np.concatenate([rank["rows.gradient"] for rank in ranks]), rows.grad, rtol=1e-5)
