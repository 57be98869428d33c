"""Programs that convert models from elsewhere, or a bundle for an app; run from the checkout."""
