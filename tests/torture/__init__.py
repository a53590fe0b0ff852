"""Faults on purpose: what a facility suffers in a year, in a few minutes, and whether anything is lost or done twice."""
