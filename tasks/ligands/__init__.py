"""Waters, ions and ligands in what a model leaves of a map: for `place_ligands`."""
