"""What is known of an operator's constants: regions of its pairs, exact at the ends of floats."""
