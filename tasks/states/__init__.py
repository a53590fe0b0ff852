"""Two states of one molecule beside each other, for `compare_states`."""
