"""Autoencoders: any encoder and decoder of pictures or videos behind one interface."""
