"""Do the convergence theorems apply to an autoencoder? `fixpoint verify`."""
