"""Round trips of pictures through an autoencoder, without loss: what an editor's loop needs."""
