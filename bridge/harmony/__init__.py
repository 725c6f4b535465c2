"""What can be read from a song's notes: its chords, its form, and whether they hold a melody. Notes in, no audio."""
