"""The export stage: converts a student, quantizes it, checks each file, writes a bundle."""
