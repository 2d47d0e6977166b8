"""Where a picture comes from: tree-ring watermarks and attribution, with p-values."""
