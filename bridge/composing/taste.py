"""What the musician asks of new music, whatever the song."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge.transformer.sample import Sampling

DENSITIES = ("sparse", "normal", "dense")
BOLDER, MOST_TEMPERATURE = 1.15, 5.0


@dataclass(frozen=True)
class Taste:
    """How free, how dense, and who plays."""

    sampling: Sampling
    parts: tuple[str, ...] = ()  # () = who the song calls for
    density: str = "normal"  # one of DENSITIES
    key_lock: bool = True  # only notes of the song's key

    def again(self, draw: int) -> Taste:
        """For the first draw (0) as it is; later ones have the next seed each, and are a little bolder."""
        bolder = min(MOST_TEMPERATURE, self.sampling.temperature * BOLDER**draw)
        next_one = self.reseeded(draw)
        return replace(next_one, sampling=replace(next_one.sampling, temperature=bolder))

    def reseeded(self, by: int) -> Taste:
        """The same with another seed."""
        seed = (self.sampling.seed + by) % 2**31
        return replace(self, sampling=replace(self.sampling, seed=seed))
