"""Whether the theorems hold on an autoencoder: `fixpoint verify`."""
