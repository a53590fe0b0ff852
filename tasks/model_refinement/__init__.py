"""From a trace to refined atoms, for `refine_model`: building them, servalcat, the weight, and the rounds of repair."""
