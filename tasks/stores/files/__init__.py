"""The files of a session: what they are known by, which were seen, and what became of each."""
