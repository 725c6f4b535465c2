"""Promises of the engine so-vits-svc, on the package's real networks with random weights."""

from __future__ import annotations

import subprocess
import sys

import pytest

USE_TORCHAUDIO = """
import torch
{break_it}
from bridge.voices.sovits import mend_torchaudio
mend_torchaudio()
import sys, torchaudio
sound = torch.sin(torch.arange(44100) * 0.05)
there = torchaudio.transforms.Resample(44100, 16000)(sound)
mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=400)(there)
print(tuple(there.shape), bool(torch.isfinite(mel).all()), sys.modules["torchaudio._extension"].__spec__ is None)
"""
BREAK_IT = """
def fail(path):
    raise OSError("libc10_cuda.so: cannot open shared object file: No such file or directory")
torch.ops.load_library = fail
"""


@pytest.mark.real
@pytest.mark.parametrize("broken", [False, True])
def test_torchaudio_serves_the_package_also_where_its_compiled_part_fails(broken: bool) -> None:
    code = USE_TORCHAUDIO.format(break_it=BREAK_IT if broken else "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    if not broken and "True True" in done.stdout:
        pytest.skip("torchaudio is broken here by itself")
    assert done.stdout.strip() == f"(16000,) True {broken}"
