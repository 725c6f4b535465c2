"""What the musician asks of new music, whatever the song."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge.transformer.sample import Sampling


@dataclass(frozen=True)
class Taste:
    """How free, how dense, and who plays."""

    sampling: Sampling
    parts: tuple[str, ...] = ()  # () = who the song calls for
    density: float = 1.75  # most notes of a part, as a multiple of what it played before
    key_lock: bool = True  # only notes of the song's key
    guitar: bool = False  # the arrangement has one beside the piano

    def reseeded(self, by: int) -> Taste:
        """The same with another seed."""
        seed = (self.sampling.seed + by) % 2**31
        return replace(self, sampling=replace(self.sampling, seed=seed))
