"""Movies: motion, dose, gain and defects of a detector."""
