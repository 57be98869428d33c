"""Text around the text, or virtual tokens before it. None of it is on by default."""
