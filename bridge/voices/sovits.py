"""The engine so-vits-svc: a trained singing voice. With its training, the only code that touches so_vits_svc_fork.

The package's networks are used, its way of singing is not: f0 is given and never predicted, chunks overlap, gaps stay
as they were, stereo stays stereo, nothing is downloaded, and the same input gives the same samples.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import logging
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples, fit_length, resample
from bridge.errors import VoiceError
from bridge.voices import encoders, folder, passages, transposition
from bridge.voices.consent import Permit, check_permit
from bridge.voices.converter import Transposition
from bridge.voices.encoders import Encoder, Features
from bridge.voices.f0 import F0Track
from bridge.voices.folder import VoiceCard
from bridge.voices.passages import Mono
from bridge.voices.sovits_config import SovitsConfig, read_config

ENGINE = "so-vits-svc"
CHUNK_S = 10.0
CONTEXT_S = 0.25  # what a chunk sees of its neighbours at either end
JOIN_S = 0.05
GAP_FADE_S = 0.03
UNHEARD_S = 0.15  # of the margin before a span, which is context and fade
NOISE_SCALE = 0.4  # of the latent; the package's own default
SEED = 1
ONLY_FOR_TRAINING = ("enc_q.", "f0_decoder.")


@dataclass(frozen=True)
class Network:
    """The package's network with a voice's weights, ready to sing."""

    module: Any  # a SynthesizerTrn without what only training needs
    singer: Any  # the row of the speaker who sings, (1, gin_channels, 1)
    config: SovitsConfig

    @property
    def hop_s(self) -> float:
        """The length of one frame of the network in seconds."""
        return self.config.data.hop_length / self.config.data.sampling_rate


class SovitsVoice:
    """A `Converter`. It asks for the consent before each passage; nothing else in this module makes a sound."""

    def __init__(
        self, permit: Permit, models_dir: Path, today: Callable[[], datetime.date] = datetime.date.today
    ) -> None:
        """The permitted voice, its network and encoder loaded once per process.

        Raises:
            TypeError: `permit` is none.
            Refused: (`no_consent`) it holds no more.
            VoiceError, ModelError: the voice's files or its encoder are missing or not what they should be.
        """
        check_permit(permit, today())
        if permit.folder is None:
            raise VoiceError(f"{permit.voice!r} is a built-in character, not a trained voice.")
        self._permit = permit
        self._today = today
        self._card = folder.read_card(permit.folder)
        self._network = _kept(permit.folder, self._card)
        self._encoder = _encoder(permit.folder, self._card, self._network.config, models_dir)

    def transposition(self, f0: F0Track) -> Transposition:
        """See `Converter.transposition`."""
        return transposition.choose(f0, self._card)

    def convert(self, samples: Samples, sample_rate_hz: int, f0: F0Track, semitones: int) -> Samples:
        """See `Converter.convert`.

        Raises:
            Refused: (`no_consent`) the consent holds no more, or is another one now.
        """
        check_permit(self._permit, self._today())
        mono = passages.centre(samples)
        spans = passages.sung_spans(mono, sample_rate_hz, f0)
        sung = self._sing_spans(mono, sample_rate_hz, f0, semitones, spans)
        weight = passages.weights(spans, mono.size, round(GAP_FADE_S * sample_rate_hz))
        changed = sung * passages.balance(samples, sample_rate_hz)
        return cast(Samples, samples + (changed - samples) * weight)

    def _sing_spans(
        self, mono: Mono, rate_hz: int, f0: F0Track, semitones: int, spans: list[tuple[int, int]]
    ) -> Mono:
        """The voice in each span and a fade beyond it, (frames,) at `rate_hz`."""
        data = self._network.config.data
        hops = -(-mono.size * data.sampling_rate // (rate_hz * data.hop_length))
        hz, voiced = passages.on_grid(f0, hops, self._network.hop_s)
        hz *= np.float32(2.0 ** (semitones / 12))
        out = np.zeros(hops * data.hop_length, dtype=np.float32)
        margin = GAP_FADE_S + CONTEXT_S
        for start, end in spans:
            first = max(0, int((start / rate_hz - margin) / self._network.hop_s))
            last = min(hops, int((end / rate_hz + margin) / self._network.hop_s) + 1)
            part = slice(first, last)
            features = self._features(mono, rate_hz, first, last)
            voice = _sing(self._network, features, hz[part], voiced[part])
            # The margins of two spans may overlap, what is heard of them doesn't: they are a gap apart.
            edge = round(UNHEARD_S / self._network.hop_s) * data.hop_length if first else 0
            out[first * data.hop_length + edge : last * data.hop_length] = voice[edge:]
        return cast(Mono, fit_length(resample(out[None], data.sampling_rate, rate_hz), mono.size)[0])

    def _features(self, mono: Mono, rate_hz: int, first: int, last: int) -> Features:
        """What is sung at the network's frames [first, last), (last - first, dims)."""
        hop_s = self._network.hop_s
        start, end = round(first * hop_s * rate_hz), round(last * hop_s * rate_hz)
        heard = resample(mono[None, start:end], rate_hz, encoders.RATE_HZ)[0]
        found = self._encoder(heard)
        rows = (np.arange(last - first) * (hop_s * encoders.RATE_HZ / encoders.HOP_FRAMES)).astype(int)
        return cast(Features, found[np.minimum(rows, len(found) - 1)])


def build_network(config: SovitsConfig) -> Any:
    """The package's network for `config` without weights and, on the device `meta`, without any memory."""
    import torch

    sizes = asdict(config.model)
    with _quietly(), torch.device("meta"):
        network = package().SynthesizerTrn(config.data.filter_length // 2 + 1, 1, **sizes)
    for name in ONLY_FOR_TRAINING:
        delattr(network, name.rstrip("."))
    return network.eval()


def check_tensors(config: SovitsConfig, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """That a model with tensors of these shapes is one for `config`.

    Raises:
        VoiceError: a tensor is missing, unknown, or of another shape: which, and which shapes.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in build_network(config).state_dict().items()}
    remedy = "The model was made for another configuration: give the config.json it was trained with."
    for name, shape in wanted.items():
        if name not in shapes:
            raise VoiceError(f"{where}: {name} {_shown(shape)} is missing. {remedy}")
        if shapes[name] != shape:
            raise VoiceError(
                f"{where}: {name} is {_shown(shapes[name])}, its config.json says {_shown(shape)}. {remedy}"
            )
    unknown = sorted(set(shapes) - set(wanted))
    if unknown:
        raise VoiceError(
            f"{where}: {unknown[0]} and {len(unknown) - 1} more have no place in the network. {remedy}"
        )


def check_voice(voice: Path, card: VoiceCard) -> None:
    """That the files of a voice folder are what its card names, and belong together.

    Raises:
        VoiceError: one is missing, changed, or does not belong to the other.
    """
    _load_voice(voice, card)


@functools.cache
def package() -> types.ModuleType:
    """The package's networks, `so_vits_svc_fork.modules.synthesizers`, without what its import does to the process.

    It would send all that anybody logs, and all warnings, to the terminal.
    """
    mend_torchaudio()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with _quietly():
        from so_vits_svc_fork.modules import synthesizers

        logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("so_vits_svc_fork").setLevel(logging.WARNING)
    return synthesizers


def mend_torchaudio() -> None:
    """Make torchaudio's Python parts importable where its compiled ones can't be loaded.

    The registries' torchaudio is built for CUDA and fails beside a torch for CPUs alone. What so-vits-svc-fork
    uses of it (resampling, mel spectrograms) is plain Python. Where torchaudio works, nothing is changed.
    """
    try:
        import torchaudio
    except (ImportError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]  # what the failed import left half done
        sys.modules["torchaudio._extension"] = _no_extension()
        import torchaudio  # noqa: F401


def _no_extension() -> types.ModuleType:
    """What `torchaudio._extension` is where nothing compiled is there."""
    stub = types.ModuleType("torchaudio._extension")

    def fail_if_no_align(function: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*args: object, **kwargs: object) -> None:
            raise RuntimeError(
                f"torchaudio's {function.__name__} needs its compiled part, which can't be loaded"
            )

        return fail

    vars(stub).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=fail_if_no_align
    )
    return stub


@functools.lru_cache(maxsize=2)
def _kept(voice: Path, card: VoiceCard) -> Network:
    """As `_load_voice`, once per process: the card names the files' digests."""
    return _load_voice(voice, card)


def _load_voice(voice: Path, card: VoiceCard) -> Network:
    """The network of a voice folder, its files found to be what its card names."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = voice / folder.MODEL
    config = read_config(
        folder.read_verified(voice, folder.CONFIG, card.config_sha256), str(voice / folder.CONFIG)
    )
    if card.speaker not in config.speakers:
        names = ", ".join(config.speakers)
        raise VoiceError(f"{voice / folder.CARD}: speaker = {card.speaker!r} is none of: {names}.")
    try:
        tensors = load(folder.read_verified(voice, folder.MODEL, card.model_sha256))
    except SafetensorError as exc:
        raise VoiceError(f"{path} is no safetensors file ({exc}). Import or train the voice again.") from exc
    check_tensors(config, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, str(path))
    return _load_network(config, tensors, config.speakers[card.speaker])


def _encoder(voice: Path, card: VoiceCard, config: SovitsConfig, models_dir: Path) -> Encoder:
    encoder = encoders.open_encoder(
        card.encoder,
        models_dir,
        folder=Path(card.encoder_folder) if card.encoder_folder else None,
        final_proj=config.data.contentvec_final_proj,
    )
    if encoder.dims != config.model.ssl_dim:
        raise VoiceError(
            f"The voice {voice.name!r} was trained on {config.model.ssl_dim} features, the encoder {card.encoder} gives "
            f"{encoder.dims}. Correct encoder in {voice / folder.CARD}."
        )
    return encoder


def _sing(
    network: Network, features: Features, hz: npt.NDArray[np.float32], voiced: npt.NDArray[np.float32]
) -> Mono:
    """What the network makes of a passage of `n` frames: (n * hop_length,) float32 at its own rate.

    `features` (n, dims), `hz` (n,) with no holes where anything is voiced, `voiced` (n,) 1.0 or 0.0. Longer passages
    are sung in chunks. Noise and the phase of the pitch belong to the passage, not to the chunk, so that neighbours
    agree where they overlap.
    """
    import torch

    data, model = network.config.data, network.config.model
    hops, hop = len(hz), data.hop_length
    noise = torch.randn(model.inter_channels, hops, generator=torch.Generator().manual_seed(SEED))
    turns = np.concatenate(([0.0], np.cumsum(hz.astype(np.float64) * hop / model.sampling_rate)))
    level = np.square(features, dtype=np.float64).mean(axis=1) * 1e-6 + voiced  # cut in what is unvoiced
    context, half_join = (max(1, round(seconds / network.hop_s)) for seconds in (CONTEXT_S, JOIN_S / 2))
    edges = passages.cuts(level, round(CHUNK_S / network.hop_s))
    out = np.zeros(hops * hop, dtype=np.float32)
    for start, end in itertools.pairwise(edges):
        seen = slice(max(0, start - context), min(hops, end + context))
        piece = _sing_chunk(
            network, features[seen], hz[seen], voiced[seen], noise[:, seen], turns[seen.start]
        )
        fade = 2 * half_join if start else 0
        first, last = start - (half_join if start else 0), min(hops, end + half_join)
        kept = piece[(first - seen.start) * hop : (last - seen.start) * hop]
        passages.join(out, kept, first * hop, fade * hop)
    return out


def _sing_chunk(
    network: Network,
    features: Features,
    hz: npt.NDArray[np.float32],
    voiced: npt.NDArray[np.float32],
    noise: Any,
    start_turns: float,
) -> Mono:
    """SynthesizerTrn.infer with given noise and phase: (frames * hop_length,)."""
    import torch

    module = network.module
    with torch.inference_mode():
        pitch = torch.from_numpy(hz)[None]  # (1, frames)
        mask = torch.ones(1, 1, len(hz))
        hidden = module.pre(torch.from_numpy(features.T.copy())[None])  # (1, hidden, frames)
        hidden = hidden + module.emb_uv(torch.from_numpy(voiced)[None].long()).transpose(1, 2)
        hidden = hidden + module.enc_p.f0_emb(package().f0_to_coarse(pitch)).transpose(1, 2)
        stats = module.enc_p.proj(module.enc_p.enc_(hidden, mask))
        mean, log_std = torch.split(stats, module.enc_p.out_channels, dim=1)
        latent = module.flow(
            mean + noise * torch.exp(log_std) * NOISE_SCALE, mask, g=network.singer, reverse=True
        )
        if module.mb:
            sound, _ = module.dec(latent, g=network.singer)
        else:
            module.dec.m_source.l_sin_gen.start_turns = start_turns
            sound = module.dec(latent, g=network.singer, f0=pitch)
        return cast(Mono, sound[0, 0].numpy())


def _load_network(config: SovitsConfig, tensors: Mapping[str, Any], speaker: int) -> Network:
    """The network with `tensors`, which `check_tensors` has let through, to sing as the speaker of that row.

    Weight norm is worked out once for all.
    """
    import torch

    module = build_network(config)
    module.load_state_dict(dict(tensors), assign=True)
    with _quietly():
        for part in module.modules():
            if any(type(hook).__name__ == "WeightNorm" for hook in part._forward_pre_hooks.values()):
                torch.nn.utils.remove_weight_norm(part)
    if config.model.type_ == "hifi-gan":
        module.dec.m_source.l_sin_gen = _sine_source(module.dec.m_source.l_sin_gen)
    module.requires_grad_(False)
    return Network(module, module.emb_g.weight[speaker][None, :, None].clone(), config)


def _sine_source(original: Any) -> Any:
    """In place of the package's SineGen: the same sines, but from the phase where the chunk stands in the passage."""
    import torch

    harmonics = torch.arange(1, original.harmonic_num + 2, dtype=torch.float64)
    start = torch.rand(harmonics.numel(), generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    start[0] = 0.0  # the fundamental has no offset

    class Sines(torch.nn.Module):
        start_turns = 0.0

        def forward(self, f0: Any) -> tuple[Any, Any, None]:
            """`f0` (1, frames, 1) in Hz -> sines (1, frames, harmonics), voicing (1, frames, 1), None."""
            turns = torch.cumsum(f0.double() / original.sampling_rate, dim=1) + self.start_turns
            angle = (turns * harmonics + start) % 1.0
            sines = torch.sin((2 * torch.pi * angle).float()) * original.sine_amp
            is_voiced = (f0 > original.voiced_threshold).float()
            loudness = is_voiced * original.noise_std + (1 - is_voiced) * original.sine_amp / 3
            drawn = torch.randn(sines.shape, generator=torch.Generator().manual_seed(SEED))
            return sines * is_voiced + loudness * drawn, is_voiced, None

    return Sines()


def _quietly() -> warnings.catch_warnings[None]:
    """Within: the package's use of what torch calls deprecated is not told to the user."""
    return warnings.catch_warnings(action="ignore")


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
