"""Maps: projection, reconstruction, refinement, comparison and sharpening."""
