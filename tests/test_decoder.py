"""The numpy decoder says what the torch network says, row by row with its cache or all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge.errors import ModelError
from bridge.transformer.columns import CONDITION_STARTS, Columns, transpose_columns
from bridge.transformer.dataset import Piece, piece_of, windows_of
from bridge.transformer.decoder import Memory
from bridge.transformer.recall import CONDITIONS, HINTS, INPUTS, Listener
from bridge.transformer.saved import read_weights, save_weights
from bridge.transformer.tokens import FIELDS, SIZES, Rows, encode_steps, transposed
from tests.tiny_model import TINY, tiny_arrays, tiny_decoder


def made_rows(count: int, seed: int = 0) -> Rows:
    """Notes of all parts with repeats, chords and long silences."""
    random = np.random.default_rng(seed)
    notes, now = [], 0
    for _ in range(count):
        now += int(random.choice([0, 0, 6, 12, 24, 300]))
        pitch = 40 + int(random.integers(0, 12)) * 3
        notes.append((now, int(random.integers(0, 6)), pitch, int(random.integers(1, 400)), 100))
        if now % 5 == 0 and len(notes) > 8:
            start = notes[-8][0]
            notes += [(now + 12 + onset - start, *rest) for onset, *rest in notes[-8:]]  # type: ignore[misc]
            now = notes[-1][0]
    return encode_steps(notes)[:count]


def made_piece(count: int, seed: int = 0) -> Piece:
    return piece_of("made", "made", "test", 96, made_rows(count, seed))


def inputs(columns: Columns) -> list[tuple[int, ...]]:
    return [tuple(line) for line in columns.inputs.tolist()]


def test_the_cache_gives_the_same_as_the_full_pass() -> None:
    lines = inputs(made_piece(TINY.context).columns)
    whole = Memory(tiny_decoder()).hear_all(lines)
    one_by_one = Memory(tiny_decoder())
    np.testing.assert_allclose([one_by_one.hear(line) for line in lines], whole, atol=1e-4)
    in_gulps = Memory(tiny_decoder())
    gulps = [in_gulps.hear_all(lines[first : first + 7]) for first in range(0, len(lines), 7)]
    np.testing.assert_allclose(np.concatenate(gulps), whole, atol=1e-4)


def test_a_full_cache_goes_on_from_its_younger_half() -> None:
    lines = inputs(made_piece(TINY.context + 1).columns)
    memory = Memory(tiny_decoder())
    memory.hear_all(lines[:-1])
    fresh = Memory(tiny_decoder())
    expected = fresh.hear_all(lines[TINY.context // 2 :])[-1]
    np.testing.assert_allclose(memory.hear(lines[-1]), expected, atol=1e-4)


@pytest.mark.real
def test_numpy_agrees_with_torch() -> None:
    import torch

    from bridge.transformer.network import Network
    from bridge.transformer.train import to_batch

    columns = made_piece(TINY.context).columns
    decoder = tiny_decoder()
    network = Network(TINY).eval()
    network.load_state_dict({name: torch.from_numpy(values) for name, values in tiny_arrays().items()})
    with torch.no_grad():
        told = network(to_batch(next(windows_of(columns, TINY.context))))
    heard = Memory(decoder).hear_all(inputs(columns))
    for field in range(len(FIELDS)):
        np.testing.assert_allclose(
            decoder.log_probabilities(columns, field, heard), told[field][0].numpy(), atol=1e-4
        )


def test_what_is_drawn_while_playing_is_what_was_trained() -> None:
    piece = made_piece(60)
    decoder = tiny_decoder()
    heard = Memory(decoder).hear_all(inputs(piece.columns))
    listener = Listener(piece.bar_steps)
    for line, row in enumerate(piece.rows.tolist()):
        assert listener.inputs() == tuple(piece.columns.inputs[line])
        for field in range(len(FIELDS)):
            logits = decoder.logits(heard[line], field, *listener.conditions(field, row[:field]))
            logits = logits - np.log(np.exp(logits).sum())
            whole = decoder.log_probabilities(piece.columns[line : line + 1], field, heard[line : line + 1])
            np.testing.assert_allclose(logits, whole[0], atol=1e-4)
        listener.push(row)


def test_every_column_stays_within_its_table() -> None:
    columns = made_piece(3_000).columns
    sizes = [size for sizes in CONDITIONS for size in sizes]
    assert columns.inputs.min() >= 0
    assert columns.conditions.min() >= 0
    assert (columns.inputs < np.array(INPUTS)).all()
    assert (columns.conditions < np.array(sizes)).all()
    assert columns.conditions.shape[1] == CONDITION_STARTS[-1] == len(sizes)
    assert columns.hints.shape == (len(columns.targets), len(FIELDS), len(HINTS))
    for field, size in enumerate(SIZES):
        assert columns.hints[:, field].max() < size


def test_hints_are_right_where_music_repeats() -> None:
    bar = [(step * 24, 0, 60 + step, 24, 100) for step in range(4)]
    song = [(onset + 96 * times, *rest) for times in range(4) for onset, *rest in bar]
    columns = piece_of("song", "made", "test", 96, encode_steps(song)).columns  # type: ignore[arg-type]
    later = slice(8, None)
    for kind in range(len(HINTS)):
        right = columns.hints[later, 2, kind] == columns.targets[later, 2]
        assert right.all(), HINTS[kind]


def test_transposed_columns_are_those_of_the_transposed_notes() -> None:
    rows = made_rows(400)
    from bridge.transformer.columns import columns_of

    moved = transpose_columns(columns_of(rows, 96), 3)
    expected = columns_of(transposed(rows, 3), 96)
    for name in ("inputs", "conditions", "hints", "trust", "targets"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(expected, name), name)


def test_weights_survive_their_file_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, tiny_arrays(), TINY)
    arrays, shape = read_weights(path)
    assert shape == TINY
    for name, values in tiny_arrays().items():
        np.testing.assert_allclose(arrays[name], values, rtol=1e-3, atol=1e-6)


def test_a_damaged_or_foreign_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"weights\.safetensors can't be read"):
        read_weights(path)
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, path)
    with pytest.raises(ModelError, match="another version"):
        read_weights(path)
