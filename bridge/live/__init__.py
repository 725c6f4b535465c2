"""The live process: hears the DAW, keeps its clock, answers in time. MIDI only; nothing heavy is imported."""
