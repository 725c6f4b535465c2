"""dawbridge: a bounce goes in; stems, MIDI, a treated vocal and a mix come back. The map of this package:

| module | what it holds |
|---|---|
| `__main__` | `python -m bridge` |
| `cli` | the verbs; no logic |
| `control_verbs` | the verbs that ask something of the daemon: `jobs`, `peers` |
| `voice_verbs` | the verbs of voices: list, import, test, consent |
| `install_verbs` | the verb `install-scripts` |
| `daemon` | composition root: starts the parts in order, stops them in reverse |
| `demo` | the main job on a shipped song, through a real daemon |
| `doctor` | what is missing, and the one command that mends it |
| `process` | one file, no daemon, the same code path |
| `webserver` | HTTP inside the daemon's loop: its server, limits and times, `http.json` |
| `web` | the HTTP routes |
| `audience` | server-sent events of what the daemon tells |
| `door` | who may speak to the daemon by HTTP at all |
| `filecontrol` | for scripts without sockets: `status.json` out, command files in |
| `control` | what may be asked of the daemon: one set of functions for HTTP, files and verbs |
| `discovery` | other dawbridges on the local network |
| `live_verbs` | the verbs of the live companion |
| `install` | puts the DAW scripts where the DAWs look, and never over what isn't ours |
| `livehost` | its parent: starts the live process and the generator, writes replies as files |
| `terminal` | what a person sees: bars, trees, tables; JSON for scripts |
| `watch` | export folders -> settled files |
| `workshop` | opens ledger, store and lanes; takes one file up as a job |
| `line` | the jobs that wait or run |
| `jobs` | runs one job through the graph |
| `lanes` | the worker processes |
| `presets` | presets/*.toml -> Preset, checked against the pipeline |
| `pipeline` | the graph: ONE table |
| `stages` | separate analyse transcribe generate convert effects mix report export |
| `analysis` | beats, bars, key |
| `harmony` | chords, form and melody of a song's notes |
| `composing` | a continuation and an arrangement of a song, as notes |
| `transformer` | the Music Transformer: rows, model, training, constraints, weights |
| `effects` | chains of effects, and plug-ins in a child process |
| `separators` | htdemucs, spleeter, and the split of its accompaniment |
| `transcribers` | pitched parts, bass, drums |
| `voices` | consent, trained and built-in voices, f0, who sings where |
| `instruments` | a phrase -> audio, by a soundfont or an instrument plug-in |
| `reporting` | output against input in figures and pictures, and the report's page |
| `intake` | one audio file -> Bounce, with all that is known of it |
| `audio` | read, write, resample, loudness |
| `wavchunks` | bext, acid, LIST/INFO |
| `container` | is the file complete by its own header? |
| `midi` | Phrase <-> MIDI bytes and files |
| `sheet` | a MIDI file of any program -> notes, tempo and bars |
| `midievents` | the bytes of a MIDI file -> its events, each number bounded |
| `returned` | the outbox: what came back, and its files |
| `manifest` | what came back, for scripts |
| `sidecar` | what the DAW says of a bounce |
| `contracts` | the reader of both |
| `child` | foreign code in a process of its own, with a time limit |
| `grid` | the artifact that holds tempo, key and singing |
| `progress` | progress of work that has parts |
| `names` | what a file name tells, and what the folder is called |
| `events` | file system events of a changing set of folders |
| `settle` | has a file come to rest? a state machine without a clock |
| `store` | artifacts on disk, named by content |
| `atomic` | files that appear whole or not at all |
| `ledger` | SQLite: jobs, stages, cached results, seen files |
| `weights` | where model files are; fetch with digest; what works without them |
| `live` | the live process: ports, clock, phrases, companion, player |
| `config` | one TOML file -> frozen dataclasses |
| `settings` | fields of settings dataclasses, with range or choices |
| `tempo` | beats <-> seconds <-> frames <-> ticks |
| `types` | values that cross borders |
| `errors` | every deliberate exception |
"""

__version__ = "0.1.0"
