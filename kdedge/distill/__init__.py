"""Distillation: the Distiller and its losses."""
