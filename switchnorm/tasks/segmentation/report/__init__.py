"""What segmentation adds to the report: sections.py puts together the section of pictures and that of classes."""
