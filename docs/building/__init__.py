"""What the site does beyond Sphinx: docstrings as they are written here, help of commands, links, equations."""
