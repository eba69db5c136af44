"""What detection adds to the report: sections.py puts its sections together."""
