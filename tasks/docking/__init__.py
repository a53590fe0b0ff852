"""From a predicted structure to placed chains, for `dock_model`."""
