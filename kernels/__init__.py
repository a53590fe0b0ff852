"""The physics and the mathematics: tensors in, tensors out."""
