"""Depthwise convolutions for a GPU, in Triton: one compilation serves photos of every size.

Maps of features are channels_last: N x H x W x C in memory. Sums are in single precision, in an order that the shape
alone decides, so results are the same bits each time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

# Pixels and channels of a program's part of a map, and channels where weights' gradients are summed up: of a few tried
# for EfficientNet-Lite0 on an H200 (docs/speed.md), those with the least time.
_PIXELS, _CHANNELS, _WEIGHED_CHANNELS = 64, 32, 64
# Programs that sum up weights' gradients, about: several for each of a GPU's processors.
_PROGRAMS = 2048
_SIZES = ["rows_in", "columns_in", "rows_out", "columns_out", "pixels", "top", "left", "part"]

Shape = tuple[int, int]  # rows and columns
Edge = tuple[int, int]  # rows above and columns left of the photo that a kernel reads as 0


@triton.jit(do_not_specialize=_SIZES)
def _sums(
    inputs, weights, bias, outputs, rows_in, columns_in, rows_out, columns_out, pixels, top, left, channels,
    SIDE: tl.constexpr, STRIDE: tl.constexpr, TRANSPOSED: tl.constexpr, BIASED: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sum what each output sees of the inputs, by the weights; TRANSPOSED: inputs are gradients of what was put out."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    row, column = pixel // columns_out % rows_out, pixel % columns_out
    first = (pixel // (columns_out * rows_out)).to(tl.int64) * rows_in
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for i in tl.static_range(SIDE):
        for j in tl.static_range(SIDE):
            if TRANSPOSED:
                down, across = row + top - i, column + left - j
                seen = (down >= 0) & (across >= 0) & (down % STRIDE == 0) & (across % STRIDE == 0)
                down, across = down // STRIDE, across // STRIDE
            else:
                down, across = row * STRIDE - top + i, column * STRIDE - left + j
                seen = (down >= 0) & (across >= 0)
            seen = seen & (down < rows_in) & (across < columns_in) & (pixel < pixels)
            places = ((first + down) * columns_in + across)[:, None] * channels + channel[None, :]
            values = tl.load(inputs + places, mask=seen[:, None] & (channel < channels)[None, :], other=0.0)
            weight = tl.load(weights + (i * SIDE + j) * channels + channel, mask=channel < channels, other=0.0)
            # As autocast has it, a weight has the precision of what it weighs.
            total += values.to(tl.float32) * weight.to(values.dtype).to(tl.float32)[None, :]
    if BIASED:
        own = tl.load(bias + channel, mask=channel < channels, other=0.0)
        total += own.to(outputs.dtype.element_ty).to(tl.float32)[None, :]
    places = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    tl.store(outputs + places, total, mask=(pixel < pixels)[:, None] & (channel < channels)[None, :])


@triton.jit(do_not_specialize=_SIZES)
def _weight_gradients(
    inputs, gradients, sums, rows_in, columns_in, rows_out, columns_out, pixels, top, left, part, channels,
    SIDE: tl.constexpr, STRIDE: tl.constexpr, TAPS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sum, over a part of the outputs, the gradient times each input that it saw; after those, the gradient alone."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    tap = tl.arange(0, TAPS)
    total = tl.zeros((TAPS, CHANNELS), tl.float32)
    start = tl.program_id(0) * part
    own = gradients + start.to(tl.int64) * channels + channel
    for pixel in tl.range(start, tl.minimum(start + part, pixels), loop_unroll_factor=4):
        row, column = pixel // columns_out % rows_out, pixel % columns_out
        first = (pixel // (columns_out * rows_out)).to(tl.int64) * rows_in
        down, across = row * STRIDE - top + tap // SIDE, column * STRIDE - left + tap % SIDE
        seen = (down >= 0) & (down < rows_in) & (across >= 0) & (across < columns_in) & (tap < SIDE * SIDE)
        places = ((first + down) * columns_in + across)[:, None] * channels + channel[None, :]
        values = tl.load(inputs + places, mask=seen[:, None] & (channel < channels)[None, :], other=0.0)
        values = tl.where((tap == SIDE * SIDE)[:, None], 1.0, values.to(tl.float32))
        gradient = tl.load(own, mask=channel < channels, other=0.0)
        total += values * gradient.to(tl.float32)[None, :]
        own += channels
    places = (tl.program_id(0) * TAPS + tap)[:, None] * channels + channel[None, :]
    tl.store(sums + places, total, mask=(channel < channels)[None, :])


class Depthwise(torch.autograd.Function):
    """A convolution of each channel by itself: of N x C x H x W, by weights C x 1 x side x side."""

    @staticmethod
    def forward(
        context: Any,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        bias: torch.Tensor | None,
        stride: int,
        edge: Edge,
        shape: Shape,
    ) -> torch.Tensor:
        """Return N x C x `shape`."""
        inputs, taps = inputs.contiguous(memory_format=torch.channels_last), weights.flatten(1).t().contiguous()
        context.save_for_backward(inputs, taps)
        context.stride, context.edge, context.biased = stride, edge, bias is not None
        return _summed(inputs, taps, bias, stride, edge, shape)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of inputs, weights and bias."""
        inputs, taps = context.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_inputs = of_weights = of_bias = None
        if context.needs_input_grad[0]:
            shape = inputs.shape[2:]
            of_inputs = _summed(gradient, taps, None, context.stride, context.edge, shape, transposed=True)
        if any(context.needs_input_grad[1:3]):
            sums, side = _weighed(inputs, gradient, len(taps), context.stride, context.edge), math.isqrt(len(taps))
            of_weights = sums[: len(taps)].t().reshape(-1, 1, side, side)
            of_bias = sums[len(taps)] if context.biased else None
        return of_inputs, of_weights, of_bias, None, None, None


def _summed(
    inputs: torch.Tensor,
    taps: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int,
    edge: Edge,
    shape: Shape,
    *,
    transposed: bool = False,
) -> torch.Tensor:
    """Run `_sums` with weights, taps x C."""
    n, channels = inputs.shape[:2]
    outputs = torch.empty(
        (n, channels, *shape), dtype=inputs.dtype, device=inputs.device, memory_format=torch.channels_last
    )
    pixels = n * shape[0] * shape[1]
    _sums[triton.cdiv(pixels, _PIXELS), triton.cdiv(channels, _CHANNELS)](
        inputs, taps, bias, outputs, *inputs.shape[2:], *shape, pixels, *edge, channels,
        SIDE=math.isqrt(len(taps)), STRIDE=stride, TRANSPOSED=transposed, BIASED=bias is not None,
        PIXELS=_PIXELS, CHANNELS=_CHANNELS,
    )  # fmt: skip
    return outputs


def _weighed(inputs: torch.Tensor, gradient: torch.Tensor, taps: int, stride: int, edge: Edge) -> torch.Tensor:
    """Run `_weight_gradients`: a row of C for each tap, then one for the bias."""
    channels, (rows, columns) = inputs.shape[1], gradient.shape[2:]
    pixels, blocks = len(inputs) * rows * columns, triton.cdiv(channels, _WEIGHED_CHANNELS)
    part = max(1, pixels * blocks // _PROGRAMS)
    # A tile's sides are powers of two.
    parts, height = triton.cdiv(pixels, part), triton.next_power_of_2(taps + 1)
    sums = torch.empty((parts, height, channels), device=inputs.device)
    _weight_gradients[parts, blocks](
        inputs, gradient, sums, *inputs.shape[2:], rows, columns, pixels, *edge, part, channels,
        SIDE=math.isqrt(taps), STRIDE=stride, TAPS=height, CHANNELS=_WEIGHED_CHANNELS,
    )  # fmt: skip
    return sums.sum(0)
