"""The simulated specimen: atoms, their potential, and images of them."""
