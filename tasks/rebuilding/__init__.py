"""Regions of a model that its validation does not trust, built anew: for `rebuild_model`."""
