"""Places a song in the set: new tracks at the end, named and coloured. Nothing else is touched, but for one thing:
where the song replaces a draft, the draft's tracks are muted.

Runs on Live's main thread, as a generator that is resumed once per tick: Live works out the extent of a clip whose
Warp was switched off only after the tick that did it, so what was placed is looked at in a later one. All of it is
one undo step, and where Live refuses anything, the tracks made so far are taken away again.

Seconds become beats by the set's tempo at this moment: Live tells scripts nothing of tempo automation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generator, Iterator

import Live

from .midi_file import MidiFile, MidiPart
from .problem import Problem
from .song import Audio, Midi, Song

if TYPE_CHECKING:
    from Live.Clip import Clip
    from Live.Song import Song as LiveSet
    from Live.Track import Track

MARK = "dawbridge"
"""The key under which a track remembers which song it belongs to; saved with the set, gone with the track."""

AT_END = -1
LAST_BEAT = 1_576_800.0  # where Live's timeline ends
NEAR_BEATS, NEAR_S = 0.002, 0.02
SAME_TEMPO = 1e-5  # relative: 3 ms in five minutes
SHORTEST_BEATS = 1.0 / 480.0

STEMS = ("vocals", "drums", "bass", "other")
"""These sound at once; everything else comes muted, since it holds them again or replaces them."""

COLOURS = {
    "vocals": 0xF0A030,
    "drums": 0xE05050,
    "bass": 0x7060D0,
    "other": 0x40A0A0,
    "lead": 0xF0D040,
    "voice": 0xE0B878,
    "backing": 0xC8A070,
    "mix": 0x909090,
    "new_piece": 0x50B060,
    "arrangement_audio": 0x60C080,
    "continuation_audio": 0x60A0E0,
    "notes": 0x8090B0,
    "notes_quantised": 0x8090B0,
    "arrangement": 0x60C080,
    "continuation": 0x60A0E0,
}
OTHER_COLOUR = 0xA0A0A0

Steps = Generator[None, None, str]
"""Resume it once per tick; it returns the line to show."""


def is_recording(live_set: LiveSet) -> bool:
    """Whether anything is being recorded, in the Arrangement or in a slot."""
    if live_set.is_counting_in:
        return True
    if live_set.is_playing and (live_set.record_mode or live_set.session_record):
        return True
    armed = [track for track in live_set.tracks if track.can_be_armed and track.arm]
    return any(slot.is_recording for track in armed for slot in track.clip_slots)


def is_loaded(live_set: LiveSet, song: Song) -> bool:
    """Whether tracks of this very song stand in the set."""
    return any(track.get_data(MARK, "") == song.mark for track in live_set.tracks)


def place(live_set: LiveSet, song: Song) -> Steps:
    """Put the song onto new tracks.

    Raises:
        Problem: it is there already, something is being recorded, or Live refused; the set is as it was.
    """
    if is_recording(live_set):
        raise Problem(f"{song.title} is not loaded while something is being recorded. Stop, then load again.")
    if is_loaded(live_set, song):
        raise Problem(f"{song.title} is in this set already. Delete its tracks to load it again.")
    _check_ends(song, live_set.tempo)
    return _Placing(live_set, song).steps()


class _Placing:
    """One song on its way into the set."""

    def __init__(self, live_set: LiveSet, song: Song) -> None:
        self._set, self._song = live_set, song
        self._tempo = live_set.tempo
        self._made: list[Track] = []
        self._muted: list[Track] = []
        self._remarks: list[str] = []

    def steps(self) -> Steps:
        selected = self._set.view.selected_track
        self._set.begin_undo_step()
        try:
            audio = [(self._audio_track(sound), sound) for sound in self._song.audio]
            for midi in self._song.midi:
                for part in midi.file.parts:
                    self._midi_track(midi, part)
            if audio and hasattr(audio[0][0], "create_audio_clip"):
                yield from self._audio_clips(audio)
            elif audio:
                self._ask_to_drag(audio)
            self._replace_draft(sounds=not audio or hasattr(audio[0][0], "create_audio_clip"))
        except BaseException as error:
            self._take_back()
            if isinstance(error, Exception) and not isinstance(error, Problem):
                raise Problem(f"{self._song.title} is not loaded: Live refused ({error}).") from error
            raise
        finally:
            if selected in list(self._set.tracks):
                self._set.view.selected_track = selected  # Live selects each new track
            self._set.end_undo_step()
        return "; ".join(
            [f"{self._song.title}: {len(self._made)} new tracks", *self._about_tempo(), *self._remarks]
        )

    def _audio_track(self, sound: Audio) -> Track:
        track = self._new(
            self._set.create_audio_track(AT_END), f"{self._song.title} {sound.name}", sound.name
        )
        stems = [other.name for other in self._song.audio if other.name in STEMS]
        track.mute = bool(stems) and sound.name not in STEMS
        return track

    def _midi_track(self, midi: Midi, part: MidiPart) -> None:
        name = " ".join(filter(None, [self._song.title, midi.name, part.name]))
        track = self._new(self._set.create_midi_track(AT_END), name, midi.name)
        place_beats = _Placer(midi.file, self._tempo, self._song)
        length = max(place_beats(midi.file.length_beats), SHORTEST_BEATS)
        notes = tuple(
            Live.Clip.MidiNoteSpecification(
                pitch=note.pitch,
                start_time=place_beats(note.start_beats),
                duration=max(place_beats(note.end_beats) - place_beats(note.start_beats), SHORTEST_BEATS),
                velocity=float(note.velocity),
            )
            for note in part.notes
        )
        clip = _midi_clip(track, _beats(midi.start_s, self._tempo), length, notes)
        clip.name, clip.color = track.name, track.color

    def _new(self, track: Track, name: str, artifact: str) -> Track:
        self._made.append(track)
        if track.is_frozen:
            raise Problem(f"{self._song.title} is not loaded: the new track {track.name} is frozen.")
        track.name = name
        track.color = COLOURS.get(artifact, OTHER_COLOUR)
        track.set_data(MARK, self._song.mark)
        if track.can_be_armed and track.arm:
            track.arm = False
        return track

    def _audio_clips(self, audio: list[tuple[Track, Audio]]) -> Iterator[None]:
        """Straight into the Arrangement; where Live's own ideas about beats moved one, by way of a slot."""
        for track, sound in audio:
            track.create_audio_clip(str(sound.path), _beats(sound.start_s, self._tempo))
            clip = track.arrangement_clips[0]
            clip.warping = False
            clip.name, clip.color = track.name, track.color
        yield
        astray = [(track, sound) for track, sound in audio if not self._stands(track, sound)]
        if not astray:
            return
        for track, sound in astray:
            track.delete_clip(track.arrangement_clips[0])
            _into_slot(track, sound)
        yield
        for track, _ in astray:
            _from_file_start(track.clip_slots[0].clip)  # in seconds now
        yield
        for track, sound in astray:
            slot = track.clip_slots[0]
            track.duplicate_clip_to_arrangement(slot.clip, _beats(sound.start_s, self._tempo))
            slot.delete_clip()
        yield
        lost = [track.name for track, sound in astray if not self._stands(track, sound)]
        if lost:
            self._remarks.append(
                f"check {', '.join(lost)}: Live placed them otherwise; drag them from {self._song.folder}"
            )

    def _stands(self, track: Track, sound: Audio) -> bool:
        """Whether the clip plays the file as it is, from its first sample on, at its place."""
        clips = track.arrangement_clips
        if len(clips) != 1 or clips[0].warping:
            return False
        clip, wanted = clips[0], _beats(sound.start_s, self._tempo)
        from_start = abs(clip.loop_start) < NEAR_S and abs(clip.start_marker) < NEAR_S
        whole = abs(clip.loop_end - clip.loop_start - sound.length_s) < NEAR_S
        return from_start and whole and abs(clip.start_time - wanted) < NEAR_BEATS

    def _ask_to_drag(self, audio: list[tuple[Track, Audio]]) -> None:
        beats = sorted({round(_beats(sound.start_s, self._tempo), 3) for _, sound in audio})
        where = ", ".join(self._position(beat) for beat in beats)
        self._remarks.append(
            f"this Live can't load audio by itself: drag it from {self._song.folder} onto them at {where}, Warp off"
        )

    def _replace_draft(self, sounds: bool) -> None:
        """Mute what sounds of the draft, so that nothing doubles; but only once the song `sounds` in its place."""
        begins = self._song.replaces + ":"
        draft = [track for track in self._set.tracks if track.get_data(MARK, "").startswith(begins)]
        sounding = [track for track in draft if not track.mute]
        if self._song.is_draft:
            self._remarks.append("it is a draft: the best follows")
        if self._song.replaces and sounding and not sounds:
            self._remarks.append("then mute its draft's tracks")
        elif self._song.replaces and sounding:
            for track in sounding:
                track.mute = True
                self._muted.append(track)
            self._remarks.append(
                f"it sounds in place of its draft, whose {len(sounding)} tracks are muted now"
            )

    def _position(self, beats: float) -> str:
        """Bars.beats as Live shows them, at the set's metre."""
        unit_beats = 4.0 / self._set.signature_denominator
        units = math.floor(beats / unit_beats + 1e-6)
        bar, unit = divmod(units, self._set.signature_numerator)
        return f"{bar + 1}.{unit + 1}" + (
            "" if beats - units * unit_beats < 0.01 else f" + {beats - units * unit_beats:.2f} beats"
        )

    def _about_tempo(self) -> list[str]:
        """What a person has to know where the song's time is not the set's."""
        song = self._song
        if song.tempo_changes and song.tempo_from_daw:
            starts_late = any(start_s > 0 for _, start_s in _starts(song))
            return ["the tempo changes in it: check where it starts"] if starts_late else []
        if song.tempo_changes:
            return ["the song's tempo changes: its notes follow the sound, not the grid"]
        if song.bpm is not None and abs(song.bpm - self._tempo) > 0.005:
            return [
                f"the song has {song.bpm:.2f} bpm, this set {self._tempo:.2f}: notes follow the sound, not the grid"
            ]
        return []

    def _take_back(self) -> None:
        """Remove the tracks made here, the last first; whatever else stands stays, and a draft sounds again."""
        for track in self._muted:
            track.mute = False
        for track in reversed(self._made):
            tracks = list(self._set.tracks)
            if track in tracks:
                self._set.delete_track(tracks.index(track))


class _Placer:
    """Beats of a MIDI file -> beats of the set, so that notes sound with the audio.

    A file at the set's own tempo keeps its beats to the tick. So does one whose tempo changes the project itself
    told: they are in the set, though Live hides them. Else notes are placed in seconds.
    """

    def __init__(self, file: MidiFile, tempo: float, song: Song) -> None:
        is_same = len(file.tempi) == 1 and abs(file.tempi[0][1] / tempo - 1.0) < SAME_TEMPO
        self._keeps_beats = is_same or (song.tempo_changes and song.tempo_from_daw)
        self._file, self._tempo = file, tempo

    def __call__(self, beats: float) -> float:
        return beats if self._keeps_beats else _beats(self._file.seconds_at(beats), self._tempo)


def _midi_clip(
    track: Track, start: float, length: float, notes: tuple[Live.Clip.MidiNoteSpecification, ...]
) -> Clip:
    """A clip with these notes in the Arrangement; in a version that can't, in the first slot."""
    create = getattr(track, "create_midi_clip", None)  # not in Live 11
    if create is not None:
        create(start, length)
        made: Clip = track.arrangement_clips[0]
        made.add_new_notes(notes)
        return made
    slot = track.clip_slots[0]
    slot.create_clip(length)
    clip = slot.clip
    clip.add_new_notes(notes)
    if not hasattr(track, "duplicate_clip_to_arrangement"):
        return clip
    track.duplicate_clip_to_arrangement(clip, start)
    slot.delete_clip()
    return track.arrangement_clips[0]


def _into_slot(track: Track, sound: Audio) -> None:
    slot = track.clip_slots[0]
    slot.create_audio_clip(str(sound.path))
    slot.clip.warping = False
    slot.clip.name, slot.clip.color = track.name, track.color
    _from_file_start(slot.clip)


def _from_file_start(clip: Clip) -> None:
    """Auto-Warp moves a long sample's start to the first beat it finds, and Warp off leaves it there."""
    clip.looping = False
    clip.loop_start = 0.0
    clip.start_marker = 0.0


def _check_ends(song: Song, tempo: float) -> None:
    for name, start_s in _starts(song):
        if _beats(start_s, tempo) > LAST_BEAT:
            raise Problem(
                f"{song.title}: {name} starts at {start_s:.0f} s, behind the end of Live's timeline."
            )


def _starts(song: Song) -> list[tuple[str, float]]:
    """What begins where, in seconds."""
    return [(sound.name, sound.start_s) for sound in song.audio] + [(m.name, m.start_s) for m in song.midi]


def _beats(seconds: float, tempo: float) -> float:
    return seconds * tempo / 60.0
