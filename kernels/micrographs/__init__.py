"""Micrographs: power spectra, CTF estimation, background and picking."""
