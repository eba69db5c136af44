"""What is done to a picture's pixels: a function of the picture and (seed, pass, index), whatever else is in its batch."""
