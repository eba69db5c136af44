"""Changes of a picture's pixels: functions of the picture and (seed, pass, index), and of nothing else in the batch."""
