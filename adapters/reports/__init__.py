"""What results are written to: figures, files of latents, versions, peak memory."""
