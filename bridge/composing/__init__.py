"""Writes for a song: what comes after its last bar, and a new instrumental over its own bars. Notes in, notes out."""
