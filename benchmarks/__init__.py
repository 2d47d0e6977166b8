"""What regenerates every table, figure and embedded model of this repository."""
