"""Speed against what people would use otherwise: `python -m benchmarks SUITE`. Results are checked, then timed."""
