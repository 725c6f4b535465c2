"""dawbridge: a bounce goes in; stems, MIDI, a treated vocal and a mix come back. The map of this package:

| module | what it holds |
|---|---|
| `__main__` | `python -m bridge` |
| `cli` | the verbs; no logic |
| `control_verbs` | the verbs that ask something of the daemon: `jobs`, `again`, `clean`, `peers` |
| `training_verbs` | the verbs that train a voice: add, train |
| `voice_verbs` | the verbs of voices: list, import, test, consent |
| `autostart_verbs` | the verb `autostart` |
| `install_verbs` | the verb `install-scripts` |
| `daemon` | composition root: starts the parts in order, stops them in reverse |
| `demo` | the main job on a shipped song, through a real daemon |
| `doctor` | what is missing, and the one command that mends it |
| `process` | one file, no daemon, the same code path |
| `shown` | a job in the foreground, shown: the end of `process` and `again` |
| `webserver` | HTTP inside the daemon's loop: its server, limits and times, `http.json` |
| `web` | the HTTP routes |
| `audience` | server-sent events of what the daemon tells |
| `door` | who may speak to the daemon by HTTP at all |
| `filecontrol` | for scripts without sockets: `status.json` out, command files in |
| `control` | what may be asked of the daemon: one set of functions for HTTP, files and verbs |
| `answering` | answers what others wrote into the ledger |
| `discovery` | other dawbridges on the local network |
| `live_verbs` | the verbs of the live companion |
| `install` | puts the DAW scripts where the DAWs look, and never over what isn't ours |
| `autostart` | the daemon at login, on each system |
| `notice` | a desktop notice when a song is back |
| `telling` | a listener that fails stops nobody |
| `livehost` | its parent: starts the live process and the generator, writes replies as files |
| `terminal` | what a person sees: bars, trees, tables; JSON for scripts |
| `watch` | export folders -> settled files |
| `workshop` | opens ledger, store and lanes; takes one file up as a job |
| `drafts` | which job gets a quick draft before it |
| `cleaning` | frees disk |
| `waiting` | what is held up: how often, for how long |
| `line` | the jobs that wait, rest or run |
| `rebuilding` | a damaged ledger is set aside, a new one learns from the outbox |
| `jobs` | runs one job through the graph |
| `joblog` | a job's own log |
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
| `sound` | sound that is read a block at a time |
| `stretches` | what must see all that it works on, on a long sound |
| `audio` | read, write, resample, loudness |
| `wavchunks` | bext, acid, LIST/INFO |
| `container` | is the file complete by its own header? |
| `midi` | Phrase <-> MIDI bytes and files |
| `sheet` | a MIDI file of any program -> notes, tempo and bars |
| `midievents` | the bytes of a MIDI file -> its events, each number bounded |
| `outbox_disk` | is the outbox's disk there? |
| `returned` | the outbox: what came back, and its files |
| `manifest` | what came back, for scripts |
| `sidecar` | what the DAW says of a bounce |
| `contracts` | the reader of both |
| `child` | foreign code in a process of its own, with a time limit |
| `grid` | the artifact that holds tempo, key and singing |
| `progress` | progress of work that has parts |
| `threads` | on how many threads a stage may compute |
| `names` | what a file name tells, and what the folder is called |
| `events` | file system events of a changing set of folders |
| `settle` | has a file come to rest? a state machine without a clock |
| `store` | artifacts on disk, named by content |
| `atomic` | files that appear whole or not at all |
| `scratch` | a folder for what lies between two steps of a stage |
| `ledger` | SQLite: jobs, stages, cached results, seen files |
| `ledger_rows` | its values |
| `ledger_schema` | its tables, from the first version on |
| `holder` | one daemon per state folder; which jobs run |
| `logs` | where log records go |
| `retrying` | what passes by itself, and how it is tried again |
| `weights` | where model files are; fetch with digest; what works without them |
| `live` | the live process: ports, clock, phrases, companion, player |
| `config` | one TOML file -> frozen dataclasses |
| `settings` | fields of settings dataclasses, with range or choices |
| `tempo` | beats <-> seconds <-> frames <-> ticks |
| `types` | values that cross borders |
| `errors` | every deliberate exception |
"""

__version__ = "0.1.0"
