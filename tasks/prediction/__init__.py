"""Engines that predict structures, each run as a program in an environment of its own, for `predict_structure`."""
