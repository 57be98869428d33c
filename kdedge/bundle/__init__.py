"""The bundle: a folder with everything that an app needs."""
