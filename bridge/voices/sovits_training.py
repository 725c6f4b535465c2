"""so-vits-svc-fork's trainer: its networks, losses and training step, run by Lightning on utterances of ours.

With `sovits`, the only module that touches the package. Its downloads, its checkpoints, its pictures and its
TensorBoard are left out: nothing is fetched, and what is kept is kept by `checkpoints`.
"""

from __future__ import annotations

import importlib.resources
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bridge.errors import ModelError
from bridge.voices import sovits
from bridge.voices.utterance import Utterance

TEMPLATES: Mapping[str, str] = {
    "quickvc": "quickvc.json",
    "quickvc-small": "quickvc.json",
    "hifi-gan": "so-vits-svc-4.0v1.json",
}
SMALL: Mapping[str, int] = {
    "inter_channels": 96,
    "hidden_channels": 96,
    "filter_channels": 384,
    "n_layers": 3,
    "upsample_initial_channel": 256,
}
"""quickvc at about a fifth of the work: for a processor, and for want of a base model, which none fits."""
JUDGE_SEED = 1234
NEVER = 2**31
LOSSES: Mapping[str, str] = {
    "loss/g/mel": "mel",
    "loss/g/kl": "kl",
    "loss/g/total": "total",
    "loss/g/fm": "feature",
    "loss/g/lf0": "f0",
    "loss/d/total": "discriminator",
}

Tensors = Mapping[str, Any]
"""name -> torch.Tensor"""


@dataclass(frozen=True)
class Pace:
    """How fast, and in what portions, the network learns."""

    batch: int
    segment_size: int  # samples that the decoder makes of each utterance in a step
    crop_frames: int  # spectrogram frames that the encoders see of it
    learning_rate: float


class Stop(Exception):
    """Raised by the `after_step` of a Learner to end training now."""


def configuration(template: str, dims: int, speaker: str, pace: Pace, speakers: int = 1) -> dict[str, Any]:
    """The package's own template, for one speaker and an encoder of `dims` dimensions."""
    folder = importlib.resources.files("so_vits_svc_fork") / "preprocessing" / "config_templates"
    table: dict[str, Any] = json.loads((folder / TEMPLATES[template]).read_text("utf-8"))
    table["train"] |= {
        "learning_rate": pace.learning_rate,
        "batch_size": pace.batch,
        "segment_size": pace.segment_size,
        "num_workers": 0,
        "log_interval": NEVER,  # its pictures need a numpy that is gone
        "keep_ckpts": 0,
    }
    del table["model"]["pretrained"]
    table["model"] |= SMALL if template == "quickvc-small" else {}
    table["model"] |= {"ssl_dim": dims, "n_speakers": speakers}
    table["data"]["contentvec_final_proj"] = dims == 256
    table["spk"] = {speaker: 0}
    return table


class Learner:
    """Both networks with their optimisers, and what they have learnt so far."""

    def __init__(self, table: Mapping[str, Any], pace: Pace) -> None:
        sovits.package()  # torchaudio mended, and its logging silenced
        from so_vits_svc_fork.hparams import HParams

        self.pace = pace
        self.judged = True
        self._table: dict[str, Any] = json.loads(json.dumps(table))
        with _quiet():
            self._module = _lightning_class()(**HParams(**self._table), model_dir="")

    def again(self) -> Learner:
        """Another one like this, untaught, with a discriminator."""
        return Learner(self._table, self.pace)

    def latest(self) -> Mapping[str, float]:
        """The last step's losses: mel, kl, total, feature, f0, discriminator."""
        return cast("Mapping[str, float]", self._module.latest)

    def without_discriminator(self) -> None:
        """Learn from the spectrogram alone: several times as many steps in the same time, and a duller sound.

        For the first hours of a voice that has no base model: a discriminator has nothing to teach noise.
        """
        import torch

        module = self._module
        self.judged, module.net_d = False, _silent_discriminator()
        rate, train = module.learning_rate, module.hparams.train
        module.optim_d = torch.optim.AdamW(module.net_d.parameters(), rate, betas=train.betas, eps=train.eps)
        module.scheduler_d = torch.optim.lr_scheduler.ExponentialLR(module.optim_d, gamma=train.lr_decay)

    def fit(
        self,
        utterances: Sequence[Utterance],
        first_epoch: int,
        epochs: int,
        after_step: Callable[[int, int], None],
        after_epoch: Callable[[int, dict[str, float]], None],
    ) -> None:
        """Train from `first_epoch` (epochs done) to `epochs`.

        `after_step(step, steps)` may raise Stop, and `after_epoch(epoch, mean losses)` anything.
        """
        import lightning.pytorch as pl
        from torch.utils.data import DataLoader

        module, pace = self._module, self.pace
        module._temp_epoch = first_epoch
        data = _Crops(utterances, pace.crop_frames, self._table, seed=first_epoch)
        loader: Any = DataLoader(
            cast(Any, data), batch_size=pace.batch, shuffle=True, collate_fn=_collate, num_workers=0
        )
        with _quiet():
            trainer = pl.Trainer(
                accelerator="cpu" if not _has_gpu() else "auto",
                devices=1,
                max_epochs=epochs,
                callbacks=[_callback(after_step, after_epoch)],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                limit_val_batches=0,
                inference_mode=False,
            )
            trainer.fit(module, train_dataloaders=loader)

    def convert(self, spoken: Utterance) -> npt.NDArray[np.float32]:
        """The utterance in the voice as it is now, (frames * hop,) float32; the same noise each time."""
        import torch

        net = self._module.net_g.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(JUDGE_SEED)
            made = net.infer(
                torch.from_numpy(spoken.content)[None].to(self._module.device),
                torch.from_numpy(spoken.f0_hz)[None].to(self._module.device),
                torch.from_numpy(spoken.voiced)[None].to(self._module.device),
                g=torch.zeros(1, 1, dtype=torch.long, device=self._module.device),
            )
        return cast("npt.NDArray[np.float32]", made.reshape(-1).float().cpu().numpy())

    def mel_distance(self, held_out: Sequence[Utterance]) -> float:
        """Mean absolute difference of log mel spectrograms, original against converted; lower is better."""
        import torch

        total, frames = 0.0, 0
        with torch.no_grad():
            for spoken in held_out:
                truth, made = (self._mel(samples) for samples in (spoken.samples, self.convert(spoken)))
                shared = min(truth.shape[-1], made.shape[-1])
                total += float((truth[..., :shared] - made[..., :shared]).abs().mean()) * shared
                frames += shared
        return total / max(1, frames)

    def voice_tensors(self) -> dict[str, Any]:
        """What converting needs: the generator."""
        return _contiguous(self._module.net_g.state_dict())

    def rest_tensors(self) -> dict[str, Any]:
        """What going on with training needs beside it: the discriminator, and both optimisers' moments."""
        module = self._module
        tensors, optimisers = {}, {"g": module.optim_g}
        if self.judged:
            tensors = {f"d/{name}": tensor for name, tensor in module.net_d.state_dict().items()}
            optimisers["d"] = module.optim_d
        for letter, optimiser in optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"o{letter}/{index}/{key}": tensor for key, tensor in state.items()}
        return _contiguous(tensors)

    def restore(self, voice: Tensors, rest: Tensors, epoch: int) -> None:
        """Go back to a state that was kept after `epoch` epochs.

        Raises:
            ModelError: it was made for other sizes.
        """
        module = self._module
        try:
            module.net_g.load_state_dict(voice)
            judge = {name[2:]: tensor for name, tensor in rest.items() if name.startswith("d/")}
            if judge and self.judged:  # else it begins now
                module.net_d.load_state_dict(judge)
        except RuntimeError as exc:
            raise ModelError(f"The checkpoint was made for other sizes ({str(exc)[:300]}).") from exc
        rate = module.hparams.train.learning_rate * module.hparams.train.lr_decay**epoch
        pairs = (("g", module.optim_g, module.scheduler_g), ("d", module.optim_d, module.scheduler_d))
        for letter, optimiser, schedule in pairs:
            table = optimiser.state_dict()
            table["state"] = _moments(rest, f"o{letter}/") if letter == "g" or self.judged else {}
            table["param_groups"][0]["lr"] = rate
            optimiser.load_state_dict(table)
            schedule.last_epoch = epoch

    def use_voice(self, voice: Tensors) -> None:
        """Take the generator of a kept checkpoint, to convert with."""
        self._module.net_g.load_state_dict(voice)

    def begin_from(self, base: Path) -> str:
        """Take over what fits of a so-vits-svc generator (G_*.pth, never unpickled); gives what was taken, in words.

        A discriminator beside it under the name D_*.pth is taken too.

        Raises:
            ModelError: it can't be read as tensors alone, or nothing fits.
        """
        taken, total = _take(self._module.net_g, base)
        beside = base.with_name("D" + base.name[1:])
        told = f"{taken} of {total} tensors of the generator are the base model's"
        if base.name.startswith("G") and beside.is_file():
            judged, judges = _take(self._module.net_d, beside)
            return f"{told}, and {judged} of {judges} of the discriminator"
        return f"{told}; no {beside.name} lies beside it, so the discriminator begins anew"

    def _mel(self, samples: npt.NDArray[np.float32]) -> Any:
        import torch
        from so_vits_svc_fork.modules import mel_processing

        measure: Any = mel_processing.mel_spectrogram_torch
        return measure(torch.from_numpy(samples)[None], self._module.hparams)


def base_shape(base: Path) -> tuple[int, int]:
    """How many speakers a generator knows, and how many dimensions its content has.

    Raises:
        ModelError: it can't be read, or is no so-vits-svc generator.
    """
    tensors = _read_pth(base)
    try:
        return int(tensors["emb_g.weight"].shape[0]), int(tensors["pre.weight"].shape[1])
    except (KeyError, AttributeError, IndexError) as exc:
        raise ModelError(
            f"{base} is no generator of so-vits-svc: it holds no {exc}. Give its G_*.pth."
        ) from exc


def _read_pth(path: Path) -> dict[str, Any]:
    import torch

    try:
        table = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as exc:
        raise ModelError(f"{path} can't be read ({exc.strerror}). Check the name.") from exc
    except Exception as exc:  # damaged in whatever way, or a pickle that would run code
        raise ModelError(
            f"{path} can't be read as tensors alone ({type(exc).__name__}), so it is not opened. Use another one."
        ) from exc
    tensors = table.get("model", table) if isinstance(table, dict) else {}
    return {name: tensor for name, tensor in tensors.items() if hasattr(tensor, "shape")}


def _take(network: Any, path: Path) -> tuple[int, int]:
    """How many tensors of `network` were filled from the file, of how many."""
    own, theirs = network.state_dict(), _read_pth(path)
    fits = {name: theirs[name] for name in own if name in theirs and theirs[name].shape == own[name].shape}
    if not fits:
        raise ModelError(f"Nothing in {path} fits this network. Give a base model of the same template.")
    network.load_state_dict(own | fits)
    return len(fits), len(own)


def _moments(rest: Tensors, prefix: str) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in rest.items():
        if name.startswith(prefix):
            index, key = name.removeprefix(prefix).split("/")
            state.setdefault(int(index), {})[key] = tensor
    return state


def _silent_discriminator() -> Any:
    """One that finds nothing, in the shape that the package's step expects."""
    import torch

    class Silent(torch.nn.Module):
        """Its loss is constant."""

        def __init__(self) -> None:
            super().__init__()
            self.nothing = torch.nn.Parameter(torch.zeros(1))

        def forward(self, true: Any, made: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
            return [true.mean() * self.nothing], [made.mean() * self.nothing], [], []

    return Silent()


def _contiguous(tensors: Tensors) -> dict[str, Any]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


class _Crops:
    """Utterances as the package's batch wants them, each time another stretch of long ones."""

    def __init__(
        self, utterances: Sequence[Utterance], crop_frames: int, table: Mapping[str, Any], seed: int
    ) -> None:
        from so_vits_svc_fork.hparams import HParams

        self._utterances = utterances
        self._crop_frames = crop_frames
        self._hparams = HParams(**table)
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._utterances)

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch
        from so_vits_svc_fork.modules import mel_processing

        whole = self._utterances[index]
        spare = whole.frames - self._crop_frames
        first = int(self._random.integers(spare + 1)) if spare > 0 else 0
        cut = whole.crop(first, self._crop_frames)
        samples = torch.from_numpy(cut.samples.copy())[None]  # (1, frames * hop)
        processing: Any = mel_processing
        spec = processing.spectrogram_torch(samples, self._hparams)[0]  # (bins, frames)
        return {
            "content": torch.from_numpy(cut.content.copy()),
            "f0": torch.from_numpy(cut.f0_hz.copy()),
            "spec": spec,
            "mel_spec": processing.spec_to_mel_torch(spec, self._hparams),
            "audio": samples,
            "spk": torch.tensor(0),
            "uv": torch.from_numpy(cut.voiced.copy()),
        }


def _collate(batch: Sequence[dict[str, Any]]) -> Any:
    from so_vits_svc_fork.dataset import TextAudioCollate

    return TextAudioCollate()(batch)


def _lightning_class() -> type[Any]:
    """The package's LightningModule, without what it writes and reads."""
    from so_vits_svc_fork.train import VitsLightning

    class OwnLightning(VitsLightning):  # type: ignore[misc,no-any-unimported,unused-ignore]
        """Keeps the last step's losses in `latest`."""

        def load(self, reset_optimizer: bool = False) -> None:
            self.latest: dict[str, float] = {}

        def log_dict_(self, log_dict: Mapping[str, Any], **kwargs: Any) -> None:
            self.latest |= {LOSSES[key]: float(value) for key, value in log_dict.items() if key in LOSSES}

        def save_checkpoints(self, adjust: int = 1) -> None:
            pass

    return OwnLightning


def _callback(
    after_step: Callable[[int, int], None], after_epoch: Callable[[int, dict[str, float]], None]
) -> Any:
    import lightning.pytorch as pl

    class Follower(pl.Callback):
        """Passes on what happens."""

        def __init__(self) -> None:
            self.sums: dict[str, float] = {}
            self.steps = 0

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            for name, value in module.latest.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.steps += 1
            after_step(batch_idx + 1, trainer.num_training_batches)

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            means = {name: value / max(1, self.steps) for name, value in self.sums.items()}
            self.sums, self.steps = {}, 0
            after_epoch(trainer.current_epoch + 1, means)

    return Follower()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' own talk, and their warnings on what they do on purpose."""
    import logging

    loggers = [
        logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "so_vits_svc_fork")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
