"""What is to be done next with a model, its map and its session."""
