"""What the stages write and read: exposures, particles, maps, and what they keep for the whole session."""
