"""What comes after a song's last bar: its own band goes on over the chords of its last section."""

from __future__ import annotations

from dataclasses import replace

from bridge.composing.band import Passage, write_band
from bridge.composing.song import Song, between
from bridge.composing.taste import Taste
from bridge.harmony.chords import Chord, chords_between
from bridge.progress import Report
from bridge.transformer.decoder import Decoder
from bridge.types import Phrase

PRIMER_BARS = 32
LEAST_LOOP_BARS = 4  # a shorter last section is an ending, not a progression to go on with


def continue_song(model: Decoder, song: Song, bars: int, taste: Taste, report: Report) -> Phrase:
    """`bars` bars; beat 0 is the bar line after the song's last bar.

    Without a clear melody there is no lead, unless `taste` names it: chords and rhythm carry the music.

    Raises:
        InputError: a part that is none, or a setting out of range.
    """
    first = max(0, song.bars - PRIMER_BARS)
    start, end = song.line_beats(first), song.line_beats(song.bars)
    heard = between(song.band.notes, start, end)
    passage = Passage(
        heard=Phrase(heard, end - start),
        heard_chords=chords_between(song.chords, start, end),
        bars=bars,
        chords=looped_chords(song, bars),
        bar_beats=song.metre.bar_beats,
        scale=song.scale,
        players=taste.parts or tuple({note.part for note in heard or song.band.notes}),
    )
    return write_band(model, passage, taste, report)


def looped_chords(song: Song, bars: int) -> tuple[Chord, ...]:
    """The chords of the song's last section, over and over, for `bars` bars; their beats count from the first."""
    section = next((s for s in reversed(song.form) if s.bars >= LEAST_LOOP_BARS), song.form[-1])
    start = song.line_beats(section.first_bar)
    length = section.bars * song.metre.bar_beats
    once = chords_between(song.chords, start, start + length)
    end = bars * song.metre.bar_beats
    chords = [
        replace(chord, start_beats=chord.start_beats + lap * length, end_beats=chord.end_beats + lap * length)
        for lap in range(-(-bars // section.bars))
        for chord in once
    ]
    return chords_between(chords, 0.0, end)
