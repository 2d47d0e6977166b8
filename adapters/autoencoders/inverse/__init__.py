"""A learned inverse of a decoder: the network, its training, its file, and how it is kept."""
