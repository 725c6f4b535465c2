"""Voices from elsewhere: read as data, checked before anything appears, and nothing in them is ever run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import Refused, VoiceError
from bridge.voices import imported, sovits
from bridge.voices.consent import write_consent
from bridge.voices.folder import read_card, write_card
from bridge.voices.imported import export_voice, import_voice, remove_voice
from bridge.voices.sovits_config import read_config
from tests.tiny_voice import CONSENT, config_table, put_model, put_voice

pytestmark = pytest.mark.real

FILES = ["card.md", "config.json", "model.safetensors", "voice.toml"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize(("kind", "dims"), [("hifi-gan", 256), ("ms-istft", 768), ("ms-istft", 384)])
def test_a_model_becomes_a_voice_that_holds_only_what_singing_needs(
    tmp_path: Path, kind: str, dims: int
) -> None:
    model = put_model(tmp_path / "model", config_table(kind, dims))
    made = import_voice(model.parent, "ada", tmp_path / "voices", f0_hz=210.0)
    assert names_in(made.folder) == FILES and names_in(tmp_path / "voices") == ["ada"]
    assert read_card(made.folder) == made.card
    assert made.card.encoder == ("whisper-tiny-en" if dims == 384 else "content-vec-best")
    assert made.card.f0_median_hz == 210.0 and made.card.speaker == "ada"
    network = sovits._load_voice(made.folder, made.card)
    assert network.config.model.type_ == kind and network.config.model.ssl_dim == dims
    from safetensors.torch import load_file

    kept = load_file(made.folder / "model.safetensors")
    assert not any(name.startswith(("enc_q", "f0_decoder")) for name in kept)


def test_so_vits_svc_40_names_no_type_and_no_projection(tmp_path: Path) -> None:
    table = config_table("hifi-gan")
    model = put_model(tmp_path / "model", table)
    del table["model"]["type_"], table["data"]["contentvec_final_proj"]
    model.with_name("config.json").write_text(json.dumps(table), encoding="utf-8")
    made = import_voice(model, "ada", tmp_path / "voices")
    assert made.card.encoder == "content-vec-best" and made.card.f0_median_hz is None


def test_the_newest_checkpoint_is_taken_and_clusters_stay_behind(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    put_model(folder, step=900)
    newest = put_model(folder, step=1000, seed=1)
    (folder / "kmeans_10000.pt").write_bytes(b"\x80\x02.")
    made = import_voice(folder, "ada", tmp_path / "voices")
    assert f"Imported from {newest.name}" in (made.folder / "card.md").read_text(encoding="utf-8")
    assert len(made.notes) == 1 and "kmeans_10000.pt was left behind" in made.notes[0]
    with pytest.raises(VoiceError, match=r"kmeans_10000.pt is not a voice: cluster files are pickles"):
        import_voice(folder / "kmeans_10000.pt", "eve", tmp_path / "voices")


def test_of_several_speakers_one_is_chosen(tmp_path: Path) -> None:
    model = put_model(tmp_path / "model", config_table(speakers=("ada", "eve")))
    with pytest.raises(VoiceError, match=r"has several speakers. Choose one by --speaker: ada, eve"):
        import_voice(model, "x", tmp_path / "voices")
    with pytest.raises(VoiceError, match=r"has no speaker 'bob'. Choose one by --speaker: ada, eve"):
        import_voice(model, "x", tmp_path / "voices", speaker="bob")
    made = import_voice(model, "x", tmp_path / "voices", speaker="eve")
    assert made.card.speaker == "eve"


def truncated(model: Path) -> None:
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])


def emptied(model: Path) -> None:
    model.write_bytes(b"")


class Payload:
    """What a malicious pickle runs when it is opened."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.proof}",)


def malicious(model: Path) -> None:
    import torch

    torch.save({"model": {"emb_g.weight": Payload(model.with_name("proof"))}, "iteration": 1}, model)


def malicious_and_old(model: Path) -> None:
    model.write_bytes(pickle.dumps({"model": Payload(model.with_name("proof"))}))


@pytest.mark.parametrize("damage", [truncated, emptied, malicious, malicious_and_old])
def test_what_is_cut_off_or_would_run_something_leaves_no_trace(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    model = put_model(tmp_path / "model")
    damage(model)
    with pytest.raises(
        VoiceError, match=r"G_100.pth is no so-vits-svc checkpoint that can be read safely"
    ) as told:
        import_voice(model, "ada", tmp_path / "voices")
    assert told.value.code == "pickle"
    assert names_in(tmp_path / "model") == ["G_100.pth", "config.json"]  # and no proof
    assert names_in(tmp_path / "voices") == []


def test_the_payload_would_have_run(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(pickle.dumps(Payload(tmp_path / "proof")))
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run(["python3", "-c", code, str(payload)], check=True, timeout=30)
    assert (tmp_path / "proof").exists()


def test_a_model_made_for_another_configuration_is_told_by_key_and_shapes(tmp_path: Path) -> None:
    model = put_model(tmp_path / "model")
    table = config_table()
    table["model"]["hidden_channels"] = 32
    model.with_name("config.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(VoiceError, match=r"G_100.pth: pre.weight is 16x256x5, its config.json says 32x256x5"):
        import_voice(model, "ada", tmp_path / "voices")
    model.with_name("config.json").write_text(json.dumps(config_table("hifi-gan")), encoding="utf-8")
    with pytest.raises(
        VoiceError, match=r"dec\.\S+ \S+ is missing. The model was made for another configuration"
    ):
        import_voice(model, "ada", tmp_path / "voices")
    assert names_in(tmp_path / "voices") == []


@pytest.mark.parametrize(
    ("table", "key", "value", "reason"),
    [
        ("model", "hidden_channels", 10**9, "hidden_channels = 1000000000 is out of range"),
        ("model", "n_speakers", 10**12, "n_speakers = 1000000000000 is out of range"),
        ("model", "n_layers", "6", "n_layers = '6' must be a whole number"),
        ("model", "resblock_kernel_sizes", [3] * 1000, "resblock_kernel_sizes holds"),
        ("model", "upsample_rates", [8, 2**40], "upsample_rates holds"),
        ("model", "upsample_rates", [8, 8], "makes 1024 samples per frame, data: hop_length = 512"),
        ("model", "n_heads", 3, "can't be shared among 3 heads"),
        ("model", "type_", "diffusion", "type_ = 'diffusion' must be one of hifi-gan"),
        ("model", "speech_encoder", "hubertsoft", "speech_encoder = 'hubertsoft' is not known here"),
        ("model", "vol_embedding", True, "vol_embedding = true is a network of so-vits-svc 4.1"),
        ("data", "hop_length", 0, "hop_length = 0 is out of range"),
        ("spk", "ada", "0", "must give each speaker a number of its own"),
        ("spk", "eve", 99, "spk names a speaker beyond model: n_speakers = 4"),
    ],
)
def test_a_configuration_is_bounded_before_anything_is_built(
    table: str, key: str, value: object, reason: str
) -> None:
    whole = config_table()
    whole[table][key] = value
    with pytest.raises(VoiceError) as told:
        read_config(json.dumps(whole).encode(), "config.json")
    assert reason in told.value.message and told.value.message.startswith("config.json: ")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b"\xff", b'{"model": 1, "data": {}, "spk": {}}', b"{" * 100_000]
)
def test_what_is_no_configuration_is_told(raw: bytes) -> None:
    with pytest.raises(VoiceError, match=r"^config.json"):
        read_config(raw, "config.json")


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    with pytest.raises(VoiceError, match="does not exist"):
        import_voice(tmp_path / "nowhere", "ada", voices)
    with pytest.raises(VoiceError, match=r"holds no G_\*.pth"):
        import_voice(tmp_path, "ada", voices)
    (tmp_path / "D_100.pth").write_bytes(b"")
    with pytest.raises(VoiceError, match="a discriminator, which only training needs"):
        import_voice(tmp_path / "D_100.pth", "ada", voices)
    (tmp_path / "G_100.pth").write_bytes(b"")
    with pytest.raises(VoiceError, match=r"config.json is missing. Put the config.json there"):
        import_voice(tmp_path / "G_100.pth", "ada", voices)
    with pytest.raises(VoiceError, match="built-in character"):
        import_voice(tmp_path, "deep", voices)
    with pytest.raises(Refused):
        import_voice(tmp_path, "../ada", voices)


def test_a_voice_is_never_overwritten_and_a_consent_waits_for_its_voice(tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    write_consent("ada", CONSENT, voices)
    made = put_voice(tmp_path, voices, consented=False)
    assert names_in(made.folder) == sorted([*FILES, "consent.toml"])
    with pytest.raises(VoiceError, match=r"'ada' stands in .* already"):
        put_voice(tmp_path, voices)


def test_an_import_that_fails_on_the_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, card: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(imported, "write_card", full)
    with pytest.raises(OSError, match="No space left"):
        put_voice(tmp_path, tmp_path / "voices")
    assert names_in(tmp_path / "voices") == []


def test_an_exported_voice_comes_in_elsewhere_without_its_consent(tmp_path: Path) -> None:
    made = put_voice(tmp_path, tmp_path / "voices")
    archive = export_voice("ada", tmp_path / "voices", tmp_path / "ada.zip")
    assert sorted(zipfile.ZipFile(archive).namelist()) == FILES
    there = import_voice(archive, "eve", tmp_path / "elsewhere", f0_hz=300.0)
    assert names_in(there.folder) == FILES
    assert there.card == replace(made.card, f0_median_hz=300.0, encoder_folder="")
    remove_voice("ada", tmp_path / "voices")
    assert names_in(tmp_path / "voices") == []
    with pytest.raises(VoiceError, match="no voice 'ada'"):
        remove_voice("ada", tmp_path / "voices")


@pytest.mark.parametrize("name", ["../consent.toml", "/etc/evil", "..\\evil", "C:\\evil", "a/../../evil"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    put_voice(tmp_path, tmp_path / "voices")
    archive = export_voice("ada", tmp_path / "voices", tmp_path / "ada.zip")
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr(name, b"evil")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VoiceError, match=r"leads out of its folder. Nothing was taken"):
        import_voice(archive, "eve", tmp_path / "voices")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_brings_no_consent_and_no_other_model(tmp_path: Path) -> None:
    made = put_voice(tmp_path, tmp_path / "voices")
    archive = export_voice("ada", tmp_path / "voices", tmp_path / "ada.zip")
    with zipfile.ZipFile(archive, "a") as more:
        more.write(made.folder / "consent.toml", "consent.toml")
    there = import_voice(archive, "eve", tmp_path / "elsewhere")
    assert names_in(there.folder) == FILES and "consent.toml was left behind" in there.notes[0]
    write_card(made.folder, replace(made.card, model_sha256="0" * 64))
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        for file in FILES:
            bad.write(made.folder / file, file)
    with pytest.raises(VoiceError, match="has the digest"):
        import_voice(tmp_path / "bad.zip", "bob", tmp_path / "elsewhere")
    (tmp_path / "none.zip").write_bytes(b"PK nonsense")
    with pytest.raises(VoiceError, match="no archive that can be read"):
        import_voice(tmp_path / "none.zip", "bob", tmp_path / "elsewhere")
    assert names_in(tmp_path / "elsewhere") == ["eve"]
