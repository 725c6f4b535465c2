"""From the sound of one stem to the notes played in it. Seconds and MIDI pitches; no beats, no files."""
