"""Programs that turn a bundle into something else, run from the checkout."""
