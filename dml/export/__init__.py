"""A run as a folder that embeds images without this framework, with a certificate of how little that differs."""
