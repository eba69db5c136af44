"""What a run does besides its steps: Lightning callbacks."""
