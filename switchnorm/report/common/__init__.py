"""What every part of the report is made of: groups of runs, tables, figures, and their HTML."""
