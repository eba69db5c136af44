"""How well each group of runs did: scores with their spread over seeds, against BN, and curves over epochs."""
