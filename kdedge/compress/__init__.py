"""Students made smaller by training on."""
