"""The engine so-vits-svc: a trained singing voice. With its training, the only code that touches so_vits_svc_fork."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any


def mend_torchaudio() -> None:
    """Make torchaudio's Python parts importable where its compiled ones can't be loaded.

    The registries' torchaudio is built for CUDA and fails beside a torch for CPUs alone. What so-vits-svc-fork
    uses of it (resampling, mel spectrograms) is plain Python. Where torchaudio works, nothing is changed.
    """
    try:
        import torchaudio
    except (ImportError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]  # what the failed import left half done
        sys.modules["torchaudio._extension"] = _no_extension()
        import torchaudio  # noqa: F401


def _no_extension() -> types.ModuleType:
    """What `torchaudio._extension` is where nothing compiled is there."""
    stub = types.ModuleType("torchaudio._extension")

    def fail_if_no_align(function: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*args: object, **kwargs: object) -> None:
            raise RuntimeError(
                f"torchaudio's {function.__name__} needs its compiled part, which can't be loaded"
            )

        return fail

    vars(stub).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=fail_if_no_align
    )
    return stub
