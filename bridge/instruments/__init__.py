"""Music to listen to: a phrase played by a General MIDI soundfont or by an instrument plug-in."""
