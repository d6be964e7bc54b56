"""What checks run on: clocks, instrumentation, interference, and the code's surroundings."""
