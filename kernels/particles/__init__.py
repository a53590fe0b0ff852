"""Particle images: likelihoods, posteriors and 2D classes."""
