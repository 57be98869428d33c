"""Measuring bundles on devices."""
