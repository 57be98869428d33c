"""What all trainings share: stopping and resuming."""
