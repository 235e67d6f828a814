"""The folder that runs leave their results in."""
