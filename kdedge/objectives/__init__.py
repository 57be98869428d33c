"""Losses and schedules: what training makes smaller, and how."""
