"""Watermarks in the noise of the embedded pipelines: `watermark-benchmark.md`."""
