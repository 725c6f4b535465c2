"""voice.toml: what is written is read again, and nonsense is told by file, key and value."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bridge.errors import VoiceError
from bridge.voices.folder import CARD, VoiceCard, read_card, read_verified, write_card

GOOD = VoiceCard(
    engine="so-vits-svc",
    encoder="content-vec-best",
    encoder_folder='C:\\encoders "best"\x7f',
    sample_rate_hz=48_000,
    speaker="Zoë\n",
    f0_median_hz=220.5,
    f0_low_hz=110.0,
    f0_high_hz=440.0,
    transpose="-12",
    model_sha256="a" * 64,
    config_sha256="b" * 64,
)


@pytest.mark.parametrize("card", [GOOD, VoiceCard("so-vits-svc")])
def test_what_is_written_is_read_again(tmp_path: Path, card: VoiceCard) -> None:
    write_card(tmp_path, card)
    assert read_card(tmp_path) == card
    assert [path.name for path in tmp_path.iterdir()] == [CARD]


def test_a_hand_may_write_numbers_and_keys_of_its_own(tmp_path: Path) -> None:
    text = 'engine = "so-vits-svc"\ntranspose = 12\nf0_median_hz = 200\nmood = "sad"\n'
    (tmp_path / CARD).write_text(text, encoding="utf-8")
    card = read_card(tmp_path)
    assert card.transpose == "12" and card.f0_median_hz == 200.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("schema = 2\nengine = 'x'", "schema = 2; this version reads 1. Update"),
        ("schema = true\nengine = 'x'", "schema = True"),
        ("", "engine is missing"),
        ("engine = 3", "engine = 3 must be text"),
        ("engine = 'x'\ntranspose = 7", "transpose = '7' must be one of auto, 0, 12, -12"),
        ("engine = 'x'\nf0_median_hz = 9000.0", "f0_median_hz = 9000.0 is out of range"),
        ("engine = 'x'\nsample_rate_hz = 44.1", "sample_rate_hz = 44.1 must be a whole number"),
        ("engine = ", "no valid TOML"),
        ("engine = '\udcff'", "no valid TOML"),
    ],
)
def test_nonsense_is_told_by_file_key_and_value(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / CARD).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(VoiceError) as told:
        read_card(tmp_path)
    assert str(tmp_path / CARD) in told.value.message and reason in told.value.message


def test_a_missing_card_is_told(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match=r"voice.toml can't be read \(No such file.*Import or train"):
        read_card(tmp_path)


def test_a_file_counts_only_with_the_digest_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert read_verified(tmp_path, "config.json", digest) == b"{}"
    with pytest.raises(VoiceError, match=f"config.json has the digest {digest}, voice.toml names none"):
        read_verified(tmp_path, "config.json", "")
    with pytest.raises(VoiceError, match=r"model.safetensors can't be read"):
        read_verified(tmp_path, "model.safetensors", digest)
