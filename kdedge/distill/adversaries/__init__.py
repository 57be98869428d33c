"""What makes inputs on which teacher and student part. None of it is on by default."""
