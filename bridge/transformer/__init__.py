"""The continuation model: its parts, its corpus, its network, and how it is asked."""
