"""Reports: figures, files of latents, versions, peak memory."""
