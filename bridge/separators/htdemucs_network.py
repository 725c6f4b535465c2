"""The network HTDemucs, computed as demucs computes it but in another order, in less time and memory.

demucs goes layer by layer over the whole segment. Here a layer runs from its first convolution to its last
activation on a few frequencies at a time, which then stay in the cache; narrow and transposed convolutions are
matrix products; a normalisation is folded into the weights of the product before it, by the mean and covariance
of that product's input; and stems that nobody asked for are left out of the last layer. The result is demucs' own
within rounding (> 100 dB, tests/test_htdemucs.py). Layers are named as in demucs/htdemucs.py and hdemucs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bridge.separators.htdemucs_transformer import Transformer

STRIDE = 4  # of every layer, in frequency or in time
KERNEL = 8
TRIM = KERNEL // 4
BLOCK_VALUES = 131_072  # of a layer at a time: 0.5 MB, which leaves room in a core's own cache


@dataclass(frozen=True)
class _Residual:
    """One step of demucs' DConv: x + scale * glu(norm(wide(gelu(norm(narrow(x))))))."""

    narrow: Tensor  # (3 * hidden, channels): the taps of a dilated convolution, one below the other
    narrow_bias: Tensor  # (hidden, 1, 1)
    dilation: int
    norm: Any  # GroupNorm over (hidden, time)
    wide: Tensor  # (2 * channels, hidden + 1) float64: weights, and the bias as the last column
    gram: Tensor  # wide.T @ wide, float64
    mean: Tensor  # of `wide` over its rows, float64
    wide_norm: Any  # GroupNorm over (2 * channels, time)
    scale: Tensor  # (2 * channels,) float64: the layer's scale for the values, 1 for the gates


@dataclass(frozen=True)
class _Layer:
    """One layer of an encoder or a decoder; which parts it has depends on the side."""

    conv: Tensor  # encoder: the strided convolution; decoder: the transposed one as (4 * out, 2 * in)
    conv_bias: Tensor
    rewrite: Tensor
    rewrite_bias: Tensor
    residuals: tuple[_Residual, ...]


class Network:
    """An HTDemucs for inference on the CPU. It takes the model over, which is of no other use after that."""

    def __init__(self, model: Any, sources: Sequence[str]) -> None:
        """`sources`: the stems to compute, in that order.

        Raises:
            ValueError: the model has parts that no published HTDemucs has.
        """
        _check(model)
        self._model = model
        self._sources = len(sources)
        wanted = [model.sources.index(source) for source in sources]
        self._encoder = tuple(_encoder_layer(layer) for layer in model.encoder)
        self._time_encoder = tuple(_encoder_layer(layer) for layer in model.tencoder)
        self._decoder = _decoder_layers(model.decoder, wanted, len(model.sources))
        self._time_decoder = _decoder_layers(model.tdecoder, wanted, len(model.sources))
        self._transformer = Transformer(model.crosstransformer)
        model.crosstransformer = None  # its weights are packed now: don't hold them twice
        bins = torch.arange(model.nfft // 2 // STRIDE)
        # (channels, frequencies, 1)
        self._frequency = (model.freq_emb(bins).t() * model.freq_emb_scale)[:, :, None].detach()

    def __call__(self, mix: Tensor) -> Tensor:
        """The stems (sources, 2, frames) of one segment (2, frames) as long as the model's."""
        model, frames = self._model, mix.shape[-1]
        # (2, bins, steps) complex -> (4, bins, steps): real and imaginary part of each channel
        x = model._magnitude(model._spec(mix[None]))[0]
        mean, std = x.mean(), x.std()
        x = (x - mean) / (1e-5 + std)
        time_mean, time_std = mix.mean(), mix.std()
        xt = (mix - time_mean) / (1e-5 + time_std)

        skips, time_skips, lengths = [], [], []
        for index, (layer, time_layer) in enumerate(zip(self._encoder, self._time_encoder, strict=True)):
            lengths.append(xt.shape[-1])
            xt = _encode_time(xt, time_layer)
            time_skips.append(xt)
            x = _encode(x, layer, self._frequency if index == 0 else None)
            skips.append(x)
        x, xt = self._transform(x, xt)
        for index, (layer, time_layer) in enumerate(zip(self._decoder, self._time_decoder, strict=True)):
            last = index == len(self._decoder) - 1
            x = _decode(x, skips.pop(), layer, last)
            xt = _decode_time(xt, time_skips.pop(), time_layer, lengths.pop(), last)

        spectrum = x * std + mean
        out = xt.view(self._sources, 2, frames) * time_std + time_mean
        out += _waveform(spectrum.view(self._sources, 2, 2, *spectrum.shape[1:]), frames)
        return out

    def _transform(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        model, shape = self._model, x.shape
        if not model.bottom_channels:
            return self._transformer(x, xt)
        x = model.channel_upsampler(x.reshape(1, shape[0], -1))[0].unflatten(1, shape[1:])
        x, xt = self._transformer(x, model.channel_upsampler_t(xt[None])[0])
        x = model.channel_downsampler(x.reshape(1, x.shape[0], -1))
        return x.view(shape), model.channel_downsampler_t(xt[None])[0]


# one layer


def _encode(x: Tensor, layer: _Layer, frequency: Tensor | None) -> Tensor:
    """(channels, frequencies, steps) to a fourth of the frequencies and more channels."""
    channels, steps = layer.conv.shape[0], x.shape[2]
    rows = x.shape[1] // STRIDE
    padded = functional.pad(x, (0, 0, TRIM, TRIM))
    out = x.new_empty(channels, rows, steps)
    block = max(1, BLOCK_VALUES // (channels * steps))
    for first in range(0, rows, block):
        last = min(first + block, rows)
        seen = padded[None, :, STRIDE * first : STRIDE * last + KERNEL - STRIDE]
        y = functional.gelu(functional.conv2d(seen, layer.conv, layer.conv_bias, (STRIDE, 1))[0])
        _add_residuals(y, layer.residuals)
        _rewrite(y, layer, out[:, first:last])
        if frequency is not None:
            out[:, first:last] += frequency[:, first:last]
    return out


def _encode_time(x: Tensor, layer: _Layer) -> Tensor:
    """(channels, frames) to a fourth of the frames and more channels."""
    x = functional.pad(x, (TRIM, TRIM + -x.shape[1] % STRIDE))
    y = functional.gelu(functional.conv1d(x[None], layer.conv, layer.conv_bias, STRIDE))
    y = y.transpose(0, 1)  # (channels, 1, frames)
    _add_residuals(y, layer.residuals)
    out = torch.empty_like(y)
    for part in _parts(y.shape[2], y.shape[0]):
        _rewrite(y[:, :, part], layer, out[:, :, part])
    return out[:, 0]


def _rewrite(y: Tensor, layer: _Layer, out: Tensor) -> None:
    """A product with a gate, at each point by itself."""
    both = torch.addmm(layer.rewrite_bias, layer.rewrite, y.reshape(y.shape[0], -1))
    values, gates = both.view(2, *y.shape)
    torch.mul(values, gates.sigmoid_(), out=out)


def _decode(x: Tensor, skip: Tensor, layer: _Layer, is_last: bool) -> Tensor:
    """(channels, frequencies, steps) to four times the frequencies and fewer channels."""
    channels, rows, steps = x.shape
    out_channels = layer.conv.shape[0] // STRIDE
    out = x.new_empty(out_channels, rows + 1, STRIDE, steps)
    before = x.new_zeros(channels, 1, steps)
    block = max(1, BLOCK_VALUES // (channels * steps))
    for first in range(0, rows, block):
        last = min(first + block, rows)
        low, high = max(0, first - 1), min(rows, last + 1)  # the rewrite looks one row to either side
        seen = functional.pad(x[:, low:high] + skip[:, low:high], (0, 0, first == low, last == high))
        both = functional.conv2d(seen[None], layer.rewrite, layer.rewrite_bias, padding=(0, 1))
        y = functional.glu(both, 1)[0]
        _add_residuals(y, layer.residuals)
        _widen(torch.cat((y, torch.cat((before, y[:, :-1]), 1))), layer, is_last, out[:, first:last])
        before = y[:, -1:]
    _widen(torch.cat((torch.zeros_like(before), before)), layer, is_last, out[:, rows:])
    return out.view(out_channels, -1, steps)[:, TRIM:-TRIM]


def _widen(pair: Tensor, layer: _Layer, is_last: bool, out: Tensor) -> None:
    """The transposed convolution: four rows from each row and the one before it, (2 * channels, rows, steps)."""
    wide = torch.addmm(layer.conv_bias, layer.conv, pair.view(pair.shape[0], -1))
    wide = wide if is_last else functional.gelu(wide)
    out.copy_(wide.view(-1, STRIDE, *pair.shape[1:]).transpose(1, 2))


def _decode_time(x: Tensor, skip: Tensor, layer: _Layer, length: int, is_last: bool) -> Tensor:
    """(channels, frames) to `length` frames, four times as many, and fewer channels."""
    both = functional.conv1d((x + skip)[None], layer.rewrite, layer.rewrite_bias, padding=1)
    y = functional.glu(both, 1).transpose(0, 1)  # (channels, 1, frames)
    _add_residuals(y, layer.residuals)
    padded = functional.pad(y[:, 0], (1, 1))
    out = x.new_empty(layer.conv.shape[0] // STRIDE, padded.shape[1] - 1, STRIDE)
    for part in _parts(out.shape[1], x.shape[0]):
        now = padded[:, part.start + 1 : part.stop + 1]
        pair = torch.cat((now, padded[:, part.start : part.start + now.shape[1]]))
        wide = torch.addmm(layer.conv_bias, layer.conv, pair)
        wide = wide if is_last else functional.gelu(wide)
        out[:, part] = wide.view(-1, STRIDE, wide.shape[1]).transpose(1, 2)
    return out.view(out.shape[0], -1)[:, TRIM : TRIM + length]


def _add_residuals(x: Tensor, residuals: Sequence[_Residual]) -> None:
    """DConv in place on (channels, rows, steps); each row has norms of its own."""
    channels, rows, steps = x.shape
    for residual in residuals:
        inner = _narrow(x, residual)  # (rows, hidden + 1, steps)
        wide = _folded(inner, residual)  # (rows, 2 * channels, hidden + 1)
        by_row = x.transpose(0, 1)
        for part in _parts(steps, channels * rows):
            both = torch.bmm(wide, inner[:, :, part])
            by_row[:, :, part].addcmul_(both[:, :channels], both[:, channels:].sigmoid_())


def _narrow(x: Tensor, residual: _Residual) -> Tensor:
    """The inner activations (rows, hidden + 1, steps); the last one is 1, and carries the bias."""
    channels, rows, steps = x.shape
    apart = residual.dilation
    taps = torch.mm(residual.narrow, x.reshape(channels, -1)).view(3, -1, rows, steps)
    y = taps[1].add_(residual.narrow_bias)
    y[..., apart:] += taps[0, ..., :-apart]
    y[..., :-apart] += taps[2, ..., apart:]
    norm = residual.norm
    y = functional.group_norm(y.transpose(0, 1).contiguous(), 1, norm.weight, norm.bias, norm.eps)
    inner = x.new_ones(rows, y.shape[1] + 1, steps)
    inner[:, :-1] = functional.gelu(y)
    return inner


def _folded(inner: Tensor, residual: _Residual) -> Tensor:
    """`wide` with its norm and scale worked in, for each row: (rows, 2 * channels, hidden + 1) float32.

    The mean and the variance of wide @ inner follow from `inner`'s own second moments.
    """
    moments = torch.bmm(inner, inner.transpose(1, 2)).double() / inner.shape[2]
    mean = moments[:, -1] @ residual.mean
    variance = (moments * residual.gram).sum((1, 2)) / len(residual.wide) - mean**2
    norm = residual.wide_norm
    gain = (variance + norm.eps).rsqrt()[:, None] * norm.weight  # (rows, 2 * channels)
    folded = residual.wide * gain[:, :, None]
    folded[:, :, -1] += norm.bias - gain * mean[:, None]
    scaled: Tensor = folded * residual.scale[:, None]
    return scaled.float()


def _parts(length: int, channels: int) -> list[slice]:
    size = max(64, BLOCK_VALUES // channels)
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def _waveform(spectrum: Tensor, frames: int) -> Tensor:
    """demucs' inverse transform: (sources, channels, 2, bins, steps), real and imaginary, to the samples."""
    sources, channels, _, bins, steps = spectrum.shape
    size = 2 * bins
    hop = size // 4
    window = torch.hann_window(size) * (size**0.5 / 1.5)  # the squares of four windows add up to 1.5
    out = spectrum.new_zeros(sources * channels, steps + 3, hop)
    for sound, parts in zip(out, spectrum.flatten(0, 1), strict=True):
        turned = torch.complex(parts[0].t().contiguous(), parts[1].t().contiguous())  # (steps, bins)
        pieces = torch.fft.irfft(functional.pad(turned, (0, 1)), size) * window
        for index, piece in enumerate(pieces.view(steps, 4, hop).unbind(1)):
            sound[index : index + steps] += piece
    start = hop // 2 * 3
    return out.view(sources, channels, -1)[:, :, start : start + frames]


# from the model


def _check(model: Any) -> None:
    """Only what the layers above can do."""
    freq, in_time = (*model.encoder, *model.decoder), (*model.tencoder, *model.tdecoder)
    plain = all(
        type(layer).__name__ in ("HEncLayer", "HDecLayer")
        and not layer.norm
        and not layer.empty
        and layer.rewrite is not None
        and (layer.kernel_size, layer.stride, layer.pad) == (KERNEL, STRIDE, TRIM)
        for layer in (*freq, *in_time)
    )
    if not (
        plain
        and model.cac
        and model.use_train_segment
        and model.freq_emb is not None
        and model.crosstransformer is not None
        and len(model.encoder) == len(model.tencoder)
        and all(layer.freq for layer in freq)
        and not any(layer.freq for layer in in_time)
        and all(layer.rewrite.kernel_size[-1] == 1 for layer in (*model.encoder, *model.tencoder))
        and all(set(layer.rewrite.kernel_size) == {3} for layer in (*model.decoder, *model.tdecoder))
    ):
        raise ValueError("its layers are unlike those of any published HTDemucs")


def _encoder_layer(layer: Any) -> _Layer:
    rewrite = layer.rewrite.weight.detach().flatten(1)
    return _Layer(
        layer.conv.weight.detach(),
        layer.conv.bias.detach(),
        rewrite,
        layer.rewrite.bias.detach()[:, None],
        _residuals(layer.dconv),
    )


def _decoder_layers(layers: Any, wanted: list[int], sources: int) -> tuple[_Layer, ...]:
    """The last one gives the wanted sources only."""
    made = []
    for layer in layers:
        weight = layer.conv_tr.weight.detach().flatten(2)  # (in, out, 8)
        bias = layer.conv_tr.bias.detach()
        if layer is layers[-1]:
            weight = weight.unflatten(1, (sources, -1))[:, wanted].flatten(1, 2)
            bias = bias.unflatten(0, (sources, -1))[wanted].flatten()
        # Row 4 f + j comes from taps j of row f and taps 4 + j of row f - 1.
        now, before = weight[:, :, :STRIDE], weight[:, :, STRIDE:]
        conv = torch.cat((now, before)).flatten(1).t().contiguous()  # (4 * out, 2 * in)
        made.append(
            _Layer(
                conv,
                bias.repeat_interleave(STRIDE)[:, None],
                layer.rewrite.weight.detach(),
                layer.rewrite.bias.detach(),
                _residuals(layer.dconv),
            )
        )
    return tuple(made)


def _residuals(dconv: Any) -> tuple[_Residual, ...]:
    return tuple(_residual(*layer) for layer in dconv.layers) if dconv is not None else ()


def _residual(conv: Any, norm: Any, _act: Any, wide: Any, wide_norm: Any, _glu: Any, scale: Any) -> _Residual:
    weight = conv.weight.detach()  # (hidden, channels, 3)
    columns = torch.cat((wide.weight[:, :, 0], wide.bias[:, None]), 1).detach().double()
    scales = torch.cat((scale.scale, torch.ones_like(scale.scale))).detach().double()
    return _Residual(
        narrow=weight.permute(2, 0, 1).flatten(0, 1).contiguous(),
        narrow_bias=conv.bias.detach()[:, None, None],
        dilation=conv.dilation[0],
        norm=norm,
        wide=columns,
        gram=columns.t() @ columns,
        mean=columns.mean(0),
        wide_norm=wide_norm,
        scale=scales,
    )
