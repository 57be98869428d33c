"""Teachers: loading them, combining them, and labelling texts with them."""
