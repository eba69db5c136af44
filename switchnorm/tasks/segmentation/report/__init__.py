"""The segmentation sections of the report."""
