"""Faults on purpose: what a facility suffers in a year, in minutes, and whether anything is lost or done twice."""
