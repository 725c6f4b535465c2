"""MusicXML scores, plain or zipped (.mxl): notes, ties, repeats and endings of every part.

Grace notes, cue notes and dynamics are passed over. Transposing instruments sound as they sound.
The format: https://www.w3.org/2021/06/musicxml40/
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from bridge.errors import InputError
from bridge.transformer.readers.score import Bar, BarNote, Piece, play

STEP = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
MOST_XML_BYTES = 64_000_000  # a score that unpacks to more is no score


def read_musicxml(path: Path, parts: Mapping[str, str] | str) -> Piece:
    """The score at `path` as one piece; `parts` maps part names in lower case to PARTS, or is one for all.

    Names that the mapping lacks are looked up under "". The title is the work's, else the file's name.

    Raises:
        InputError: the file is no MusicXML score in parts, or holds no notes.
    """
    try:
        root = ElementTree.fromstring(_xml_bytes(path))
    except (OSError, zipfile.BadZipFile, KeyError, ElementTree.ParseError) as exc:
        raise InputError(f"{path} is no MusicXML score that can be read ({exc}). Export it again.") from exc
    voices = {part.get("id", ""): part for part in root.findall("part")}
    if not voices:
        raise InputError(f"{path} holds no parts (its root is <{root.tag}>). Export it as score-partwise.")
    bars: list[Bar] = []
    bar_beats = 0.0
    for voice, part in voices.items():
        metre = _read_part(part, voice, bars)
        bar_beats = bar_beats or metre
    names = {one.get("id", ""): (one.findtext("part-name") or "") for one in root.iter("score-part")}
    chosen = parts if isinstance(parts, str) else {v: _part_of(names.get(v, ""), parts) for v in voices}
    phrase = play(bars, bar_beats or 4.0, chosen)
    if not phrase.notes:
        raise InputError(f"{path} holds no notes. Leave it out.")
    title = root.findtext("work/work-title") or root.findtext("movement-title") or path.stem
    rights = " ".join(
        text for one in root.iterfind("identification/rights") for text in (one.text or "").split()
    )
    return Piece(path.stem, " ".join(title.split()), phrase, bar_beats or 4.0, rights)


def _part_of(name: str, parts: Mapping[str, str]) -> str:
    return next((part for start, part in parts.items() if start and start in name.lower()), parts[""])


def _xml_bytes(path: Path) -> bytes:
    if path.suffix != ".mxl":
        return path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        rootfile = container.find(".//{*}rootfile")
        name = rootfile.get("full-path", "") if rootfile is not None else ""
        if archive.getinfo(name).file_size > MOST_XML_BYTES:
            raise zipfile.BadZipFile(f"{name} unpacks to more than {MOST_XML_BYTES} bytes")
        return archive.read(name)


@dataclass
class _Cursor:
    """Where a part is while it is read."""

    divisions: float = 1.0  # of a quarter note
    transpose: int = 0  # semitones from what is written to what sounds
    now: float = 0.0  # beats since the bar line
    onset: float = 0.0  # of the last note, which notes of its chord share


def _read_part(part: ElementTree.Element, voice: str, bars: list[Bar]) -> float:
    """Add the part's notes to the score's bars, which grow as needed; returns the first bar's metre in beats."""
    cursor, metre = _Cursor(), 0.0
    endings: frozenset[int] = frozenset()
    for index, measure in enumerate(part.iterfind("measure")):
        while len(bars) <= index:
            bars.append(Bar())
        bar = bars[index]
        bar.endings = bar.endings or endings
        cursor.now = cursor.onset = 0.0
        for item in measure:
            if item.tag == "note":
                _read_note(item, bar, voice, cursor)
            elif item.tag == "backup":
                cursor.now -= _number(item, "duration") / cursor.divisions
            elif item.tag == "forward":
                cursor.now += _number(item, "duration") / cursor.divisions
            elif item.tag == "attributes":
                _read_attributes(item, cursor)
                metre = metre or _metre(item)
            elif item.tag == "barline":
                endings = _read_barline(item, bar, endings)
            bar.length_beats = max(bar.length_beats, cursor.now)
    return metre


def _read_attributes(item: ElementTree.Element, cursor: _Cursor) -> None:
    cursor.divisions = _number(item, "divisions") or cursor.divisions
    if item.find("transpose") is not None:
        octaves = round(_number(item, "transpose/octave-change"))
        cursor.transpose = round(_number(item, "transpose/chromatic")) + 12 * octaves


def _read_note(item: ElementTree.Element, bar: Bar, voice: str, cursor: _Cursor) -> None:
    if item.find("grace") is not None or item.find("cue") is not None:
        return
    beats = _number(item, "duration") / cursor.divisions
    if item.find("chord") is None:
        cursor.onset = cursor.now
        cursor.now += beats
    step = item.findtext("pitch/step")
    if step and beats > 0.0:
        pitch = STEP[step.strip()] + round(_number(item, "pitch/alter")) + cursor.transpose
        pitch += 12 * (round(_number(item, "pitch/octave")) + 1)
        tied = any(tie.get("type") == "start" for tie in item.iterfind("tie"))
        bar.notes.append(BarNote(cursor.onset, beats, pitch, voice, tied))


def _read_barline(item: ElementTree.Element, bar: Bar, endings: frozenset[int]) -> frozenset[int]:
    """Set the bar's signs; returns the endings that the next bar stands under."""
    repeat, ending = item.find("repeat"), item.find("ending")
    if repeat is not None:
        bar.repeat_from = bar.repeat_from or repeat.get("direction") == "forward"
        bar.repeat_to = bar.repeat_to or repeat.get("direction") == "backward"
    if ending is not None:
        numbers = ending.get("number", "").replace(",", " ").split()
        bar.endings = frozenset(int(number) for number in numbers if number.isdigit())
        return bar.endings if ending.get("type") == "start" else frozenset()
    return endings


def _metre(attributes: ElementTree.Element) -> float:
    beats, unit = attributes.findtext("time/beats") or "", attributes.findtext("time/beat-type") or ""
    if not beats.strip().isdigit() or not unit.strip().isdigit():
        return 0.0
    return 4.0 * int(beats) / int(unit)


def _number(item: ElementTree.Element, path: str) -> float:
    text = item.findtext(path)
    return float(text) if text and text.strip() else 0.0
