"""Every deliberate exception of dawbridge.

Each message names the thing, the value and the remedy, since it is what the user reads. All of them
survive pickling, because they cross from a worker process to the daemon.
"""

from __future__ import annotations


class DawbridgeError(Exception):
    """Base of every deliberate error. `code` is a short machine-readable word, see CODES in tests."""

    default_code = "error"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[type[DawbridgeError], tuple[str, str]]:
        return type(self), (self.message, self.code)


class UsageError(DawbridgeError):
    """The command line was used wrongly."""

    default_code = "usage"


class ConfigError(DawbridgeError):
    """The configuration or a setting has an unknown key or a value out of range."""

    default_code = "config"


class PresetError(DawbridgeError):
    """A preset or an effect chain is missing, has an unknown key or a value out of range."""

    default_code = "preset"


class InputError(DawbridgeError):
    """The bounce can't be read: damaged, empty, unsupported, missing or not permitted."""

    default_code = "unreadable"


class IncompleteError(InputError):
    """The file ends before its header says it should: still being written, or cut off."""

    default_code = "incomplete"


class SidecarError(DawbridgeError):
    """A sidecar is nonsense. It becomes a warning in the job, never a lost bounce."""

    default_code = "sidecar"


class ManifestError(DawbridgeError):
    """A manifest is damaged or of a higher schema than this version reads."""

    default_code = "manifest"


class ModelError(DawbridgeError):
    """A model file is missing, damaged, unsafe or does not have the digest it should have."""

    default_code = "model"


class VoiceError(DawbridgeError):
    """A voice folder, or a model to import as one, is missing, damaged, unsafe or made for something else."""

    default_code = "voice"


class StageError(DawbridgeError):
    """A stage could not do its work; the job goes on with what does not depend on it."""

    default_code = "stage"


class Refused(DawbridgeError):
    """The engine declines on purpose, e.g. a voice without consent (`no_consent`)."""

    default_code = "refused"


class Cancelled(DawbridgeError):
    """The user cancelled the job; raised inside the stage at its next progress report."""

    default_code = "cancelled"


class WorkerDied(StageError):
    """The worker process ended without an answer (killed, or out of memory)."""

    default_code = "worker_died"


class ControlError(DawbridgeError):
    """What was asked of the daemon can't be done, or no daemon answers."""

    default_code = "control"


class DiscoveryError(DawbridgeError):
    """The local network can't be asked for other dawbridges."""

    default_code = "discovery"


class LedgerError(DawbridgeError):
    """The state folder is in use by another daemon, or its ledger is damaged or too new."""

    default_code = "ledger"


class OutboxError(DawbridgeError):
    """What was made can't be published: the outbox is missing, full or read-only."""

    default_code = "outbox"


class MidiError(DawbridgeError):
    """No MIDI system, no such port, or the system died."""

    default_code = "midi"


class LiveError(DawbridgeError):
    """The live companion does not run, runs already, or could not be started."""

    default_code = "live"


class InstallError(DawbridgeError):
    """DAW scripts can't be installed: something stands there that isn't ours, or ours are damaged."""

    default_code = "install"
