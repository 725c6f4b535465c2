"""The separation engines behind the stage `separate`: Spleeter, htdemucs, and the split of an accompaniment."""
