"""Drums to General MIDI hits: kick 36, snare 38, closed hat 42, open hat 46, crash 49.

Kick and snare come from a non-negative deconvolution of the spectrogram (NMFD) whose templates start as a
plain description of each drum and then learn the kit in the file, so that hits on one instant are told
apart. Hats and cymbals come from the onsets of the top band, and from how fast it falls silent after them.
Source: Dittmar and Gaertner, "Real-time transcription and separation of drum recordings based on NMF
decomposition" (DAFx 2014), with the templates' extent in time of Smaragdis's NMFD (2004).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples
from bridge.transcribers.played import PlayedNote, in_order

Array = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Report = Callable[[float, float], None]

KICK, SNARE, CLOSED_HAT, OPEN_HAT, CRASH = 36, 38, 42, 46, 49
RATE_HZ = 44_100
INAUDIBLE = 1e-5  # -100 dBFS
HIT_S = 0.1  # written length of a hit; drums have no note-off of their own

HOP = 441  # 10 ms
N_FFT = 2048
BANDS = 60
MEL_HZ = (30.0, 16_000.0)
TEMPLATE_FRAMES = 16
ITERATIONS = 40
LEAST_PRIOR = 0.05  # how much of the description a learned template keeps, so that a kick stays a kick
FAINT = 0.15  # of the loudest hit: below it nothing is a hit
CLEAR = 0.45  # of the loudest hit: above it everything is one
QUIETEST = 0.15  # a drum whose loudest hit is below this part of the loudest drum's isn't there
OVER_CYMBALS = 1.5  # nor is one that isn't louder than the cymbals
LEAST_RISE_DB = 1.5  # in the drum's own spectrum: what merely sounds on was not struck again
LIKENESS = {KICK: 0.8, SNARE: 0.4}  # nor one whose learned spectrum is less like its description (cosine)

TOP_HOP = 256  # 5.8 ms
TOP_N_FFT = 512
TOP_FROM_HZ = 7000.0
TOP_AUDIBLE_DB = -45.0  # top band against the whole, each at its loudest: below it there are no cymbals
TOP_ONSET = 0.15  # of the largest onset
TOP_ONSET_LEVEL = 0.02  # of the loudest moment in the band
CLICK = 0.35  # of a lone hat's level: a kick or snare with less than that in the top band has no hat on it
CLOSED_DB_PER_S = 70.0  # a closed hat falls faster than this, an open one slower
CRASH_DB_PER_S = 15.0
DECAY_S = 0.4  # how long the fall is watched, at most up to the next onset
TOGETHER_S = 0.03
BLOCK_HOPS = 24  # of HOP * TOP_HOP: about a minute of audio is looked at in one piece


def transcribe_drums(samples: Samples, report: Report) -> list[PlayedNote]:
    """The hits of a mono drum stem, (1, frames) at 44.1 kHz. `report(done, total)` may raise."""
    frames, middle = samples.shape[1], np.float32(samples[0].mean(dtype=np.float64))
    if max(samples.max() - middle, middle - samples.min()) < INAUDIBLE:
        return []
    bands, top, whole = _spectra(samples[0], middle)
    del samples  # of a song of 20 minutes it takes 200 MB
    bands = bands[:, : frames // HOP + 1]
    described = _templates()
    learned, activations = _deconvolve(bands / bands.max(), described, report)
    peaks = activations.max(axis=1)
    least = max(QUIETEST * peaks[:2].max(), OVER_CYMBALS * peaks[2])
    hits: list[PlayedNote] = []
    for row, pitch in ((0, KICK), (1, SNARE)):
        if peaks[row] >= least and _likeness(learned[:, row], described[:, row]) >= LIKENESS[pitch]:
            level = learned[:, row].sum(axis=1) @ bands
            hits += _hits(activations[row], level, pitch)
    uncut = max(0, frames - TOP_N_FFT // 2) // TOP_HOP + 1  # windows that end before the file does
    return in_order(hits + _cymbals(top[:uncut], float(whole.max()), np.array([hit.start_s for hit in hits])))


def _spectra(samples: Single, middle: np.float32) -> tuple[Single, Array, Array]:
    """Mel magnitudes (BANDS, frames) every HOP; RMS magnitudes of the top band and of all, (frames,) every TOP_HOP.

    Of `samples` less `middle`. The file's end is a cut, not an event: mirrored there, the sound goes on for the last windows.
    """
    mel = _mel_filters()
    top_bins = np.fft.rfftfreq(TOP_N_FFT, 1 / RATE_HZ) >= TOP_FROM_HZ
    block, margin = BLOCK_HOPS * HOP * TOP_HOP, N_FFT  # whole hops of both kinds
    bands: list[Single] = []
    top: list[Array] = []
    whole: list[Array] = []
    frames = len(samples) + N_FFT
    for start in range(0, frames, block):
        before = min(start, HOP * TOP_HOP)
        piece = _mirrored(samples, start - before, min(frames, start + block + margin)) - middle
        last = start + block >= frames
        for hop, n_fft in ((HOP, N_FFT), (TOP_HOP, TOP_N_FFT)):
            magnitude = _magnitudes(piece, n_fft, hop)
            first = before // hop
            magnitude = magnitude[:, first : None if last else first + block // hop]
            if hop == HOP:
                bands.append((mel @ magnitude).astype(np.float32))
            else:
                top.append(np.sqrt((magnitude[top_bins] ** 2).mean(axis=0)))
                whole.append(np.sqrt((magnitude**2).mean(axis=0)))
    return np.concatenate(bands, axis=1), np.concatenate(top), np.concatenate(whole)


def _mirrored(samples: Single, start: int, stop: int) -> Single:
    """[start, stop) of samples that go on behind their end as they came."""
    end = len(samples)
    if stop <= end:
        return samples[start:stop]
    at = np.arange(start, stop)
    return samples[np.where(at < end, at, np.maximum(0, 2 * (end - 1) - at))]


def _magnitudes(samples: Single, n_fft: int, hop: int) -> Array:
    """(n_fft / 2 + 1, frames) magnitudes; window k is centred on sample k * hop, with silence beyond the ends.

    In numpy, since a worker would wait seconds for librosa's compiler.
    """
    padded = np.pad(samples, n_fft // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]  # (frames, n_fft)
    hann = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    return np.asarray(np.abs(np.fft.rfft(windows * hann)).T, dtype=np.float64)


def _mel_filters() -> Array:
    """(BANDS, N_FFT / 2 + 1) triangles of equal area between neighbouring mel frequencies."""
    edges = _mel_edges_hz()
    hz = np.fft.rfftfreq(N_FFT, 1 / RATE_HZ)
    low, centre, high = (edges[i : i + BANDS, np.newaxis] for i in range(3))
    triangles = np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre))
    return np.asarray(np.maximum(triangles, 0.0) * 2.0 / (high - low))


def _mel_edges_hz() -> Array:
    """(BANDS + 2,) frequencies, evenly spaced in mel (O'Shaughnessy 1987: 2595 log10(1 + f / 700))."""
    low, high = 2595.0 * np.log10(1.0 + np.array(MEL_HZ) / 700.0)
    return np.asarray(700.0 * (10.0 ** (np.linspace(low, high, BANDS + 2) / 2595.0) - 1.0))


def _templates() -> Array:
    """Kick, snare and cymbal as anyone would describe them: (BANDS, 3, TEMPLATE_FRAMES), each sums to 1."""
    centres = _mel_edges_hz()[1:-1]
    seconds = np.arange(TEMPLATE_FRAMES) * HOP / RATE_HZ

    def part(level: float, centre_hz: float, octaves: float, fall_s: float) -> Array:
        shape = np.exp(-0.5 * (np.log2(centres / centre_hz) / octaves) ** 2)
        return np.asarray(level * np.outer(shape, np.exp(-seconds / fall_s)))

    kick = part(1.0, 65, 0.6, 0.08) + part(0.05, 2500, 1.5, 0.01)  # a thump and the beater's click
    snare = part(0.6, 200, 0.5, 0.06) + part(0.35, 3500, 1.5, 0.1)  # the shell and the wires
    cymbal = part(1.0, 9500, 0.6, 0.03)
    templates = np.stack([kick, snare, cymbal], axis=1)
    return np.asarray(templates / templates.sum(axis=(0, 2), keepdims=True))


def _deconvolve(bands: Single, description: Array, report: Report) -> tuple[Single, Single]:
    """The templates this kit has, and how strongly each begins to sound in each frame, (3, frames).

    The updates are those of NMFD under the Kullback-Leibler divergence, in single precision.
    """
    floor = np.float32(1e-7)  # keeps every number away from the slow denormal range
    bands = np.maximum(bands, floor)
    described: Single = description.astype(np.float32)
    templates = described
    activations = np.tile(bands.sum(axis=0) / described.shape[1], (described.shape[1], 1))
    frames = bands.shape[1]
    shifts = range(min(described.shape[2], frames))
    for iteration in range(ITERATIONS):
        report(iteration, ITERATIONS)
        ratio: Single = bands / _convolve(templates, activations, floor)
        gain = np.zeros_like(activations)
        for t in shifts:
            gain[:, : frames - t] += templates[:, :, t].T @ ratio[:, t:]
        activations = np.maximum(activations * gain, floor)  # each template sums to 1
        ratio = bands / _convolve(templates, activations, floor)
        learned = np.zeros_like(templates)
        for t in shifts:
            learned[:, :, t] = templates[:, :, t] * (ratio[:, t:] @ activations[:, : frames - t].T)
        learned = np.maximum(learned / learned.sum(axis=(0, 2), keepdims=True), floor)
        prior = np.float32(max(LEAST_PRIOR, (1 - iteration / ITERATIONS) ** 4))
        templates = prior * described + (1 - prior) * learned
    report(ITERATIONS, ITERATIONS)
    return templates, activations


def _convolve(templates: Single, activations: Single, floor: np.float32) -> Single:
    frames = activations.shape[1]
    out = np.full((templates.shape[0], frames), floor)
    for t in range(min(templates.shape[2], frames)):
        out[:, t:] += templates[:, :, t] @ activations[:, : frames - t]
    return out


def _likeness(learned: Single, described: Array) -> float:
    """Cosine between two templates' spectra, each (BANDS, TEMPLATE_FRAMES)."""
    a, b = learned.sum(axis=1), described.sum(axis=1)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _hits(activation: Array, level: Array, pitch: int) -> list[PlayedNote]:
    """Peaks of a drum's activation at which the level of its spectrum rises; both every HOP."""
    relative = activation / activation.max()
    at = _peaks(relative, FAINT, reach=5)
    at = np.array([frame for frame in at if _rises(level, frame)], dtype=np.intp)
    at = at[relative[at] >= _dividing_level(relative[at])]
    return [_hit(frame * HOP / RATE_HZ, pitch, float(activation[frame])) for frame in at]


def _rises(level: Array, frame: int) -> bool:
    reach = N_FFT // 2 // HOP + 1  # a window this far before the attack doesn't hear it yet
    before = level[frame - reach] if frame >= reach else 0.0
    return bool(level[frame : frame + reach + 1].max() > before * 10 ** (LEAST_RISE_DB / 20))


def _dividing_level(levels: Array) -> float:
    """Where hits end and leakage begins: the middle of the widest gap (in dB) between FAINT and CLEAR."""
    inside = np.sort(levels[(levels > FAINT) & (levels < CLEAR)])
    edges = np.concatenate([[FAINT], inside, [CLEAR]])
    widest = int(np.argmax(edges[1:] / edges[:-1]))
    return float(np.sqrt(edges[widest] * edges[widest + 1]))


def _cymbals(top: Array, loudest_of_all: float, other_hits_s: Array) -> list[PlayedNote]:
    """Hats and crashes from the top band's magnitude (frames,), if it counts beside the loudest moment of all."""
    loudest = top.max()
    if loudest <= 10 ** (TOP_AUDIBLE_DB / 20) * loudest_of_all:
        return []
    loudness = np.log1p(100.0 * top / loudest)
    rise = np.maximum(0.0, loudness - np.concatenate([np.repeat(loudness[:1], 2), loudness[:-2]]))
    rise[:2] = loudness[:2]  # the file may begin on a hit
    onsets = _peaks(rise, TOP_ONSET * rise.max(), reach=8)
    steps = np.array([_step(top, frame) for frame in onsets])
    onsets, steps = onsets[steps >= TOP_ONSET_LEVEL * loudest], steps[steps >= TOP_ONSET_LEVEL * loudest]
    seconds = onsets * TOP_HOP / RATE_HZ
    alone = np.array([not np.any(np.abs(other_hits_s - s) < TOGETHER_S) for s in seconds], dtype=bool)
    usual = float(np.median(steps[alone])) if alone.any() else float("inf")
    ends = np.append(onsets, len(top))[1:]
    return [
        _hit(second, _cymbal_kind(top, int(frame), int(end)), float(step))
        for frame, end, second, step, lone in zip(onsets, ends, seconds, steps, alone, strict=True)
        if lone or step >= CLICK * usual
    ]


def _step(top: Array, frame: int) -> float:
    before = top[max(0, frame - 5) : max(0, frame - 2)]
    return float(top[frame : frame + 6].max() - (before.mean() if before.size else 0.0))


def _cymbal_kind(top: Array, onset: int, following: int) -> int:
    """By how fast the band falls from its peak to the next onset."""
    peak = onset + int(top[onset : onset + 6].argmax())
    end = min(following - 4, onset + int(DECAY_S * RATE_HZ / TOP_HOP), len(top))
    if end - peak < 6:
        return CLOSED_HAT
    rest = float(np.median(top[end - 5 : end]))
    fall_db = 20.0 * np.log10(max(float(top[peak]), 1e-12) / max(rest, 1e-12))
    db_per_s = fall_db / ((end - 3 - peak) * TOP_HOP / RATE_HZ)
    if db_per_s > CLOSED_DB_PER_S:
        return CLOSED_HAT
    return OPEN_HAT if db_per_s > CRASH_DB_PER_S else CRASH


def _peaks(curve: Array, least: float, reach: int) -> npt.NDArray[np.intp]:
    """Frames that are the largest within `reach` frames on both sides, and at least `least`."""
    from scipy.ndimage import maximum_filter1d

    largest = maximum_filter1d(curve, 2 * reach + 1)
    return np.flatnonzero((curve == largest) & (curve >= least) & (curve > 0))


def _hit(start_s: float, pitch: int, strength: float) -> PlayedNote:
    return PlayedNote(float(start_s), float(start_s) + HIT_S, pitch, float(20.0 * np.log10(strength)))
