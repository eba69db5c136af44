"""What becomes of a picture's pixels: a function of the picture and of (seed, pass, index), whatever its company."""
