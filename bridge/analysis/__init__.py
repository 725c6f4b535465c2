"""What can be heard in a bounce: onsets, tempo and bar lines, and the key. Pure signal analysis, no models."""
