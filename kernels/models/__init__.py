"""Atomic models: what they are made of, how they are found in a map, and how well they fit it."""
