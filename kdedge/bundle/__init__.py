"""The bundle: a folder that holds everything an app needs, and its signature."""
