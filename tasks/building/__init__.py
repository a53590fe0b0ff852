"""From what a network detects in a map to chains with sequence."""
