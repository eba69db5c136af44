"""Run folders: the files in them, how they are written and how they are read. Reading needs no torch."""
