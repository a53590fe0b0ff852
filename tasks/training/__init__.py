"""What networks are trained on, and how."""
