"""What a finished run is good for: an index of images that is searched, the score that is a match, and duplicates."""
