"""Parts of the gain doctor: sums of exposures, course, verdict, a gain from the movies; see `diagnose_gain`."""
