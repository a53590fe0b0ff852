"""Files of a session for other programs: what several stages write alike."""
