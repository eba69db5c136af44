"""What a CUDA device shows in minutes: correct first, then tuned, then as fast as it is, then how networks train."""
