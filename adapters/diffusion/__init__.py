"""Diffusion models around an autoencoder: sampling, its inversion, noise recovery, editing."""
