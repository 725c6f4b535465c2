"""Voices: who sings where, whose consent there is, and the engines that convert."""
