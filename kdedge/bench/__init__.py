"""Measures bundles on devices."""
