"""What each layer chose: the weights that it gives to the statistics it mixes."""
