"""Depthwise convolutions by own kernels: against torch's, by Triton's interpreter and on a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from interpreted_depthwise import CASES
from timm.layers import Conv2dSame
from torch import nn

from flukeprint.learning import depthwise
from flukeprint.learning.depthwise import DepthwiseConv2d, fast_depthwise

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
GPU = torch.device("cuda")
ON_GPU = SimpleNamespace(device=GPU, mixed_precision="bf16")
IN_BF16 = SimpleNamespace(device=torch.device("cpu"), mixed_precision="bf16")
ON_CPU = SimpleNamespace(device=torch.device("cpu"), mixed_precision="no")


@pytest.fixture(scope="module")
def interpreted():
    # Interpreters of before do not work with numpy 2.4.
    pytest.importorskip("triton", "3.9", reason="no triton, or an older one (it comes with torch on Linux)")
    script = Path(__file__).with_name("interpreted_depthwise.py")
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


@pytest.mark.parametrize("case", CASES)
def test_results_and_gradients_are_those_of_torch(interpreted, case):
    assert len(interpreted[case]) == (3 if case == "no bias" else 4)
    assert max(interpreted[case]) < 1e-4


@on_gpu
@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize(("channels", "side", "stride"), [(144, 3, 1), (96, 3, 2), (240, 5, 1), (58, 5, 2)])
def test_a_gpu_gives_what_torch_gives_and_the_same_bits_each_time(kind, channels, side, stride):
    torch.manual_seed(0)
    layer = kind(channels, channels, side, stride, 0 if kind is Conv2dSame else side // 2, groups=channels).to(GPU)
    photos = torch.randn(8, channels, 21, 28, device=GPU, requires_grad=True)
    with torch.backends.cudnn.flags(allow_tf32=False):
        wanted = [each.cpu() for each in on_device(layer, photos)]
    fast_depthwise(layer, ON_GPU)
    found, again = ([each.cpu() for each in on_device(layer, photos)] for _ in range(2))
    assert isinstance(layer, DepthwiseConv2d)
    for own, other, once_more in zip(found, wanted, again, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-3)
        assert torch.equal(own, once_more)


@on_gpu
def test_autocast_rounds_photos_and_weights_as_it_does_for_torch():
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 32, 3, padding=1, groups=32).to(GPU)
    photos = torch.randn(4, 32, 9, 9, device=GPU, requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        wanted = layer(photos)
        found = fast_depthwise(layer, ON_GPU)(photos)
    assert found.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize(("side", "stride", "bias"), [(3, 1, True), (5, 2, True), (3, 2, False)])
def test_in_bfloat16_a_cpu_gives_what_torch_gives_and_gradients_that_are_nearer(kind, side, stride, bias):
    torch.manual_seed(0)
    layer = kind(8, 8, side, stride, 0 if kind is Conv2dSame else side // 2, groups=8, bias=bias)
    photos = torch.randn(4, 8, 11, 14, requires_grad=True)
    wanted = on_device(layer.bfloat16(), photos.bfloat16())
    exact = on_device(layer.double(), photos.bfloat16().double())
    with torch.autocast("cpu", torch.bfloat16):
        found = on_device(fast_depthwise(layer.float(), IN_BF16), photos)
    assert isinstance(layer, DepthwiseConv2d)
    assert torch.equal(found[0], wanted[0])
    assert [each.dtype for each in found] == [torch.bfloat16] + [torch.float32] * (len(wanted) - 1)
    errors = [
        [(each - true).abs().max() for each in (own, other)]
        for own, other, true in zip(found[1:], wanted[1:], exact[1:], strict=True)
    ]
    (of_photos, rounded), *of_parameters = errors
    assert of_photos <= rounded + 1e-6  # which goes on in bfloat16
    assert all(own < other / 10 for own, other in of_parameters)


def on_device(layer, photos):
    output = layer(photos)
    gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(output)
    return [output.detach(), *torch.autograd.grad(output, [photos, *layer.parameters()], gradient)]


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        Conv2dSame(8, 8, 5, 2, groups=8),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.Conv2d(8, 16, 3, groups=8),
        nn.Conv2d(8, 8, 3, groups=8, dilation=2),
        nn.Conv2d(8, 8, (3, 1), groups=8),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", groups=8),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
    )


def test_layers_that_convolve_each_channel_by_itself_are_run_by_them(monkeypatch):
    monkeypatch.setattr(depthwise, "_compiles", lambda: True)
    layers = network()
    before = layers.state_dict()
    fast_depthwise(layers, ON_GPU)
    assert [isinstance(layer, DepthwiseConv2d) for layer in layers] == [False, True, True] + 6 * [False]
    assert [layer.same for layer in layers[1:3]] == [False, True]
    assert layers.state_dict().keys() == before.keys()


def test_elsewhere_a_network_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(depthwise, "_compiles", lambda: True)
    layers = fast_depthwise(network(), ON_CPU)
    assert not any(isinstance(layer, DepthwiseConv2d) for layer in layers)


def test_a_missing_compiler_is_said_and_leaves_a_network_as_it_is(monkeypatch, caplog):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(depthwise.shutil, "which", lambda _: None)
    layers = fast_depthwise(network(), ON_GPU)
    assert not any(isinstance(layer, DepthwiseConv2d) for layer in layers)
    assert "clang, gcc, cc" in caplog.text


def test_a_compiler_that_the_user_names_is_enough(monkeypatch):
    monkeypatch.setenv("CC", "/opt/mine/cc")
    monkeypatch.setattr(depthwise.shutil, "which", lambda _: None)
    monkeypatch.setattr(depthwise, "find_spec", lambda _: object())
    assert isinstance(fast_depthwise(network(), ON_GPU)[1], DepthwiseConv2d)
