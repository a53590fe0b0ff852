"""Validation of models: errors planted to learn from, and the report of what was found."""
