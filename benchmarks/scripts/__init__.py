"""Scripts that benchmarks run on both sides of a comparison."""
