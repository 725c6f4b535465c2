"""Readers of scores and MIDI: from what packages ship to phrases, in seconds rather than minutes."""
