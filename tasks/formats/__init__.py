"""Foreign files: the only place that knows their layouts and converts their conventions."""


class FormatError(ValueError):
    """A file that is not what it should be: which file, what was found, what was expected, what to do."""
